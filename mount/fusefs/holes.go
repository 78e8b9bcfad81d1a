package fusefs

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/image"
)

// blocks returns st_blocks: what the node would take on a disk with blocks of blockSize, in
// units of 512 bytes, holes not counted.
func (t *tree) blocks(id flist.NodeID, a image.Attr) uint64 {
	if a.Type() != flist.ModeRegular {
		return 0
	}
	var n int64
	for off, size := range t.im.Data(id, 0) {
		first, last := off/blockSize, (off+size-1)/blockSize
		n += last - first + 1
	}
	return uint64(n) * (blockSize / 512)
}

// Lseek answers SEEK_DATA and SEEK_HOLE; the kernel knows the others by itself.
func (t *tree) Lseek(_ <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	t.add(opLseek)
	id, ok := t.node(&in.InHeader)
	if !ok {
		return fuse.Status(syscall.ESTALE)
	}
	off, size := int64(in.Offset), t.nodes.Attr(id).Size
	if off < 0 || off >= size {
		return fuse.Status(syscall.ENXIO)
	}
	from, to := t.nextData(id, off, size)
	switch {
	case in.Whence == unix.SEEK_DATA && from == size:
		return fuse.Status(syscall.ENXIO)
	case in.Whence == unix.SEEK_DATA:
		off = from
	case in.Whence == unix.SEEK_HOLE && from == off:
		off = to
	case in.Whence == unix.SEEK_HOLE:
	default:
		return fuse.EINVAL
	}
	out.Offset = uint64(off)
	return fuse.OK
}

// nextData returns the first run of data from off on, an empty one at size if there is none.
func (t *tree) nextData(id flist.NodeID, off, size int64) (from, to int64) {
	for from, n := range t.im.Data(id, off) {
		return from, from + n
	}
	return size, size
}
