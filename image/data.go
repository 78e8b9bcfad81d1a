package image

import (
	"iter"

	"github.com/zosfs/zosfs/flist"
)

// Data yields the runs of a regular file that hold data, as offset and length in bytes, in
// ascending order and none of them adjacent; between and after them are holes, which read as
// zeros. Other nodes have none.
func (im *Image) Data(id flist.NodeID) iter.Seq2[int64, int64] {
	obj := im.tree.Attr(id).Object
	return func(yield func(off, n int64) bool) {
		if obj == 0 {
			return
		}
		var off, end int64
		for e := range im.r.Extents(obj) {
			if e.Offset != end {
				if end > off && !yield(off, end-off) {
					return
				}
				off = e.Offset
			}
			end = e.Offset + int64(im.r.Chunk(e.Chunk).Size)
		}
		if end > off {
			yield(off, end-off)
		}
	}
}
