package image

import (
	"iter"

	"github.com/zosfs/zosfs/flist"
)

// Data yields the runs of a regular file that hold data at from or after it, as offset and
// length in bytes, in ascending order and none of them adjacent; a run that from lies in is
// yielded from there on. Between and after them are holes, which read as zeros. Other nodes
// have none.
func (im *Image) Data(id flist.NodeID, from int64) iter.Seq2[int64, int64] {
	obj := im.Tree().Attr(id).Object
	return func(yield func(off, n int64) bool) {
		if obj == 0 {
			return
		}
		off, end := from, from
		for e := range im.r.ExtentsAt(obj, from) {
			if lo := max(e.Offset, from); lo != end {
				if end > off && !yield(off, end-off) {
					return
				}
				off = lo
			}
			end = e.Offset + int64(im.r.Chunk(e.Chunk).Size)
		}
		if end > off {
			yield(off, end-off)
		}
	}
}
