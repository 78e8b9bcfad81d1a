package cache

import (
	"errors"
	"fmt"
	"math"

	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/errs"
)

// errNumbers says that the segment numbers are used up: after 2^32 segments, or because
// somebody put a file with the last one there.
var errNumbers = errors.New("no segment number left")

// store keeps data as the chunk d if it can. What cannot be kept passes through.
func (c *Cache) store(d chunk.Digest, data []byte) {
	c.turn <- struct{}{}
	defer c.give()
	switch {
	case c.closed, c.readOnly.Load() && !c.promote():
		c.passed.Add(1)
		return
	case c.holds(d):
		return
	}
	if len(data) > chunk.MaxSize || !c.makeRoom(recordSpan(len(data)), maxVisits) {
		c.passed.Add(1)
		return
	}
	if err := c.append(d, data, 0); err != nil {
		c.passed.Add(1)
		c.failed("store a chunk", err)
	}
}

// append writes the record of data to the active segment, beginning a new one if it is full,
// and enters it: in place of old, if that is still its place, or anyhow if old is 0. The
// caller has the turn.
func (c *Cache) append(d chunk.Digest, data []byte, old place) error {
	span := recordSpan(len(data))
	if c.active != nil && len(c.held) > 0 && c.active.end.Load()+span+tableSize(len(c.held)+1) > c.opts.SegmentSize {
		c.seal()
	}
	if c.active == nil {
		if err := c.begin(); err != nil {
			return err
		}
	}
	s := c.active
	off := s.end.Load()
	c.buf = appendRecord(c.buf[:0], d, data)
	if _, err := s.file.WriteAt(c.buf, off); err != nil {
		c.resize(s, off)
		return err
	}
	s.end.Store(off + span)
	c.bytes.Add(off + span - s.size.Swap(off+span))
	e := entry{fp: fingerprint(d), unit: uint32(off / align)}
	c.held = append(c.held, e)
	if at := makePlace(s.slot, e.unit); old == 0 {
		c.index.put(e.fp, at)
	} else {
		c.index.replace(e.fp, old, at)
	}
	return nil
}

// begin makes a new active segment.
func (c *Cache) begin() error {
	if c.next == math.MaxUint32 {
		return errNumbers
	}
	s, err := createSegment(c.dir, c.next)
	if err != nil {
		return err
	}
	c.next++
	c.attach(s)
	c.active, c.held = s, c.held[:0]
	return nil
}

// seal ends the active segment.
func (c *Cache) seal() {
	s := c.active
	c.writeTable(s, c.held)
	c.order = append(c.order, s)
	c.active, c.held = nil, c.held[:0]
}

// writeTable closes s with the table of its entries. Without one the segment is as good, but
// for the time it takes to open it.
func (c *Cache) writeTable(s *segment, entries []entry) {
	end := s.end.Load()
	table := appendTable(nil, s.number, end, entries)
	if _, err := s.file.WriteAt(table, end); err != nil {
		c.resize(s, end)
		c.failed("write a table", err)
		return
	}
	size := end + int64(len(table))
	c.bytes.Add(size - s.size.Swap(size))
	s.sealed = true
}

// resize cuts the file of s down to size bytes.
func (c *Cache) resize(s *segment, size int64) {
	err := s.file.Truncate(size)
	if st, e := s.file.Stat(); e == nil {
		c.bytes.Add(st.Size() - s.size.Swap(st.Size()))
	}
	if err != nil {
		c.failed("cut a segment", err)
	}
}

// failed counts a write error and logs the 1st, 2nd, 4th, 8th and so on.
func (c *Cache) failed(doing string, err error) {
	n := c.writeErrors.Add(1)
	if n&(n-1) == 0 {
		c.opts.Log.Warn("cache: cannot "+doing+"; chunks pass through", "err", err, "errors", n)
	}
}

// damage drops a record that is not what it should be.
func (c *Cache) damage(r record, err error) {
	if !c.index.remove(r.fp, r.at) || c.evictedByOther(r.seg) {
		return
	}
	c.damaged.Add(1)
	c.opts.Log.Warn("cache: dropped a damaged chunk", "segment", segmentName(r.seg.number), "offset", r.at.off(), "err", err)
}

// evictedByOther reports whether c is a reader and the writer deleted s.
func (c *Cache) evictedByOther(s *segment) bool {
	if !c.readOnly.Load() {
		return false
	}
	_, linked := s.stat()
	return !linked
}

// mismatchError says that a record's plaintext is not what its digest names.
type mismatchError struct{ want, got chunk.Digest }

func (e *mismatchError) Error() string {
	return fmt.Sprintf("chunk %v: plaintext has digest %v", e.want, e.got)
}

func (e *mismatchError) Unwrap() error { return errs.ErrCorrupt }
