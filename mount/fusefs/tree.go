package fusefs

import (
	"log/slog"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/image"
)

const (
	// forever is the time-out, in seconds, of what never changes: 136 years. The kernel
	// converts it to jiffies, so the largest number would do no better.
	forever = 1 << 32
	// blockSize is the unit of allocation that statfs and st_blksize name, in bytes.
	blockSize = 4096
)

// tree answers the requests of the kernel from an image.
type tree struct {
	readOnly
	im    *image.Image
	nodes *image.Tree
	errno func(error) syscall.Errno
	log   *slog.Logger
	fd    int // of /dev/fuse, open as long as a request is being answered

	size      uint64 // blocks of content, holes included
	hasXattrs bool
	hasACLs   bool
}

func newTree(im *image.Image, o Options) *tree {
	t := &tree{im: im, nodes: im.Tree(), errno: o.Errno, log: o.Log}
	t.RawFileSystem = fuse.NewDefaultRawFileSystem()
	seen := make(map[flist.XattrSetID]bool)
	for id := flist.Root; int(id) <= t.nodes.Len(); id++ {
		a := t.nodes.Attr(id)
		if a.Mode&flist.ModeType == flist.ModeRegular {
			t.size += uint64(a.Size+blockSize-1) / blockSize
		}
		if a.Xattrs == 0 || seen[a.Xattrs] {
			continue
		}
		seen[a.Xattrs] = true
		t.hasXattrs = true
		for _, x := range t.nodes.Xattrs(id) {
			t.hasACLs = t.hasACLs || isACL(x.Name)
		}
	}
	return t
}

func (t *tree) String() string { return "zosfs" }

// node returns the node that a request is about. The kernel only knows numbers that it was
// given, but a file handle kept over a mount (open_by_handle_at, NFS) may carry any.
func (t *tree) node(h *fuse.InHeader) (flist.NodeID, bool) {
	return flist.NodeID(h.NodeId), h.NodeId >= 1 && h.NodeId <= uint64(t.nodes.Len())
}

func (t *tree) isDir(id flist.NodeID) bool {
	return t.nodes.Attr(id).Mode&flist.ModeType == flist.ModeDir
}

// fillAttr sets what stat shows. There is one time: atime and ctime are the mtime.
func (t *tree) fillAttr(id flist.NodeID, out *fuse.Attr) {
	a := t.nodes.Attr(id)
	sec, nsec := a.MTime/1e9, a.MTime%1e9
	if nsec < 0 { // before 1970; the kernel reads the seconds as a signed number
		sec, nsec = sec-1, nsec+1e9
	}
	*out = fuse.Attr{
		Ino:       uint64(id),
		Size:      uint64(a.Size),
		Blocks:    t.blocks(id, a),
		Atime:     uint64(sec),
		Mtime:     uint64(sec),
		Ctime:     uint64(sec),
		Atimensec: uint32(nsec),
		Mtimensec: uint32(nsec),
		Ctimensec: uint32(nsec),
		Mode:      a.Mode,
		Nlink:     a.Nlink,
		Owner:     fuse.Owner{Uid: a.UID, Gid: a.GID},
		Rdev:      uint32(a.Rdev), // 12 bits of major and 20 of minor, in makedev(3) order as well
		Blksize:   blockSize,
	}
}

func (t *tree) fillEntry(id flist.NodeID, out *fuse.EntryOut) {
	out.NodeId = uint64(id)
	out.EntryValid = forever
	out.AttrValid = forever
	t.fillAttr(id, &out.Attr)
}

// Lookup answers a name that is not there with node 0 and a time-out, which the kernel
// caches; an error it would not. Look-ups of "." and ".." come for file handles only.
func (t *tree) Lookup(_ <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	t.add(opLookup)
	dir, ok := t.node(h)
	if !ok {
		return fuse.Status(syscall.ESTALE)
	}
	if name == "." {
		t.fillEntry(dir, out)
		return fuse.OK
	}
	if !t.isDir(dir) {
		return fuse.ENOTDIR
	}
	if name == ".." {
		t.fillEntry(t.nodes.Parent(dir), out)
		return fuse.OK
	}
	if len(name) > flist.MaxName { // the protocol itself allows more
		return fuse.Status(syscall.ENAMETOOLONG)
	}
	if id, ok := t.nodes.Lookup(dir, name); ok {
		t.fillEntry(id, out)
	} else {
		out.EntryValid = forever
	}
	return fuse.OK
}

func (t *tree) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	t.add(opGetAttr)
	id, ok := t.node(&in.InHeader)
	if !ok {
		return fuse.Status(syscall.ESTALE)
	}
	out.AttrValid = forever
	t.fillAttr(id, &out.Attr)
	return fuse.OK
}

func (t *tree) Readlink(_ <-chan struct{}, h *fuse.InHeader) ([]byte, fuse.Status) {
	t.add(opReadlink)
	id, ok := t.node(h)
	if !ok {
		return nil, fuse.Status(syscall.ESTALE)
	}
	return []byte(t.nodes.Target(id)), fuse.OK
}

func (t *tree) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	t.add(opStatFs)
	*out = fuse.StatfsOut{
		Blocks:  t.size,
		Files:   uint64(t.nodes.Len()),
		Bsize:   blockSize,
		Frsize:  blockSize,
		NameLen: flist.MaxName,
	}
	return fuse.OK
}

// Open is declined once for all: the kernel opens files by itself then, keeps their cached
// pages and sends neither OPEN nor RELEASE.
func (t *tree) Open(<-chan struct{}, *fuse.OpenIn, *fuse.OpenOut) fuse.Status {
	t.add(opOpen)
	return fuse.ENOSYS
}

// OpenDir is declined as Open is; the kernel caches listings then.
func (t *tree) OpenDir(<-chan struct{}, *fuse.OpenIn, *fuse.OpenOut) fuse.Status {
	t.add(opOpenDir)
	return fuse.ENOSYS
}

// Flush is declined once for all: there is nothing to flush.
func (t *tree) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status {
	t.add(opFlush)
	return fuse.ENOSYS
}

// Statx is declined once for all; it would add the time of birth only.
func (t *tree) Statx(<-chan struct{}, *fuse.StatxIn, *fuse.StatxOut) fuse.Status {
	t.add(opStatx)
	return fuse.ENOSYS
}

// Ioctl knows no calls; programs see ENOTTY.
func (t *tree) Ioctl(<-chan struct{}, *fuse.IoctlIn, []byte, *fuse.IoctlOut, []byte) fuse.Status {
	t.add(opIoctl)
	return fuse.ENOSYS
}
