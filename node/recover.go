package node

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/zosfs/zosfs/image"
	"github.com/zosfs/zosfs/mount"
	"github.com/zosfs/zosfs/mount/kernel"
	"github.com/zosfs/zosfs/ref"
)

// opensAtOnce is how many images are opened side by side.
const opensAtOnce = 8

// recover takes over the mounts of a service that has ended without taking them away: with the
// keeper as they are; those that have died with it are mounted anew. What it could not is in the
// log, and in the status as dead, and is tried again by the next service.
func (s *service) recover(ctx context.Context) {
	kept, held, err := s.host.resume(ctx)
	if err != nil {
		s.log.Error("cannot take over from the keeper", "error", err) // its mounts can be made again
	}
	all := s.lastTable(ctx, held)
	if !kept {
		// Nobody will serve these devices: who waits for them gets errors, and they keep no mount from
		// being taken away.
		if err := mount.ClearContent(s.dirs.content()); err != nil {
			s.log.Error("content devices of an earlier service stay", "error", err)
		}
	}
	taken, again := s.sortOut(all, kept)
	s.remains.add(taken)
	s.remains.add(again)
	if kept {
		s.adopt(ctx, taken)
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
	if len(all) > 0 || held != nil {
		s.save(ctx)
	}
}

// sortOut returns which mounts can be taken over, with the keeper's connection, and which are to be
// made again.
func (s *service) sortOut(all []*savedMount, kept bool) (taken, again []*savedMount) {
	there, err := mount.List()
	if err != nil {
		s.log.Error("which mounts are there is not known", "error", err)
	}
	for _, v := range all {
		if v.Pending && !began(v, there) {
			s.log.Info("a mount was being made and is not there", "dir", v.Dir, "ref", v.Request.Ref)
			continue
		}
		switch {
		case kept && v.Mode == mount.Kernel && v.DeviceSize > 0 && v.Failed == "":
			taken = append(taken, v)
		case v.Detached: // who used it cannot get it back
		default:
			again = append(again, v)
		}
	}
	return taken, again
}

// began finds out if v, which was in the making, is there, and what an entry in the table of
// mounts would say of it.
func began(v *savedMount, there []mount.Info) bool {
	found := false
	for _, info := range there {
		if info.Dir != v.Dir {
			continue
		}
		name, _ := kernel.IsImage("erofs", info.Image)
		if info.Mode == mount.Kernel && name != v.Digest.String() {
			continue
		}
		found = true
		v.Mode, v.Pending = info.Mode, false
		if info.Mode == mount.Kernel {
			v.Dev, v.Rung = info.Dev, kernel.FileBacked
			if strings.HasPrefix(info.Source, "/dev/loop") {
				v.Rung = kernel.Loop
			}
			v.DeviceSize, _ = kernel.CheckImage(info.Image) // with 0 it is made again
		}
	}
	return found
}

// adopt takes over the mounts in mode kernel and begins to answer.
func (s *service) adopt(ctx context.Context, all []*savedMount) {
	opened, failed := make([]*mounted, len(all)), make([]error, len(all))
	var g errgroup.Group
	g.SetLimit(opensAtOnce)
	for i, v := range all {
		g.Go(func() error {
			opened[i], failed[i] = s.openSaved(ctx, *v)
			return nil
		})
	}
	_ = g.Wait() // all return nil
	made, _ := s.host.now()
	for i, v := range all {
		s.adoptOne(made, v, opened[i], failed[i])
	}
	made.Serve()
}

// adoptOne takes over v, whose image is that of m or could not be opened.
func (s *service) adoptOne(host *mount.Host, v *savedMount, m *mounted, failed error) {
	if dir, ok := mount.Where(v.ID, v.Dev); ok {
		v.Dir = dir // it may have been moved
	}
	log := s.log.With("dir", v.Dir, "ref", v.Request.Ref)
	var im *image.Image
	if m != nil {
		im = m.image
	}
	taken, err := host.Adopt(im, v.Digest, v.DeviceSize, v.Dir, v.Dev, v.Rung)
	if taken == nil {
		s.remains.fail(v, err)
		log.Error("cannot take over a mount", "error", err, "try", remount(*v))
		if err := m.close(); err != nil {
			log.Warn("an image stays open", "error", err)
		}
		return
	}
	if m == nil { // it can be unmounted, and is mounted anew at once when it is asked for again
		log.Error("a mount was taken over whose image cannot be opened: reading it fails until it is mounted again", "error", failed, "try", remount(*v))
		m = &mounted{gone: make(chan struct{})}
		m.info = MountInfo{Ref: v.Request.Ref, Digest: v.Digest, Reason: fmt.Sprintf("its image cannot be opened: %v", failed), Refused: []string{}}
	}
	m.mount, m.request = taken, v.Request
	m.info.Since = v.Since
	s.enter(m)
	s.remains.drop(v)
	if err != nil {
		log.Info("took over a mount that was unmounted meanwhile, programs may use it still")
		return
	}
	log.Info("took over a mount")
	s.warnOfToken(log, *v)
}

// openSaved opens the image of a mount, of the version that it has.
func (s *service) openSaved(ctx context.Context, v savedMount) (*mounted, error) {
	name, err := ref.Parse(v.Request.Ref, "")
	if err != nil {
		return nil, err
	}
	return s.open(ctx, name, v.Request, v.Digest)
}

// revive mounts again what has died, as far as its mount point is as it was left. What is left of
// it is taken away when it is known that the image can be opened, not before.
func (s *service) revive(ctx context.Context, v *savedMount) {
	log := s.log.With("dir", v.Dir, "ref", v.Request.Ref)
	busy := false
	r := v.Request
	r.Dir = v.Dir
	_, err := s.mountAs(ctx, r, v.Digest, func() (err error) {
		busy, err = clearMount(ctx, v.Dir)
		return err
	})
	if err != nil {
		s.remains.fail(v, err)
		log.Error("a mount has died and could not be made again", "error", err, "try", remount(*v))
		return
	}
	s.remains.drop(v)
	if busy {
		log.Warn("a mount has died and was made again; programs that used the old one must be started anew")
	} else {
		log.Info("a mount has died and was made again")
	}
	s.warnOfToken(log, *v)
}

// warnOfToken tells if v had a token that neither the table nor the service has.
func (s *service) warnOfToken(log *slog.Logger, v savedMount) {
	name, err := ref.Parse(v.Request.Ref, "")
	if err != nil || !v.TokenDropped {
		return
	}
	if creds, err := s.opts.Credentials(); err != nil || creds.Token(name.Hub) == "" {
		log.Warn("the token that it was mounted with is lost: what is not in the cache cannot be fetched if the hub wants it", "try", "zosfs login, or "+remount(v))
	}
}

// remount says how to bring v back by hand.
func remount(v savedMount) string { return remountText(v.Dir, v.Request.Ref) }

func remountText(dir, ref string) string {
	return fmt.Sprintf("zosfs umount %[1]s; zosfs mount %[2]s %[1]s", dir, ref)
}
