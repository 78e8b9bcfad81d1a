package pack

import (
	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/flist"
)

// An item is an entry of the tree on its way to the placer.
type item struct {
	parent *dir // nil: the root itself
	name   string
	node   flist.Node // without object and set of attributes
	xattrs []flist.Xattr
	inode  *placed // shared by the links to one inode
	link   bool    // another link: nothing but inode counts
	dir    *dir    // of a directory
	file   *file   // of a regular file that is not empty
}

// path returns where it is, relative to the root, which is ".".
func (it *item) path() string {
	if it.parent == nil {
		return "."
	}
	return it.parent.join(it.name)
}

// placed is what became of an inode. The placer alone reads and writes it.
type placed struct {
	id   flist.NodeID // 0: left out
	lost verdict      // why
}

// A file is the content of an item.
type file struct {
	ident  ident
	sparse bool
	cached *known     // what is known of it; the file is not read then
	room   buffer     // for a reader: as large as the file
	parts  chan *part // what is read; the last part says so
}

// known is what is known of a file's content without reading it.
type known struct {
	digest chunk.Digest
	pieces []piece // without content
}

// A part is a run of pieces of one file, in order.
type part struct {
	pieces []piece
	span   int64 // bytes of the file that it stands for, holes included
	last   bool

	// What follows is of the last part alone.
	digest  chunk.Digest
	size    int64   // bytes that were read, or are holes
	verdict verdict // verdictOK or verdictChanged: to be kept
}

func (p *part) release() {
	for i := range p.pieces {
		p.pieces[i].buf.release()
	}
}

// A piece is one chunk of a file.
type piece struct {
	off    int64
	digest chunk.Digest
	size   uint32
	buf    buffer // the plaintext, then the sealed chunk

	sealed blob.Sealed   // once done is closed
	done   chan struct{} // nil: not to be sealed
}
