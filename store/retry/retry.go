// Package retry repeats what may succeed later.
//
// [Store] decorates a store: a call that fails with errs.ErrUnavailable is made again after
// a pause that grows exponentially, with jitter so that many clients do not come back at
// once, or after the pause that the peer asked for ([store.RetryAfterError]). The body of a
// Get that breaks or ends early goes on where it stopped, from a new request; blobs never
// change, so the pieces fit. Not repeated is what would fail again: not found, denied,
// damaged, in a bad format, or no space.
//
// Whatever the options say, the end of the context ends a call at once. [store.Locator] and
// [store.Checker] are passed inward. It is safe for concurrent use.
package retry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/store"
)

// Defaults of [Options].
const (
	DefaultInitial    = 100 * time.Millisecond // about one round trip on a poor link
	DefaultMax        = 10 * time.Second
	DefaultMaxElapsed = time.Minute // a hub restarts in less
)

// Options for a Store. The zero value means the defaults.
type Options struct {
	Initial    time.Duration // the first pause; each one is twice as long as that before, give or take half
	Max        time.Duration // the longest pause that we choose ourselves
	MaxElapsed time.Duration // a pause that would end later than this after the first try is not made; < 0: no limit

	// Notify, if not nil, is told of each failure that is followed by a pause. It is called
	// by the goroutine that made the call.
	Notify func(err error, pause time.Duration)
}

func (o Options) withDefaults() Options {
	for _, d := range []struct {
		to *time.Duration
		by time.Duration
	}{{&o.Initial, DefaultInitial}, {&o.Max, DefaultMax}, {&o.MaxElapsed, DefaultMaxElapsed}} {
		if *d.to == 0 {
			*d.to = d.by
		}
	}
	return o
}

// Store is a store whose calls are repeated.
type Store struct {
	inner store.Store
	opts  Options
}

var (
	_ store.Store        = (*Store)(nil)
	_ store.SummedPutter = (*Store)(nil)
	_ store.Locator      = (*Store)(nil)
	_ store.Checker      = (*Store)(nil)
)

// New returns inner with its calls repeated. Close of the Store closes inner.
func New(inner store.Store, o Options) *Store { return &Store{inner: inner, opts: o.withDefaults()} }

// Put implements [store.Putter].
func (s *Store) Put(ctx context.Context, id blob.Digest, data []byte) error {
	return s.do(ctx, func() error { return s.inner.Put(ctx, id, data) })
}

// PutSummed implements [store.SummedPutter].
func (s *Store) PutSummed(ctx context.Context, id blob.Digest, data []byte) error {
	return s.do(ctx, func() error { return store.PutSummed(ctx, s.inner, id, data) })
}

// Stat implements [store.Stater].
func (s *Store) Stat(ctx context.Context, id blob.Digest) (int64, error) {
	var size int64
	err := s.do(ctx, func() (err error) {
		size, err = s.inner.Stat(ctx, id)
		return err
	})
	return size, err
}

// List implements [store.Lister]. A listing that broke is repeated from its beginning, and
// what fn has seen already is passed over.
func (s *Store) List(ctx context.Context, fn func(store.Info) error) error {
	var last blob.Digest
	var fnErr error
	err := s.do(ctx, func() error {
		err := s.inner.List(ctx, func(i store.Info) error {
			if !last.IsZero() && i.Digest.Compare(last) <= 0 {
				return nil
			}
			last = i.Digest
			fnErr = fn(i)
			return fnErr
		})
		if fnErr != nil {
			return nil // not ours to judge
		}
		return err
	})
	if fnErr != nil {
		return fnErr
	}
	return err
}

// Delete implements [store.Store].
func (s *Store) Delete(ctx context.Context, id blob.Digest) error {
	return s.do(ctx, func() error { return s.inner.Delete(ctx, id) })
}

// Locate implements [store.Locator] if the store within does.
func (s *Store) Locate(ctx context.Context, chunks []chunk.Digest) (map[chunk.Digest]blob.Location, error) {
	var found map[chunk.Digest]blob.Location
	err := s.do(ctx, func() (err error) {
		found, err = store.Locate(ctx, s.inner, chunks)
		return err
	})
	return found, err
}

// GetChecked implements [store.Checker]. Wrong bytes are not asked for again: that is for
// whoever knows another source.
func (s *Store) GetChecked(ctx context.Context, id blob.Digest, off int64, p []byte, check func([]byte) error) error {
	if c, ok := s.inner.(store.Checker); ok {
		return s.do(ctx, func() error { return c.GetChecked(ctx, id, off, p, check) })
	}
	if err := store.ReadRange(ctx, s, id, off, p); err != nil {
		return err
	}
	return check(p)
}

// Close closes the store within.
func (s *Store) Close() error { return store.Close(s.inner) }

func (s *Store) do(ctx context.Context, call func() error) error {
	return s.newTry().do(ctx, call, temporary)
}

// temporary reports whether err may be gone later.
func temporary(err error) bool { return errors.Is(err, errs.ErrUnavailable) }

// try is one call with its repetitions.
type try struct {
	opts  Options
	start time.Time
	pause *backoff.ExponentialBackOff
}

func (s *Store) newTry() *try {
	return &try{opts: s.opts, start: time.Now(), pause: &backoff.ExponentialBackOff{
		InitialInterval: s.opts.Initial, MaxInterval: s.opts.Max, Multiplier: 2, RandomizationFactor: 0.5,
	}}
}

// do makes the call until it succeeds, or fails in a way that again does not hold for, or
// time is up.
func (t *try) do(ctx context.Context, call func() error, again func(error) bool) error {
	for n := 1; ; n++ {
		err := call()
		if err == nil || !again(err) {
			return err
		}
		pause, ok := t.next(err)
		if !ok && n == 1 {
			return err
		}
		if !ok {
			return fmt.Errorf("%w (%d tries in %v)", err, n, time.Since(t.start).Round(100*time.Millisecond))
		}
		if t.opts.Notify != nil && ctx.Err() == nil {
			t.opts.Notify(err, pause)
		}
		if cerr := wait(ctx, pause); cerr != nil {
			return fmt.Errorf("%w after: %w", cerr, err)
		}
	}
}

// next returns how long to pause after err, and false if that is too long.
func (t *try) next(err error) (time.Duration, bool) {
	pause := t.pause.NextBackOff()
	if busy, ok := errors.AsType[*store.RetryAfterError](err); ok && busy.After > 0 {
		// Never earlier than asked for, and not all at the same moment after it.
		pause = busy.After + min(pause, busy.After/4)
	}
	return pause, t.opts.MaxElapsed < 0 || time.Since(t.start)+pause <= t.opts.MaxElapsed
}

func wait(ctx context.Context, d time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
