package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/image"
	"github.com/zosfs/zosfs/mount"
	"github.com/zosfs/zosfs/ref"
)

// opensAtOnce is how many images are opened side by side.
const opensAtOnce = 8

// recover takes over the mounts of a service that has ended without taking them away: with the
// keeper as they are; those that have died with it are mounted anew. What it could not is in the
// log, and in the status as dead.
func (s *service) recover(ctx context.Context) {
	kept, data, err := s.host.resume(ctx)
	if err != nil {
		s.log.Error("cannot take over from the keeper", "error", err)
		err = nil // its mounts can be made again
	}
	if data == nil {
		data, err = os.ReadFile(s.dirs.mounts())
		switch {
		case !errors.Is(err, fs.ErrNotExist):
		case !kept:
			return
		default: // it ended before its first mount, but the kernel waits for answers
			err = nil
		}
	}
	var all []savedMount
	if err == nil && data != nil {
		all, err = parseSaved(data)
	}
	if err != nil {
		s.log.Error("which mounts an earlier service had is not known", "error", err)
	}
	var again []savedMount
	if kept {
		again = s.adopt(ctx, all)
	} else {
		again = all
	}
	var g errgroup.Group
	g.SetLimit(opensAtOnce)
	for _, v := range again {
		g.Go(func() error {
			s.revive(ctx, v)
			return nil
		})
	}
	_ = g.Wait() // all return nil
	s.save(ctx)
}

// adopt takes over the mounts in mode kernel and begins to answer; it returns the others.
func (s *service) adopt(ctx context.Context, all []savedMount) (rest []savedMount) {
	opened := make([]*mounted, len(all))
	var g errgroup.Group
	g.SetLimit(opensAtOnce)
	for i, v := range all {
		if v.Mode != mount.Kernel {
			rest = append(rest, v)
			continue
		}
		g.Go(func() error {
			m, err := s.openSaved(ctx, v)
			if err != nil {
				s.log.Error("a mount was taken over whose image cannot be opened: reading it fails until it is mounted again",
					"dir", v.Dir, "ref", v.Request.Ref, "error", err, "try", remount(v))
			}
			opened[i] = m
			return nil
		})
	}
	_ = g.Wait() // all return nil
	for i, v := range all {
		if v.Mode == mount.Kernel {
			s.adoptOne(v, opened[i])
		}
	}
	s.host.host.Serve()
	return rest
}

func (s *service) adoptOne(v savedMount, m *mounted) {
	var im *image.Image
	if m != nil {
		im = m.image
	}
	taken, err := s.host.host.Adopt(im, v.Digest, v.DeviceSize, v.Dir, v.Dev, v.Rung)
	if taken == nil {
		s.log.Error("cannot take over a mount", "dir", v.Dir, "ref", v.Request.Ref, "error", err, "try", remount(v))
		if err := m.close(); err != nil {
			s.log.Warn("an image stays open", "error", err)
		}
		return
	}
	if m == nil { // it can be unmounted, and is mounted anew at once when it is asked for again
		m = &mounted{gone: make(chan struct{})}
		m.info = MountInfo{Ref: v.Request.Ref, Digest: v.Digest, Reason: "its image cannot be opened, see the log", Refused: []string{}}
	}
	m.mount, m.request = taken, v.Request
	m.info.Since = v.Since
	s.enter(m)
	if err != nil {
		s.log.Info("took over a mount that was unmounted meanwhile, programs may use it still", "dir", v.Dir, "ref", v.Request.Ref)
		return
	}
	s.log.Info("took over a mount", "dir", v.Dir, "ref", v.Request.Ref)
}

// openSaved opens the image of a mount, of the version that it has.
func (s *service) openSaved(ctx context.Context, v savedMount) (*mounted, error) {
	name, err := ref.Parse(v.Request.Ref, "")
	if err != nil {
		return nil, err
	}
	return s.open(ctx, name, v.Request, v.Digest)
}

// revive mounts again what has died, as far as its mount point is as it was left.
func (s *service) revive(ctx context.Context, v savedMount) {
	log := s.log.With("dir", v.Dir, "ref", v.Request.Ref)
	busy, err := clearMount(ctx, v)
	if err != nil {
		log.Error("a mount has died and cannot be taken away", "error", err, "try", remount(v))
		return
	}
	r := v.Request
	r.Dir = v.Dir
	if _, err := s.mountAs(ctx, r, v.Digest); err != nil {
		log.Error("a mount has died and could not be made again", "error", err, "try", remount(v))
		return
	}
	if busy {
		log.Warn("a mount has died and was made again; programs that used the old one must be started anew")
	} else {
		log.Info("a mount has died and was made again")
	}
	if s.lacksToken(v) {
		log.Warn("the token that it was mounted with is lost: what is not in the cache cannot be fetched if the hub wants it", "try", "zosfs login, or "+remount(v))
	}
}

// lacksToken reports whether v had a token that neither the table nor the service has.
func (s *service) lacksToken(v savedMount) bool {
	name, err := ref.Parse(v.Request.Ref, "")
	if err != nil || !v.TokenDropped {
		return false
	}
	creds, err := s.opts.Credentials()
	return err != nil || creds.Token(name.Hub) == ""
}

// clearMount takes away what is left of a mount, and reports whether programs use it still.
func clearMount(ctx context.Context, v savedMount) (busy bool, err error) {
	for {
		err := mount.Unmount(ctx, v.Dir, false)
		if errors.Is(err, unix.EBUSY) {
			busy = true
			err = mount.Unmount(ctx, v.Dir, true)
		}
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return busy, nil
		case err != nil:
			return busy, err
		}
	}
}

func remount(v savedMount) string {
	return fmt.Sprintf("zosfs umount %[1]s; zosfs mount %[2]s %[1]s", v.Dir, v.Request.Ref)
}
