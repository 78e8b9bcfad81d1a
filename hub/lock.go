package hub

import (
	"sync"

	"github.com/zosfs/zosfs/blob"
)

// digestLocks is a lock for each blob that is being put or deleted.
type digestLocks struct {
	mu   sync.Mutex
	held map[blob.Digest]*digestLock
}

type digestLock struct {
	mu    sync.Mutex
	users int // guarded by digestLocks.mu
}

// lock waits until nobody else holds id and returns what ends that.
func (l *digestLocks) lock(id blob.Digest) (unlock func()) {
	l.mu.Lock()
	if l.held == nil {
		l.held = make(map[blob.Digest]*digestLock)
	}
	d := l.held[id]
	if d == nil {
		d = &digestLock{}
		l.held[id] = d
	}
	d.users++
	l.mu.Unlock()
	d.mu.Lock()
	return func() {
		d.mu.Unlock()
		l.mu.Lock()
		defer l.mu.Unlock()
		if d.users--; d.users == 0 {
			delete(l.held, id)
		}
	}
}
