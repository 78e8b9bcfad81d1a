package cache

import (
	"cmp"
	"context"
	"fmt"
	"slices"
)

// Stats tells how a cache is and what happened since it was opened. Fields are only added.
type Stats struct {
	Bytes         int64 `json:"bytes"`          // of all files, pins included
	Limit         int64 `json:"limit"`          // of Bytes
	Segments      int64 `json:"segments"`       // files
	Chunks        int64 `json:"chunks"`         // held on disk
	IndexBytes    int64 `json:"index_bytes"`    // of memory
	MemoryBytes   int64 `json:"memory_bytes"`   // of recent plaintext in memory
	Hits          int64 `json:"hits"`           // calls of Read
	Misses        int64 `json:"misses"`         // calls of Read
	EvictedChunks int64 `json:"evicted_chunks"` //
	EvictedBytes  int64 `json:"evicted_bytes"`  // of their records
	PassedChunks  int64 `json:"passed_chunks"`  // delivered, but not stored: full, an error, or a reader
	Damaged       int64 `json:"damaged"`        // chunks found damaged and dropped
	WriteErrors   int64 `json:"write_errors"`   //
	Pins          int64 `json:"pins"`           //
	PinnedChunks  int64 `json:"pinned_chunks"`  // sum over the pins, held or not
	ReadOnly      bool  `json:"read_only"`      // another process is the writer
}

// Stats returns figures that are each exact, if not all of the same moment. A reader looks
// into the directory for them.
func (c *Cache) Stats() Stats {
	if c.readOnly.Load() {
		c.refresh(true)
	}
	chunks, size := c.index.len()
	s := Stats{
		Bytes:         c.bytes.Load(),
		Limit:         c.opts.Limit,
		Segments:      c.segments.Load(),
		Chunks:        int64(chunks),
		IndexBytes:    size,
		MemoryBytes:   c.recent.size(),
		Hits:          c.hits.Load(),
		Misses:        c.misses.Load(),
		EvictedChunks: c.evictedChunks.Load(),
		EvictedBytes:  c.evictedBytes.Load(),
		PassedChunks:  c.passed.Load(),
		Damaged:       c.damaged.Load(),
		WriteErrors:   c.writeErrors.Load(),
		ReadOnly:      c.readOnly.Load(),
	}
	for _, p := range c.pinList() {
		s.Pins++
		s.PinnedChunks += int64(p.n)
	}
	return s
}

// VerifyResult is what [Cache.Verify] found.
type VerifyResult struct {
	Chunks  int64 `json:"chunks"`  // verified and good
	Bytes   int64 `json:"bytes"`   // of their plaintext
	Damaged int64 `json:"damaged"` // dropped
}

// Verify reads all chunks on disk and checks them against their digests. Damaged ones are
// dropped, to be fetched again at the next use. Reads and downloads go on meanwhile; what
// they add or evict may be left out. The error is ctx's.
func (c *Cache) Verify(ctx context.Context) (VerifyResult, error) {
	var res VerifyResult
	segments := c.acquireAll()
	for i, s := range segments {
		err := c.verifySegment(ctx, s, &res)
		c.release(s)
		if err != nil {
			for _, s := range segments[i+1:] {
				c.release(s)
			}
			return res, fmt.Errorf("verify cache: %w", err)
		}
	}
	return res, nil
}

func (c *Cache) verifySegment(ctx context.Context, s *segment, res *VerifyResult) error {
	b := buffers.Get().(*[]byte)
	defer buffers.Put(b)
	for _, l := range c.survey(s, nil) {
		if err := ctx.Err(); err != nil {
			return err
		}
		switch {
		case c.readHeader(&l.record) && c.verify(l.record, grow(b, l.size)):
			res.Chunks++
			res.Bytes += int64(l.size)
		case c.evictedByOther(s):
			return nil
		default:
			res.Damaged++
		}
	}
	return nil
}

// acquireAll returns all segments, the oldest first, with a reference to each.
func (c *Cache) acquireAll() []*segment {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var all []*segment
	for _, s := range c.segs {
		if s != nil && !s.gone {
			s.refs.Add(1)
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b *segment) int { return cmp.Compare(a.number, b.number) })
	return all
}
