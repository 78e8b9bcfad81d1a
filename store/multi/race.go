package multi

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/errs"
)

// query is a range of a blob, as for [store.Getter].
type query struct {
	id     blob.Digest
	off, n int64
}

// runner says what a race is about.
type runner[T any] struct {
	try    func(context.Context, *source) (T, error) // by a goroutine a source
	accept func(*entry[T]) error                     // by the caller, one after another; owns the value
	drop   func(T)                                   // for values that come too late
	bytes  int64                                     // that try waits for
}

// entry is a source in a race.
type entry[T any] struct {
	source *source
	cancel context.CancelFunc
	start  time.Time
	slow   bool // another source was asked because of this one

	value T
	err   error
	sum   chunk.Digest // of wrong bytes, set by accept
}

// contest is a race under way. It belongs to the goroutine of the caller, apart from results
// and over.
type contest[T any] struct {
	m       *Store
	query   query
	run     runner[T]
	waiting []*source // not asked yet
	running []*entry[T]
	failed  []Failure
	results chan *entry[T]
	over    chan struct{} // closed at the end: nobody takes results any more
	timer   *time.Timer   // until the last that was asked is slow
	hedges  int

	suspects []suspect
}

// race asks sources until a value is accepted, and returns its entry, whose context the
// caller cancels when done with the value. Else the error is an [Error], or errClosed.
func race[T any](ctx context.Context, m *Store, q query, r runner[T]) (won *entry[T], err error) {
	c := &contest[T]{m: m, query: q, run: r, results: make(chan *entry[T]), over: make(chan struct{}), timer: time.NewTimer(time.Hour)}
	defer func() { c.end(won != nil) }()
	if err := ctx.Err(); err != nil {
		return nil, c.error(err)
	}
	for _, s := range m.order(r.bytes) {
		if s.isAbsent(q.id) {
			c.fail(s, fmt.Errorf("said so a moment ago: %w", errs.ErrNotFound))
			continue
		}
		c.waiting = append(c.waiting, s)
	}
	for {
		if len(c.running) == 0 && !c.launch(ctx) {
			if m.isClosed() {
				return nil, errClosed
			}
			return nil, c.error(nil)
		}
		select {
		case e := <-c.results:
			if c.finish(ctx, e) {
				return e, nil
			}
			c.launch(ctx)
		case <-c.timer.C:
			c.hedge(ctx)
		case <-m.stop:
			return nil, errClosed
		case <-ctx.Done():
			return nil, c.error(ctx.Err())
		}
	}
}

// launch asks the next source, false if there is none.
func (c *contest[T]) launch(ctx context.Context) bool {
	if len(c.waiting) == 0 || !c.m.start() {
		return false
	}
	e := &entry[T]{source: c.waiting[0], start: time.Now()}
	ctx, e.cancel = context.WithCancel(ctx)
	c.waiting, c.running = c.waiting[1:], append(c.running, e)
	e.source.began()
	go func() {
		defer c.m.group.Done()
		e.value, e.err = c.run.try(ctx, e.source)
		select {
		case c.results <- e:
		case <-c.over:
			if e.err == nil {
				c.run.drop(e.value)
			}
		}
	}()
	c.timer.Reset(e.source.patience(c.run.bytes, c.m.opts.SlowMin, c.m.opts.SlowMax) << c.hedges)
	return true
}

// hedge asks one more source, since the last one is slow.
func (c *contest[T]) hedge(ctx context.Context) {
	for _, e := range c.running {
		e.slow = true
	}
	c.hedges++
	c.launch(ctx)
}

// finish takes the result of e and reports whether it wins the race.
func (c *contest[T]) finish(ctx context.Context, e *entry[T]) bool {
	for i, r := range c.running {
		if r == e {
			c.running = append(c.running[:i], c.running[i+1:]...)
			break
		}
	}
	err := e.err
	if err == nil {
		err = c.run.accept(e)
	}
	if err == nil {
		return true
	}
	e.cancel()
	if errors.Is(err, errs.ErrCorrupt) {
		c.suspects = append(c.suspects, suspect{e.source, err, e.sum})
	}
	if ctx.Err() == nil { // else the failure is ours
		e.source.failed(c.query.id, err)
	}
	c.fail(e.source, err)
	return false
}

func (c *contest[T]) fail(s *source, err error) {
	c.failed = append(c.failed, Failure{Source: s.name, Err: err})
}

// end cancels who is still running, which a source that is slow has to answer for, and
// judges those who served wrong bytes.
func (c *contest[T]) end(won bool) {
	c.timer.Stop()
	for _, e := range c.running {
		e.cancel()
		if e.slow {
			e.source.lost()
		}
	}
	close(c.over)
	c.m.judge(won, c.suspects)
}

// error returns the error of the race; ended is the error of the context if that ended it.
func (c *contest[T]) error(ended error) error {
	tried := c.failed
	for _, e := range c.running {
		tried = append(tried, Failure{Source: e.source.name, Err: fmt.Errorf("no answer in %v: %w", time.Since(e.start).Round(time.Millisecond), errs.ErrUnavailable)})
	}
	return &Error{Blob: c.query.id, Off: c.query.off, N: c.query.n, Tried: tried, Ended: ended}
}

func (m *Store) isClosed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.closed
}
