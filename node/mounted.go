package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/image"
	"github.com/zosfs/zosfs/mount"
	"github.com/zosfs/zosfs/ref"
	"github.com/zosfs/zosfs/store/multi"
)

// mounted is one mount and what it holds.
type mounted struct {
	info     MountInfo // what does not change
	request  MountRequest
	mount    *mount.Mounted
	image    *image.Image  // nil: taken over, and it could not be opened
	opened   *ref.Opened   // likewise
	held     int64         // bytes of memory
	detached atomic.Bool   // out of sight, but in use
	ours     atomic.Bool   // this service asked for its end
	gone     chan struct{} // closed when everything is given back
	told     told
}

// dir returns where m is, also after it was moved; as long as it is nowhere, where it is to be.
func (m *mounted) dir() string {
	if m.mount == nil {
		return m.info.Dir
	}
	return m.mount.Dir()
}

// status returns all that is known of m.
func (m *mounted) status() MountInfo {
	info := m.info
	info.Dir, info.Detached = m.dir(), m.isDetached()
	info.Kernel = m.mount.Stats()
	info.Sources = []multi.SourceStats{}
	if m.image != nil {
		info.Image = m.image.Stats()
		info.Sources = m.opened.Source.Stats()
	}
	return info
}

// isDetached reports whether m is out of sight, but in use.
func (m *mounted) isDetached() bool { return m.detached.Load() || m.mount != nil && m.mount.Detached() }

// close gives back what m holds.
func (m *mounted) close() error {
	if m == nil || m.image == nil {
		return nil
	}
	return errors.Join(m.image.Close(), m.opened.Close())
}

// mount does what r asks for. It is undone where ctx ends before the caller can learn of it.
func (s *service) mount(ctx context.Context, r MountRequest) (MountInfo, error) {
	info, err := s.mountAs(ctx, r, flist.Digest{}, func() error { return nil })
	if err == nil {
		info.Shared = s.sharedWith(info)
		s.remains.dropAt(info.Dir) // what was there is not wanted any more
		s.save(context.WithoutCancel(ctx))
	}
	return info, err
}

// sharedWith returns where the image of a mount was mounted before with another patience, which
// holds for both.
func (s *service) sharedWith(info MountInfo) string {
	m, ok := s.table.at(info.Dir)
	if !ok || info.Mode != mount.Kernel {
		return ""
	}
	for _, o := range s.table.list() {
		if o != m && o.info.Mode == mount.Kernel && o.info.Digest == info.Digest && o.request.Deadline != m.request.Deadline {
			return o.dir()
		}
	}
	return ""
}

// mountAs is mount, of the flist want if that is not zero, whatever the reference leads to. It
// calls before when the image is open, and mounts it unless that fails.
func (s *service) mountAs(ctx context.Context, r MountRequest, want flist.Digest, before func() error) (MountInfo, error) {
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
	m, err := s.open(ctx, name, r, want)
	if err != nil {
		return MountInfo{}, err
	}
	if err := before(); err != nil {
		return MountInfo{}, errors.Join(err, m.close())
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
func (s *service) open(ctx context.Context, name ref.Ref, r MountRequest, want flist.Digest) (*mounted, error) {
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
		Dir: s.dirs.Cache, Credentials: creds, Offline: r.Offline, Allow: r.Allow, Digest: want, Log: s.log,
	})
	if err != nil {
		return nil, err
	}
	log := s.log.With("ref", opened.Ref.String(), "dir", r.Dir)
	im, err := image.New(opened.Flist, opened.Source, image.Options{Cache: s.cache, Deadline: r.Deadline, Log: log})
	if err != nil {
		return nil, errors.Join(err, opened.Close())
	}
	m := &mounted{request: r, image: im, opened: opened, gone: make(chan struct{})}
	m.info = MountInfo{
		Ref:        name.String(), // as it was asked for, of whatever version
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
// That it is about to is saved before: a mount that a service could show but not note any more
// would be in no table.
func (s *service) show(ctx context.Context, m *mounted, dir string, mode mount.Mode) error {
	log := s.log.With("ref", m.info.Ref, "dir", dir)
	announced := false
	announce := func() {
		if !announced {
			announced = true
			s.table.intend(dir, &savedMount{Request: m.request, Dir: dir, Mode: mode, Digest: m.info.Digest, Since: time.Now(), Pending: true})
			s.save(context.WithoutCancel(ctx))
		}
	}
	if mode == mount.FUSE || os.Geteuid() != 0 { // else when there is a keeper to be told
		announce()
	}
	var err error
	m.mount, err = mount.Mount(ctx, m.image, dir, mount.Options{
		Mode: mode, Source: m.info.Ref, Log: log,
		Host: func() (*mount.Host, error) {
			host, err := s.host.get(ctx)
			announce()
			return host, err
		},
	})
	if err != nil {
		if announced {
			s.table.intend(dir, nil)
			s.save(context.WithoutCancel(ctx))
		}
		return errors.Join(err, m.close())
	}
	m.info.Since = time.Now()
	s.enter(m)
	log.Info("mounted", "mode", m.info.Mode, "digest", m.info.Digest, "entries", m.info.Counts.Entries)
	if ctx.Err() != nil { // who asked has gone, nobody would know of the mount
		return errors.Join(context.Cause(ctx), s.unmount(context.WithoutCancel(ctx), m, true))
	}
	return nil
}

// enter puts a mount into the table until it ends.
func (s *service) enter(m *mounted) {
	m.info.Dir, m.info.Mode = m.mount.Dir(), m.mount.Mode()
	if why := m.mount.Why(); why != "" {
		m.info.Reason = why
	}
	_, m.info.Rung, _ = m.mount.Kernel()
	if m.image != nil {
		m.held = m.image.TreeBytes() + 4*m.info.Counts.Objects
	}
	s.memory.add(m.held)
	s.table.add(m)
	s.totals.begin(m)
	s.tell(m, Event{Type: EventMounted})
	go s.watch(m) // ends with the mount
}

// watch gives back what m holds once it has ended, whoever ended it.
func (s *service) watch(m *mounted) {
	m.mount.Wait()
	err := m.close()
	s.totals.end(m, m.status())
	s.table.remove(m)
	s.memory.add(-m.held)
	if !s.leaving.Load() {
		s.save(context.Background())
	}
	log := s.log.With("ref", m.info.Ref, "dir", m.dir())
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
	case <-m.mount.Done():
	default:
		if m.mount.Detached() { // of mode kernel, and kept by who is out of our sight
			s.tellDetached(m)
			return nil
		}
	}
	select {
	case <-m.gone:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
