package pack

import (
	"context"
	"fmt"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/errs"
)

// A batch is asked for in one look-up when one of these is reached.
const (
	batchBytes  = 24 << 20 // plaintext that waits for the answer; half of a pool
	startBytes  = 4 << 20  // the same for the first batch, so that sealing begins soon; then it doubles
	batchChunks = 16 << 10 // with those of files in the pack cache, which hold no plaintext
	batchItems  = 16 << 10
	firstBatch  = 512 // chunks, when the pack cache is tried for the first time
)

// maxBatches is how many batches wait between gather and the placer.
const maxBatches = 2

// A batch is a run of the tree in walk order, with what the destination knows of it.
type batch struct {
	loads []load
	want  digestSet // what is asked for
	bytes int       // of plaintext
	known bool      // has files of the pack cache

	done  chan struct{} // closed when found is there
	found map[chunk.Digest]blob.Location

	fresh digestSet // what the placer has had sealed; nil before that
}

type digestSet map[chunk.Digest]struct{}

// A load is an item, or one part of an item's content.
type load struct {
	it   *item
	part *part // nil: the item has no content, or the pack cache knows it
}

func newBatch() *batch {
	return &batch{want: make(digestSet), done: make(chan struct{})}
}

// full reports whether b should be asked for; limit is of its bytes.
func (b *batch) full(limit int) bool {
	return b.bytes >= limit || len(b.want) >= batchChunks || len(b.loads) >= batchItems
}

// gatherer collects batches. See the package comment.
type gatherer struct {
	*packer
	cur    *batch
	limit  int                // bytes of cur
	probed bool               // whether the pack cache has proved useful, or useless
	spawn  func(func() error) // starts a look-up
}

func (g *gatherer) run(ctx context.Context) error {
	defer close(g.batches)
	g.cur, g.limit = newBatch(), startBytes
	for {
		it, ok, err := recv(ctx, g, g.items)
		if err != nil {
			return err
		}
		if !ok {
			return g.flush(ctx)
		}
		if err := g.add(ctx, it); err != nil {
			return err
		}
	}
}

func (g *gatherer) add(ctx context.Context, it *item) error {
	if f := it.file; f == nil || f.cached != nil {
		if f != nil {
			g.cur.known = true
			g.ask(f.cached.pieces)
		}
		return g.push(ctx, load{it: it})
	}
	for {
		pt, _, err := recv(ctx, g, it.file.parts)
		if err != nil {
			return err
		}
		for i := range pt.pieces {
			g.cur.bytes += len(pt.pieces[i].buf.data)
		}
		g.ask(pt.pieces)
		if err := g.push(ctx, load{it, pt}); err != nil || pt.last {
			return err
		}
	}
}

func (g *gatherer) ask(pieces []piece) {
	for i := range pieces {
		g.cur.want[pieces[i].digest] = struct{}{}
	}
}

func (g *gatherer) push(ctx context.Context, l load) error {
	g.cur.loads = append(g.cur.loads, l)
	switch {
	case g.cur.full(g.limit):
		return g.flush(ctx)
	case !g.probed && g.cur.known && len(g.cur.want) >= firstBatch:
		return g.probe(ctx)
	}
	return nil
}

// flush starts the look-up of the batch in the making and passes it on.
func (g *gatherer) flush(ctx context.Context) error {
	b := g.cur
	if len(b.loads) == 0 {
		return nil
	}
	g.cur, g.limit = newBatch(), min(2*g.limit, batchBytes)
	g.pending.Add(1)
	g.spawn(func() error { return g.locate(ctx, b) })
	return send(ctx, g.batches, b)
}

// probe asks for a first batch, and turns the pack cache off when the destination lacks
// most of what the cache knows: files are then better read in the ordinary way.
func (g *gatherer) probe(ctx context.Context) error {
	b := g.cur
	g.probed = true
	if err := g.flush(ctx); err != nil {
		return err
	}
	select {
	case <-b.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	if len(b.found) < len(b.want)/2 {
		g.cacheOff.Store(true)
	}
	return nil
}

func (g *gatherer) locate(ctx context.Context, b *batch) (err error) {
	if len(b.want) > 0 {
		want := make([]chunk.Digest, 0, len(b.want))
		for d := range b.want {
			want = append(want, d)
		}
		if b.found, err = g.lookup(ctx, want); err != nil {
			return err
		}
	}
	close(b.done)
	return nil
}

// lookup asks the destination where chunks lie. What it answers is checked as far as it can
// be without the chunks.
func (p *packer) lookup(ctx context.Context, want []chunk.Digest) (map[chunk.Digest]blob.Location, error) {
	p.count.lookups.Add(1)
	found, err := p.dst.Locate(ctx, want)
	if err != nil {
		return nil, fmt.Errorf("look up %d chunks: %w", len(want), err)
	}
	for d, l := range found {
		if err := l.Check(); err != nil || l.Chunk != d || l.Blob.IsZero() {
			return nil, fmt.Errorf("look up chunk %v: the store answers with %v in blob %v: %w", d, l.Ref, l.Blob, errs.ErrCorrupt)
		}
	}
	return found, nil
}

// recv receives from ch for g. While it waits and nothing else is under way, somebody who
// waits for memory gets it by way of the batch in the making.
func recv[T any](ctx context.Context, g *gatherer, ch <-chan T) (v T, ok bool, err error) {
	for {
		select {
		case v, ok = <-ch:
			return v, ok, nil
		default:
		}
		if g.hunger.waiting.Load() > 0 && g.pending.Load() == 0 {
			if err := g.flush(ctx); err != nil {
				return v, false, err
			}
		}
		select {
		case v, ok = <-ch:
			return v, ok, nil
		case <-g.hunger.poke:
		case <-ctx.Done():
			return v, false, ctx.Err()
		}
	}
}
