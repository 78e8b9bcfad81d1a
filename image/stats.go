package image

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/zosfs/zosfs/chunk"
)

// Stats counts what an Image has done since it was made. Sizes are bytes.
type Stats struct {
	Reads     int64 `json:"reads"`      // calls of ReadAt
	BytesRead int64 `json:"bytes_read"` // delivered to readers, holes included

	ChunksCached  int64 `json:"chunks_cached"`  // needed by a read and in the cache
	ChunksMissing int64 `json:"chunks_missing"` // needed by a read and not in the cache
	ChunksFetched int64 `json:"chunks_fetched"` // downloaded and verified, for whatever reason

	Requests     int64 `json:"requests"`      // ranges asked for
	BytesFetched int64 `json:"bytes_fetched"` // of the ranges that came
	BytesWasted  int64 `json:"bytes_wasted"`  // thereof between the chunks that were wanted

	AheadChunks int64 `json:"ahead_chunks"` // downloaded because they follow what was read
	AheadUsed   int64 `json:"ahead_used"`   // thereof read from the cache later; approximate

	Errors     int64       `json:"errors"`      // reads that failed
	LastErrors []ErrorInfo `json:"last_errors"` // the last 16, oldest first; of a chunk one a second
}

// ErrorInfo is a read that failed.
type ErrorInfo struct {
	Time  time.Time    `json:"time"`
	Path  string       `json:"path"`
	Chunk chunk.Digest `json:"chunk"`
	Text  string       `json:"text"`
}

const keptErrors = 16

type counters struct {
	reads, bytesRead               atomic.Int64
	cached, missing, fetched       atomic.Int64
	requests, bytes, wasted        atomic.Int64
	aheadFetched, aheadUsed, fails atomic.Int64

	ahead bitmap // chunks that read-ahead fetched and nobody read yet

	mu   sync.Mutex
	last []ErrorInfo // ring, full when it has keptErrors
	next int
}

// Stats returns the counters. They are read one after another, so sums may be off by what
// happens meanwhile.
func (im *Image) Stats() Stats {
	c := &im.stats
	s := Stats{
		Reads: c.reads.Load(), BytesRead: c.bytesRead.Load(),
		ChunksCached: c.cached.Load(), ChunksMissing: c.missing.Load(), ChunksFetched: c.fetched.Load(),
		Requests: c.requests.Load(), BytesFetched: c.bytes.Load(), BytesWasted: c.wasted.Load(),
		AheadChunks: c.aheadFetched.Load(), AheadUsed: c.aheadUsed.Load(),
		Errors: c.fails.Load(),
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.LastErrors = append(append(make([]ErrorInfo, 0, len(c.last)), c.last[c.next:]...), c.last[:c.next]...)
	return s
}

// note keeps e among the last errors.
func (c *counters) note(e *ReadError) {
	v := ErrorInfo{Time: time.Now(), Path: e.Path, Chunk: e.Chunk, Text: e.Err.Error()}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.last) < keptErrors {
		c.last = append(c.last, v)
		return
	}
	c.last[c.next] = v
	c.next = (c.next + 1) % keptErrors
}
