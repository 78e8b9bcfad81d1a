package keeper

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/zosfs/zosfs/errs"
)

// errGone says that who asked for a change does not wait for it any more.
var errGone = errors.New("the client is gone")

// held is an item in the table, and what answers under way keep of it. All but refs is
// constant.
type held struct {
	name string
	data []byte
	fd   int
	refs int // the table's own and one for each answer; guarded by table.mu
}

// table is all that the keeper holds: items and connections.
type table struct {
	idle  time.Duration // 0: for ever
	after time.Duration // idle once something was held; 0: idle
	quiet *time.Timer   // fires when nothing was held and nobody was connected for idle

	mu    sync.Mutex
	items map[string]*held
	conns map[*net.UnixConn]struct{}
	ended bool // takes no more connections
	used  bool // something was held
}

func newTable(idle, after time.Duration) *table {
	t := &table{
		idle: idle, after: after, quiet: time.NewTimer(idle),
		items: make(map[string]*held), conns: make(map[*net.UnixConn]struct{}),
	}
	t.rest()
	return t
}

// rest sets the timer. The caller holds mu, or is alone.
func (t *table) rest() {
	if t.idle > 0 && len(t.items) == 0 && len(t.conns) == 0 {
		idle := t.idle
		if t.used && t.after > 0 {
			idle = t.after
		}
		t.quiet.Reset(idle)
	} else {
		t.quiet.Stop()
	}
}

// connect notes conn and reports whether it is to be served.
func (t *table) connect(conn *net.UnixConn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return false
	}
	t.conns[conn] = struct{}{}
	t.rest()
	return true
}

func (t *table) disconnect(conn *net.UnixConn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.conns, conn)
	t.rest()
}

// endIdle ends the table if it is empty still.
func (t *table) endIdle() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = len(t.items) == 0 && len(t.conns) == 0
	return t.ended
}

// end closes every connection and lets none in.
func (t *table) end() {
	t.mu.Lock()
	t.ended = true
	t.quiet.Stop()
	var conns []*net.UnixConn
	for conn := range t.conns {
		conns = append(conns, conn)
	}
	t.mu.Unlock()
	for _, conn := range conns {
		_ = conn.Close() // its handler may have been first
	}
}

// put takes the descriptor over, also where it fails. gone is asked under the lock: a client
// that dies later had its change made while it lived.
func (t *table) put(h *held, gone func() bool) error {
	h.refs = 1
	old, err := t.replace(h, gone)
	if err != nil {
		old = h
	}
	if old != nil {
		t.release(old)
	}
	return err
}

func (t *table) replace(h *held, gone func() bool) (old *held, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if gone() {
		return nil, errGone
	}
	old = t.items[h.name]
	if old == nil && len(t.items) >= MaxItems {
		return nil, fmt.Errorf("%d items are held, which is the limit: %w", MaxItems, errs.ErrFull)
	}
	t.items[h.name], t.used = h, true
	t.rest()
	return old, nil
}

// delete deletes all names, or none if the client is gone.
func (t *table) delete(names []string, gone func() bool) error {
	t.mu.Lock()
	if gone() {
		t.mu.Unlock()
		return errGone
	}
	var out []*held
	for _, name := range names {
		if h := t.items[name]; h != nil {
			out = append(out, h)
			delete(t.items, name)
		}
	}
	t.rest()
	t.mu.Unlock()
	t.release(out...)
	return nil
}

// clear drops everything that is held.
func (t *table) clear() {
	t.mu.Lock()
	all := slices.Collect(maps.Values(t.items))
	clear(t.items)
	t.mu.Unlock()
	t.release(all...)
}

// snapshot returns what is held, by name. The caller releases it.
func (t *table) snapshot() []*held {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]*held, 0, len(t.items))
	for _, h := range t.items {
		h.refs++
		all = append(all, h)
	}
	slices.SortFunc(all, func(a, b *held) int { return strings.Compare(a.name, b.name) })
	return all
}

// release closes the descriptors that nobody needs any more.
func (t *table) release(items ...*held) {
	var fds []int
	t.mu.Lock()
	for _, h := range items {
		if h.refs--; h.refs == 0 {
			fds = append(fds, h.fd)
		}
	}
	t.mu.Unlock()
	for _, fd := range fds {
		closeFD(fd)
	}
}
