package flist

import (
	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/chunk"
)

// Ids count from 1 in the order in which the canonical walk first meets what they name;
// 0 means none.
type (
	// NodeID names a node (an inode) of one flist.
	NodeID uint32
	// ObjectID names an object of one flist.
	ObjectID uint32
	// ChunkID names a row of the chunk table of one flist.
	ChunkID uint32
	// BlobID names a row of the blob table of one flist.
	BlobID uint32
	// XattrSetID names a set of extended attributes, shared by the nodes that have it.
	XattrSetID uint32
)

// Root is the node of the root directory. No entry names it.
const Root NodeID = 1

// The types of file in Node.Mode, as in stat(2) on Linux.
const (
	ModeType    = 0o170000
	ModeSocket  = 0o140000
	ModeSymlink = 0o120000
	ModeRegular = 0o100000
	ModeBlock   = 0o060000
	ModeDir     = 0o040000
	ModeChar    = 0o020000
	ModeFIFO    = 0o010000
)

// Limits of format version 1.
const (
	MaxName       = 255      // bytes of a name
	MaxTarget     = 4095     // bytes of a symlink target
	MaxXattrName  = 255      // bytes
	MaxXattrValue = 64 << 10 // bytes
)

// A Node is everything about an inode but its names and its content.
type Node struct {
	Mode   uint32 // st_mode: type, setuid, setgid, sticky and permission bits
	UID    uint32
	GID    uint32
	Nlink  uint32 // entries that name it; for a directory 2 and one per subdirectory
	MTime  int64  // nanoseconds since 1970-01-01 UTC, negative before
	Size   int64  // bytes of a regular file or of a symlink target, else 0
	Rdev   uint64 // device number of a device node, as the kernel's huge encoding (makedev(3))
	Object ObjectID
	Xattrs XattrSetID
	Target []byte // of a symlink, any bytes but NUL; nil for others
}

// Type returns the type bits of n.Mode, one of the Mode constants.
func (n *Node) Type() uint32 { return n.Mode & ModeType }

// An Entry is a name in a directory.
type Entry struct {
	Parent NodeID
	Name   []byte // 1 to MaxName bytes, none of them '/' or NUL; not "." or ".."
	Node   NodeID
}

// An Xattr is one extended attribute.
type Xattr struct {
	Name  string // with its prefix, such as "security.capability"
	Value []byte
}

// An Object is the content of a regular file; files of equal content share it.
type Object struct {
	Digest chunk.Digest // BLAKE3-256 of all its bytes, holes read as zeros
	Size   int64        // bytes, at least 1: empty files have no object
}

// An Extent says that a chunk is the content of an object from Offset on, for the size of
// the chunk. Between extents, and after the last, there are holes.
type Extent struct {
	Offset int64
	Chunk  ChunkID
}

// A Chunk is where a chunk lies and how it is sealed.
type Chunk struct {
	blob.Ref
	Blob BlobID
}

// A Blob is a blob that holds chunks of this tree.
type Blob struct {
	Digest blob.Digest
	Size   int64 // bytes
}

// A Source is a store URL where the blobs can be read. It carries no credentials.
type Source struct {
	URL      string
	Priority int // lower first
}

// Counts sums an flist up.
type Counts struct {
	Nodes    int64 `json:"nodes"`
	Entries  int64 `json:"entries"` // names, the root not counted
	Files    int64 `json:"files"`   // regular files (inodes)
	Dirs     int64 `json:"dirs"`    // with the root
	Symlinks int64 `json:"symlinks"`
	Objects  int64 `json:"objects"`
	Chunks   int64 `json:"chunks"`
	Blobs    int64 `json:"blobs"`
	Size     int64 `json:"size"`   // bytes of all regular files (inodes), holes included
	Unique   int64 `json:"unique"` // plaintext bytes of all chunks
	Stored   int64 `json:"stored"` // sealed bytes of all chunks
}

// Properties that this version writes. Readers keep those they do not know.
const (
	// PropertyChunker holds the chunker's id and sizes, as chunk.Params.String writes them.
	PropertyChunker = "zosfs.chunker"
	// PropertyParent holds the digest of the flist that this one was made from, if any.
	PropertyParent = "zosfs.parent"
	// PropertyConfig holds the image config (entrypoint and so on), as OCI image config JSON.
	PropertyConfig = "image.config"
	// PropertyAuthor names who made the image.
	PropertyAuthor = "image.author"
)
