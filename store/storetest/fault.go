package storetest

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/store"
)

// Op names a method of a store.
type Op string

// The methods that a [Fault] stands before.
const (
	Get    Op = "get"
	Put    Op = "put"
	Stat   Op = "stat"
	List   Op = "list"
	Delete Op = "delete"
	Locate Op = "locate"
)

// A Call is one call of a store.
type Call struct {
	Op     Op
	Blob   blob.Digest // zero for List and Locate
	Off, N int64       // the range of Get as it was asked for, or 0 and the size of Put
	Count  int         // calls with this Op so far, this one included
}

// An Effect is what happens to a call, in the order of the fields. The zero Effect lets the
// call pass. The last four are about the body of a Get; offsets are from its first byte.
type Effect struct {
	Delay time.Duration   // wait, or until the context ends
	Stall <-chan struct{} // then wait until it is closed, or the context ends
	Err   error           // then fail with it instead of asking the store

	Flip  func(off int64) bool // invert the bytes at these offsets
	Rate  int64                // deliver at most so many bytes a second, in pieces of 16 KiB; 0: at once
	After int64                // with End: deliver so many bytes first
	End   End
}

// End tells how the body of a Get ends.
type End int

// A body ends where it should, ends early as if that were all, breaks with an error as a
// connection does, or hangs until the context ends.
const (
	Whole End = iota
	Short
	Cut
	Hang
)

// FlipAt is an Effect.Flip for the one byte at off.
func FlipAt(off int64) func(int64) bool { return func(at int64) bool { return at == off } }

// FlipAll is an Effect.Flip for every byte.
func FlipAll(int64) bool { return true }

// Busy returns the error that a backend makes of an answer such as HTTP 503 with
// Retry-After.
func Busy(after time.Duration) error {
	return fmt.Errorf("injected: %w", &store.RetryAfterError{After: after})
}

// ErrCut is the error of a body that was cut: none of the kinds, as a broken connection.
var ErrCut = fmt.Errorf("injected: connection reset: %w", io.ErrUnexpectedEOF)

// ErrFull is the error of a full disk.
var ErrFull = fmt.Errorf("injected: %w", errs.ErrFull)

// Fault is a store that fails in scripted ways. It is safe for concurrent use.
type Fault struct {
	inner store.Store
	hook  func(Call) Effect

	mu    sync.Mutex
	count map[Op]int
	bytes int64
	open  int
}

var (
	_ store.Store   = (*Fault)(nil)
	_ store.Locator = (*Fault)(nil)
)

// NewFault returns inner with what hook says happening to each call. hook is called by one
// goroutine at a time; nil lets all calls pass, which leaves the counters.
func NewFault(inner store.Store, hook func(Call) Effect) *Fault {
	return &Fault{inner: inner, hook: hook, count: make(map[Op]int)}
}

// SetHook replaces the script.
func (f *Fault) SetHook(hook func(Call) Effect) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hook = hook
}

// Count returns how many calls of op there were.
func (f *Fault) Count(op Op) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count[op]
}

// Bytes returns how many bytes were read from bodies of Get.
func (f *Fault) Bytes() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.bytes
}

// Open returns how many bodies of Get are not closed yet.
func (f *Fault) Open() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.open
}

func (f *Fault) before(ctx context.Context, c Call) (Effect, error) {
	e := f.effect(c)
	if e.Delay > 0 {
		if err := sleep(ctx, e.Delay); err != nil {
			return e, err
		}
	}
	if e.Stall != nil {
		select {
		case <-e.Stall:
		case <-ctx.Done():
			return e, ctx.Err()
		}
	}
	return e, e.Err
}

func (f *Fault) effect(c Call) Effect {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count[c.Op]++
	if f.hook == nil {
		return Effect{}
	}
	c.Count = f.count[c.Op]
	return f.hook(c)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Get implements [store.Getter].
func (f *Fault) Get(ctx context.Context, id blob.Digest, off, n int64) (io.ReadCloser, error) {
	e, err := f.before(ctx, Call{Op: Get, Blob: id, Off: off, N: n})
	if err != nil {
		return nil, err
	}
	rc, err := f.inner.Get(ctx, id, off, n)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	f.open++
	f.mu.Unlock()
	return &body{f: f, rc: rc, effect: e, sleep: func(d time.Duration) error { return sleep(ctx, d) }, done: ctx.Done(), err: ctx.Err}, nil
}

// Put implements [store.Putter].
func (f *Fault) Put(ctx context.Context, id blob.Digest, data []byte) error {
	if _, err := f.before(ctx, Call{Op: Put, Blob: id, N: int64(len(data))}); err != nil {
		return err
	}
	return f.inner.Put(ctx, id, data)
}

// Stat implements [store.Stater].
func (f *Fault) Stat(ctx context.Context, id blob.Digest) (int64, error) {
	if _, err := f.before(ctx, Call{Op: Stat, Blob: id}); err != nil {
		return 0, err
	}
	return f.inner.Stat(ctx, id)
}

// List implements [store.Lister]. With Effect.End Cut it fails after so many blobs.
func (f *Fault) List(ctx context.Context, fn func(store.Info) error) error {
	e, err := f.before(ctx, Call{Op: List})
	if err != nil {
		return err
	}
	listed := int64(0)
	return f.inner.List(ctx, func(i store.Info) error {
		if listed++; e.End == Cut && listed > e.After {
			return fmt.Errorf("list: %w", errs.ErrUnavailable)
		}
		return fn(i)
	})
}

// Delete implements [store.Store].
func (f *Fault) Delete(ctx context.Context, id blob.Digest) error {
	if _, err := f.before(ctx, Call{Op: Delete, Blob: id}); err != nil {
		return err
	}
	return f.inner.Delete(ctx, id)
}

// Locate implements [store.Locator] if the store within does.
func (f *Fault) Locate(ctx context.Context, chunks []chunk.Digest) (map[chunk.Digest]blob.Location, error) {
	if _, err := f.before(ctx, Call{Op: Locate, N: int64(len(chunks))}); err != nil {
		return nil, err
	}
	return store.Locate(ctx, f.inner, chunks)
}

// body is the body of a Get that fails as its effect says.
type body struct {
	f      *Fault
	rc     io.ReadCloser
	effect Effect
	off    int64
	closed bool
	sleep  func(time.Duration) error
	done   <-chan struct{}
	err    func() error
}

const ratePiece = 16 << 10

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	e := b.effect
	if e.End != Whole && b.off >= e.After {
		switch e.End {
		case Cut:
			return 0, ErrCut
		case Hang:
			<-b.done
			return 0, b.err()
		default:
			return 0, io.EOF
		}
	}
	if e.End != Whole && int64(len(p)) > e.After-b.off {
		p = p[:e.After-b.off]
	}
	if e.Rate > 0 {
		p = p[:min(len(p), ratePiece)]
		if err := b.sleep(time.Duration(len(p)) * time.Second / time.Duration(e.Rate)); err != nil {
			return 0, err
		}
	}
	n, err := b.rc.Read(p)
	for i := range p[:n] {
		if e.Flip != nil && e.Flip(b.off+int64(i)) {
			p[i] ^= 0xff
		}
	}
	b.off += int64(n)
	b.f.mu.Lock()
	b.f.bytes += int64(n)
	b.f.mu.Unlock()
	return n, err
}

// Close implements io.Closer.
func (b *body) Close() error {
	if !b.closed {
		b.closed = true
		b.f.mu.Lock()
		b.f.open--
		b.f.mu.Unlock()
	}
	return b.rc.Close()
}
