package unpack

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/image"
)

// A maker is the first walk: it makes everything but further hard links.
type maker struct {
	*unpacker
	files chan<- job
}

// A job is a file to be filled. The worker closes fd.
type job struct {
	fd int
	id flist.NodeID
}

// place is where an inode with several names has its first one.
type place struct {
	dirs []string // from the root
	dir  flist.NodeID
	name string
}

func (m *maker) dir(c *chain, name string, _ flist.NodeID) (int, error) {
	up := c.top().fd
	m.entries++
	err := unix.Mkdirat(up, name, 0o700)
	if m.over && errors.Is(err, unix.EEXIST) {
		fd, e := openDir(up, name)
		if e == nil {
			return fd, takeOver(fd)
		}
		if !errors.Is(e, unix.ENOTDIR) && !errors.Is(e, unix.ELOOP) {
			return -1, e
		}
		if err = unix.Unlinkat(up, name, 0); err == nil {
			err = unix.Mkdirat(up, name, 0o700)
		}
	}
	if err != nil {
		return -1, err
	}
	return openDir(up, name)
}

// takeOver readies the directory fd, which was there before, for new entries: they must not
// inherit an ACL, and the owner must be able to make them.
func takeOver(fd int) error {
	for _, name := range []string{"system.posix_acl_default", "system.posix_acl_access"} {
		err := unix.Fremovexattr(fd, name)
		if err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.EOPNOTSUPP) {
			return err
		}
	}
	return unix.Fchmod(fd, 0o700)
}

func (m *maker) entry(ctx context.Context, c *chain, name string, id flist.NodeID) error {
	a := m.tree.Attr(id)
	m.entries++
	if a.Nlink > 1 {
		if _, made := m.first[id]; made {
			return nil
		}
		m.first[id] = place{m.dirsOf(c), c.top().id, name}
	}
	up := c.top().fd
	err := m.make(ctx, up, name, id, &a)
	if m.over && errors.Is(err, unix.EEXIST) {
		if err = unix.Unlinkat(up, name, 0); err == nil {
			err = m.make(ctx, up, name, id, &a)
		}
	}
	return err
}

// dirsOf returns the names that lead to the lowest level of c; the last answer is kept.
func (m *maker) dirsOf(c *chain) []string {
	if m.lastDir != c.top().id {
		m.lastDir, m.lastNames = c.top().id, c.names()
	}
	return m.lastNames
}

// make makes one inode under a name that must be free.
func (m *maker) make(ctx context.Context, up int, name string, id flist.NodeID, a *image.Attr) error {
	switch a.Type() {
	case flist.ModeRegular:
		return m.file(ctx, up, name, id)
	case flist.ModeSymlink:
		if err := unix.Symlinkat(m.tree.Target(id), up, name); err != nil {
			return err
		}
		return m.restoreLink(up, name, id, a)
	}
	return m.special(up, name, id, a)
}

// file makes an empty file and has it filled.
func (m *maker) file(ctx context.Context, up int, name string, id flist.NodeID) error {
	fd, err := retry(func() (int, error) {
		return unix.Openat(up, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	})
	if err != nil {
		return err
	}
	select {
	case m.files <- job{fd, id}:
		return nil
	case <-ctx.Done():
		_ = unix.Close(fd)
		return context.Cause(ctx)
	}
}

// special makes a device, fifo or socket.
func (m *maker) special(up int, name string, id flist.NodeID, a *image.Attr) error {
	isDevice := a.Type() == flist.ModeBlock || a.Type() == flist.ModeChar
	err := unix.Mknodat(up, name, a.Type()|0o600, int(a.Rdev))
	if isDevice && errors.Is(err, unix.EPERM) {
		m.lists.add(&m.lists.devices, func() string { return m.tree.Path(id) })
		if a.Nlink > 1 {
			m.refused[id] = true
		}
		return nil
	}
	if err != nil {
		return err
	}
	fd, err := retry(func() (int, error) { return unix.Openat(up, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0) })
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	return m.restore(handle(fd), id, a)
}

// leave does nothing: directories are finished last.
func (m *maker) leave(int, flist.NodeID) error { return nil }

// A linker is the second walk: it makes further hard links.
type linker struct{ *unpacker }

func (l linker) dir(c *chain, name string, _ flist.NodeID) (int, error) {
	return openDir(c.top().fd, name)
}

func (l linker) entry(_ context.Context, c *chain, name string, id flist.NodeID) error {
	at, several := l.first[id]
	if !several || l.refused[id] || at.dir == c.top().id && at.name == name {
		return nil
	}
	from, err := l.descend(at.dirs)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(from) }()
	err = unix.Linkat(from, at.name, c.top().fd, name, 0)
	if l.over && errors.Is(err, unix.EEXIST) {
		if err = unix.Unlinkat(c.top().fd, name, 0); err == nil {
			err = unix.Linkat(from, at.name, c.top().fd, name, 0)
		}
	}
	return err
}

// descend opens a directory by its names from the root, none of which may be a symlink.
func (u *unpacker) descend(names []string) (int, error) {
	fd, err := openDir(u.root, ".")
	for _, name := range names {
		if err != nil {
			return -1, err
		}
		up := fd
		fd, err = openDir(up, name)
		_ = unix.Close(up)
	}
	return fd, err
}

func (l linker) leave(int, flist.NodeID) error { return nil }

// A finisher is the last walk: it gives directories what the image says of them.
type finisher struct{ *unpacker }

func (f finisher) dir(c *chain, name string, _ flist.NodeID) (int, error) {
	return openDir(c.top().fd, name)
}

func (f finisher) entry(context.Context, *chain, string, flist.NodeID) error { return nil }

func (f finisher) leave(fd int, id flist.NodeID) error {
	a := f.tree.Attr(id)
	return f.restore(handle(fd), id, &a)
}
