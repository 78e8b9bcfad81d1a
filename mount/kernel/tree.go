package kernel

import (
	"iter"
	"sync"

	"github.com/zosfs/zosfs/erofs"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/image"
)

// tree is an flist in the words of package erofs. Inodes have the numbers of their nodes.
type tree struct {
	r     *flist.Reader
	nodes *image.Tree
	dev   *image.Device
	holes map[flist.ObjectID][]erofs.Run // what is data in objects that have holes
	err   error                          // of an address
}

func newTree(r *flist.Reader, dev *image.Device) *tree {
	t := &tree{r: r, dev: dev}
	var wg sync.WaitGroup
	wg.Go(func() { t.holes = runs(r) })
	t.nodes = image.NewTree(r)
	wg.Wait()
	return t
}

// runs returns the runs of data of those objects that have holes.
func runs(r *flist.Reader) map[flist.ObjectID][]erofs.Run {
	sizes := make([]uint32, 0, r.Counts().Chunks)
	for _, c := range r.Chunks() {
		sizes = append(sizes, c.Size)
	}
	next, stop := iter.Pull2(r.AllExtents())
	defer stop()
	of, e, more := next()
	out := map[flist.ObjectID][]erofs.Run{}
	var data []erofs.Run
	for id, o := range r.Objects() {
		data = data[:0]
		for ; more && of == id; of, e, more = next() {
			n := int64(sizes[e.Chunk-1])
			if last := len(data) - 1; last >= 0 && data[last].Off+data[last].Len == e.Offset {
				data[last].Len += n
			} else {
				data = append(data, erofs.Run{Off: e.Offset, Len: n})
			}
		}
		if len(data) != 1 || data[0] != (erofs.Run{Off: 0, Len: o.Size}) {
			out[id] = append([]erofs.Run{}, data...) // never nil, which means no holes
		}
	}
	return out
}

// Len implements erofs.Tree.
func (t *tree) Len() int { return t.nodes.Len() }

// Inodes implements erofs.Tree.
func (t *tree) Inodes() iter.Seq2[uint32, erofs.Inode] {
	return func(yield func(uint32, erofs.Inode) bool) {
		for id := flist.Root; int(id) <= t.nodes.Len(); id++ {
			a := t.nodes.Attr(id)
			in := erofs.Inode{
				Mode: a.Mode, UID: a.UID, GID: a.GID, Nlink: a.Nlink, MTime: a.MTime,
				Rdev: a.Rdev, Xattrs: uint32(a.Xattrs), Target: t.nodes.Target(id),
			}
			if a.Object != 0 {
				in.Size, in.Data = a.Size, t.holes[a.Object]
				if in.Addr, t.err = t.dev.Addr(a.Object); t.err != nil {
					return
				}
			}
			if !yield(uint32(id), in) {
				return
			}
		}
	}
}

// Dir implements erofs.Tree.
func (t *tree) Dir(dir uint32) iter.Seq[erofs.Entry] {
	return func(yield func(erofs.Entry) bool) {
		id := flist.NodeID(dir)
		for i := range t.nodes.DirLen(id) {
			name, child := t.nodes.DirEntry(id, i)
			if !yield(erofs.Entry{Name: name, Inode: uint32(child), Mode: t.nodes.Attr(child).Mode}) {
				return
			}
		}
	}
}

// Parent implements erofs.Tree.
func (t *tree) Parent(dir uint32) uint32 { return uint32(t.nodes.Parent(flist.NodeID(dir))) }

// Xattrs implements erofs.Tree.
func (t *tree) Xattrs() iter.Seq2[uint32, []erofs.Xattr] {
	return func(yield func(uint32, []erofs.Xattr) bool) {
		for id, set := range t.r.XattrSets() {
			out := make([]erofs.Xattr, 0, len(set))
			for _, x := range set {
				out = append(out, erofs.Xattr{Name: image.ShownXattr(x.Name), Value: x.Value})
			}
			if !yield(uint32(id), out) {
				return
			}
		}
	}
}
