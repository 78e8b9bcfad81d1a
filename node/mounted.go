package node

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/image"
	"github.com/zosfs/zosfs/mount"
	"github.com/zosfs/zosfs/ref"
)

// mounted is one mount and what it holds.
type mounted struct {
	info     MountInfo // what does not change
	mount    *mount.Mounted
	image    *image.Image
	opened   *ref.Opened
	detached atomic.Bool   // out of sight, but in use
	ours     atomic.Bool   // this service asked for its end
	gone     chan struct{} // closed when everything is given back
	told     told
}

func (m *mounted) dir() string { return m.info.Dir }

// status returns all that is known of m.
func (m *mounted) status() MountInfo {
	info := m.info
	info.Detached = m.detached.Load()
	info.Image = m.image.Stats()
	info.Kernel = m.mount.Stats()
	info.Sources = m.opened.Source.Stats()
	return info
}

// mount does what r asks for. It is undone where ctx ends before the caller can learn of it.
func (s *service) mount(ctx context.Context, r MountRequest) (MountInfo, error) {
	mode, err := parseMode(r.Mode)
	if err != nil {
		return MountInfo{}, err
	}
	name, err := ref.Parse(r.Ref, "")
	if err != nil {
		return MountInfo{}, err
	}
	switch {
	case name.IsPath() && !filepath.IsAbs(name.Path):
		return MountInfo{}, fmt.Errorf("reference %q: want an absolute path: %w", r.Ref, errs.ErrFormat)
	case !filepath.IsAbs(r.Dir):
		return MountInfo{}, fmt.Errorf("mount point %q: want an absolute path: %w", r.Dir, errs.ErrFormat)
	}
	if err := s.dirs.refuse(r.Dir); err != nil {
		return MountInfo{}, err
	}
	dir := resolve(r.Dir)
	if err := s.table.reserve(dir); err != nil {
		return MountInfo{}, err
	}
	defer s.table.release(dir)
	m, err := s.open(ctx, name, r)
	if err != nil {
		return MountInfo{}, err
	}
	if err := s.show(ctx, m, dir, mode); err != nil {
		return MountInfo{}, err
	}
	return m.status(), nil
}

func parseMode(s string) (mount.Mode, error) {
	if s == "" {
		return mount.Auto, nil
	}
	return mount.ParseMode(s)
}

// open makes the image.
func (s *service) open(ctx context.Context, name ref.Ref, r MountRequest) (*mounted, error) {
	creds, err := s.opts.Credentials()
	if err != nil {
		return nil, err
	}
	if !name.IsPath() {
		if creds, err = creds.With(name.Hub, r.Token); err != nil {
			return nil, err
		}
	}
	opened, err := ref.Open(ctx, name, ref.Options{
		Dir: s.dirs.Cache, Credentials: creds, Offline: r.Offline, Allow: r.Allow, Log: s.log,
	})
	if err != nil {
		return nil, err
	}
	log := s.log.With("ref", opened.Ref.String(), "dir", r.Dir)
	im, err := image.New(opened.Flist, opened.Source, image.Options{Cache: s.cache, Deadline: r.Deadline, Log: log})
	if err != nil {
		return nil, errors.Join(err, opened.Close())
	}
	m := &mounted{image: im, opened: opened, gone: make(chan struct{})}
	m.info = MountInfo{
		Ref:        opened.Ref.String(),
		Digest:     opened.Flist.Digest(),
		TreeDigest: opened.Flist.TreeDigest(),
		Counts:     opened.Flist.Counts(),
		Offline:    r.Offline,
		Stale:      opened.Stale,
		Refused:    append([]string{}, opened.Refused...),
	}
	return m, nil
}

// show mounts m at dir and enters it into the table; if it cannot, it gives back what m holds.
func (s *service) show(ctx context.Context, m *mounted, dir string, mode mount.Mode) error {
	log := s.log.With("ref", m.info.Ref, "dir", dir)
	var err error
	m.mount, err = mount.Mount(ctx, m.image, dir, mount.Options{Mode: mode, Source: m.info.Ref, Log: log})
	if err != nil {
		return errors.Join(err, m.image.Close(), m.opened.Close())
	}
	m.info.Dir, m.info.Mode, m.info.Reason, m.info.Since = m.mount.Dir(), m.mount.Mode(), m.mount.Why(), time.Now()
	s.memory.add(m.image.Tree().Bytes())
	s.table.add(m)
	s.totals.begin(m)
	s.tell(m, Event{Type: EventMounted})
	go s.watch(m) // ends with the mount
	log.Info("mounted", "mode", m.info.Mode, "digest", m.info.Digest, "entries", m.info.Counts.Entries)
	if ctx.Err() != nil { // who asked has gone, nobody would know of the mount
		return errors.Join(context.Cause(ctx), s.unmount(context.WithoutCancel(ctx), m, true))
	}
	return nil
}

// watch gives back what m holds once it has ended, whoever ended it.
func (s *service) watch(m *mounted) {
	m.mount.Wait()
	err := errors.Join(m.image.Close(), m.opened.Close())
	s.totals.end(m, m.status())
	s.table.remove(m)
	s.memory.add(-m.image.Tree().Bytes())
	log := s.log.With("ref", m.info.Ref, "dir", m.info.Dir)
	s.tellEnd(m, err)
	switch {
	case err != nil:
		log.Warn("unmounted", "error", err)
	case m.ours.Load():
		log.Info("unmounted")
	default:
		log.Info("unmounted by somebody else")
	}
	close(m.gone)
}

// unmount ends m. When it returns nil, either all is given back or, with lazy, m is out of sight.
func (s *service) unmount(ctx context.Context, m *mounted, lazy bool) error {
	m.ours.Store(true)
	if err := m.mount.Unmount(ctx, lazy); err != nil {
		m.ours.Store(false)
		return err
	}
	if lazy {
		m.detached.Store(true)
		s.tellDetached(m)
		return nil
	}
	select {
	case <-m.gone:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
