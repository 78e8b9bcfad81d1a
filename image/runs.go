package image

import "sync"

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
	next  int    // position after what was asked for and taken along
	taken int    // of the positions before next, those taken along last
	read  int64  // sealed bytes that were read in it
	used  uint64 // tick of the last step
}

const (
	// caution is what part of a run it takes along at once, at most: if the reader turns
	// away then, no more than this part of what it read was fetched for nothing.
	caution = 8
	// maxSkip is how many chunks a reader may pass by in a run because it has them.
	maxSkip = 256
	// runAhead bounds what a run takes along on a link with a delay, in times of what the link
	// carries: the reader waits for all of it.
	runAhead = 4
)

// advance notes that the chunks at the positions [lo, hi) were missing, n sealed bytes of
// them. It returns the run that they continue or begin and how many bytes may be taken along.
// passed tells how many of the positions [from, to) nobody read yet.
func (s *runs) advance(lo, hi int, n int64, unread func(from, to int) int) (slot int, window int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tick++
	old := 0
	for i := range s.at {
		r := &s.at[i]
		if r.used > 0 && r.next <= lo && lo-r.next <= maxSkip && unread(r.next, lo) == 0 {
			if left := unread(r.next-r.taken, r.next); 4*left > r.taken {
				r.read = 0 // it does not read what was taken along
			}
			*r = run{next: hi, read: r.read + n, used: s.tick}
			return i, r.read / caution
		}
		if r.used < s.at[old].used {
			old = i
		}
	}
	s.at[old] = run{next: hi, read: n, used: s.tick}
	return old, 0
}

// took notes what was taken along in the run of the last advance that returned slot: up to
// position next, n sealed bytes of it.
func (s *runs) took(slot, from, next int, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := &s.at[slot]; r.next == from {
		r.next, r.taken = next, next-from
		r.read += n
	}
}
