package image

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/store"
)

// ReadError says that content could not be read. It unwraps to Err and with it to its kind.
type ReadError struct {
	Node  flist.NodeID // the file; 0 where the chunk was not wanted for one
	Path  string       // of Node, or one of them
	Chunk chunk.Digest
	Blob  blob.Digest
	Err   error // as the store told it, with the sources tried
}

// Error implements error.
func (e *ReadError) Error() string {
	if e.Node == 0 {
		return fmt.Sprintf("chunk %v of blob %v: %v", e.Chunk, e.Blob, e.Err)
	}
	return fmt.Sprintf("read %q: chunk %v of blob %v: %v", e.Path, e.Chunk, e.Blob, e.Err)
}

// Unwrap returns e.Err.
func (e *ReadError) Unwrap() error { return e.Err }

// Pauses between tries: they double from the first to the last, less up to a quarter at
// random so that readers do not come back together. The last is also how long an error is
// remembered at most.
const (
	firstPause = 50 * time.Millisecond
	lastPause  = time.Second
)

// doubtfulTries is how often wrong bytes, or an error of no kind, are asked for again: a
// proxy may have garbled them, but if it was no accident the reader should not hang.
const doubtfulTries = 3

// hopeless reports whether trying again after err, for the n-th time, is of no use now.
func hopeless(err error, n int) bool {
	if _, ok := errors.AsType[*store.RangeError](err); ok {
		return true
	}
	switch {
	case errors.Is(err, errs.ErrUnavailable):
		return false
	case errors.Is(err, errs.ErrNotFound), errors.Is(err, errs.ErrDenied), errors.Is(err, errs.ErrFormat), errors.Is(err, errClosed):
		return true
	}
	return n >= doubtfulTries
}

// pause returns how long to wait after the n-th failure in a row, n >= 1.
func pause(n int) time.Duration {
	d := min(firstPause<<min(n-1, 16), lastPause)
	return d - rand.N(d/4)
}

// failures remembers which chunks could not be had, so that all readers of one share its
// pauses. It is keyed by chunk: others may be served by another source or the cache.
type failures struct {
	mu sync.Mutex
	m  map[flist.ChunkID]failure
}

type failure struct {
	err  error
	n    int       // in a row
	next time.Time // when to try again

	late  error     // why a read gave up after its whole deadline, nil if none did
	until time.Time // reads that begin before fail with late

	told time.Time // when the log was told
}

// maxFailures bounds the memory of a long outage; beyond it, old ones are dropped.
const maxFailures = 4096

func (f *failures) add(id flist.ChunkID, err error) {
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.room(now)
	was := f.m[id]
	if now.Sub(was.next) > lastPause {
		was.n = 0 // nobody kept trying: a new story
	}
	n := was.n + 1
	was.err, was.n, was.next = err, n, now.Add(pause(n))
	f.m[id] = was
}

// gaveUp remembers for lastPause that a read waited for the pieces as long as it may: the
// kernel asks again, page by page, for what its read-ahead could not get, and that read would
// wait a second time.
func (f *failures) gaveUp(pieces []piece, err error) {
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range pieces {
		f.room(now)
		was := f.m[pieces[i].id]
		was.late, was.until = err, now.Add(lastPause)
		f.m[pieces[i].id] = was
	}
}

// late returns one of the pieces that a read gave up a moment ago, and why.
func (f *failures) late(pieces []piece) (*piece, error) {
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.m) == 0 {
		return nil, nil
	}
	for i := range pieces {
		if v, ok := f.m[pieces[i].id]; ok && now.Before(v.until) {
			return &pieces[i], v.late
		}
	}
	return nil, nil
}

// room makes room for one more.
func (f *failures) room(now time.Time) {
	if f.m == nil {
		f.m = map[flist.ChunkID]failure{}
	}
	if len(f.m) >= maxFailures {
		f.drop(now)
	}
}

// drop forgets what is over, or everything if that is nothing.
func (f *failures) drop(now time.Time) {
	for id, v := range f.m {
		if now.After(v.next) && now.After(v.until) {
			delete(f.m, id)
		}
	}
	if len(f.m) >= maxFailures {
		clear(f.m)
	}
}

func (f *failures) forget(id flist.ChunkID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.m, id)
}

// check returns how long to wait before any of the pieces may be tried again, and, if one
// of them has failed for good, that one with its error.
func (f *failures) check(pieces []piece) (wait time.Duration, bad *piece, err error) {
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.m) == 0 {
		return 0, nil, nil
	}
	for i := range pieces {
		v, ok := f.m[pieces[i].id]
		left := v.next.Sub(now)
		switch {
		case !ok || left <= 0:
		case hopeless(v.err, v.n):
			return 0, &pieces[i], v.err
		default:
			wait = max(wait, left)
		}
	}
	return wait, nil, nil
}

// tell reports whether the log should be told that a chunk could not be had: not again within
// lastPause, however often a program, or the kernel for it, asks.
func (f *failures) tell(id flist.ChunkID) bool {
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	v, ok := f.m[id]
	if ok && now.Sub(v.told) < lastPause {
		return false
	}
	if ok {
		v.told = now
		f.m[id] = v
	}
	return true
}

// newReadError tells which read failed, counts it, and notes and logs it where that was not
// done for the chunk a moment ago.
func (im *Image) newReadError(of origin, p *piece, err error) *ReadError {
	e := &ReadError{Node: of.node, Chunk: p.chunk.Chunk, Blob: im.r.Blob(p.chunk.Blob).Digest, Err: err}
	if of.node != 0 {
		e.Path = im.Tree().Path(of.node)
	}
	im.stats.fails.Add(1)
	if im.failures.tell(p.id) {
		if of.node == 0 && of.object != 0 {
			e.Node, e.Path = find(im.r, of.object)
		}
		im.stats.note(e)
		im.log.Error("read failed", "path", e.Path, "chunk", e.Chunk, "blob", e.Blob, "error", e.Err)
	}
	return e
}
