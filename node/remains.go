package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/mount"
)

// remains has the mounts of earlier services that are not back: not yet, or because that failed.
type remains struct {
	mu  sync.Mutex
	all map[*savedMount]struct{}
}

func newRemains() *remains { return &remains{all: map[*savedMount]struct{}{}} }

func (r *remains) add(all []*savedMount) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, v := range all {
		r.all[v] = struct{}{}
	}
}

// fail notes why v could not be brought back.
func (r *remains) fail(v *savedMount, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	v.Failed = err.Error()
}

// drop forgets v, which is back or gone.
func (r *remains) drop(v *savedMount) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.all, v)
}

// dropAt forgets what was at dir.
func (r *remains) dropAt(dir string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for v := range r.all {
		if v.Dir == dir {
			delete(r.all, v)
		}
	}
}

// list returns copies by directory.
func (r *remains) list() []savedMount {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]savedMount, 0, len(r.all))
	for v := range r.all {
		all = append(all, *v)
	}
	slices.SortFunc(all, func(a, b savedMount) int { return cmp.Or(cmp.Compare(a.Dir, b.Dir), a.Since.Compare(b.Since)) })
	return all
}

// forget gives up a mount of a service before, and takes away what is left of it. If there is none
// at dir, it is fs.ErrNotExist.
func (s *service) forget(ctx context.Context, dir string) error {
	dirs := []string{filepath.Clean(dir), resolve(dir)}
	dead := s.deadMounts()
	i := slices.IndexFunc(dead, func(d DeadMount) bool { return d.ours && slices.Contains(dirs, d.Dir) })
	if i < 0 {
		return fmt.Errorf("unmount %s: no mount of this node service there: %w", dir, fs.ErrNotExist)
	}
	if _, err := clearMount(ctx, dead[i].Dir); err != nil {
		return err
	}
	s.remains.dropAt(dead[i].Dir)
	s.log.Info("a dead mount is given up", "dir", dead[i].Dir, "ref", dead[i].Ref)
	s.save(context.WithoutCancel(ctx))
	return nil
}

// forgetAll gives up what is left of the mounts of services before.
func (s *service) forgetAll(ctx context.Context) {
	for _, d := range s.deadMounts() {
		if !d.ours {
			continue
		}
		if err := s.forget(ctx, d.Dir); err != nil {
			s.log.Warn("a dead mount stays", "dir", d.Dir, "error", err)
		}
	}
}

// clearMount takes away what is left of a mount, and reports whether programs use it still.
func clearMount(ctx context.Context, dir string) (busy bool, err error) {
	for {
		err := mount.Unmount(ctx, dir, false)
		if errors.Is(err, unix.EBUSY) {
			busy = true
			err = mount.Unmount(ctx, dir, true)
		}
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return busy, nil
		case err != nil:
			return busy, err
		}
	}
}
