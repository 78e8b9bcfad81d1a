package image

import (
	"cmp"
	"slices"
	"sync"
)

// runs finds out which readers go from file to file in the order of the blobs, as tar, cp and
// grep do: chunks of small files that follow each other are asked for one by one, a request
// each, unless those that come next are taken along. It keeps the last few runs.
type runs struct {
	mu   sync.Mutex
	at   [8]run
	tick uint64
}

// run is a stretch of the order of chunks that a reader went through.
type run struct {
	slot  int
	next  int    // position after what was asked for and taken along
	taken int    // of the positions before next, those taken along last
	read  int64  // sealed bytes of the run so far
	used  uint64 // tick of the last step; 0: none
}

const (
	// caution is what part of a run it takes along at once, at most: if the reader turns
	// away then, no more than this part of what it read was fetched for nothing.
	caution = 12
	// maxUnread is what part of what was taken along may be left unread in a run that goes on.
	maxUnread = 16
	// maxSkip is how many chunks a reader may pass by in a run because it has them.
	maxSkip = 64
	// runAhead bounds what a run takes along on a link with a delay, in times of what the link
	// carries: the reader waits for all of it.
	runAhead = 4
)

// ending returns copies of the runs that end at the position lo or a little before it, the
// nearest first.
func (s *runs) ending(lo int) []run {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []run
	for i, r := range s.at {
		if r.used > 0 && r.next <= lo && lo-r.next <= maxSkip {
			r.slot = i
			found = append(found, r)
		}
	}
	slices.SortFunc(found, func(a, b run) int { return cmp.Compare(b.next, a.next) })
	return found
}

// step makes r go on to the position hi, with n sealed bytes more. It returns the run as it
// is now, unless another reader had it go on meanwhile.
func (s *runs) step(r run, hi int, n int64) (run, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at[r.slot].used != r.used {
		return run{}, false
	}
	return s.put(run{slot: r.slot, next: hi, read: r.read + n}), true
}

// begin makes a new run in place of the one that was not used for longest.
func (s *runs) begin(hi int, n int64) run {
	s.mu.Lock()
	defer s.mu.Unlock()
	slot := 0
	for i := range s.at {
		if s.at[i].used < s.at[slot].used {
			slot = i
		}
	}
	return s.put(run{slot: slot, next: hi, read: n})
}

func (s *runs) put(r run) run {
	s.tick++
	r.used = s.tick
	s.at[r.slot] = r
	return r
}

// took notes what was taken along in r: up to the position next, n sealed bytes of it.
func (s *runs) took(r run, next int, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := &s.at[r.slot]; now.used == r.used {
		now.next, now.taken = next, next-r.next
		now.read += n
	}
}

// advance notes that the chunks at the positions [lo, hi) were missing, n sealed bytes of
// them, and returns the run that they continue or begin.
func (im *Image) advance(lo, hi int, n int64) run {
	for _, r := range im.runs.ending(lo) {
		if !im.passed(r.next, lo) {
			continue
		}
		if im.unread(r.next-r.taken, r.next)*maxUnread > r.taken {
			r.read = 0 // it does not read what was taken along
		}
		if r, ok := im.runs.step(r, hi, n); ok {
			return r
		}
	}
	return im.runs.begin(hi, n)
}

// passed reports whether the chunks at the positions [from, to) are all held: whoever has
// read up to from and asks for to had them already.
func (im *Image) passed(from, to int) bool {
	for _, id := range im.order().ids[from:to] {
		if im.stats.ahead.has(id) || !im.cache.Has(im.r.Chunk(id).Chunk) {
			return false
		}
	}
	return true
}

// unread counts the chunks at the positions [from, to) that were taken along and that nobody
// has read since.
func (im *Image) unread(from, to int) (n int) {
	for _, id := range im.order().ids[from:to] {
		if im.stats.ahead.has(id) {
			n++
		}
	}
	return n
}
