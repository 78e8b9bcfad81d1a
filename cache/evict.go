package cache

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// maxVisits is how many segments that are worth keeping the hand passes before it rests. A
// visit reads a table, a millisecond or so.
const maxVisits = 4

// live is a record that the index points to.
type live struct {
	record
	span   int64
	pinned bool
}

// hot reports whether the record was read since the hand came by.
func (l live) hot() bool { return l.at&recent != 0 }

// survey returns the records of s that the index points to, in order. The caller has the
// turn, or a reference to s.
func (c *Cache) survey(s *segment, pins []*pin) []live {
	end := s.end.Load()
	entries, _, ok := readTable(s.file, s.size.Load(), s.number)
	if !ok { // still active, or without its table
		entries = c.index.inSegment(s.slot)
		slices.SortFunc(entries, func(a, b entry) int { return cmp.Compare(a.unit, b.unit) })
	}
	var all []live
	for i, e := range entries {
		next := end
		if i+1 < len(entries) {
			next = entries[i+1].off()
		}
		at := c.index.get(e.fp)
		if at == 0 || !at.same(makePlace(s.slot, e.unit)) {
			continue
		}
		l := live{record: record{seg: s, fp: e.fp, at: at}, span: next - e.off()}
		if len(pins) > 0 {
			if !c.readHeader(&l.record) {
				continue
			}
			l.pinned = slices.ContainsFunc(pins, func(p *pin) bool { return p.contains(l.digest) })
		}
		all = append(all, l)
	}
	return all
}

// over reports whether a further record of span bytes would exceed a limit.
func (c *Cache) over(span int64) bool {
	files := c.bytes.Load() + span + tableSize(len(c.held)+1)
	if c.active == nil {
		files += segmentHeaderSize
	}
	return files > c.opts.Limit || len(c.order) >= maxSegments
}

// makeRoom evicts until a record of span bytes fits, and gives up after so many segments in
// a row that are worth keeping. The caller has the turn.
func (c *Cache) makeRoom(span int64, visits int) bool {
	if !c.over(span) {
		return true
	}
	if c.rest > 0 {
		c.rest -= span
		return false
	}
	if span > c.opts.Limit/2 {
		return false
	}
	pins := c.pinList()
	for passed := 0; c.over(span); {
		if !c.aimHand() {
			return false
		}
		s := c.order[0]
		all := c.survey(s, pins)
		if worthKeeping(s, all) {
			c.pass(all)
			if passed++; passed >= min(visits, len(c.order)) {
				c.rest = c.opts.SegmentSize / maxVisits
				return false
			}
			continue
		}
		if err := c.evict(all, live.hot); err != nil {
			c.failed("evict", err)
			c.rest = c.opts.SegmentSize / maxVisits
			return false
		}
		passed = 0
	}
	return true
}

// aimHand sees to it that there is a segment under the hand.
func (c *Cache) aimHand() bool {
	if len(c.order) == 0 && c.active != nil {
		c.seal()
	}
	return len(c.order) > 0
}

// worthKeeping reports whether more than 3/4 of s is hot or pinned: then copying that would
// write three bytes and more for one that is gained.
func worthKeeping(s *segment, all []live) bool {
	var keep int64
	for _, l := range all {
		if l.hot() || l.pinned {
			keep += l.span
		}
	}
	return keep > s.size.Load()/4*3
}

// pass clears the marks of the segment under the hand and moves the hand on.
func (c *Cache) pass(all []live) {
	for _, l := range all {
		c.index.mark(l.fp, l.at, 0, recent)
	}
	c.order = append(c.order[1:], c.order[0])
}

// evict deletes the segment under the hand, whose live records are all, after what is pinned
// and, if the disk has room, what keep chooses was appended to the active one. After an
// error the segment is still there, behind the others, with what could not be moved.
func (c *Cache) evict(all []live, keep func(live) bool) error {
	s := c.order[0]
	c.order = append(c.order[1:], s)
	var failed error
	for _, l := range all {
		if l.pinned || failed == nil && keep(l) {
			err := c.move(l)
			if err == nil {
				continue
			}
			if failed = err; l.pinned {
				return err
			}
		}
		if c.index.remove(l.fp, l.at) {
			c.evictedChunks.Add(1)
			c.evictedBytes.Add(l.span)
		}
	}
	err := os.Remove(filepath.Join(c.dir, segmentName(s.number)))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	c.order = slices.DeleteFunc(c.order, func(o *segment) bool { return o == s })
	s.evicted = true
	c.detach(s)
	return nil
}

// move appends l to the active segment, unless it is damaged.
func (c *Cache) move(l live) error {
	b := buffers.Get().(*[]byte)
	defer buffers.Put(b)
	if !c.readHeader(&l.record) || !c.verify(l.record, grow(b, l.size)) {
		return nil
	}
	return c.append(l.digest, *b, l.at)
}

// Prune evicts the oldest chunks that are not pinned until the files take at most target
// bytes, or only pinned chunks are left, and returns by how many bytes that made them
// smaller. Of the last segment to go stays what fits, what was read of late first. Reads and
// downloads go on meanwhile. A reader's is ErrReadOnly.
func (c *Cache) Prune(ctx context.Context, target int64) (freed int64, err error) {
	if err := c.takeToWrite(ctx); err != nil {
		return 0, err
	}
	defer c.give()
	c.rest = 0
	before := c.bytes.Load()
	if before > target && c.active != nil {
		c.seal()
	}
	pins := c.pinList()
	for range len(c.order) {
		if c.bytes.Load() <= target {
			break
		}
		if err = ctx.Err(); err != nil {
			break
		}
		all := c.survey(c.order[0], pins)
		loose := slices.ContainsFunc(all, func(l live) bool { return !l.pinned })
		if !loose && worthKeeping(c.order[0], all) {
			c.pass(all)
			continue
		}
		if err = c.evict(all, fitting(all, target-(c.bytes.Load()-c.order[0].size.Load()))); err != nil {
			break
		}
	}
	return max(before-c.bytes.Load(), 0), err
}

// fitting chooses from the records of a segment that goes what can stay in room bytes of a new
// one: what is pinned in any case, then what is hot, then the latest.
func fitting(all []live, room int64) func(live) bool {
	room -= segmentHeaderSize + tableSize(0)
	for _, l := range all {
		if l.pinned {
			room -= l.span + entrySize
		}
	}
	stays := make(map[place]bool)
	for _, hot := range []bool{true, false} {
		for _, l := range slices.Backward(all) {
			if cost := l.span + entrySize; !l.pinned && l.hot() == hot && cost <= room {
				room -= cost
				stays[l.at] = true
			}
		}
	}
	return func(l live) bool { return stays[l.at] }
}

// takeToWrite takes the turn of a writer that is open.
func (c *Cache) takeToWrite(ctx context.Context) error {
	if err := c.take(ctx); err != nil {
		return err
	}
	err := error(nil)
	switch {
	case c.closed:
		err = os.ErrClosed
	case c.readOnly.Load() && !c.promote():
		err = ErrReadOnly
	}
	if err != nil {
		c.give()
	}
	return err
}
