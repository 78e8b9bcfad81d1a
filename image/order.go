package image

import (
	"cmp"
	"slices"
	"sort"
	"sync/atomic"

	"github.com/zosfs/zosfs/flist"
)

// order lists the chunks of an flist as they lie in their blobs, to find the neighbours of
// one. It takes 4 bytes a chunk and 4 a blob.
type order struct {
	r     *flist.Reader
	ids   []flist.ChunkID // by blob, then offset
	first []uint32        // where the chunks of blob i+1 begin in ids, and the end
}

// newOrder counts, then places: chunks mostly come in the order of their offsets already,
// since both follow the walk, and only blobs for which that is not so are sorted.
func newOrder(r *flist.Reader) *order {
	n := r.Counts()
	o := &order{r: r, ids: make([]flist.ChunkID, n.Chunks), first: make([]uint32, n.Blobs+1)}
	for _, c := range r.Chunks() {
		o.first[c.Blob]++
	}
	for i := 1; i < len(o.first); i++ {
		o.first[i] += o.first[i-1]
	}
	next := slices.Clone(o.first[:n.Blobs])
	last := make([]uint32, n.Blobs)
	messy := make([]bool, n.Blobs)
	for id, c := range r.Chunks() {
		b := c.Blob - 1
		messy[b] = messy[b] || c.Offset < last[b]
		last[b] = c.Offset
		o.ids[next[b]] = id
		next[b]++
	}
	for b, bad := range messy {
		if bad {
			o.sort(o.ids[o.first[b]:o.first[b+1]])
		}
	}
	return o
}

func (o *order) sort(ids []flist.ChunkID) {
	type key struct {
		offset uint32
		id     flist.ChunkID
	}
	keys := make([]key, len(ids))
	for i, id := range ids {
		keys[i] = key{o.r.Chunk(id).Offset, id}
	}
	slices.SortFunc(keys, func(a, b key) int {
		return cmp.Or(cmp.Compare(a.offset, b.offset), cmp.Compare(a.id, b.id))
	})
	for i, k := range keys {
		ids[i] = k.id
	}
}

// position returns where in ids the chunks of blob begin whose offset is at least offset.
func (o *order) position(blob flist.BlobID, offset uint32) int {
	first := int(o.first[blob-1])
	ids := o.ids[first:o.first[blob]]
	return first + sort.Search(len(ids), func(i int) bool { return o.r.Chunk(ids[i]).Offset >= offset })
}

// end returns where in ids the chunks of blob end.
func (o *order) end(blob flist.BlobID) int { return int(o.first[blob]) }

// bitmap is a set of chunk ids, safe for concurrent use; a bit a chunk.
type bitmap []atomic.Uint32

func newBitmap(chunks int64) bitmap { return make(bitmap, (chunks+1+31)/32) }

func (b bitmap) set(id flist.ChunkID) { b[id/32].Or(1 << (id % 32)) }

func (b bitmap) has(id flist.ChunkID) bool { return b[id/32].Load()&(1<<(id%32)) != 0 }

// take removes id and reports whether it was in the set.
func (b bitmap) take(id flist.ChunkID) bool {
	bit := uint32(1) << (id % 32)
	w := &b[id/32]
	return w.Load()&bit != 0 && w.And(^bit)&bit != 0
}
