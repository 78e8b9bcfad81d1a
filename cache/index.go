package cache

import (
	"math/bits"
	"math/rand/v2"
	"sync"
)

// place is where a record lies, with what is known about it:
//
//	bits 0-31 offset in units of 16 | 32-47 number of the slot of its segment in Cache.segs
//	bit 61 set in every place | 62 verified | 63 read since the hand came by
type place uint64

const (
	used     place = 1 << 61
	verified place = 1 << 62
	recent   place = 1 << 63
	marks          = verified | recent
)

func makePlace(slot uint16, unit uint32) place { return used | place(slot)<<32 | place(unit) }

func (p place) slot() uint16 { return uint16(p >> 32) }
func (p place) off() int64   { return int64(uint32(p)) * align }

// same reports whether p and q are one record, whatever their marks.
func (p place) same(q place) bool { return p&^marks == q&^marks }

const (
	shards = 256
	// A shard grows by 1/4 at 7/8: between 18.3 and 22.9 bytes a chunk, at most about 32
	// slots of 16 bytes looked at for a chunk that is not there.
	loadNum, loadDen = 7, 8
)

// index maps fingerprints to places. It is safe for concurrent use.
type index struct {
	seed   uint64 // so that nobody can aim chunks at one slot
	shards [shards]shard
}

type shard struct {
	mu    sync.RWMutex
	n     int
	slots []slot // linear probing, no tombstones: a removal moves the followers up
}

type slot struct {
	fp uint64
	at place // 0: free
}

func newIndex() *index { return &index{seed: rand.Uint64()} }

// mix spreads fp over 64 bits (the murmur3 finaliser).
func (x *index) mix(fp uint64) uint64 {
	h := fp ^ x.seed
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

func (x *index) shard(h uint64) *shard { return &x.shards[h%shards] }

// home is the slot of h in a table of n: the upper bits of h as a fraction, times n.
func home(h uint64, n int) int {
	hi, _ := bits.Mul64(h, uint64(n))
	return int(hi)
}

// seek returns the slot of fp, or the free one where it would go.
func (x *index) seek(s *shard, fp uint64) (i int, found bool) {
	for i = home(x.mix(fp), len(s.slots)); s.slots[i].at != 0; {
		if s.slots[i].fp == fp {
			return i, true
		}
		if i++; i == len(s.slots) {
			i = 0
		}
	}
	return i, false
}

// get returns the place of fp, 0 if there is none.
func (x *index) get(fp uint64) place {
	s := x.shard(x.mix(fp))
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.n == 0 {
		return 0
	}
	i, _ := x.seek(s, fp)
	return s.slots[i].at
}

// put sets the place of fp.
func (x *index) put(fp uint64, at place) {
	s := x.shard(x.mix(fp))
	s.mu.Lock()
	defer s.mu.Unlock()
	if (s.n+1)*loadDen > len(s.slots)*loadNum {
		x.resize(s, len(s.slots)+len(s.slots)/4+8)
	}
	i, found := x.seek(s, fp)
	if !found {
		s.n++
	}
	s.slots[i] = slot{fp, at}
}

// replace sets the place of fp to at if it was old. It reports whether it was.
func (x *index) replace(fp uint64, old, at place) bool {
	return x.edit(fp, old, func(s *shard, i int) { s.slots[i].at = at })
}

// mark sets and clears marks of fp if it is still at that place.
func (x *index) mark(fp uint64, at, set, unset place) {
	x.edit(fp, at, func(s *shard, i int) { s.slots[i].at = s.slots[i].at&^unset | set })
}

// remove forgets fp if it is still at that place. It reports whether it was.
func (x *index) remove(fp uint64, at place) bool {
	return x.edit(fp, at, x.free)
}

func (x *index) edit(fp uint64, at place, fn func(*shard, int)) bool {
	s := x.shard(x.mix(fp))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.n == 0 {
		return false
	}
	i, found := x.seek(s, fp)
	if !found || !s.slots[i].at.same(at) {
		return false
	}
	fn(s, i)
	return true
}

// free empties slot i and moves up those behind it that would no longer be found.
func (x *index) free(s *shard, i int) {
	n := len(s.slots)
	s.n--
	for j := i; ; {
		s.slots[i] = slot{}
		for {
			if j++; j == n {
				j = 0
			}
			if s.slots[j].at == 0 {
				return
			}
			h := home(x.mix(s.slots[j].fp), n)
			// The one at j may move to i unless its home lies in (i, j], cyclically.
			if (j-h+n)%n >= (j-i+n)%n {
				break
			}
		}
		s.slots[i] = s.slots[j]
		i = j
	}
}

// removeSegments forgets all that lies in the segments for which gone is true.
func (x *index) removeSegments(gone func(slot uint16) bool) {
	for i := range x.shards {
		s := &x.shards[i]
		s.mu.Lock()
		for j := range s.slots {
			if s.slots[j].at != 0 && gone(s.slots[j].at.slot()) {
				s.slots[j].at = 0
				s.n--
			}
		}
		x.resize(s, len(s.slots)) // closes the gaps
		s.mu.Unlock()
	}
}

// inSegment returns the entries of a segment, in no order.
func (x *index) inSegment(slot uint16) []entry {
	var found []entry
	for i := range x.shards {
		s := &x.shards[i]
		s.mu.RLock()
		for _, e := range s.slots {
			if e.at != 0 && e.at.slot() == slot {
				found = append(found, entry{e.fp, uint32(e.at)})
			}
		}
		s.mu.RUnlock()
	}
	return found
}

func (x *index) resize(s *shard, n int) {
	old := s.slots
	s.slots = make([]slot, n)
	for _, e := range old {
		if e.at != 0 {
			i, _ := x.seek(s, e.fp)
			s.slots[i] = e
		}
	}
}

// len returns the number of chunks, and size the bytes that the slots take.
func (x *index) len() (n int, size int64) {
	for i := range x.shards {
		s := &x.shards[i]
		s.mu.RLock()
		n += s.n
		size += int64(cap(s.slots)) * 16
		s.mu.RUnlock()
	}
	return n, size
}
