package cache

import (
	"sync"

	"github.com/zosfs/zosfs/chunk"
)

// Read fills p with the bytes [off, off+len(p)) of the chunk d's plaintext. It reports false,
// and p is undefined, if the chunk is not held, was found damaged and dropped, or has no
// such range.
func (c *Cache) Read(d chunk.Digest, p []byte, off int) bool {
	ok := c.read(d, p, off)
	if ok {
		c.hits.Add(1)
	} else {
		c.misses.Add(1)
	}
	return ok
}

func (c *Cache) read(d chunk.Digest, p []byte, off int) bool {
	if off < 0 {
		return false
	}
	if data, ok := c.inMemory(d); ok {
		if off > len(data) || len(p) > len(data)-off {
			return false
		}
		copy(p, data[off:])
		return true
	}
	r, ok := c.find(d)
	if !ok {
		return false
	}
	defer c.release(r.seg)
	return off <= r.size && len(p) <= r.size-off && c.readRecord(r, p, off)
}

// Has reports whether Read is likely to succeed. It looks at no plaintext, so a record may
// still turn out to be damaged.
func (c *Cache) Has(d chunk.Digest) bool {
	if _, ok := c.inMemory(d); ok {
		return true
	}
	r, ok := c.find(d)
	if ok {
		c.release(r.seg)
	}
	return ok
}

// whole returns the plaintext of d, which nobody may change.
func (c *Cache) whole(d chunk.Digest) ([]byte, bool) {
	if data, ok := c.inMemory(d); ok {
		return data, true
	}
	r, ok := c.find(d)
	if !ok {
		return nil, false
	}
	defer c.release(r.seg)
	data := make([]byte, r.size)
	return data, c.readRecord(r, data, 0)
}

// inMemory looks among the recent chunks, and those that came and are being stored. To be
// found here does not count as use when it comes to eviction: a large chunk is read in many
// pieces right after it came, and that says nothing about its future.
func (c *Cache) inMemory(d chunk.Digest) ([]byte, bool) {
	if data, ok := c.recent.get(d); ok {
		return data, true
	}
	return c.flights.landed(d)
}

// record is a record on disk, with a reference to its segment.
type record struct {
	recordHeader
	seg *segment
	fp  uint64
	at  place
}

// find returns the record of d; the caller releases its segment. A reader looks again at
// what the writer has if need be.
func (c *Cache) find(d chunk.Digest) (record, bool) {
	r, ok := c.lookup(d)
	if !ok && c.readOnly.Load() && c.refresh(false) {
		r, ok = c.lookup(d)
	}
	return r, ok
}

// holds reports whether d has a record, without a look at what the writer has.
func (c *Cache) holds(d chunk.Digest) bool {
	r, ok := c.lookup(d)
	if ok {
		c.release(r.seg)
	}
	return ok
}

func (c *Cache) lookup(d chunk.Digest) (record, bool) {
	r, ok := c.acquire(fingerprint(d))
	if !ok {
		return record{}, false
	}
	// Else another chunk has these 8 bytes of digest, or the record is damaged.
	if c.readHeader(&r) && r.digest == d {
		return r, true
	}
	c.release(r.seg)
	return record{}, false
}

// acquire returns the place of fp with a reference to its segment.
func (c *Cache) acquire(fp uint64) (record, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	at := c.index.get(fp)
	if at == 0 {
		return record{}, false
	}
	s := c.segs[at.slot()]
	if s == nil || s.gone {
		return record{}, false
	}
	s.refs.Add(1)
	return record{seg: s, fp: fp, at: at}, true
}

// readHeader fills in the header of r. A damaged record is dropped.
func (c *Cache) readHeader(r *record) bool {
	h, err := readRecordHeader(r.seg.file, r.at.off())
	if err == nil && fingerprint(h.digest) != r.fp {
		err = errTorn
	}
	if err != nil {
		c.damage(*r, err)
		return false
	}
	r.recordHeader = h
	return true
}

// readRecord reads [off, off+len(p)) of the plaintext and marks the record as read. The
// first time after the start it reads and verifies all of it.
func (c *Cache) readRecord(r record, p []byte, off int) bool {
	switch {
	case r.at&verified != 0:
		if err := readFull(r.seg.file, p, r.at.off()+recordHeaderSize+int64(off)); err != nil {
			c.damage(r, err)
			return false
		}
	case len(p) == r.size:
		if !c.verify(r, p) {
			return false
		}
	default:
		b := buffers.Get().(*[]byte)
		defer buffers.Put(b)
		if !c.verify(r, grow(b, r.size)) {
			return false
		}
		copy(p, (*b)[off:])
	}
	if r.at&recent == 0 {
		c.index.mark(r.fp, r.at, recent, 0)
	}
	return true
}

// buffers are for records that are read whole when a part is wanted, or none.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// grow makes *b n bytes long.
func grow(b *[]byte, n int) []byte {
	if cap(*b) < n {
		*b = make([]byte, n)
	}
	*b = (*b)[:n]
	return *b
}

// verify fills p, which has the size of the plaintext, and checks it against the digest. A
// damaged record is dropped.
func (c *Cache) verify(r record, p []byte) bool {
	err := readFull(r.seg.file, p, r.at.off()+recordHeaderSize)
	if err == nil {
		if got := chunk.Sum(p); got != r.digest {
			err = &mismatchError{r.digest, got}
		}
	}
	if err != nil {
		c.damage(r, err)
		return false
	}
	c.index.mark(r.fp, r.at, verified, 0)
	return true
}
