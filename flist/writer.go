package flist

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/internal/mapped"
)

// A Writer collects the rows of one flist. Rows are added in the order of the canonical
// walk: the root's node first; then, for a directory, each of its children in ascending
// byte order of names (AddNode where the child is new, then AddEntry), then what is inside
// its subdirectories, in the same order. Objects, chunks, blobs and attribute sets are
// added when the walk first meets them.
//
// Rows wait in temporary files. In memory are 4 bytes a node, 16 a directory, and 11 to 22
// a distinct object or chunk. An error of a method is final: what follows fails too. A
// Writer is not safe for concurrent use.
type Writer struct {
	dir        string
	properties map[string]string
	sources    []Source

	nodes   *spool
	links   mapped.Slice[links] // by node
	entries *spool
	groups  mapped.Slice[entryGroup]
	last    []byte // name added last to the newest group

	xattrs  *spool
	sets    map[[16]byte]XattrSetID
	objects internTable
	extents *spool
	chunks  internTable
	blobs   []Blob
}

// links is how often a node is linked, or how many subdirectories it has.
type links struct {
	n   uint32
	dir bool
}

// entryGroup is where the entries of one directory lie in the spool.
type entryGroup struct {
	parent NodeID
	count  uint32
	off    int64
}

// Sizes of fixed records in the spools.
const (
	objectRecord = 40 // digest 32, size 8
	extentRecord = 16 // object 4, chunk 4, offset 8
	chunkRecord  = 49 // digest 32, size 4, blob 4, offset 4, stored 4, codec 1
	nodeRecord   = 46 // mode, uid, gid 4; mtime, size, rdev 8; object, xattrs 4; length of target 2
	entryRecord  = 5  // node 4, length of name 1
	xattrRecord  = 9  // set 4, length of name 1, of value 4
)

// NewWriter returns an empty Writer whose temporary files, which have no names, are in dir
// ("" is the system's). Close it always.
func NewWriter(dir string) (*Writer, error) {
	w := &Writer{dir: dir, properties: make(map[string]string), sets: make(map[[16]byte]XattrSetID)}
	w.objects.record, w.chunks.record = objectRecord, chunkRecord
	for _, s := range []**spool{&w.nodes, &w.entries, &w.xattrs, &w.objects.digests, &w.extents, &w.chunks.digests} {
		var err error
		if *s, err = newSpool(dir); err != nil {
			return nil, errors.Join(err, w.Close())
		}
	}
	w.links.Dir, w.groups.Dir, w.objects.slots.Dir, w.chunks.slots.Dir = dir, dir, dir, dir
	return w, nil
}

// Close releases the temporary files. It may follow Finish or come instead of it.
func (w *Writer) Close() error {
	var err error
	for _, s := range []**spool{&w.nodes, &w.entries, &w.xattrs, &w.objects.digests, &w.extents, &w.chunks.digests} {
		if *s != nil {
			err = errors.Join(err, (*s).close())
			*s = nil
		}
	}
	return errors.Join(err, w.links.Close(), w.groups.Close(), w.objects.slots.Close(), w.chunks.slots.Close())
}

// SetProperty sets a property; the last value counts.
func (w *Writer) SetProperty(key, value string) { w.properties[key] = value }

// AddSource adds a store where the blobs can be read.
func (w *Writer) AddSource(s Source) { w.sources = append(w.sources, s) }

// AddXattrs returns the id of a set of attributes, in any order: 0 for an empty one, the
// same for equal sets.
func (w *Writer) AddXattrs(set []Xattr) (XattrSetID, error) {
	if len(set) == 0 {
		return 0, nil
	}
	set = slices.Clone(set)
	slices.SortFunc(set, func(a, b Xattr) int { return strings.Compare(a.Name, b.Name) })
	var flat []byte
	for i, x := range set {
		if err := checkXattr(x.Name, x.Value); err != nil {
			return 0, err
		}
		if i > 0 && set[i-1].Name == x.Name {
			return 0, fmt.Errorf("extended attribute %q twice", x.Name)
		}
		flat = appendXattr(flat, x)
	}
	sum := chunk.Sum(flat)
	key := [16]byte(sum[:16])
	if id, ok := w.sets[key]; ok {
		return id, nil
	}
	id := XattrSetID(len(w.sets) + 1)
	w.sets[key] = id
	for _, x := range set {
		p := binary.LittleEndian.AppendUint32(flat[:0], uint32(id))
		p = append(p, byte(len(x.Name)))
		p = binary.LittleEndian.AppendUint32(p, uint32(len(x.Value)))
		p = append(append(p, x.Name...), x.Value...)
		if err := w.xattrs.append(p); err != nil {
			return 0, err
		}
	}
	return id, nil
}

// AddNode adds a node and returns its id; the first is the root. n.Nlink does not count: it
// comes from the entries.
func (w *Writer) AddNode(n Node) (NodeID, error) {
	if err := checkNode(&n); err != nil {
		return 0, err
	}
	if n := len(w.links.Items); n == 1<<32-2 {
		return 0, fmt.Errorf("flist: more than %d nodes", n)
	}
	p := make([]byte, 0, nodeRecord+len(n.Target))
	p = binary.LittleEndian.AppendUint32(p, n.Mode)
	p = binary.LittleEndian.AppendUint32(p, n.UID)
	p = binary.LittleEndian.AppendUint32(p, n.GID)
	p = binary.LittleEndian.AppendUint64(p, uint64(n.MTime))
	p = binary.LittleEndian.AppendUint64(p, uint64(n.Size))
	p = binary.LittleEndian.AppendUint64(p, n.Rdev)
	p = binary.LittleEndian.AppendUint32(p, uint32(n.Object))
	p = binary.LittleEndian.AppendUint32(p, uint32(n.Xattrs))
	p = binary.LittleEndian.AppendUint16(p, uint16(len(n.Target)))
	p = append(p, n.Target...)
	if err := w.nodes.append(p); err != nil {
		return 0, err
	}
	if err := w.links.Append(links{dir: n.Type() == ModeDir}); err != nil {
		return 0, err
	}
	return NodeID(len(w.links.Items)), nil
}

// AddEntry adds a name to the directory parent. All names of a directory come together.
func (w *Writer) AddEntry(parent NodeID, name []byte, node NodeID) error {
	if err := checkName(name); err != nil {
		return err
	}
	nodes := w.links.Items
	if int(parent) > len(nodes) || parent == 0 || !nodes[parent-1].dir {
		return fmt.Errorf("entry %q: node %d is not a directory", name, parent)
	}
	if int(node) > len(nodes) || node <= Root {
		return fmt.Errorf("entry %q: no node %d", name, node)
	}
	if n := len(w.groups.Items); n == 0 || w.groups.Items[n-1].parent != parent {
		if err := w.groups.Append(entryGroup{parent: parent, off: w.entries.size()}); err != nil {
			return err
		}
		w.last = w.last[:0]
	}
	if string(name) <= string(w.last) {
		return fmt.Errorf("entry %q of node %d comes after %q", name, parent, w.last)
	}
	w.last = append(w.last[:0], name...)
	w.groups.Items[len(w.groups.Items)-1].count++
	if nodes[node-1].dir {
		nodes[parent-1].n++
	} else {
		nodes[node-1].n++
	}
	var buf [entryRecord + MaxName]byte
	p := binary.LittleEndian.AppendUint32(buf[:0], uint32(node))
	p = append(append(p, byte(len(name))), name...)
	return w.entries.append(p)
}

// AddObject adds an object with its extents, in ascending order of offsets. A digest that
// was added before gives the same id, and its first extents stay.
func (w *Writer) AddObject(o Object, extents []Extent) (ObjectID, error) {
	if id, ok, err := w.objects.find(o.Digest); ok || err != nil {
		return ObjectID(id), err
	}
	if o.Size <= 0 || o.Digest.IsZero() {
		return 0, fmt.Errorf("object %v: size %d", o.Digest, o.Size)
	}
	n, err := w.objects.add(o.Digest)
	if err != nil {
		return 0, err
	}
	p := append(make([]byte, 0, objectRecord), o.Digest[:]...)
	p = binary.LittleEndian.AppendUint64(p, uint64(o.Size))
	if err := w.objects.digests.append(p); err != nil {
		return 0, err
	}
	for _, e := range extents {
		p := binary.LittleEndian.AppendUint32(p[:0], n)
		p = binary.LittleEndian.AppendUint32(p, uint32(e.Chunk))
		p = binary.LittleEndian.AppendUint64(p, uint64(e.Offset))
		if err := w.extents.append(p); err != nil {
			return 0, err
		}
	}
	return ObjectID(n), nil
}

// FindObject returns the id of an object that was added before.
func (w *Writer) FindObject(d chunk.Digest) (ObjectID, bool) {
	id, ok, err := w.objects.find(d)
	return ObjectID(id), ok && err == nil
}

// AddChunk adds a chunk. A digest that was added before gives the same id, and the place
// given first stays.
func (w *Writer) AddChunk(c Chunk) (ChunkID, error) {
	if id, ok, err := w.chunks.find(c.Chunk); ok || err != nil {
		return ChunkID(id), err
	}
	if err := c.Check(); err != nil {
		return 0, err
	}
	if c.Blob == 0 || int(c.Blob) > len(w.blobs) {
		return 0, fmt.Errorf("chunk %v: no blob %d", c.Chunk, c.Blob)
	}
	n, err := w.chunks.add(c.Chunk)
	if err != nil {
		return 0, err
	}
	p := append(make([]byte, 0, chunkRecord), c.Chunk[:]...)
	p = binary.LittleEndian.AppendUint32(p, c.Size)
	p = binary.LittleEndian.AppendUint32(p, uint32(c.Blob))
	p = binary.LittleEndian.AppendUint32(p, c.Offset)
	p = binary.LittleEndian.AppendUint32(p, c.Stored)
	return ChunkID(n), w.chunks.digests.append(append(p, byte(c.Codec)))
}

// FindChunk returns the id of a chunk that was added before.
func (w *Writer) FindChunk(d chunk.Digest) (ChunkID, bool) {
	id, ok, err := w.chunks.find(d)
	return ChunkID(id), ok && err == nil
}

// AddBlob returns an id for a blob whose digest is not known yet; the caller gives it with
// SetBlob before Finish.
func (w *Writer) AddBlob() BlobID {
	w.blobs = append(w.blobs, Blob{})
	return BlobID(len(w.blobs))
}

// SetBlob completes a blob.
func (w *Writer) SetBlob(id BlobID, b Blob) { w.blobs[id-1] = b }
