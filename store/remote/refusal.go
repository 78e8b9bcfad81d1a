package remote

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/hub/api"
	"github.com/zosfs/zosfs/store"
)

// maxRetryAfter bounds how long a hub may ask to be left alone.
const maxRetryAfter = time.Hour

// Error is what a hub refused a request with. It unwraps to the kind of failure that its
// code means, if that is one.
type Error struct {
	Status  int // HTTP status
	Code    api.Code
	Message string       // for people
	Hint    string       // what to try; may be ""
	Missing *api.Missing // with api.CodeMissingBlobs
}

// Error implements error.
func (e *Error) Error() string {
	s := fmt.Sprintf("%s (HTTP status %d)", e.Message, e.Status)
	if e.Hint != "" {
		s += "; " + e.Hint
	}
	return s
}

// Unwrap returns the kind of failure, nil if it is none of them.
func (e *Error) Unwrap() error { return e.Code.Kind() }

// blame says which token was refused, where the caller gave it a name.
func (c *Client) blame(err error) error {
	e, ok := errors.AsType[*Error](err)
	if ok && e.Code == api.CodeUnauthenticated && c.opts.Token != "" && c.opts.TokenName != "" {
		e.Message, e.Hint = c.opts.TokenName+" was refused: it is not valid, has expired or was revoked", ""
	}
	return err
}

// refusal makes an error of an answer that is not what was wanted, and closes its body.
func refusal(resp *http.Response) error {
	defer drain(resp.Body)
	if resp.StatusCode < 400 {
		return fmt.Errorf("HTTP status %d where the protocol has none: %w", resp.StatusCode, errs.ErrFormat)
	}
	e := &Error{Status: resp.StatusCode, Code: api.StatusCode(resp.StatusCode), Message: http.StatusText(resp.StatusCode)}
	var b api.ErrorBody
	p, err := io.ReadAll(io.LimitReader(resp.Body, api.MaxErrorSize))
	// What is no error body comes from something before the hub: the status must do.
	if err == nil && json.Unmarshal(p, &b) == nil && b.Error.Code.Status() == resp.StatusCode {
		e.Code, e.Missing = b.Error.Code, b.Error.Missing
		e.Message, e.Hint = clean(b.Error.Message), clean(b.Error.Hint)
	}
	switch e.Code {
	case api.CodeUnauthenticated, api.CodeDenied:
		if e.Hint == "" {
			e.Hint = "log in with zosfs login"
		}
	case api.CodeUnavailable, api.CodeRateLimited:
		return &store.RetryAfterError{After: retryAfter(resp.Header.Get("Retry-After"), time.Now()), Err: e}
	}
	return e
}

// retryAfter reads the header, which holds seconds or a date; 0 if there is none.
func retryAfter(s string, now time.Time) time.Duration {
	if n, err := strconv.ParseUint(s, 10, 32); err == nil {
		return min(time.Duration(n)*time.Second, maxRetryAfter)
	}
	if t, err := http.ParseTime(s); err == nil {
		return min(max(t.Sub(now), 0), maxRetryAfter)
	}
	return 0
}
