package flist

import (
	"bytes"
	"errors"
	"iter"
	"math"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/internal/mapped"
	"github.com/zosfs/zosfs/internal/sqlitefile"
)

// facts is what a check learns besides that all is well.
type facts struct {
	digest     Digest
	tree       TreeDigest
	counts     Counts
	properties map[string]string
	sources    []Source
	largest    int64 // chunk, in bytes
}

// check reads every row once and proves every rule of docs/format.md. The arrays it needs
// for that, some 30 bytes a node, 8 an object and 4 a chunk, are in files in dir where they
// are large. release is called after each table, whose pages will not be needed for a while.
func check(db *sqlitefile.DB, dir string, release func()) (_ facts, err error) {
	c := checker{db: db, scan: db.NewScan(), release: release}
	c.chunkSizes.Dir, c.objects.Dir, c.nodes.Dir, c.entries.Dir = dir, dir, dir, dir
	defer func() {
		err = errors.Join(err, c.chunkSizes.Close(), c.objects.Close(), c.nodes.Close(), c.entries.Close())
	}()
	c.properties = make(map[string]string)
	for _, step := range []func() error{
		c.checkProperties, c.checkSources, c.checkBlobs, c.checkChunks, c.checkObjects,
		c.checkExtents, c.checkXattrs, c.checkNodes, c.checkEntries, c.checkWalk,
	} {
		if err := step(); err != nil {
			return facts{}, err
		}
		release()
	}
	if err := c.hashTree(); err != nil {
		return facts{}, err
	}
	return c.facts, nil
}

type checker struct {
	facts
	db   *sqlitefile.DB
	scan *sqlitefile.Scan

	release func() // gives back the pages read so far
	read    int    // rows and names since it was called

	blobSizes  []int64                 // by BlobID-1
	chunkSizes mapped.Slice[uint32]    // by ChunkID-1
	objects    mapped.Slice[int64]     // sizes, by ObjectID-1
	sets       []chunk.Digest          // by XattrSetID-1
	nodes      mapped.Slice[nodeFacts] // by NodeID-1
	entries    mapped.Slice[NodeID]    // nodes of all entries, in their order
}

// releaseEvery is how many rows are read between two releases: some 10 MiB of pages.
const releaseEvery = 100_000

func (c *checker) passed() {
	if c.read++; c.read == releaseEvery {
		c.read = 0
		c.release()
		c.chunkSizes.Release()
		c.objects.Release()
		c.nodes.Release()
		c.entries.Release()
	}
}

func (c *checker) rows(s *sqlitefile.Scan, table string, cols int, fn func(int64, []sqlitefile.Value) error) error {
	return s.Rows(table, cols, func(id int64, v []sqlitefile.Value) error {
		c.passed()
		return fn(id, v)
	})
}

func (c *checker) keys(s *sqlitefile.Scan, table string, cols int, fn func([]sqlitefile.Value) error) error {
	return s.Keys(table, cols, func(v []sqlitefile.Value) error {
		c.passed()
		return fn(v)
	})
}

type nodeFacts struct {
	kind  uint32 // type bits
	nlink uint32
	links uint32 // counted
	first uint32 // of a directory, the index of its first entry
	count uint32 // of its entries
}

func blobOf(v sqlitefile.Value, size int) bool {
	return v.Kind == sqlitefile.Blob && len(v.Bytes) == size
}

// between reports whether v is an integer from lo to hi.
func between(v sqlitefile.Value, lo, hi int64) bool {
	return v.Kind == sqlitefile.Int && v.Int >= lo && v.Int <= hi
}

// optional reports whether v is NULL or an integer from 1 to hi.
func optional(v sqlitefile.Value, hi int) bool {
	return v.Kind == sqlitefile.Null || between(v, 1, int64(hi))
}

func (c *checker) checkProperties() error {
	last := ""
	return c.keys(c.scan, tableProperty.Name, propertyCols, func(v []sqlitefile.Value) error {
		key := string(v[0].Bytes)
		if v[0].Kind != sqlitefile.Text || v[1].Kind != sqlitefile.Blob || key <= last {
			return corrupt("property %.80q after %.80q", key, last)
		}
		last = key
		c.properties[key] = string(v[1].Bytes)
		return nil
	})
}

func (c *checker) checkSources() error {
	last := ""
	return c.keys(c.scan, tableSource.Name, sourceCols, func(v []sqlitefile.Value) error {
		url := string(v[0].Bytes)
		if v[0].Kind != sqlitefile.Text || !between(v[1], math.MinInt32, math.MaxInt32) || url <= last {
			return corrupt("source %.80q after %.80q", url, last)
		}
		last = url
		c.sources = append(c.sources, Source{URL: url, Priority: int(v[1].Int)})
		return nil
	})
}

func (c *checker) checkBlobs() error {
	seen := make(map[blob.Digest]struct{})
	return c.rows(c.scan, tableBlob.Name, blobCols, func(id int64, v []sqlitefile.Value) error {
		if id != int64(len(c.blobSizes)+1) || !blobOf(v[1], len(blob.Digest{})) || !between(v[2], 1, blob.MaxSize) {
			return corrupt("blob %d", id)
		}
		d := blob.Digest(v[1].Bytes)
		if _, ok := seen[d]; ok || d.IsZero() {
			return corrupt("blob %d: digest %v again", id, d)
		}
		seen[d] = struct{}{}
		c.blobSizes = append(c.blobSizes, v[2].Int)
		c.counts.Blobs++
		return nil
	})
}

func (c *checker) checkChunks() error {
	var blobs int64
	err := c.rows(c.scan, tableChunk.Name, chunkCols, func(id int64, v []sqlitefile.Value) error {
		ch, ok := chunkOf(v)
		if id != int64(len(c.chunkSizes.Items)+1) || !ok || int(ch.Blob) > len(c.blobSizes) || int64(ch.Blob) > blobs+1 {
			return corrupt("chunk %d", id)
		}
		if err := ch.Check(); err != nil {
			return err
		}
		if int64(ch.Offset)+int64(ch.Stored) > c.blobSizes[ch.Blob-1] {
			return corrupt("chunk %d ends beyond its blob", id)
		}
		blobs = max(blobs, int64(ch.Blob))
		if err := c.chunkSizes.Append(ch.Size); err != nil {
			return err
		}
		c.counts.Chunks++
		c.counts.Unique += int64(ch.Size)
		c.largest = max(c.largest, int64(ch.Size))
		c.counts.Stored += int64(ch.Stored)
		return nil
	})
	if err == nil && blobs != c.counts.Blobs {
		return corrupt("%d blobs, %d of them used", c.counts.Blobs, blobs)
	}
	return err
}

// chunkOf decodes a row of the chunk table and reports whether it has the types and ranges
// that its columns must have. Keys and bases belong to codecs that this version only names.
func chunkOf(v []sqlitefile.Value) (Chunk, bool) {
	ok := blobOf(v[1], chunk.DigestSize) && between(v[2], 1, chunk.MaxSize) && between(v[3], 1, math.MaxUint32) &&
		between(v[4], 0, blob.MaxSize) && between(v[5], 1, blob.MaxSize) && between(v[6], 0, math.MaxUint8)
	if !ok {
		return Chunk{}, false
	}
	ch := Chunk{Blob: BlobID(v[3].Int)}
	ch.Chunk = chunk.Digest(v[1].Bytes)
	ch.Size, ch.Offset, ch.Stored = uint32(v[2].Int), uint32(v[4].Int), uint32(v[5].Int)
	ch.Codec = blob.Codec(v[6].Int)
	if ch.Codec == blob.CodecStored || ch.Codec == blob.CodecZstd {
		ok = v[7].Kind == sqlitefile.Null && v[8].Kind == sqlitefile.Null
	}
	return ch, ok
}

func (c *checker) checkObjects() error {
	return c.rows(c.scan, tableObject.Name, objectCols, func(id int64, v []sqlitefile.Value) error {
		if id != int64(len(c.objects.Items)+1) || !blobOf(v[1], chunk.DigestSize) || !between(v[2], 1, math.MaxInt64) {
			return corrupt("object %d", id)
		}
		o := Object{Digest: chunk.Digest(v[1].Bytes), Size: v[2].Int}
		if o.Digest.IsZero() {
			return corrupt("object %d without a digest", id)
		}
		if err := c.objects.Append(o.Size); err != nil {
			return err
		}
		c.counts.Objects++
		return nil
	})
}

func (c *checker) checkExtents() error {
	var object, end, chunks int64
	err := c.keys(c.scan, tableExtent.Name, extentCols, func(v []sqlitefile.Value) error {
		if !between(v[0], max(1, object), int64(len(c.objects.Items))) || !between(v[1], 0, math.MaxInt64) || !between(v[2], 1, min(chunks+1, int64(len(c.chunkSizes.Items)))) {
			return corrupt("extent of object %d at %d", v[0].Int, v[1].Int)
		}
		if v[0].Int != object {
			object, end = v[0].Int, 0
		}
		size := int64(c.chunkSizes.Items[v[2].Int-1])
		if v[1].Int < end || v[1].Int > c.objects.Items[object-1]-size {
			return corrupt("extent of object %d at %d overlaps or ends beyond it", object, v[1].Int)
		}
		end = v[1].Int + size
		chunks = max(chunks, v[2].Int)
		return nil
	})
	if err == nil && chunks != c.counts.Chunks {
		return corrupt("%d chunks, %d of them used", c.counts.Chunks, chunks)
	}
	return err
}

func (c *checker) checkXattrs() error {
	var last []byte
	var flat []byte
	set, some := chunk.NewHasher(), false // of the set that is being read, which may be large
	closeSet := func() {
		if some {
			c.sets = append(c.sets, set.Sum())
			set.Reset()
			some = false
		}
	}
	err := c.keys(c.scan, tableXattr.Name, xattrCols, func(v []sqlitefile.Value) error {
		open := int64(len(c.sets)) // the set that is being read, less one; or the last closed
		if some {
			open++
		}
		if v[0].Kind != sqlitefile.Int || v[1].Kind != sqlitefile.Blob || v[2].Kind != sqlitefile.Blob {
			return corrupt("extended attribute %d", v[0].Int)
		}
		switch {
		case some && v[0].Int == open && bytes.Compare(v[1].Bytes, last) > 0:
		case v[0].Int == open+1:
			closeSet()
		default:
			return corrupt("extended attribute %.80q of set %d", v[1].Bytes, v[0].Int)
		}
		x := Xattr{Name: string(v[1].Bytes), Value: v[2].Bytes}
		if err := checkXattr(x.Name, x.Value); err != nil {
			return err
		}
		last = append(last[:0], v[1].Bytes...)
		flat = appendXattr(flat[:0], x)
		_, _ = set.Write(flat) // a hasher never fails
		some = true
		return nil
	})
	closeSet()
	return err
}

func (c *checker) checkNodes() error {
	var objects, sets int64
	err := c.rows(c.scan, tableNode.Name, nodeCols, func(id int64, v []sqlitefile.Value) error {
		n, ok := nodeOf(v)
		if id != int64(len(c.nodes.Items)+1) || id > math.MaxUint32-1 || !ok {
			return corrupt("node %d", id)
		}
		if err := checkNode(&n); err != nil {
			return err
		}
		if !optional(v[8], int(min(objects+1, int64(len(c.objects.Items))))) || !optional(v[10], int(min(sets+1, int64(len(c.sets))))) {
			return corrupt("node %d: object %d or attributes %d", id, n.Object, n.Xattrs)
		}
		if n.Object != 0 && c.objects.Items[n.Object-1] != n.Size {
			return corrupt("node %d: %d bytes, its object has %d", id, n.Size, c.objects.Items[n.Object-1])
		}
		objects, sets = max(objects, int64(n.Object)), max(sets, int64(n.Xattrs))
		if err := c.nodes.Append(nodeFacts{kind: n.Type(), nlink: n.Nlink}); err != nil {
			return err
		}
		return c.count(&n)
	})
	switch {
	case err != nil:
		return err
	case len(c.nodes.Items) == 0 || c.nodes.Items[0].kind != ModeDir:
		return corrupt("the root is not a directory")
	case objects != int64(len(c.objects.Items)) || sets != int64(len(c.sets)):
		return corrupt("%d objects and %d sets of attributes, %d and %d of them used", len(c.objects.Items), len(c.sets), objects, sets)
	}
	return nil
}

func (c *checker) count(n *Node) error {
	c.counts.Nodes++
	switch n.Type() {
	case ModeRegular:
		c.counts.Files++
		if c.counts.Size += n.Size; c.counts.Size < 0 {
			return corrupt("files of more than 2^63 bytes")
		}
	case ModeDir:
		c.counts.Dirs++
	case ModeSymlink:
		c.counts.Symlinks++
	}
	return nil
}

// nodeOf decodes a row of the node table and reports whether its columns have the types and
// ranges they must have. Ids are checked by the caller.
func nodeOf(v []sqlitefile.Value) (Node, bool) {
	ok := between(v[1], 0, math.MaxUint16) && between(v[2], 0, math.MaxUint32) && between(v[3], 0, math.MaxUint32) &&
		v[4].Kind == sqlitefile.Int && between(v[5], 0, math.MaxInt64) && v[6].Kind == sqlitefile.Int &&
		between(v[7], 1, math.MaxUint32) && (v[9].Kind == sqlitefile.Null || v[9].Kind == sqlitefile.Blob) &&
		optional(v[8], math.MaxUint32) && optional(v[10], math.MaxUint32)
	return Node{
		Mode: uint32(v[1].Int), UID: uint32(v[2].Int), GID: uint32(v[3].Int), MTime: v[4].Int, Size: v[5].Int,
		Rdev: uint64(v[6].Int), Nlink: uint32(v[7].Int), Object: ObjectID(v[8].Int), Target: v[9].Bytes, Xattrs: XattrSetID(v[10].Int),
	}, ok
}

func (c *checker) checkEntries() error {
	var parent int64
	var last []byte
	return c.keys(c.scan, tableEntry.Name, entryCols, func(v []sqlitefile.Value) error {
		if !between(v[0], max(1, parent), int64(len(c.nodes.Items))) || v[1].Kind != sqlitefile.Blob || !between(v[2], 2, int64(len(c.nodes.Items))) {
			return corrupt("entry %.300q of node %d", v[1].Bytes, v[0].Int)
		}
		dir := &c.nodes.Items[v[0].Int-1]
		if v[0].Int != parent {
			parent, last = v[0].Int, last[:0]
			dir.first = uint32(len(c.entries.Items))
		}
		if err := checkName(v[1].Bytes); err != nil {
			return err
		}
		if dir.kind != ModeDir || bytes.Compare(v[1].Bytes, last) <= 0 || len(c.entries.Items) >= math.MaxUint32-1 {
			return corrupt("entry %q of node %d is out of place", v[1].Bytes, parent)
		}
		last = append(last[:0], v[1].Bytes...)
		dir.count++
		if err := c.entries.Append(NodeID(v[2].Int)); err != nil {
			return err
		}
		c.counts.Entries++
		return nil
	})
}

// checkWalk walks the tree in canonical order and sees that ids were given in that order:
// each entry names the next new node, or one met before that is no directory. That proves
// at once that every node is reached, that no directory has two names, and that there is no
// cycle. Link counts follow.
func (c *checker) checkWalk() error {
	next := Root + 1
	// A directory's children have adjacent ids, so the walk needs no stack of names: the
	// subdirectories still to do are in a stack of their ids, deepest last.
	todo := []NodeID{Root}
	for len(todo) > 0 {
		id := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		dir := &c.nodes.Items[id-1]
		base := len(todo)
		for _, child := range c.entries.Items[dir.first : dir.first+dir.count] {
			n := &c.nodes.Items[child-1]
			c.passed()
			switch {
			case child == next:
				next++
			case child > next || n.kind == ModeDir:
				return corrupt("directory %d: child %d, where %d is next", id, child, next)
			}
			if n.kind == ModeDir {
				dir.links++
				todo = append(todo, child)
			} else {
				n.links++
			}
		}
		dir.links += 2
		reverse(todo[base:])
	}
	if int(next) != len(c.nodes.Items)+1 {
		return corrupt("%d nodes, %d of them reached", len(c.nodes.Items), next-1)
	}
	for i := range c.nodes.Items {
		if n := &c.nodes.Items[i]; n.nlink != n.links {
			return corrupt("node %d: link count %d, has %d", i+1, n.nlink, n.links)
		}
	}
	return nil
}

func reverse(ids []NodeID) {
	for i, j := 0, len(ids)-1; i < j; i, j = i+1, j-1 {
		ids[i], ids[j] = ids[j], ids[i]
	}
}

// hashTree computes the tree digest in a second pass over nodes and entries, now that all
// rules hold.
func (c *checker) hashTree() error {
	h := newTreeHash(c.counts.Nodes, c.counts.Entries)
	again := c.db.NewScan()
	digests, err := newDigests(c.db)
	if err != nil {
		return err
	}
	defer digests.stop()
	err = c.rows(again, tableNode.Name, nodeCols, func(_ int64, v []sqlitefile.Value) error {
		n, _ := nodeOf(v)
		var object, set chunk.Digest
		if n.Object != 0 {
			var err error
			if object, err = digests.of(n.Object); err != nil {
				return err
			}
		}
		if n.Xattrs != 0 {
			set = c.sets[n.Xattrs-1]
		}
		h.node(&n, object, set)
		return nil
	})
	if err != nil {
		return err
	}
	err = c.keys(again, tableEntry.Name, entryCols, func(v []sqlitefile.Value) error {
		h.entry(&Entry{Parent: NodeID(v[0].Int), Name: v[1].Bytes, Node: NodeID(v[2].Int)})
		return nil
	})
	c.tree = h.sum()
	return err
}

// digests gives the digests of objects in the order of their first use, which is that of
// their ids, so one pass beside the nodes does; what is used again is looked up.
type digests struct {
	next func() (ObjectID, chunk.Digest, bool)
	stop func()
	last ObjectID
	err  error // of the pass
	rows sqlitefile.Cursor
}

func newDigests(db *sqlitefile.DB) (*digests, error) {
	d := &digests{}
	var err error
	if d.rows, err = db.Cursor(tableObject.Name, objectCols, false); err != nil {
		return nil, err
	}
	d.next, d.stop = iter.Pull2(func(yield func(ObjectID, chunk.Digest) bool) {
		err := db.NewScan().Rows(tableObject.Name, objectCols, func(id int64, v []sqlitefile.Value) error {
			if !yield(ObjectID(id), objectOf(v).Digest) {
				return errStop
			}
			return nil
		})
		if !isStop(err) {
			d.err = err
		}
	})
	return d, nil
}

func (d *digests) of(id ObjectID) (chunk.Digest, error) {
	if id == d.last+1 {
		got, digest, ok := d.next()
		if !ok || got != id {
			return digest, errors.Join(corrupt("object %d", id), d.err)
		}
		d.last = id
		return digest, nil
	}
	var col [objectCols]sqlitefile.Value
	if ok, err := d.rows.Row(int64(id), col[:]); err != nil || !ok {
		return chunk.Digest{}, errors.Join(corrupt("object %d", id), err)
	}
	return objectOf(col[:]).Digest, nil
}
