package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"syscall"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/hub/api"
	"github.com/zosfs/zosfs/hub/db"
)

// A failure is an error whose text the caller may see.
type failure struct {
	body       api.Error
	retryAfter int   // seconds; 0: no word of it
	err        error // for the log alone
}

// fail returns a failure with a message for the caller.
func fail(code api.Code, format string, args ...any) *failure {
	return &failure{body: api.Error{Code: code, Message: fmt.Sprintf(format, args...)}}
}

func (f *failure) hint(text string) *failure { f.body.Hint = text; return f }

func (f *failure) because(err error) *failure { f.err = err; return f }

// Error implements error.
func (f *failure) Error() string {
	if f.err != nil {
		return f.body.Message + ": " + f.err.Error()
	}
	return f.body.Message
}

// Unwrap returns what the failure is because of.
func (f *failure) Unwrap() error { return f.err }

// GetStatus returns the HTTP status.
func (f *failure) GetStatus() int { return f.body.Code.Status() }

// asFailure returns err as a failure. Of errors that are none, the caller is told the kind
// alone: their text may speak of paths and of other people's things.
func asFailure(err error) *failure {
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	tooLarge, ok := errors.AsType[*http.MaxBytesError](err)
	switch {
	case ok:
		return fail(api.CodeTooLarge, "the body is larger than %d bytes", tooLarge.Limit).because(err)
	case errors.Is(err, db.ErrInUse):
		return fail(api.CodeConflict, "a repository needs it").because(err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		err = fmt.Errorf("%w: %w", errs.ErrFull, err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("%w: %w", errs.ErrUnavailable, err)
	}
	code := api.CodeOf(err)
	f := fail(code, "%s", messages[code]).because(err)
	if code == api.CodeUnavailable {
		f.retryAfter = 1
	}
	return f
}

var messages = map[api.Code]string{
	api.CodeNotFound:    "not found",
	api.CodeCorrupt:     "the data is damaged",
	api.CodeFormat:      "the format is not known",
	api.CodeUnavailable: "the hub cannot do this just now",
	api.CodeDenied:      "this is not allowed",
	api.CodeFull:        "the disk of the hub is full",
	api.CodeInternal:    "the hub has failed",
}

// write sends the failure.
func (f *failure) write(w http.ResponseWriter) {
	f.headers(w.Header())
	writeJSON(w, f.GetStatus(), api.ErrorBody{Error: f.body})
}

func (f *failure) headers(h http.Header) {
	h.Del("ETag")
	h.Set("Cache-Control", "no-store")
	if f.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(f.retryAfter))
	}
	if f.body.Code == api.CodeUnauthenticated {
		h.Set("WWW-Authenticate", `Bearer realm="zosfs"`)
	}
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	p, err := json.Marshal(v)
	if err != nil {
		panic(err) // our own types
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(p)+1))
	w.WriteHeader(status)
	_, _ = w.Write(append(p, '\n')) // the peer is gone if it fails
}
