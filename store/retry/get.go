package retry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/store"
)

// Get implements [store.Getter]. The reader goes on by itself where a body breaks or ends
// early, as long as that brings bytes; for a range that is open to the end of the blob that
// costs a Stat first.
func (s *Store) Get(ctx context.Context, id blob.Digest, off, n int64) (io.ReadCloser, error) {
	if n < 0 {
		size, err := s.Stat(ctx, id)
		if err != nil {
			return nil, err
		}
		if n, err = store.CheckRange(id, size, off, n); err != nil {
			return nil, err
		}
	}
	b := &body{left: n, off: off}
	b.open = func() error {
		rc, err := s.inner.Get(ctx, id, b.off, b.left)
		if err == nil {
			b.rc = rc
		}
		return err
	}
	b.restart = func(why error) error { return b.again(ctx, s, id, why) }
	if err := s.do(ctx, b.open); err != nil {
		return nil, err
	}
	return b, nil
}

// body is the body of a Get over as many requests as it takes.
type body struct {
	rc        io.ReadCloser // nil after a failed restart
	off, left int64         // what is still to come
	try       *try          // since the last byte that came; nil while they come
	err       error         // the end, if it has come
	open      func() error
	restart   func(error) error
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	for {
		if b.err != nil {
			return 0, b.err
		}
		if b.left == 0 {
			return 0, io.EOF
		}
		n, err := b.rc.Read(p[:min(int64(len(p)), b.left)])
		b.off += int64(n)
		b.left -= int64(n)
		if n > 0 {
			b.try = nil
		}
		if err != nil && b.left > 0 {
			b.err = b.restart(err)
		}
		if n > 0 || len(p) == 0 {
			return n, nil
		}
	}
}

// again asks for the rest of a body after why ended it early.
func (b *body) again(ctx context.Context, s *Store, id blob.Digest, why error) error {
	if b.rc != nil {
		_ = b.rc.Close() // it is broken
		b.rc = nil
	}
	if errors.Is(why, io.EOF) {
		why = fmt.Errorf("blob %v: body ended with %d bytes to come: %w", id, b.left, errs.ErrUnavailable)
	}
	if ctx.Err() != nil || !broken(why) {
		return why
	}
	if b.try == nil {
		b.try = s.newTry()
	}
	// The broken body counts as the first try, so that what always breaks at the same place
	// comes to the same end as what is never there.
	first := true
	return b.try.do(ctx, func() error {
		if first {
			first = false
			return why
		}
		return b.open()
	}, broken)
}

// broken reports whether a body that ended with err may go on: what says so, and what is
// none of the kinds, since connections break in many words.
func broken(err error) bool {
	if temporary(err) {
		return true
	}
	for _, kind := range errs.All() {
		if errors.Is(err, kind) {
			return false
		}
	}
	_, outside := errors.AsType[*store.RangeError](err)
	return !outside
}

// Close implements io.Closer.
func (b *body) Close() error {
	if b.err == nil {
		b.err = fs.ErrClosed
	}
	if b.rc == nil {
		return nil
	}
	return b.rc.Close()
}
