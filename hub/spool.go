package hub

import (
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"

	"github.com/zosfs/zosfs/hub/api"
)

// receive copies the body of r, of at most limit bytes, to a file without guarantees below
// tmp and to h, if that is not nil. The caller calls remove when it is done with the file.
// A body that is cut off is an error.
func (s *Server) receive(w http.ResponseWriter, r *http.Request, limit int64, h hash.Hash) (path string, size int64, err error) {
	if r.ContentLength > limit {
		return "", 0, fail(api.CodeTooLarge, "the body has %d bytes; at most %d are taken", r.ContentLength, limit)
	}
	if r.Header.Get("Content-Encoding") != "" || r.Header.Get("Content-Range") != "" {
		return "", 0, fail(api.CodeBadRequest, "bodies are sent whole and as they are, without Content-Encoding and Content-Range")
	}
	if !s.uploads.try() {
		f := fail(api.CodeUnavailable, "%d uploads run already", cap(s.uploads))
		f.retryAfter = 1
		return "", 0, f
	}
	defer s.uploads.release()
	paced(w, r)
	f, err := os.CreateTemp(s.tmp, "upload-")
	if err != nil {
		return "", 0, fmt.Errorf("receive: %w", err)
	}
	var out io.Writer = f
	if h != nil {
		out = io.MultiWriter(f, h)
	}
	size, err = io.Copy(out, http.MaxBytesReader(w, r.Body, limit))
	if err = errors.Join(err, f.Close()); err != nil {
		return "", 0, errors.Join(fmt.Errorf("receive: %w", cutOff(err)), os.Remove(f.Name()))
	}
	return f.Name(), size, nil
}

// cutOff says what the end of a body that came too early means.
func cutOff(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, os.ErrDeadlineExceeded) {
		return fail(api.CodeBadRequest, "the body ended early or came too slowly").because(err)
	}
	return err
}

// remove removes a file that receive made.
func (s *Server) remove(path string) {
	if err := os.Remove(path); err != nil {
		s.opts.Log.Warn("remove an upload", "error", err)
	}
}
