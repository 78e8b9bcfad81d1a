package flist

import (
	"encoding/binary"

	"github.com/zosfs/zosfs/chunk"
)

// treeHash computes a TreeDigest. docs/format.md, section "Tree digest", is normative. Nodes
// come first, in ascending order of ids, then entries by parent and name.
type treeHash struct {
	h   *chunk.Hasher
	buf []byte
}

const treeContext = "zosfs tree digest 1\n"

func newTreeHash(nodes, entries int64) *treeHash {
	t := &treeHash{h: chunk.NewHasher(), buf: make([]byte, 0, 64<<10)}
	t.buf = append(t.buf, treeContext...)
	t.buf = binary.LittleEndian.AppendUint64(t.buf, uint64(nodes))
	t.buf = binary.LittleEndian.AppendUint64(t.buf, uint64(entries))
	return t
}

// node adds n, whose content and attributes have the given digests, zero for none.
func (t *treeHash) node(n *Node, object, xattrs chunk.Digest) {
	p := t.buf
	p = binary.LittleEndian.AppendUint32(p, n.Mode)
	p = binary.LittleEndian.AppendUint32(p, n.UID)
	p = binary.LittleEndian.AppendUint32(p, n.GID)
	p = binary.LittleEndian.AppendUint32(p, n.Nlink)
	p = binary.LittleEndian.AppendUint64(p, uint64(n.MTime))
	p = binary.LittleEndian.AppendUint64(p, uint64(n.Size))
	p = binary.LittleEndian.AppendUint64(p, n.Rdev)
	p = append(p, object[:]...)
	p = append(p, xattrs[:]...)
	p = binary.LittleEndian.AppendUint32(p, uint32(len(n.Target)))
	t.buf = append(p, n.Target...)
	t.flush(32 << 10)
}

func (t *treeHash) entry(e *Entry) {
	p := binary.LittleEndian.AppendUint32(t.buf, uint32(e.Parent))
	p = binary.LittleEndian.AppendUint32(p, uint32(e.Node))
	p = binary.LittleEndian.AppendUint32(p, uint32(len(e.Name)))
	t.buf = append(p, e.Name...)
	t.flush(32 << 10)
}

func (t *treeHash) flush(at int) {
	if len(t.buf) >= at {
		_, _ = t.h.Write(t.buf) // a hasher never fails
		t.buf = t.buf[:0]
	}
}

func (t *treeHash) sum() TreeDigest {
	t.flush(0)
	return TreeDigest(t.h.Sum())
}

// appendXattr appends x in the form whose BLAKE3-256, over the attributes of a set in
// ascending order of names, is the digest of the set.
func appendXattr(p []byte, x Xattr) []byte {
	p = binary.LittleEndian.AppendUint32(p, uint32(len(x.Name)))
	p = append(p, x.Name...)
	p = binary.LittleEndian.AppendUint32(p, uint32(len(x.Value)))
	return append(p, x.Value...)
}
