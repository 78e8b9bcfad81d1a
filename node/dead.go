package node

import (
	"errors"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/mount"
)

// deadMounts returns mounts of zosfs that nobody serves.
func (s *service) deadMounts() []mount.Info {
	list, err := mount.List()
	if err != nil {
		s.log.Warn("dead mounts are not known", "error", err)
		return nil
	}
	live := map[string]bool{}
	for _, m := range s.table.list() {
		live[m.dir()] = true
	}
	dead := []mount.Info{}
	for _, info := range list {
		if !live[info.Dir] && !s.dead.answers(info.Dir) {
			dead = append(dead, info)
		}
	}
	return dead
}

// prober finds out if mounts of others answer. A file system may hold up who asks it for
// ever, so the question is asked aside, and once at a time.
type prober struct {
	probe    func(dir string) bool
	patience time.Duration // how long a mount may take to answer

	mu    sync.Mutex
	asked map[string]chan bool // by directory; questions under way
}

func newProber() *prober { return &prober{probe: isAlive, patience: time.Second} }

// answers reports whether the mount at dir answers.
func (p *prober) answers(dir string) bool {
	ch := p.ask(dir)
	timeout := time.NewTimer(p.patience)
	defer timeout.Stop()
	select {
	case alive := <-ch:
		ch <- alive // for others who wait
		return alive
	case <-timeout.C:
		return false
	}
}

// ask returns where the answer will be.
func (p *prober) ask(dir string) chan bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ch, ok := p.asked[dir]; ok {
		return ch
	}
	if p.asked == nil {
		p.asked = map[string]chan bool{}
	}
	ch := make(chan bool, 1)
	p.asked[dir] = ch
	go func() { // ends with the answer, which may take as long as the mount exists
		alive := p.probe(dir)
		p.mu.Lock()
		delete(p.asked, dir)
		p.mu.Unlock()
		ch <- alive
	}()
	return ch
}

// isAlive asks the server of the mount at dir; its names and attributes may be in the kernel's
// cache still, its free space never is.
func isAlive(dir string) bool {
	var st unix.Statfs_t
	err := unix.Statfs(dir, &st)
	return !errors.Is(err, unix.ENOTCONN) && !errors.Is(err, unix.ECONNABORTED)
}
