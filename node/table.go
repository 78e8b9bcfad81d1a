package node

import (
	"cmp"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"time"
)

// table has the mounts of a service, those in the making too.
type table struct {
	idle  time.Duration // 0: for ever
	onEnd func()        // called once, when nothing was mounted for idle

	mu      sync.Mutex
	mounts  map[*mounted]struct{}
	pending map[string]*savedMount // by mount point, in the making; nil until the image is open
	ending  bool                   // nothing is added any more
	timer   *time.Timer            // runs while the table is empty and idle is set
}

func newTable(idle time.Duration, onEnd func()) *table {
	t := &table{idle: idle, onEnd: onEnd, mounts: map[*mounted]struct{}{}, pending: map[string]*savedMount{}}
	if idle > 0 {
		t.timer = time.AfterFunc(idle, t.expire)
	}
	return t
}

// expire ends the service unless something was mounted while the timer went off.
func (t *table) expire() {
	t.mu.Lock()
	if t.ending || !t.empty() {
		t.mu.Unlock()
		return
	}
	t.ending = true
	t.mu.Unlock()
	t.onEnd()
}

func (t *table) empty() bool { return len(t.mounts)+len(t.pending) == 0 }

// rest starts the timer if there is nothing left.
func (t *table) rest() {
	if t.timer != nil && t.empty() && !t.ending {
		t.timer.Reset(t.idle)
	}
}

// reserve keeps the mount point dir for the caller, who calls add or release afterwards.
func (t *table) reserve(dir string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ending {
		return fmt.Errorf("the node service is about to end: %w", ErrNotRunning)
	}
	if _, taken := t.pending[dir]; taken {
		return fmt.Errorf("mount point %s: something is being mounted there just now: %w", dir, fs.ErrExist)
	}
	t.pending[dir] = nil
	if t.timer != nil {
		t.timer.Stop()
	}
	return nil
}

// release gives the mount point back.
func (t *table) release(dir string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.pending, dir)
	t.rest()
}

// intend notes what is about to be mounted at a mount point that is reserved; nil that it is not.
func (t *table) intend(dir string, v *savedMount) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pending[dir] = v
}

// pendingMounts returns what is about to be mounted.
func (t *table) pendingMounts() []savedMount {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := []savedMount{}
	for _, dir := range slices.Sorted(maps.Keys(t.pending)) {
		if v := t.pending[dir]; v != nil {
			all = append(all, *v)
		}
	}
	return all
}

// places adds the directories of all mounts, those in the making too.
func (t *table) places(to map[string]bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for m := range t.mounts {
		to[m.dir()] = true
	}
	for dir := range t.pending {
		to[dir] = true
	}
}

// add enters a mount, which is in the making no more.
func (t *table) add(m *mounted) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mounts[m] = struct{}{}
	if _, reserved := t.pending[m.dir()]; reserved {
		t.pending[m.dir()] = nil
	}
}

// remove drops a mount that has ended.
func (t *table) remove(m *mounted) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.mounts, m)
	t.rest()
}

// at returns the mount that is to be seen at dir.
func (t *table) at(dir string) (*mounted, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for m := range t.mounts {
		if m.dir() == dir && !m.isDetached() {
			return m, true
		}
	}
	return nil, false
}

// list returns all mounts by directory, the older one first where one is detached.
func (t *table) list() []*mounted {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]*mounted, 0, len(t.mounts))
	for m := range t.mounts {
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b *mounted) int {
		return cmp.Or(cmp.Compare(a.dir(), b.dir()), a.info.Since.Compare(b.info.Since))
	})
	return all
}

// end lets nothing be added any more.
func (t *table) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ending = true
	if t.timer != nil {
		t.timer.Stop()
	}
}
