package hub

import (
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"os"

	"github.com/zosfs/zosfs/hub/api"
)

// copyBuffer is how much of a body is taken at once: few calls, and little memory for each
// of many slow uploads.
const copyBuffer = 128 << 10

// An upload is a body in a file below tmp. It is on the file system of blobs and flists, so
// it becomes one of them by a rename, and what a crash leaves of it goes at the next start.
type upload struct {
	s    *Server
	path string
	size int64
}

// receive copies the body of r, of at most limit bytes, to a file without guarantees and to
// h, if that is not nil. A body that is cut off is an error. The caller calls end when it is
// done with the upload, which counts among those that run until then: so uploads that wait
// to be verified do not fill the disk.
func (s *Server) receive(w http.ResponseWriter, r *http.Request, limit int64, h hash.Hash) (_ *upload, err error) {
	if r.ContentLength > limit {
		return nil, fail(api.CodeTooLarge, "the body has %d bytes; at most %d are taken", r.ContentLength, limit)
	}
	if r.Header.Get("Content-Encoding") != "" || r.Header.Get("Content-Range") != "" {
		return nil, fail(api.CodeBadRequest, "bodies are sent whole and as they are, without Content-Encoding and Content-Range")
	}
	if !s.uploads.try() {
		f := fail(api.CodeUnavailable, "%d uploads run already", cap(s.uploads))
		f.retryAfter = 1
		return nil, f
	}
	u := &upload{s: s}
	defer func() {
		if err != nil {
			u.end()
		}
	}()
	paced(w, r)
	f, err := os.CreateTemp(s.tmp, "upload-")
	if err != nil {
		return nil, fmt.Errorf("receive: %w", err)
	}
	u.path = f.Name()
	out := io.Writer(f)
	if h != nil {
		out = io.MultiWriter(f, h)
	}
	// Not out itself: the ReadFrom of a file would take a small buffer of its own.
	u.size, err = io.CopyBuffer(struct{ io.Writer }{out}, http.MaxBytesReader(w, r.Body, limit), make([]byte, copyBuffer))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("receive: %w", cutOff(err))
	}
	return u, nil
}

// end removes the file, unless it has become something, and makes room for another upload.
func (u *upload) end() {
	defer u.s.uploads.release()
	if u.path == "" {
		return
	}
	if err := os.Remove(u.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		u.s.opts.Log.Warn("remove an upload", "error", err)
	}
}

// cutOff says what the end of a body that came too early means.
func cutOff(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, os.ErrDeadlineExceeded) {
		return fail(api.CodeBadRequest, "the body ended early or came too slowly").because(err)
	}
	return err
}
