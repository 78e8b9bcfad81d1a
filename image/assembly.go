package image

import (
	"context"

	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/flist"
)

// maxHashers bounds how many objects are put together at once; a hasher is about 10 KiB.
// In blob order objects come one after another, so that a handful is the rule.
const maxHashers = 512

// assembly is an object whose digest is computed while its chunks pass by.
type assembly struct {
	id   flist.ObjectID
	done int64         // bytes hashed
	h    *chunk.Hasher // nil before the first chunk
}

// begin decides for each object how its digest is compared. An object that is one chunk has
// the digest of that chunk, and needs no bytes.
func (v *verifier) begin(ctx context.Context) error {
	r := v.im.r
	for id, o := range r.Objects() {
		e, ok := v.extentAt(id, 0)
		switch {
		case !ok:
			a := &assembly{id: id, h: chunk.NewHasher()}
			v.hashers++
			if err := v.settle(ctx, a); err != nil {
				return err
			}
		case e.Offset == 0 && int64(r.Chunk(e.Chunk).Size) == o.Size:
			v.compare(id, r.Chunk(e.Chunk).Chunk)
		default:
			v.waiting[e.Chunk] = append(v.waiting[e.Chunk], &assembly{id: id})
		}
	}
	return nil
}

// extentAt returns the extent of an object that begins at off or after it.
func (v *verifier) extentAt(id flist.ObjectID, off int64) (flist.Extent, bool) {
	for e := range v.im.r.ExtentsAt(id, off) {
		return e, true
	}
	return flist.Extent{}, false
}

func (v *verifier) compare(id flist.ObjectID, got chunk.Digest) {
	v.objects++
	if got != v.im.r.Object(id).Digest {
		v.addObject(id)
	}
}

// feed gives a chunk that passes by to the objects that need it next; plain is nil where it
// is damaged, and so are they then.
func (v *verifier) feed(ctx context.Context, id flist.ChunkID, plain []byte) error {
	list := v.waiting[id]
	delete(v.waiting, id)
	for _, a := range list {
		switch {
		case plain == nil:
			v.drop(a)
		case a.h == nil && v.hashers >= maxHashers:
			v.late = append(v.late, a.id)
		default:
			if a.h == nil {
				a.h = chunk.NewHasher()
				v.hashers++
			}
			if err := v.grow(ctx, a, id, plain); err != nil {
				return err
			}
		}
	}
	return nil
}

func (v *verifier) drop(a *assembly) {
	if a.h != nil {
		a.h = nil
		v.hashers--
	}
}

// grow hashes a chunk as often as it comes in a row, then sees what is next.
func (v *verifier) grow(ctx context.Context, a *assembly, id flist.ChunkID, plain []byte) error {
	for {
		e, ok := v.extentAt(a.id, a.done)
		if !ok || e.Chunk != id {
			return v.settle(ctx, a)
		}
		if err := a.zeros(ctx, e.Offset); err != nil {
			return err
		}
		_, _ = a.h.Write(plain) // never fails
		a.done += int64(len(plain))
	}
}

// settle finishes an object that has all its chunks, and else lets it wait for the next one,
// or puts it off where that has passed.
func (v *verifier) settle(ctx context.Context, a *assembly) error {
	e, ok := v.extentAt(a.id, a.done)
	switch {
	case !ok:
		if err := a.zeros(ctx, v.im.r.Object(a.id).Size); err != nil {
			return err
		}
		v.compare(a.id, a.h.Sum())
		v.drop(a)
	case v.passed.has(e.Chunk):
		v.drop(a)
		v.late = append(v.late, a.id)
	default:
		v.waiting[e.Chunk] = append(v.waiting[e.Chunk], a)
	}
	return nil
}

var zeros [64 << 10]byte

// zeros hashes a hole up to end.
func (a *assembly) zeros(ctx context.Context, end int64) error {
	for a.done < end {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(end-a.done, int64(len(zeros)))
		_, _ = a.h.Write(zeros[:n])
		a.done += n
	}
	return nil
}

// finish reads the objects that were put off, one by one and in their own order.
func (v *verifier) finish(ctx context.Context) error {
	for _, id := range v.late {
		if err := v.again(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

func (v *verifier) again(ctx context.Context, id flist.ObjectID) error {
	var pieces []piece
	var offsets []int64
	for e := range v.im.r.Extents(id) {
		if _, bad := v.damaged[e.Chunk]; bad {
			return nil // known
		}
		pieces = append(pieces, piece{id: e.Chunk, chunk: v.im.r.Chunk(e.Chunk)})
		offsets = append(offsets, e.Offset)
	}
	a := &assembly{id: id, h: chunk.NewHasher()}
	for _, part := range adjacent(pieces) {
		o := v.im.open(ctx, part)
		if o.err != nil {
			return o.err
		}
		for i, plain := range o.plain {
			if o.errs[i] != nil {
				v.addChunk(part[i].id, o.errs[i])
				return nil
			}
			if err := a.zeros(ctx, offsets[0]); err != nil {
				return err
			}
			_, _ = a.h.Write(plain)
			a.done += int64(len(plain))
			offsets = offsets[1:]
		}
	}
	if err := a.zeros(ctx, v.im.r.Object(id).Size); err != nil {
		return err
	}
	v.compare(id, a.h.Sum())
	return nil
}

// adjacent cuts pieces into parts that lie one after another in a blob, of at most bulkRange
// sealed bytes, but always a chunk.
func adjacent(pieces []piece) (parts [][]piece) {
	from := 0
	for i := range pieces {
		if i == 0 {
			continue
		}
		was, c := &pieces[i-1].chunk, &pieces[i].chunk
		end := int64(c.Offset) + int64(c.Stored)
		if was.Blob != c.Blob || was.Offset+was.Stored != c.Offset || end-int64(pieces[from].chunk.Offset) > bulkRange {
			parts = append(parts, pieces[from:i:i])
			from = i
		}
	}
	if from < len(pieces) {
		parts = append(parts, pieces[from:])
	}
	return parts
}
