package hub

import (
	"context"
	"errors"
	"sync"

	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/hub/db"
)

// Opening an flist decompresses and checks all of it, so the page keeps the last maxTrees
// open. At most maxOpenings pages look into one at a time, which bounds what is open.
const (
	maxTrees    = 8
	maxOpenings = 8
)

// trees are the open flists that the page shows.
type trees struct {
	openFile func(db.FlistDigest) (*flist.Reader, error)
	slots    slots

	mu    sync.Mutex
	clock int64
	open  map[db.FlistDigest]*tree
}

// A tree is an open flist. ready is closed when r and err are set; the rest is guarded by
// trees.mu.
type tree struct {
	ready chan struct{}
	r     *flist.Reader
	err   error
	users int
	used  int64
}

func newTrees(open func(db.FlistDigest) (*flist.Reader, error)) *trees {
	return &trees{openFile: open, slots: make(slots, maxOpenings), open: make(map[db.FlistDigest]*tree)}
}

// get returns the flist digest and what to call when it is no longer looked at. Callers that
// want one flist at a time open it once.
func (t *trees) get(ctx context.Context, digest db.FlistDigest) (*flist.Reader, func(), error) {
	if err := t.slots.acquire(ctx); err != nil {
		return nil, nil, err
	}
	e, first := t.enter(digest)
	release := func() {
		t.leave(digest, e)
		t.slots.release()
	}
	taken := false
	defer func() {
		if !taken { // also when the opening panics
			release()
		}
	}()
	if first {
		e.fill(func() (*flist.Reader, error) { return t.openFile(digest) })
	}
	select {
	case <-e.ready:
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	if e.err != nil {
		return nil, nil, e.err
	}
	taken = true
	return e.r, release, nil
}

// errPanicked is for those who waited for an opening that panicked.
var errPanicked = errors.New("open the flist: it panicked")

// fill sets r and err, and lets those go on who wait for them.
func (e *tree) fill(open func() (*flist.Reader, error)) {
	defer close(e.ready)
	e.err = errPanicked
	e.r, e.err = open()
}

func (t *trees) enter(digest db.FlistDigest) (e *tree, first bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, ok := t.open[digest]
	if !ok {
		e = &tree{ready: make(chan struct{})}
		t.open[digest] = e
	}
	t.clock++
	e.users, e.used = e.users+1, t.clock
	return e, !ok
}

// leave ends one use of e and closes what is too much: flists that did not open at once,
// then those that nobody has looked at for longest.
func (t *trees) leave(digest db.FlistDigest, e *tree) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.users--; e.users == 0 && e.err != nil {
		delete(t.open, digest)
	}
	for len(t.open) > maxTrees {
		var oldest *tree
		var at db.FlistDigest
		for d, o := range t.open {
			if o.users == 0 && (oldest == nil || o.used < oldest.used) {
				oldest, at = o, d
			}
		}
		if oldest == nil {
			return
		}
		delete(t.open, at)
		_ = oldest.r.Close() // a private mapping: nothing can be lost
	}
}

// close closes all. Nobody may look any more.
func (t *trees) close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []error
	for d, e := range t.open {
		all = append(all, e.r.Close())
		delete(t.open, d)
	}
	return errors.Join(all...)
}
