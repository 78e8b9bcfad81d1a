package image

import (
	"io/fs"

	"github.com/zosfs/zosfs/flist"
)

// Attr is what stat(2) tells of a node. It is a plain value.
type Attr struct {
	Mode   uint32 // st_mode: type, setuid, setgid, sticky and permission bits
	UID    uint32
	GID    uint32
	Nlink  uint32
	MTime  int64  // nanoseconds since 1970-01-01 UTC
	Size   int64  // bytes of a regular file or of a symlink target, else 0
	Rdev   uint64 // device number of a device node, as the kernel's huge encoding, else 0
	Object flist.ObjectID
	Xattrs flist.XattrSetID
}

// Type returns the type bits of a.Mode, one of the flist.Mode constants.
func (a Attr) Type() uint32 { return a.Mode & flist.ModeType }

// FileMode returns a.Mode in the words of io/fs.
func (a Attr) FileMode() fs.FileMode { return fileMode(a.Mode) }

func fileMode(st uint32) fs.FileMode {
	m := fs.FileMode(st & 0o777)
	switch st & flist.ModeType {
	case flist.ModeDir:
		m |= fs.ModeDir
	case flist.ModeSymlink:
		m |= fs.ModeSymlink
	case flist.ModeSocket:
		m |= fs.ModeSocket
	case flist.ModeFIFO:
		m |= fs.ModeNamedPipe
	case flist.ModeBlock:
		m |= fs.ModeDevice
	case flist.ModeChar:
		m |= fs.ModeDevice | fs.ModeCharDevice
	}
	for _, b := range [...]struct {
		st uint32
		fs fs.FileMode
	}{{0o4000, fs.ModeSetuid}, {0o2000, fs.ModeSetgid}, {0o1000, fs.ModeSticky}} {
		if st&b.st != 0 {
			m |= b.fs
		}
	}
	return m
}
