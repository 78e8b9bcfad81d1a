package multi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/zosfs/zosfs/errs"
)

// firstRead is what is read to see the first byte come, in bytes; the rest tells bandwidth.
const firstRead = 4 << 10

// open asks s for the range q.
func open(ctx context.Context, s *source, q query) (*body, error) {
	start := time.Now()
	rc, err := s.getter.Get(ctx, q.id, q.off, q.n)
	if err != nil {
		return nil, err
	}
	s.answered(time.Since(start))
	return &body{ReadCloser: rc, source: s, began: s.bodyStarted()}, nil
}

// body is the body of an answer, which tells its source how it went.
type body struct {
	io.ReadCloser
	source *source
	began  mark
	read   int64         // bytes
	spent  time.Duration // in reading; a slow caller is not the source's fault
	closed bool
	cancel context.CancelFunc // may be nil
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	start := time.Now()
	n, err := b.ReadCloser.Read(p)
	b.read += int64(n)
	b.spent += time.Since(start)
	return n, err
}

// Close implements io.Closer.
func (b *body) Close() error {
	if b.closed {
		return nil
	}
	b.closed = true
	b.source.bodyEnded(b.read, b.read, b.spent, b.began)
	err := b.ReadCloser.Close()
	if b.cancel != nil {
		b.cancel()
	}
	return err
}

// fetch reads the range q from s into a buffer of m.buffers.
func (m *Store) fetch(ctx context.Context, s *source, q query) (*[]byte, error) {
	start := time.Now()
	rc, err := s.getter.Get(ctx, q.id, q.off, q.n)
	if err != nil {
		return nil, err
	}
	buf := m.buffer(q.n)
	head := min(firstRead, q.n)
	n, err := io.ReadFull(rc, (*buf)[:head])
	if err == nil {
		s.answered(time.Since(start))
		began, rest := s.bodyStarted(), 0
		rest, err = io.ReadFull(rc, (*buf)[head:])
		n += rest
		s.bodyEnded(int64(n), int64(rest), time.Since(began.at), began)
	}
	if cerr := rc.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		return buf, nil
	}
	m.buffers.Put(buf)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("%d of %d bytes came: %w", n, q.n, errs.ErrUnavailable)
	}
	return nil, err
}

// buffer returns a buffer of n bytes.
func (m *Store) buffer(n int64) *[]byte {
	buf, ok := m.buffers.Get().(*[]byte)
	if !ok || int64(cap(*buf)) < n {
		p := make([]byte, n)
		return &p
	}
	*buf = (*buf)[:n]
	return buf
}
