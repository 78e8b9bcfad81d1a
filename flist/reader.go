package flist

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/internal/sqlitefile"
)

type cursors struct {
	node, entry, xattr, object, extent, chunk, blob sqlitefile.Cursor
}

func openCursors(db *sqlitefile.DB) (cursors, error) {
	var c cursors
	for _, x := range []struct {
		cur   *sqlitefile.Cursor
		table sqlitefile.Table
		cols  int
	}{
		{&c.node, tableNode, nodeCols}, {&c.entry, tableEntry, entryCols}, {&c.xattr, tableXattr, xattrCols},
		{&c.object, tableObject, objectCols}, {&c.extent, tableExtent, extentCols}, {&c.chunk, tableChunk, chunkCols}, {&c.blob, tableBlob, blobCols},
	} {
		var err error
		if *x.cur, err = db.Cursor(x.table.Name, x.cols, x.table.WithoutRowID); err != nil {
			return c, err
		}
	}
	return c, nil
}

// must ends the program for an error of a database that was checked whole and lies in a
// private file: there is no input left that could cause it.
func must(err error) {
	if err != nil {
		panic(fmt.Sprintf("flist: checked, and yet: %v", err))
	}
}

func row(c *sqlitefile.Cursor, id int64, col []sqlitefile.Value) {
	ok, err := c.Row(id, col)
	must(err)
	if !ok {
		panic(fmt.Sprintf("flist: no row %d", id))
	}
}

// Digest returns the digest of the file that was opened, as it was: of the shipped form
// that is the flist's name.
func (r *Reader) Digest() Digest { return r.digest }

// TreeDigest returns the digest of the tree.
func (r *Reader) TreeDigest() TreeDigest { return r.tree }

// Counts returns the sums of all tables.
func (r *Reader) Counts() Counts { return r.counts }

// Property returns one property and whether it is there.
func (r *Reader) Property(key string) (string, bool) {
	v, ok := r.properties[key]
	return v, ok
}

// Properties returns a copy of all properties.
func (r *Reader) Properties() map[string]string { return maps.Clone(r.properties) }

// Sources returns the stores that the flist names, those to ask first first.
func (r *Reader) Sources() []Source {
	s := slices.Clone(r.sources)
	slices.SortStableFunc(s, func(a, b Source) int { return cmp.Compare(a.Priority, b.Priority) })
	return s
}

// Node returns a node.
func (r *Reader) Node(id NodeID) Node {
	var col [nodeCols]sqlitefile.Value
	row(&r.node, int64(id), col[:])
	n, _ := nodeOf(col[:])
	return n
}

// Nodes returns all nodes in ascending order of ids.
func (r *Reader) Nodes() iter.Seq2[NodeID, Node] {
	return rows(r, tableNode, nodeCols, func(id int64, v []sqlitefile.Value) (NodeID, Node) {
		n, _ := nodeOf(v)
		return NodeID(id), n
	})
}

// Lookup returns the node that name has in the directory parent.
func (r *Reader) Lookup(parent NodeID, name []byte) (NodeID, bool) {
	for e := range r.entriesFrom(parent, name) {
		return e.Node, e.Parent == parent && bytes.Equal(e.Name, name)
	}
	return 0, false
}

// Dir returns the entries of the directory parent in ascending byte order of names.
func (r *Reader) Dir(parent NodeID) iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		for e := range r.entriesFrom(parent, nil) {
			if e.Parent != parent || !yield(e) {
				return
			}
		}
	}
}

// Entries returns all entries, ascending by parent and name.
func (r *Reader) Entries() iter.Seq[Entry] { return r.entriesFrom(0, nil) }

func (r *Reader) entriesFrom(parent NodeID, name []byte) iter.Seq[Entry] {
	less := func(v []sqlitefile.Value) bool {
		return v[0].Int < int64(parent) || v[0].Int == int64(parent) && bytes.Compare(v[1].Bytes, name) < 0
	}
	return func(yield func(Entry) bool) {
		must(r.entry.From(less, func(v []sqlitefile.Value) bool {
			return yield(Entry{Parent: NodeID(v[0].Int), Name: v[1].Bytes, Node: NodeID(v[2].Int)})
		}))
	}
}

// Xattrs returns the attributes of a set in ascending order of names; nil for set 0.
func (r *Reader) Xattrs(set XattrSetID) []Xattr {
	if set == 0 {
		return nil
	}
	var out []Xattr
	must(r.xattr.From(
		func(v []sqlitefile.Value) bool { return v[0].Int < int64(set) },
		func(v []sqlitefile.Value) bool {
			if v[0].Int != int64(set) {
				return false
			}
			out = append(out, Xattr{Name: string(v[1].Bytes), Value: v[2].Bytes})
			return true
		}))
	if out == nil {
		panic(fmt.Sprintf("flist: no set of attributes %d", set))
	}
	return out
}

// XattrSets returns all sets of attributes in ascending order of ids. The slice holds for
// one step only.
func (r *Reader) XattrSets() iter.Seq2[XattrSetID, []Xattr] {
	return func(yield func(XattrSetID, []Xattr) bool) {
		var set []Xattr
		var id XattrSetID
		more := true
		must(r.xattr.From(nil, func(v []sqlitefile.Value) bool {
			if XattrSetID(v[0].Int) != id && id != 0 {
				more = yield(id, set)
				set = set[:0]
			}
			id = XattrSetID(v[0].Int)
			set = append(set, Xattr{Name: string(v[1].Bytes), Value: v[2].Bytes})
			return more
		}))
		if more && id != 0 {
			yield(id, set)
		}
	}
}

// Object returns an object.
func (r *Reader) Object(id ObjectID) Object {
	var col [objectCols]sqlitefile.Value
	row(&r.object, int64(id), col[:])
	return objectOf(col[:])
}

func objectOf(v []sqlitefile.Value) Object {
	return Object{Digest: chunk.Digest(v[1].Bytes), Size: v[2].Int}
}

// Objects returns all objects in ascending order of ids.
func (r *Reader) Objects() iter.Seq2[ObjectID, Object] {
	return rows(r, tableObject, objectCols, func(id int64, v []sqlitefile.Value) (ObjectID, Object) {
		return ObjectID(id), objectOf(v)
	})
}

// Extents returns the extents of an object in ascending order of offsets.
func (r *Reader) Extents(id ObjectID) iter.Seq[Extent] { return r.extentsFrom(id, 0) }

// AllExtents returns the extents of all objects, ascending by object and offset.
func (r *Reader) AllExtents() iter.Seq2[ObjectID, Extent] {
	return func(yield func(ObjectID, Extent) bool) {
		must(r.extent.From(nil, func(v []sqlitefile.Value) bool {
			return yield(ObjectID(v[0].Int), Extent{Offset: v[1].Int, Chunk: ChunkID(v[2].Int)})
		}))
	}
}

// ExtentsAt returns the extents of an object from the one on that holds the byte at off, or
// follows it where off lies in a hole.
func (r *Reader) ExtentsAt(id ObjectID, off int64) iter.Seq[Extent] {
	// The chunk that holds off begins no earlier than the largest is long before it; and only
	// the last that begins at or before off can hold it.
	return func(yield func(Extent) bool) {
		var held Extent
		holds := func() bool {
			return held.Chunk != 0 && held.Offset+int64(r.Chunk(held.Chunk).Size) > off
		}
		past := false
		for e := range r.extentsFrom(id, off-r.largest+1) {
			if !past && e.Offset <= off {
				held = e
				continue
			}
			if !past && holds() && !yield(held) {
				return
			}
			past = true
			if !yield(e) {
				return
			}
		}
		if !past && holds() {
			yield(held)
		}
	}
}

func (r *Reader) extentsFrom(id ObjectID, off int64) iter.Seq[Extent] {
	less := func(v []sqlitefile.Value) bool {
		return v[0].Int < int64(id) || v[0].Int == int64(id) && v[1].Int < off
	}
	return func(yield func(Extent) bool) {
		must(r.extent.From(less, func(v []sqlitefile.Value) bool {
			return v[0].Int == int64(id) && yield(Extent{Offset: v[1].Int, Chunk: ChunkID(v[2].Int)})
		}))
	}
}

// Chunk returns a chunk.
func (r *Reader) Chunk(id ChunkID) Chunk {
	var col [chunkCols]sqlitefile.Value
	row(&r.chunk, int64(id), col[:])
	c, _ := chunkOf(col[:])
	return c
}

// Chunks returns all chunks in ascending order of ids.
func (r *Reader) Chunks() iter.Seq2[ChunkID, Chunk] {
	return rows(r, tableChunk, chunkCols, func(id int64, v []sqlitefile.Value) (ChunkID, Chunk) {
		c, _ := chunkOf(v)
		return ChunkID(id), c
	})
}

// Blob returns a blob.
func (r *Reader) Blob(id BlobID) Blob {
	var col [blobCols]sqlitefile.Value
	row(&r.blob, int64(id), col[:])
	return blobRow(col[:])
}

func blobRow(v []sqlitefile.Value) Blob { return Blob{Digest: blob.Digest(v[1].Bytes), Size: v[2].Int} }

// Blobs returns all blobs in ascending order of ids.
func (r *Reader) Blobs() iter.Seq2[BlobID, Blob] {
	return rows(r, tableBlob, blobCols, func(id int64, v []sqlitefile.Value) (BlobID, Blob) {
		return BlobID(id), blobRow(v)
	})
}

// rows scans a table with row ids.
func rows[K ~uint32, V any](r *Reader, t sqlitefile.Table, cols int, of func(int64, []sqlitefile.Value) (K, V)) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		err := r.db.NewScan().Rows(t.Name, cols, func(id int64, v []sqlitefile.Value) error {
			if !yield(of(id, v)) {
				return errStop
			}
			return nil
		})
		if err != nil && !isStop(err) {
			must(err)
		}
	}
}

var errStop = errors.New("stop")

func isStop(err error) bool { return errors.Is(err, errStop) }
