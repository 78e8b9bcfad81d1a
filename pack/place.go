package pack

import (
	"context"
	"fmt"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/internal/mapped"
)

// A placer takes the tree in walk order, decides where each chunk lies and writes the rows.
// It alone has the flist.Writer.
type placer struct {
	*packer
	w     *flist.Writer
	blobs *blobs
	plain *filler // of new chunks
	again *filler // of chunks that the fragmentation guard copies
	cache *cacheWriter
	next  *batch  // taken ahead; nil if there is none
	late  *stream // reads files after all that the pack cache knew; nil until needed

	rows mapped.Slice[row] // of chunks, by their id less 1
	// loose holds the spots of chunks that have no row yet, since rows are written when the
	// object is complete: those of the file in work, and those of files that were left out.
	loose map[chunk.Digest]spot

	// Of the file in work, in order: what its rows are made of.
	extents []extent
	rowIDs  []flist.Extent
	inPart  pieceSet
	at      []spot
}

// row is the spot of a chunk that has a row.
type row struct{ blob, off, stored uint32 }

// extent is a piece of the file in work: about 150 bytes a chunk together with its spot.
type extent struct {
	off    int64
	size   uint32
	digest chunk.Digest
}

func (p *placer) run(ctx context.Context) error {
	defer close(p.seals)
	p.blobs, ctx = newBlobs(ctx, p.packer)
	p.plain = &filler{blobs: p.blobs}
	p.again = &filler{blobs: p.blobs, flags: blob.FlagCopy}
	err := p.all(ctx)
	if err != nil {
		if e := p.blobs.group.Wait(); e != nil { // the cause, if err is but a cancelled context
			return e
		}
		return err
	}
	p.plain.close()
	p.again.close()
	return p.blobs.finish(p.w)
}

func (p *placer) all(ctx context.Context) error {
	for {
		b, err := p.take(ctx)
		if b == nil || err != nil {
			return err
		}
		for i, l := range b.loads {
			if err := p.lookAhead(ctx, b); err != nil {
				return err
			}
			if err := p.load(ctx, b, l); err != nil {
				return err
			}
			b.loads[i] = load{}
		}
		p.pending.Add(-1)
		p.hunger.wake()
	}
}

// take returns the next batch, its new pieces on their way to the sealers, and nil after the
// last.
func (p *placer) take(ctx context.Context) (*batch, error) {
	b := p.next
	p.next = nil
	if b == nil {
		b = <-p.batches // gather closes it when ctx ends
	}
	if b == nil || b.fresh != nil {
		return b, ctx.Err()
	}
	select {
	case <-b.done:
		return b, p.sealBatch(ctx, b, nil)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// lookAhead has the batch after cur sealed as soon as it is there, so that the sealers do
// not wait while cur is placed.
func (p *placer) lookAhead(ctx context.Context, cur *batch) error {
	if p.next == nil {
		select {
		case p.next = <-p.batches:
		default:
		}
	}
	if p.next == nil || p.next.fresh != nil {
		return nil
	}
	select {
	case <-p.next.done:
		return p.sealBatch(ctx, p.next, cur.fresh)
	default:
		return nil
	}
}

// sealBatch has the pieces of b sealed that are new; before are those of the batch that is
// being placed.
func (p *placer) sealBatch(ctx context.Context, b *batch, before digestSet) error {
	b.fresh = make(digestSet)
	for _, l := range b.loads {
		if l.part == nil {
			continue
		}
		if err := p.seal(ctx, b, l.it.file, l.part, b.fresh, before); err != nil {
			return err
		}
	}
	return nil
}

// seal has those pieces sealed that are new, but for those in fresh and before, and lets go
// of the content that will not be needed. It adds what it has sealed to fresh.
func (p *placer) seal(ctx context.Context, b *batch, f *file, pt *part, fresh, before digestSet) error {
	for i := range pt.pieces {
		pc := &pt.pieces[i]
		l, known := b.found[pc.digest]
		if known && l.Size != pc.size {
			return fmt.Errorf("chunk %v: the store says %d bytes, it has %d: %w", pc.digest, l.Size, pc.size, errs.ErrCorrupt)
		}
		if !known {
			_, known = fresh[pc.digest]
		}
		if !known {
			_, known = before[pc.digest]
		}
		if !known {
			_, known = p.fixed(pc.digest)
		}
		if known {
			if f.ident.size <= guardMin {
				pc.buf.release()
			}
			continue
		}
		fresh[pc.digest] = struct{}{}
		if err := p.sealPiece(ctx, pc); err != nil {
			return err
		}
	}
	return nil
}

func (p *placer) sealPiece(ctx context.Context, pc *piece) error {
	pc.done = make(chan struct{})
	return send(ctx, p.seals, pc)
}

// waitSealed waits until pc is sealed, if it is to be.
func waitSealed(ctx context.Context, pc *piece) error {
	if pc.done == nil {
		return nil
	}
	select {
	case <-pc.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// sealers seals pieces until there are no more. The result takes the place of the plaintext.
func (p *packer) sealers() error {
	s, err := blob.NewSealer()
	if err != nil {
		return err
	}
	var scratch []byte
	for pc := range p.seals {
		pc.sealed = s.Seal(scratch, pc.digest, pc.buf.data)
		if pc.sealed.Codec != blob.CodecStored {
			scratch = pc.sealed.Data
			pc.sealed.Data = pc.buf.data[:copy(pc.buf.data, scratch)]
		}
		close(pc.done)
	}
	return nil
}

// fixed returns where a chunk lies that was placed before.
func (p *placer) fixed(d chunk.Digest) (spot, bool) {
	if id, ok := p.w.FindChunk(d); ok {
		r := p.rows.Items[id-1]
		return spot{blob: p.blobs.all[r.blob], off: r.off, stored: r.stored}, true
	}
	s, ok := p.loose[d]
	return s, ok
}

func (p *placer) load(ctx context.Context, b *batch, l load) error {
	switch {
	case l.it.file == nil:
		return p.node(l.it)
	case l.part != nil:
		return p.part(ctx, b, l.it, l.part)
	}
	done, err := p.known(b, l.it)
	if done || err != nil {
		return err
	}
	return p.readLate(ctx, b, l.it)
}

// known places a file that the pack cache knows. It reports false, and places nothing, when
// the content is needed after all: for a chunk that is nowhere, or to be copied.
func (p *placer) known(b *batch, it *item) (bool, error) {
	pieces := it.file.cached.pieces
	p.at = p.at[:0]
	for i := range pieces {
		s, ok := p.fixed(pieces[i].digest)
		if !ok {
			l, found := b.found[pieces[i].digest]
			if !found || l.Size != pieces[i].size {
				return false, nil
			}
			s = p.blobs.spotOf(l)
		}
		p.at = append(p.at, s)
	}
	good := true
	if it.file.ident.size > guardMin {
		windows(pieces, func(lo, hi int) bool {
			good = !scattered(pieces[lo:hi], p.at[lo:hi])
			return good
		})
	}
	if !good {
		return false, nil
	}
	for i := range pieces {
		if p.keep(&pieces[i], p.at[i]) {
			p.count.known.Add(1)
		}
		p.dedup(&pieces[i])
	}
	p.count.fromCache.Add(1)
	p.o.Progress.Bytes.Add(it.file.ident.size)
	return true, p.file(it, it.file.cached.digest, it.file.ident.size, verdictOK)
}

// keep makes pc, which lies at s, the next piece of the file in work. It reports whether
// this is the first use of the chunk.
func (p *placer) keep(pc *piece, s spot) bool {
	_, met := p.fixed(pc.digest)
	if !met {
		p.loose[pc.digest] = s
	}
	p.extents = append(p.extents, extent{pc.off, pc.size, pc.digest})
	return !met
}

// readLate reads a file that the pack cache knew, part by part, and places the parts.
func (p *placer) readLate(ctx context.Context, b *batch, it *item) (err error) {
	if p.late == nil {
		p.late = p.newStream(p.latePool)
	}
	return p.late.read(ctx, it, func(pt *part) error {
		var ask []chunk.Digest
		for i := range pt.pieces {
			d := pt.pieces[i].digest
			if _, asked := b.want[d]; !asked {
				b.want[d] = struct{}{}
				ask = append(ask, d)
			}
		}
		if len(ask) > 0 { // the file has changed since it was asked for
			found, err := p.lookup(ctx, ask)
			if err != nil {
				return err
			}
			if b.found == nil {
				b.found = make(map[chunk.Digest]blob.Location)
			}
			for d, l := range found {
				b.found[d] = l
			}
		}
		if err := p.seal(ctx, b, it.file, pt, make(digestSet), nil); err != nil {
			return err
		}
		return p.part(ctx, b, it, pt)
	})
}

// part places the pieces of pt, and the file itself after its last part.
func (p *placer) part(ctx context.Context, b *batch, it *item, pt *part) error {
	p.at = p.at[:0]
	clear(p.inPart)
	for i := range pt.pieces {
		s, err := p.spot(ctx, b, pt.pieces, i)
		if err != nil {
			return err
		}
		p.at = append(p.at, s)
	}
	if it.file.ident.size > guardMin && scattered(pt.pieces, p.at) {
		if err := p.copyPart(ctx, pt.pieces); err != nil {
			return err
		}
	}
	for i := range pt.pieces {
		p.keep(&pt.pieces[i], p.at[i])
		pt.pieces[i].buf.release()
	}
	p.o.Progress.Bytes.Add(pt.span)
	if !pt.last {
		return nil
	}
	return p.file(it, pt.digest, pt.size, pt.verdict)
}

// spot decides where piece i of a part lies. New ones are laid out.
func (p *placer) spot(ctx context.Context, b *batch, pieces []piece, i int) (spot, error) {
	pc := &pieces[i]
	s, ok := p.fixed(pc.digest)
	if !ok {
		var first int
		if first, ok = p.inPart[pc.digest]; ok {
			s = p.at[first]
		}
	}
	if ok {
		p.dedup(pc)
		// A file that the pack cache knew may have brought the chunk since pc was sent to be
		// sealed: its buffer is in use until that is done.
		return s, waitSealed(ctx, pc)
	}
	p.inPart[pc.digest] = i
	if l, found := b.found[pc.digest]; found {
		p.count.known.Add(1)
		p.dedup(pc)
		return p.blobs.spotOf(l), nil
	}
	if err := waitSealed(ctx, pc); err != nil {
		return s, err
	}
	p.count.fresh.Add(1)
	return p.plain.add(pc.sealed), nil
}

func (p *placer) dedup(pc *piece) {
	p.count.dedup.Add(int64(pc.size))
	p.o.Progress.DedupBytes.Add(int64(pc.size))
}

// copyPart stores the chunks of a part together that have no row yet.
func (p *placer) copyPart(ctx context.Context, pieces []piece) error {
	for i := range pieces {
		if first, ok := p.inPart[pieces[i].digest]; ok && first == i && pieces[i].done == nil {
			if err := p.sealPiece(ctx, &pieces[i]); err != nil {
				return err
			}
		}
	}
	for i := range pieces {
		first, ok := p.inPart[pieces[i].digest]
		if !ok {
			continue
		}
		if first < i {
			p.at[i] = p.at[first]
			continue
		}
		if err := waitSealed(ctx, &pieces[i]); err != nil {
			return err
		}
		p.count.copied.Add(1)
		p.at[i] = p.again.add(pieces[i].sealed)
	}
	return nil
}

// file writes the rows of the file in work, which is complete.
func (p *placer) file(it *item, digest chunk.Digest, size int64, v verdict) error {
	extents := p.extents
	p.extents = extents[:0]
	if cap(extents) > 1<<16 {
		p.extents = nil
	}
	if v != verdictOK && v != verdictChanged {
		it.inode.lost = v
		return nil
	}
	if v == verdictOK {
		p.cache.put(it, digest, extents)
	}
	p.o.Progress.Files.Add(1)
	if it.node.Size = size; size == 0 {
		return p.node(it)
	}
	id, ok := p.w.FindObject(digest)
	if !ok {
		p.rowIDs = p.rowIDs[:0]
		for i := range extents {
			c, err := p.chunk(&extents[i])
			if err != nil {
				return err
			}
			p.rowIDs = append(p.rowIDs, flist.Extent{Offset: extents[i].off, Chunk: c})
		}
		var err error
		if id, err = p.w.AddObject(flist.Object{Digest: digest, Size: size}, p.rowIDs); err != nil {
			return err
		}
	}
	it.node.Object = id
	return p.node(it)
}

// chunk returns the row of a chunk, and writes it at its first use.
func (p *placer) chunk(e *extent) (flist.ChunkID, error) {
	if id, ok := p.w.FindChunk(e.digest); ok {
		return id, nil
	}
	s := p.loose[e.digest]
	delete(p.loose, e.digest)
	id, err := p.w.AddChunk(flist.Chunk{
		Ref:  blob.Ref{Chunk: e.digest, Offset: s.off, Stored: s.stored, Size: e.size, Codec: blob.Codec(s.codec)},
		Blob: p.blobs.use(p.w, s.blob),
	})
	if err != nil {
		return 0, err
	}
	return id, p.rows.Append(row{s.blob.index, s.off, s.stored})
}

// node writes the rows of an item whose object is known.
func (p *placer) node(it *item) (err error) {
	if it.link && it.inode.id == 0 { // the first link was left out, so this one is as well
		p.notes.add(it.inode.lost, it.path())
		return nil
	}
	if !it.link {
		if it.node.Xattrs, err = p.w.AddXattrs(it.xattrs); err != nil {
			return fmt.Errorf("%s: %w", it.path(), err)
		}
		if it.inode.id, err = p.w.AddNode(it.node); err != nil {
			return fmt.Errorf("%s: %w", it.path(), err)
		}
	}
	if it.dir != nil {
		it.dir.id = it.inode.id
	}
	if it.parent == nil {
		return nil
	}
	if err := p.w.AddEntry(it.parent.id, []byte(it.name), it.inode.id); err != nil {
		return fmt.Errorf("%s: %w", it.path(), err)
	}
	return nil
}
