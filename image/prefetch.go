package image

import (
	"context"
	"errors"
	"iter"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/flist"
)

// Progress tells how far a long operation is. Bytes are sealed bytes.
type Progress struct {
	Chunks      int64 `json:"chunks"`
	TotalChunks int64 `json:"total_chunks"`
	Bytes       int64 `json:"bytes"`
	TotalBytes  int64 `json:"total_bytes"`
}

// meter adds up progress and passes it on, one call at a time.
type meter struct {
	mu   sync.Mutex
	p    Progress
	tell func(Progress)
}

func (m *meter) add(pieces []piece) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.p.Chunks += int64(len(pieces))
	m.p.Bytes += sealedSize(pieces)
	if m.tell != nil {
		m.tell(m.p)
	}
}

const (
	// bulkRange is the size of the requests of Prefetch and VerifyContent, in bytes, where
	// the link is fast; leastBulk is what it comes down to where it is slow.
	bulkRange = 1 << 20
	leastBulk = 128 << 10
	// bulkTime is how long one request of Prefetch keeps a link busy: an on-demand read that
	// comes meanwhile shares the link with at most maxPrefetch of them.
	bulkTime = 125 * time.Millisecond
	// maxBulkErrors bounds how many errors Prefetch collects before it stops.
	maxBulkErrors = 16
)

// Prefetch brings the whole content of the nodes into the cache, as far as it is not there,
// in the order in which it lies in its blobs. On-demand reads come first: while one is under
// way, Prefetch begins nothing. Nodes without content are passed over. progress may be nil;
// it is called from one goroutine at a time and must not block. What cannot be had does not
// keep the rest from coming: the errors are joined, each a [*ReadError], until the source
// is unavailable for a whole deadline or too many have failed.
func (im *Image) Prefetch(ctx context.Context, ids iter.Seq[flist.NodeID], progress func(Progress)) error {
	want := newBitmap(im.r.Counts().Chunks)
	m := &meter{tell: progress}
	for id := range ids {
		im.addChunks(want, id, &m.p)
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var mu sync.Mutex
	var failed []error
	var g errgroup.Group
	g.SetLimit(maxPrefetch)
	size := int64(bulkRange)
	if _, rate := im.link(); rate > 0 {
		size = max(int64(min(rate*bulkTime.Seconds(), bulkRange)), leastBulk)
	}
	for part := range im.inOrder(want.has, size) {
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error {
			// fetch uses part up, so the meter sees a copy of what it needs.
			all := part[:len(part):len(part)]
			missing := im.notHeld(all)
			var err error
			if len(missing) > 0 {
				err = im.fetch(ctx, origin{}, prefetch, missing, nil)
			}
			if err == nil {
				m.add(all)
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			if failed = append(failed, err); len(failed) >= maxBulkErrors || errors.Is(err, errs.ErrUnavailable) {
				stop(err)
			}
			return nil
		})
	}
	_ = g.Wait() // no function of the group fails
	if err := context.Cause(ctx); err != nil && len(failed) == 0 {
		return err
	}
	return errors.Join(failed...)
}

// addChunks adds the chunks of a node to want and to the totals of p.
func (im *Image) addChunks(want bitmap, id flist.NodeID, p *Progress) {
	obj := im.Tree().Attr(id).Object
	if obj == 0 {
		return
	}
	for e := range im.r.Extents(obj) {
		if want.has(e.Chunk) {
			continue
		}
		want.set(e.Chunk)
		p.TotalChunks++
		p.TotalBytes += int64(im.r.Chunk(e.Chunk).Stored)
	}
}

func (im *Image) notHeld(pieces []piece) []piece {
	missing := make([]piece, 0, len(pieces))
	for _, p := range pieces {
		if !im.cache.Has(p.chunk.Chunk) {
			missing = append(missing, p)
		}
	}
	return missing
}

// inOrder yields the chunks that want has, as they lie in their blobs, in parts of one blob
// and at most size sealed bytes, gaps included, but always a chunk.
func (im *Image) inOrder(want func(flist.ChunkID) bool, size int64) iter.Seq[[]piece] {
	return func(yield func([]piece) bool) {
		var part []piece
		for _, id := range im.order().ids {
			if !want(id) {
				continue
			}
			c := im.r.Chunk(id)
			if n := len(part); n > 0 && (part[0].chunk.Blob != c.Blob ||
				int64(c.Offset)+int64(c.Stored)-int64(part[0].chunk.Offset) > size) {
				if !yield(part) {
					return
				}
				part = nil
			}
			part = append(part, piece{id: id, chunk: c})
		}
		if len(part) > 0 {
			yield(part)
		}
	}
}
