package hub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/zosfs/zosfs/hub/api"
	"github.com/zosfs/zosfs/hub/db"
)

// A request is what middleware and handlers know of one request.
type request struct {
	caller db.Caller
	failed *failure
}

type requestKey struct{}

// caller returns who asks.
func caller(ctx context.Context) db.Caller {
	if r, ok := ctx.Value(requestKey{}).(*request); ok {
		return r.caller
	}
	return db.Caller{}
}

// failed notes for the log why a request failed.
func failed(ctx context.Context, f *failure) {
	if r, ok := ctx.Value(requestKey{}).(*request); ok {
		r.failed = f
	}
}

// handlerFunc is an HTTP handler that may fail before it has answered.
type handlerFunc func(http.ResponseWriter, *http.Request) error

// ServeHTTP implements http.Handler.
func (h handlerFunc) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := h(w, r); err != nil {
		f := asFailure(err)
		failed(r.Context(), f)
		f.write(w)
	}
}

// recorder notes what was answered. It keeps the way to sendfile open: the ResponseWriter
// of net/http is an io.ReaderFrom, and so is a recorder.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
}

// WriteHeader implements http.ResponseWriter.
func (w *recorder) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements io.Writer.
func (w *recorder) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	return n, err
}

// ReadFrom implements io.ReaderFrom.
func (w *recorder) ReadFrom(r io.Reader) (int64, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := io.Copy(w.ResponseWriter, r) // uses its ReadFrom where there is one
	w.bytes += n
	return n, err
}

// Unwrap is for http.ResponseController.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// observe logs each request, turns panics into answers and sets the headers that all
// answers have. It logs paths, never query strings or headers, where secrets may be.
func (s *Server) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec, req, start := &recorder{ResponseWriter: w}, &request{}, time.Now()
		r = r.WithContext(context.WithValue(r.Context(), requestKey{}, req))
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; sandbox")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		defer s.logRequest(r, rec, req, start)
		defer recoverPanic(rec, req)
		next.ServeHTTP(rec, r)
	})
}

// recoverPanic answers 500, or cuts the connection where the answer has begun, so that
// nobody takes half of it for the whole.
func recoverPanic(w *recorder, req *request) {
	v := recover()
	if v == nil {
		return
	}
	if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(http.ErrAbortHandler)
	}
	req.failed = fail(api.CodeInternal, "the hub has failed").because(fmt.Errorf("panic: %v\n%s", v, debug.Stack()))
	if w.status != 0 {
		panic(http.ErrAbortHandler)
	}
	req.failed.write(w)
}

func (s *Server) logRequest(r *http.Request, w *recorder, req *request, start time.Time) {
	log := s.opts.Log.With("method", r.Method, "path", r.URL.Path, "status", w.status, "bytes", w.bytes,
		"duration", time.Since(start).Round(time.Microsecond), "remote", r.RemoteAddr)
	if req.caller.User != "" {
		log = log.With("user", req.caller.User, "token", req.caller.Token)
	}
	switch {
	case req.failed != nil && (w.status >= 500 || w.status == 0):
		log.ErrorContext(r.Context(), "request", "error", req.failed.Error())
	case req.failed != nil:
		log.InfoContext(r.Context(), "request", "error", req.failed.Error())
	default:
		log.InfoContext(r.Context(), "request")
	}
}

// Bytes must pass at minRate or faster, after a start of paceGrace.
const (
	minRate   = 8 << 10 // bytes a second: below any link that is of use
	paceGrace = 30 * time.Second
)

// pace gives the answer of n bytes as long as the slowest permitted link takes.
func pace(w http.ResponseWriter, n int64) {
	d := paceGrace + time.Duration(n/minRate)*time.Second
	// A writer that knows no deadlines, as in tests, needs none.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(d))
}

// pacedBody is a request body that must arrive at minRate or faster. Its end moves the
// deadline of the answer too, which the server set when the request began.
type pacedBody struct {
	io.ReadCloser
	rc    *http.ResponseController
	start time.Time
	next  int64 // bytes after which the deadline is moved
	n     int64
}

// paced replaces the body of r.
func paced(w http.ResponseWriter, r *http.Request) {
	r.Body = &pacedBody{ReadCloser: r.Body, rc: http.NewResponseController(w), start: time.Now()}
}

// Read implements io.Reader.
func (b *pacedBody) Read(p []byte) (int, error) {
	if b.n >= b.next {
		end := b.start.Add(paceGrace + time.Duration(b.n/minRate)*time.Second)
		_ = b.rc.SetReadDeadline(end)
		_ = b.rc.SetWriteDeadline(end.Add(answerTimeout))
		b.next = b.n + 64<<10
	}
	n, err := b.ReadCloser.Read(p)
	b.n += int64(n)
	return n, err
}
