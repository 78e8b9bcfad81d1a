package erofs

import (
	"errors"
	"iter"
)

// BlockSize is the unit of addresses, in bytes.
const BlockSize = 4096

// ErrUnsupported says that a tree holds something that the format cannot express, such as
// an attribute of an unknown namespace. It is wrapped with what.
var ErrUnsupported = errors.New("not expressible in EROFS")

// Root is the number of the root directory.
const Root = 1

// A Tree is what an image is made of. Inodes are numbered from [Root] without gaps. Each
// sequence must be the same whenever it is asked for; Write asks several times. Slices and
// strings hold for one step.
type Tree interface {
	// Len returns the number of inodes.
	Len() int
	// Inodes gives all inodes in ascending order of numbers.
	Inodes() iter.Seq2[uint32, Inode]
	// Dir gives the entries of a directory in ascending byte order of names, without "." and
	// "..".
	Dir(dir uint32) iter.Seq[Entry]
	// Parent returns the directory that holds dir; the root's parent is the root.
	Parent(dir uint32) uint32
	// Xattrs gives the sets of attributes, numbered from 1, in ascending order.
	Xattrs() iter.Seq2[uint32, []Xattr]
}

// An Entry is a name in a directory.
type Entry struct {
	Name  string // 1 to 255 bytes
	Inode uint32
	Mode  uint32 // of the inode; its type bits count
}

// An Xattr is an extended attribute with its whole name.
type Xattr struct {
	Name  string
	Value []byte
}

// An Inode is everything about a file but its names.
type Inode struct {
	Mode   uint32 // st_mode
	UID    uint32
	GID    uint32
	Nlink  uint32
	MTime  int64  // nanoseconds since 1970-01-01 UTC
	Size   int64  // bytes of a regular file
	Rdev   uint64 // of a device, as makedev(3) encodes it
	Xattrs uint32 // number of the set; 0 is none
	Target string // of a symlink, less than BlockSize bytes
	// Addr is where byte 0 of a regular file lies on the device, a multiple of BlockSize. The
	// file takes Size bytes there, holes included.
	Addr int64
	// Data are the runs of a regular file that are no holes, in ascending order; nil is one
	// run that is the whole file. Runs are widened to whole blocks.
	Data []Run
}

// A Run is the range [Off, Off+Len) of a file, in bytes.
type Run struct{ Off, Len int64 }

// The type bits of st_mode.
const (
	modeType    = 0o170000
	modeSocket  = 0o140000
	modeSymlink = 0o120000
	modeRegular = 0o100000
	modeBlock   = 0o060000
	modeDir     = 0o040000
	modeChar    = 0o020000
	modeFIFO    = 0o010000
)

// fileType is the type byte of a directory entry.
func fileType(mode uint32) byte {
	switch mode & modeType {
	case modeRegular:
		return 1
	case modeDir:
		return 2
	case modeChar:
		return 3
	case modeBlock:
		return 4
	case modeFIFO:
		return 5
	case modeSocket:
		return 6
	case modeSymlink:
		return 7
	}
	return 0
}
