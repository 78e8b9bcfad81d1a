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
	api.Error
	retryAfter int   // seconds; 0: no word of it
	err        error // for the log
}

// fail returns a failure with a message for the caller.
func fail(code api.Code, format string, args ...any) *failure {
	return &failure{Error: api.Error{Code: code, Message: fmt.Sprintf(format, args...)}}
}

func (f *failure) hint(text string) *failure { f.Hint = text; return f }

func (f *failure) because(err error) *failure { f.err = err; return f }

// String is what is logged.
func (f *failure) String() string {
	if f.err != nil {
		return f.Message + ": " + f.err.Error()
	}
	return f.Message
}

// asError is failure as an error; api.Error has a field where error wants a method.
type failureError struct{ *failure }

// Error implements error.
func (e failureError) Error() string { return e.String() }

// Unwrap returns what the failure is because of.
func (e failureError) Unwrap() error { return e.err }

// GetStatus returns the HTTP status.
func (e failureError) GetStatus() int { return e.Code.Status() }

func (f *failure) error() error { return failureError{f} }

// asFailure returns err as a failure. Of errors that are none, the caller is told the kind
// alone: their text may speak of paths and of other people's things.
func asFailure(err error) *failure {
	var e failureError
	if errors.As(err, &e) {
		return e.failure
	}
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
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
	writeJSON(w, f.Code.Status(), api.ErrorBody{Error: f.Error})
}

func (f *failure) headers(h http.Header) {
	h.Del("ETag")
	h.Set("Cache-Control", "no-store")
	if f.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(f.retryAfter))
	}
	if f.Code == api.CodeUnauthenticated {
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
