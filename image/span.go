package image

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/store"
)

// load is a chunk to be downloaded.
type load struct {
	id     flist.ChunkID
	ref    blob.Ref
	taken  bool                // nobody asked for it: it follows, or lies between, what was asked for
	finish func([]byte, error) // called once
	done   atomic.Bool         // finish was called, or is about to be
	bad    atomic.Pointer[error]
}

func (l *load) end() int64 { return int64(l.ref.Offset) + int64(l.ref.Stored) }

// span is a range [lo, hi) of a blob and the chunks that are wanted of it.
type span struct {
	blob   flist.BlobID
	lo, hi int64
	loads  []*load
}

func (s *span) size() int64 { return s.hi - s.lo }

// take adds a load that does not begin before the range.
func (s *span) take(l *load) {
	s.loads = append(s.loads, l)
	s.hi = max(s.hi, l.end())
}

// read makes one request for the span and calls deliver for each chunk whose bytes are
// right. It gives up when the source stalls. On nil, all were delivered.
func (s *span) read(ctx context.Context, im *Image, deliver func(*load, []byte)) error {
	limit := im.patience(s.size())
	attempt, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	checked := false
	err := store.ReadChecked(attempt, im.src, im.r.Blob(s.blob).Digest, s.lo, make([]byte, s.size()), func(p []byte) error {
		checked = true
		return s.check(p, deliver)
	})
	switch {
	case err == nil && !checked:
		return fmt.Errorf("range was not verified: %w", errs.ErrCorrupt)
	case err == nil, ctx.Err() != nil:
		return err
	case attempt.Err() != nil && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)):
		return fmt.Errorf("no answer within %v: %w: %w", limit, err, errs.ErrUnavailable)
	}
	return err
}

// check opens the chunks in the bytes p of the span and delivers those that are right,
// whoever sent them; they need not be right again when another source is asked. Its error
// is about the others.
func (s *span) check(p []byte, deliver func(*load, []byte)) error {
	if int64(len(p)) != s.size() {
		return fmt.Errorf("range of %d bytes, want %d: %w", len(p), s.size(), errs.ErrCorrupt)
	}
	return parallel(s.loads, len(p), func(l *load) error {
		if l.done.Load() {
			return nil
		}
		plain, err := blob.Open(nil, l.ref, p[int64(l.ref.Offset)-s.lo:][:l.ref.Stored])
		if err != nil {
			l.bad.Store(&err)
			return err
		}
		if !l.done.Swap(true) {
			deliver(l, plain)
		}
		return nil
	})
}

// fail calls lost for each chunk that was not delivered, with what is known of it when the
// request ended with err.
func (s *span) fail(err error, lost func(*load, error)) {
	for _, l := range s.loads {
		if l.done.Swap(true) {
			continue
		}
		why := err
		if bad := l.bad.Load(); bad != nil && !errors.Is(err, *bad) {
			why = fmt.Errorf("%w: %w", err, *bad)
		}
		lost(l, why)
	}
}

// parallelSize is from how many sealed bytes on the chunks of a span are opened by several
// goroutines; smaller spans take less than 1 ms.
const parallelSize = 256 << 10

// parallel calls fn for each load and returns the first error, if any fails. It does not
// stop at an error.
func parallel(loads []*load, size int, fn func(*load) error) error {
	workers := min(runtime.GOMAXPROCS(0), len(loads), 1+size/parallelSize)
	var (
		next  atomic.Int64
		mu    sync.Mutex
		first error
		wg    sync.WaitGroup
	)
	work := func() {
		for i := next.Add(1) - 1; i < int64(len(loads)); i = next.Add(1) - 1 {
			if err := fn(loads[i]); err != nil {
				mu.Lock()
				if first == nil {
					first = err
				}
				mu.Unlock()
			}
		}
	}
	for range workers - 1 {
		wg.Go(work)
	}
	work()
	wg.Wait()
	return first
}
