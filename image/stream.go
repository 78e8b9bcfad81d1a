package image

import (
	"math"
	"sync"

	"github.com/zosfs/zosfs/flist"
)

// streams finds out which readers go through a file in order. It keeps the last few
// positions read from; a read that begins about where an earlier one ended continues it.
type streams struct {
	mu   sync.Mutex
	at   [32]stream
	tick uint64
}

type stream struct {
	obj   flist.ObjectID
	next  int64  // where the reader will go on
	run   int    // reads in order so far, without the first
	mark  int64  // read-ahead has been thought about for readers up to here
	ahead int64  // up to where it was asked for
	used  uint64 // tick of the last read
}

// advance notes a read of [off, off+n). When it continues a stream and enters a chunk that
// read-ahead has not been thought about for, it returns a copy of the stream and true.
//
// The kernel sends the reads of one reader side by side, so they come in any order: what is
// at most two reads off counts as in order.
func (s *streams) advance(obj flist.ObjectID, off int64, n int) (stream, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tick++
	end, slack := off+int64(n), 2*int64(n)
	old := &s.at[0]
	for i := range s.at {
		st := &s.at[i]
		if st.obj == obj && st.next-slack <= off && off <= st.next+slack {
			st.used = s.tick
			if end <= st.next {
				return stream{}, false // the same again, or one that was overtaken
			}
			st.next = end
			st.run++
			return *st, end > st.mark
		}
		if st.used < old.used {
			old = st
		}
	}
	*old = stream{obj: obj, next: end, used: s.tick}
	if off == 0 && n >= eager {
		old.run = 1
	}
	return *old, old.run > 0
}

// thought notes how far read-ahead was asked for.
func (s *streams) thought(was stream, mark, ahead int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.at {
		st := &s.at[i]
		if st.obj == was.obj && st.next >= was.next && st.mark <= mark && st.ahead == was.ahead {
			st.mark, st.ahead = mark, ahead
			return
		}
	}
}

const (
	// The read-ahead of a stream is twice what the link carries at the second read in
	// order, and grows to maxAhead times that: once for what is on its way, once for what
	// is asked for meanwhile, and twice because answers share the link, chunks come whole
	// and rates are estimates. TestSequentialFillsTheLink holds it.
	maxAhead = 4
	// minPart is the least size of a request of read-ahead, but for the end of a file.
	minPart = 64 << 10
	// eager is from what size on a read of the beginning of a file counts as one in order:
	// who reads so much mostly reads on.
	eager = 128 << 10
)

// follow is told of every read. It keeps read-ahead going for those in order. Sizes are
// counted as sealed, for that is what the link carries.
func (im *Image) follow(obj flist.ObjectID, off int64, n int) {
	carries, _ := im.link()
	if carries == 0 {
		return
	}
	st, ok := im.streams.advance(obj, off, n)
	if !ok {
		return
	}
	part := max(carries/2, minPart)
	size := min(max(carries*min(int64(st.run)+1, maxAhead), 2*part), maxStream)
	want, mark, ahead, end := im.upcoming(st, size)
	if sealedSize(want) < part && !end {
		im.streams.thought(st, mark, st.ahead) // later, as a larger request
		return
	}
	im.streams.thought(st, mark, ahead)
	im.ahead.add(im, split(want, part))
}

// upcoming returns the chunks after st.next, up to size sealed bytes of them, that were not
// asked for yet and that the cache lacks, and how far they go. mark is where the first of
// all chunks after st.next begins; end says that the file holds no more.
func (im *Image) upcoming(st stream, size int64) (want []piece, mark, ahead int64, end bool) {
	ahead, mark = st.ahead, -1
	for e := range im.r.ExtentsAt(st.obj, st.next) {
		if e.Offset < st.next {
			continue // the reader has asked for a part of it
		}
		if mark < 0 {
			mark = e.Offset
		}
		if size <= 0 {
			return want, mark, ahead, false
		}
		c := im.r.Chunk(e.Chunk)
		size -= int64(c.Stored)
		if e.Offset < st.ahead {
			continue
		}
		ahead = e.Offset + int64(c.Size)
		if !im.cache.Has(c.Chunk) {
			want = append(want, piece{id: e.Chunk, chunk: c})
		}
	}
	if mark < 0 {
		mark = math.MaxInt64 // nothing more to think about
	}
	return want, mark, ahead, true
}

// split cuts pieces into parts that one request each may serve: one blob and at most size
// sealed bytes, but always a chunk.
func split(pieces []piece, size int64) (parts [][]piece) {
	var sum int64
	from := 0
	for i := range pieces {
		n := int64(pieces[i].chunk.Stored)
		if i > from && (sum+n > size || pieces[i].chunk.Blob != pieces[from].chunk.Blob) {
			parts = append(parts, pieces[from:i:i])
			from, sum = i, 0
		}
		sum += n
	}
	if from < len(pieces) {
		parts = append(parts, pieces[from:])
	}
	return parts
}
