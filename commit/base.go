package commit

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/pack"
)

// Attributes that overlayfs leaves in the upper directory.
const (
	attrOpaque   = "trusted.overlay.opaque"
	attrRedirect = "trusted.overlay.redirect"
	attrMetacopy = "trusted.overlay.metacopy"
)

// base finds the content of files in the image that an overlay lies over.
type base struct {
	r     *flist.Reader
	upper string
	// dirs has the directory of the base that shows at a path of the overlay, 0 for none.
	dirs map[string]flist.NodeID
}

// maxDirs bounds what is remembered of directories; the walk comes to those of one parent
// one after another.
const maxDirs = 10_000

func newBase(r *flist.Reader, upper string) *base {
	return &base{r: r, upper: upper, dirs: map[string]flist.NodeID{".": flist.Root}}
}

// content returns what the file at path holds if that is what the base has, else nil.
func (b *base) content(p string, st *unix.Stat_t) *pack.Content {
	dir, name := path.Split(p)
	parent := b.dir(path.Clean(dir))
	up, there, done, err := b.inUpper(p)
	if err != nil {
		return nil
	}
	defer done()
	if there != nil {
		return b.metacopy(up, parent, name, st)
	}
	id, n := b.file(parent, name)
	if id == 0 || n.Size != st.Size || n.Mode != st.Mode || n.UID != st.Uid || n.GID != st.Gid ||
		n.MTime != st.Mtim.Nano() || n.MTime != st.Ctim.Nano() {
		return nil
	}
	return b.object(n)
}

// metacopy returns the content of the file that is at up in the upper directory, if overlayfs
// has copied its metadata alone.
func (b *base) metacopy(up string, parent flist.NodeID, name string, st *unix.Stat_t) *pack.Content {
	if _, ok := attr(up, attrMetacopy); !ok {
		return nil
	}
	if to, ok := attr(up, attrRedirect); ok {
		if !strings.HasPrefix(to, "/") {
			name = to
		} else {
			parent, name = b.resolve(path.Dir(to)), path.Base(to)
		}
	}
	// It may have been copied up for good meanwhile, and written to.
	if id, n := b.file(parent, name); id != 0 && n.Size == st.Size {
		if _, still := attr(up, attrMetacopy); still {
			return b.object(n)
		}
	}
	return nil
}

// dir returns the directory of the base that the overlay shows at the path p, which is one of
// its directories; 0 if it shows none.
func (b *base) dir(p string) flist.NodeID {
	if id, known := b.dirs[p]; known {
		return id
	}
	parent := b.dir(path.Dir(p))
	id := b.origin(p, parent)
	if len(b.dirs) >= maxDirs {
		clear(b.dirs)
		b.dirs["."] = flist.Root
	}
	b.dirs[p] = id
	return id
}

func (b *base) origin(p string, parent flist.NodeID) flist.NodeID {
	name := path.Base(p)
	up, there, done, err := b.inUpper(p)
	if err != nil {
		return 0
	}
	defer done()
	switch {
	case there == nil:
		return b.child(parent, name)
	case there.Mode&unix.S_IFMT != unix.S_IFDIR:
		return 0
	}
	if mark, ok := attr(up, attrOpaque); ok && mark == "y" {
		return 0
	}
	switch to, ok := attr(up, attrRedirect); {
	case !ok:
		return b.child(parent, name)
	case strings.HasPrefix(to, "/"):
		return b.resolve(to)
	default:
		return b.child(parent, to)
	}
}

// maxPath is how long a path may be for the kernel to take it, with some room.
const maxPath = 3500

// inUpper looks for the path p of the overlay in the upper directory: st is nil if nothing is
// there. up is a path to it that is short enough, and good until done is called.
func (b *base) inUpper(p string) (up string, st *unix.Stat_t, done func(), err error) {
	up, fd := filepath.Join(b.upper, p), -1
	done = func() {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
	for len(up) > maxPath && err == nil {
		i := strings.LastIndexByte(up[:maxPath], '/')
		var next int
		if next, err = unix.Open(up[:i], unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err == nil {
			done()
			fd, up = next, fmt.Sprintf("/proc/self/fd/%d/%s", next, up[i+1:])
		}
	}
	st = new(unix.Stat_t)
	if err == nil {
		err = unix.Lstat(up, st)
	}
	if err != nil {
		done()
		done, st = func() {}, nil
	}
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		err = nil
	}
	return up, st, done, err
}

// resolve returns the directory of the base at an absolute path, 0 if there is none.
func (b *base) resolve(p string) flist.NodeID {
	id := flist.Root
	for name := range strings.SplitSeq(strings.Trim(p, "/"), "/") {
		if name != "" {
			id = b.child(id, name)
		}
	}
	return id
}

// child returns the subdirectory name of dir, 0 if there is none.
func (b *base) child(dir flist.NodeID, name string) flist.NodeID {
	if dir == 0 {
		return 0
	}
	id, ok := b.r.Lookup(dir, []byte(name))
	if !ok {
		return 0
	}
	if n := b.r.Node(id); n.Type() != flist.ModeDir {
		return 0
	}
	return id
}

// file returns the regular file name of dir, 0 if there is none.
func (b *base) file(dir flist.NodeID, name string) (flist.NodeID, flist.Node) {
	if dir == 0 {
		return 0, flist.Node{}
	}
	id, ok := b.r.Lookup(dir, []byte(name))
	if !ok {
		return 0, flist.Node{}
	}
	n := b.r.Node(id)
	if n.Type() != flist.ModeRegular || n.Object == 0 {
		return 0, flist.Node{}
	}
	return id, n
}

func (b *base) object(n flist.Node) *pack.Content {
	c := &pack.Content{Digest: b.r.Object(n.Object).Digest, Size: n.Size}
	for e := range b.r.Extents(n.Object) {
		ch := b.r.Chunk(e.Chunk)
		c.Chunks = append(c.Chunks, pack.Extent{Offset: e.Offset, Size: ch.Size, Digest: ch.Chunk})
	}
	return c
}

// attr returns an extended attribute, not followed if path is a symlink.
func attr(path, name string) (string, bool) {
	p := make([]byte, 4096)
	n, err := unix.Lgetxattr(path, name, p)
	if err != nil {
		return "", false
	}
	return string(p[:n]), true
}
