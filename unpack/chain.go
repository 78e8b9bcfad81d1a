package unpack

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/image"
)

// maxOpen bounds how many directories of a chain are open.
const maxOpen = 64

// errMoved says that somebody moved a directory while it was filled.
var errMoved = errors.New("the directory was moved meanwhile")

// A chain is the directories from the root to where a walk is. The lowest of them are open.
type chain struct {
	levels []level
	open   int // index of the first level that is open
}

type level struct {
	id   flist.NodeID
	name string
	next int // entry to visit
	fd   int // -1 while closed
	dev  uint64
	ino  uint64
}

func (c *chain) top() *level { return &c.levels[len(c.levels)-1] }

// names returns the names that lead from the root to the lowest level.
func (c *chain) names() []string {
	var names []string
	for i := range c.levels[1:] {
		names = append(names, c.levels[i+1].name)
	}
	return names
}

// push adds the open directory fd, which belongs to c from now on.
func (c *chain) push(id flist.NodeID, name string, fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		_ = unix.Close(fd)
		return err
	}
	c.levels = append(c.levels, level{id: id, name: name, fd: fd, dev: uint64(st.Dev), ino: st.Ino})
	if len(c.levels)-c.open > maxOpen {
		_ = unix.Close(c.levels[c.open].fd)
		c.levels[c.open].fd = -1
		c.open++
	}
	return nil
}

// pop removes the lowest level, whose descriptor is the caller's then. The one above it is
// open afterwards.
func (c *chain) pop() (level, error) {
	last := *c.top()
	c.levels = c.levels[:len(c.levels)-1]
	if len(c.levels) == 0 || c.top().fd >= 0 {
		return last, nil
	}
	up := c.top()
	c.open = len(c.levels) - 1
	fd, err := openDir(last.fd, "..")
	if err != nil {
		return last, err
	}
	up.fd = fd
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return last, err
	}
	if uint64(st.Dev) != up.dev || st.Ino != up.ino {
		return last, errMoved
	}
	return last, nil
}

func (c *chain) close() {
	for _, l := range c.levels {
		if l.fd >= 0 {
			_ = unix.Close(l.fd)
		}
	}
}

// A visitor is what a walk does.
type visitor interface {
	// dir opens, or makes, the directory name in the lowest level of c.
	dir(c *chain, name string, id flist.NodeID) (fd int, err error)
	// entry does what is to be done with another entry of the lowest level of c.
	entry(ctx context.Context, c *chain, name string, id flist.NodeID) error
	// leave comes when everything below a directory was visited; the directories above it
	// are open, as far as they need to be.
	leave(fd int, id flist.NodeID) error
}

// walk visits the tree in depth, from the directory root on, whose descriptor it borrows.
func walk(ctx context.Context, t *image.Tree, root int, v visitor) error {
	fd, err := openDir(root, ".")
	if err != nil {
		return pathError(t, "open", flist.Root, err)
	}
	c := &chain{}
	defer c.close()
	if err := c.push(flist.Root, "", fd); err != nil {
		return pathError(t, "open", flist.Root, err)
	}
	for len(c.levels) > 0 {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if err := step(ctx, t, c, v); err != nil {
			return err
		}
	}
	return nil
}

func step(ctx context.Context, t *image.Tree, c *chain, v visitor) error {
	top := c.top()
	if top.next == t.DirLen(top.id) {
		last, err := c.pop()
		defer func() { _ = unix.Close(last.fd) }()
		if err == nil {
			err = v.leave(last.fd, last.id)
		}
		return pathError(t, "finish", last.id, err)
	}
	name, id := t.DirEntry(top.id, top.next)
	top.next++
	if a := t.Attr(id); a.Type() != flist.ModeDir {
		return pathError(t, "make", id, v.entry(ctx, c, name, id))
	}
	fd, err := v.dir(c, name, id)
	if err == nil {
		err = c.push(id, name, fd)
	}
	return pathError(t, "make", id, err)
}

func openDir(fd int, name string) (int, error) {
	return retry(func() (int, error) {
		return unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
}

// retry repeats a system call that a signal interrupted.
func retry(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
