package mount

import "sync"

// users counts those who use something that is to be closed after the last of them.
type users struct {
	mu    sync.Mutex
	n     int
	after func() // called when nobody is left; nil before end
}

// enter adds a user, unless the end has begun.
func (u *users) enter() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.after != nil {
		return false
	}
	u.n++
	return true
}

// leave takes a user away.
func (u *users) leave() {
	u.mu.Lock()
	u.n--
	after := u.after
	if u.n > 0 {
		after = nil
	}
	u.mu.Unlock()
	if after != nil {
		after()
	}
}

// end lets nobody in any more, and has after called when the last one has left. Only the first
// call counts.
func (u *users) end(after func()) {
	u.mu.Lock()
	first := u.after == nil
	if first {
		u.after = after
	}
	idle := u.n == 0
	u.mu.Unlock()
	if first && idle {
		after()
	}
}
