package image

import (
	"cmp"
	"context"
	"math"
	"slices"
	"sync"

	"github.com/zosfs/zosfs/flist"
)

const (
	// maxRange bounds one request, in bytes: the parts of a long read come side by side,
	// and the first one soon. A chunk is never larger (chunk.MaxSize and some).
	maxRange = 4 << 20
	// maxTaken bounds how many neighbours one range looks at.
	maxTaken = 4096
)

// piece is a part of a chunk that a read wants.
type piece struct {
	id    flist.ChunkID
	chunk flist.Chunk
	off   int    // in the chunk
	dst   []byte // nil where only the cache is to have it
	wait  func(context.Context) ([]byte, error)
}

// flight is one request on its way, and why.
type flight struct {
	im    *Image
	class class
	span
	gaps   int64     // bytes between the loads that were asked for
	booked sync.Once // before the first chunk is delivered, so that Stats are not behind it
}

// claim takes the duty for those of the pieces that nobody has it for, sets wait in all of
// them, and returns the requests to make. With widen, these take neighbours along.
func (im *Image) claim(c class, pieces []piece, widen bool) []*flight {
	type duty struct {
		blob flist.BlobID
		*load
	}
	var own []duty
	for i := range pieces {
		p := &pieces[i]
		wait, finish := im.cache.Claim(p.chunk.Chunk)
		p.wait = wait
		if finish != nil {
			own = append(own, duty{p.chunk.Blob, &load{id: p.id, ref: p.chunk.Ref, finish: finish}})
		}
	}
	slices.SortFunc(own, func(a, b duty) int {
		return cmp.Or(cmp.Compare(a.blob, b.blob), cmp.Compare(a.ref.Offset, b.ref.Offset))
	})
	window := im.window()
	var out []*flight
	for _, d := range own {
		if n := len(out); n > 0 && out[n-1].join(d.blob, d.load, window) {
			continue
		}
		f := &flight{im: im, class: c, span: span{blob: d.blob, lo: int64(d.ref.Offset)}}
		f.take(d.load)
		out = append(out, f)
	}
	for i, f := range out {
		if !widen {
			f.widen(f.hi, window)
			continue
		}
		limit := int64(math.MaxInt64)
		if i+1 < len(out) && out[i+1].blob == f.blob {
			limit = out[i+1].lo
		}
		f.extend(limit, window)
	}
	return out
}

// join adds l, which does not begin before f, if one range for both is worth its gap.
func (f *flight) join(b flist.BlobID, l *load, window int64) bool {
	gap := max(0, int64(l.ref.Offset)-f.hi)
	if b != f.blob || f.gaps+gap > window || max(f.hi, l.end())-f.lo > maxRange {
		return false
	}
	f.gaps += gap
	f.take(l)
	return true
}

// extend takes along what lies in the gaps of the range and what follows it, up to limit: as
// much as the link carries meanwhile, or more where this flist is read in order.
func (f *flight) extend(limit, window int64) {
	im := f.im
	lo := im.order().position(f.blob, uint32(f.lo))
	hi := im.order().position(f.blob, f.loads[len(f.loads)-1].ref.Offset) + 1
	run := im.advance(lo, hi, f.size()-f.gaps)
	more := run.read / caution
	if run.read == f.size()-f.gaps {
		more = 0 // it begins here
	}
	if window > 0 {
		more = min(more, runAhead*window)
	}
	asked := len(f.loads)
	next := f.widen(min(f.hi+max(window, min(more, maxWindow)), limit), window)
	var taken int64
	for _, l := range f.loads[asked:] {
		taken += int64(l.ref.Stored)
	}
	im.runs.took(run, max(hi, next), taken)
}

// widen takes along the chunks of this flist that lie in the gaps of the range or follow it
// and end by end, if the cache lacks them. It bridges up to gap bytes of others, and returns
// the position where it stopped.
func (f *flight) widen(end, gap int64) int {
	im, o := f.im, f.im.order()
	from := o.position(f.blob, uint32(f.lo))
	if end <= f.hi && f.gaps == 0 {
		return from
	}
	asked := make(map[flist.ChunkID]bool, len(f.loads))
	for _, l := range f.loads {
		asked[l.id] = true
	}
	to := min(o.end(f.blob), from+maxTaken)
	for i, id := range o.ids[from:to] {
		c := im.r.Chunk(id)
		if int64(c.Offset)+int64(c.Stored) > end || int64(c.Offset)-f.hi > gap {
			return from + i
		}
		if asked[id] || im.cache.Has(c.Chunk) {
			continue
		}
		if _, finish := im.cache.Claim(c.Chunk); finish != nil {
			f.take(&load{id: id, ref: c.Ref, taken: true, finish: finish})
		}
	}
	return to
}
