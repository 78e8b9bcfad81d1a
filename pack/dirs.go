package pack

import (
	"errors"
	"slices"
	"sync"

	"github.com/moby/patternmatcher"
	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/flist"
)

// maxDirs bounds the descriptors of directories that are open without being in use.
const maxDirs = 64

// errReplaced says that a name leads to another inode than it did before.
var errReplaced = errors.New("replaced meanwhile")

// A dir is a directory of the tree.
type dir struct {
	parent *dir // nil for the root
	name   string
	id     flist.NodeID // the placer sets and reads it
	ident  ident        // when its parent was read
	match  patternmatcher.MatchInfo

	fd, users int // guarded by dirTable.mu; fd is -1 while closed
}

// path returns where d is, relative to the root, which is "".
func (d *dir) path() string {
	n, depth := 0, 0
	for a := d; a.parent != nil; a = a.parent {
		n += len(a.name) + 1
		depth++
	}
	if depth == 0 {
		return ""
	}
	p := make([]byte, n-1)
	for a, end := d, n-1; a.parent != nil; a = a.parent {
		copy(p[end-len(a.name):], a.name)
		if end -= len(a.name) + 1; end >= 0 {
			p[end] = '/'
		}
	}
	return string(p)
}

// join returns the path of name in d.
func (d *dir) join(name string) string {
	if p := d.path(); p != "" {
		return p + "/" + name
	}
	return name
}

// A dirTable opens directories and keeps the descriptors of some. A directory that was
// closed is opened again from its nearest open ancestor, so neither the depth of a tree nor
// PATH_MAX limits what can be reached. It is safe for concurrent use.
type dirTable struct {
	mu   sync.Mutex
	open []*dir // oldest first
}

// borrow returns the descriptor of d, which is good until release. A directory that is not
// the one that the walk saw is errReplaced.
func (t *dirTable) borrow(d *dir) (int, error) {
	t.mu.Lock()
	if d.fd >= 0 {
		d.users++
		t.mu.Unlock()
		return d.fd, nil
	}
	t.mu.Unlock()
	up, err := t.borrow(d.parent)
	if err != nil {
		return -1, err
	}
	defer t.release(d.parent)
	fd, err := openat(up, d.name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	if inodeOf(&st) != d.ident.inode {
		_ = unix.Close(fd)
		return -1, errReplaced
	}
	return t.adopt(d, fd), nil
}

// adopt makes fd the descriptor of d, unless somebody was faster, and borrows it.
func (t *dirTable) adopt(d *dir, fd int) int {
	t.mu.Lock()
	var spare []int
	if d.fd >= 0 {
		spare = append(spare, fd)
	} else {
		d.fd = fd
		t.open = append(t.open, d)
	}
	d.users++
	fd = d.fd
	for i := 0; i < len(t.open) && len(t.open) > maxDirs; {
		if o := t.open[i]; o.users == 0 {
			spare = append(spare, o.fd)
			o.fd = -1
			t.open = slices.Delete(t.open, i, i+1)
		} else {
			i++
		}
	}
	t.mu.Unlock()
	for _, s := range spare {
		_ = unix.Close(s)
	}
	return fd
}

func (t *dirTable) release(d *dir) {
	t.mu.Lock()
	d.users--
	t.mu.Unlock()
}

// close closes all that is open. Nobody may use t meanwhile.
func (t *dirTable) close() {
	for _, d := range t.open {
		_ = unix.Close(d.fd)
		d.fd = -1
	}
	t.open = nil
}

// openat opens name in the directory fd without following it if it is a symlink, and
// without leaving a trace in its access time where that is allowed.
func openat(fd int, name string, flags int) (int, error) {
	flags |= unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NOCTTY
	n, err := retry(func() (int, error) { return unix.Openat(fd, name, flags|unix.O_NOATIME, 0) })
	if errors.Is(err, unix.EPERM) {
		n, err = retry(func() (int, error) { return unix.Openat(fd, name, flags, 0) })
	}
	return n, err
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
