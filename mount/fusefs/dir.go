package fusefs

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/zosfs/zosfs/flist"
)

// dots is how many entries stand before those of the flist: "." and "..".
const dots = 2

// dirEntry returns entry i of a listing. Its offset is i+1 whoever asks and whenever, so
// seekdir works over any time and any server.
func (t *tree) dirEntry(dir flist.NodeID, i int) (fuse.DirEntry, flist.NodeID) {
	name, id := "", dir
	switch i {
	case 0:
		name = "."
	case 1:
		name, id = "..", t.nodes.Parent(dir)
	default:
		name, id = t.nodes.DirEntry(dir, i-dots)
	}
	return fuse.DirEntry{
		Name: name,
		Ino:  uint64(id),
		Mode: t.nodes.Attr(id).Mode,
		Off:  uint64(i) + 1,
	}, id
}

// list calls add for the entries from the offset of the request on, until add refuses.
func (t *tree) list(in *fuse.ReadIn, add func(e fuse.DirEntry, id flist.NodeID, dot bool) bool) fuse.Status {
	dir, ok := t.node(&in.InHeader)
	if !ok {
		return fuse.Status(syscall.ESTALE)
	}
	if !t.isDir(dir) {
		return fuse.ENOTDIR
	}
	n := t.nodes.DirLen(dir) + dots
	if in.Offset >= uint64(n) {
		return fuse.OK
	}
	for i := int(in.Offset); i < n; i++ {
		if e, id := t.dirEntry(dir, i); !add(e, id, i < dots) {
			break
		}
	}
	return fuse.OK
}

func (t *tree) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	t.add(opReadDir)
	return t.list(in, func(e fuse.DirEntry, _ flist.NodeID, _ bool) bool {
		return out.AddDirEntry(e)
	})
}

// ReadDirPlus gives the attributes with each name, so that a walk needs no look-ups. "." and
// ".." go without: node 0 says so.
func (t *tree) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	t.add(opReadDirPlus)
	return t.list(in, func(e fuse.DirEntry, id flist.NodeID, dot bool) bool {
		entry := out.AddDirLookupEntry(e)
		if entry != nil && !dot {
			t.fillEntry(id, entry)
		}
		return entry != nil
	})
}
