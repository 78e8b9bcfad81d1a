package node

import (
	"errors"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/mount"
)

// deadMounts returns mounts of zosfs that nobody serves, and those of earlier services that could
// not be made again.
func (s *service) deadMounts() []DeadMount {
	s.host.refresh()
	dead := []DeadMount{}
	failed := map[string]savedMount{}
	for _, v := range s.remains.list() {
		if v.Failed != "" {
			failed[v.Dir] = v
			dead = append(dead, DeadMount{
				Info: mount.Info{Dir: v.Dir, Source: v.Request.Ref, Mode: v.Mode},
				Ref:  v.Request.Ref, Reason: v.Failed, Try: remount(v), ours: true,
			})
		}
	}
	live := map[string]bool{} // what comes or goes meanwhile is none that is dead
	s.table.places(live)
	list, err := mount.List()
	if err != nil {
		s.log.Warn("dead mounts are not known", "error", err)
		return dead
	}
	s.table.places(live)
	for _, info := range list {
		if _, known := failed[info.Dir]; known || live[info.Dir] {
			continue
		}
		switch {
		case s.isOurs(info): // names and what is in the page cache can be read, so it is not asked
			dead = append(dead, DeadMount{Info: info, Reason: "no service knows it, content that was not read yet cannot be read", Try: remountText(info.Dir, "REF"), ours: true})
		case !s.dead.answers(info.Dir):
			dead = append(dead, DeadMount{Info: info, Ref: info.Source, Reason: "the service that made it has ended without taking it away", Try: remountText(info.Dir, info.Source)})
		}
	}
	return dead
}

// isOurs reports whether a service with this state directory has made a mount in mode kernel. Of one
// through loop devices that cannot be told; it is known to be dead if it is in the table of mounts.
func (s *service) isOurs(info mount.Info) bool {
	return info.Mode == mount.Kernel && filepath.Dir(info.Image) == s.dirs.images()
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
