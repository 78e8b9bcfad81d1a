package image

import (
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
	run   int    // reads in order so far, after the first
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
	return stream{}, false
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

// maxQueued bounds the read-ahead that waits for room; more would come too late anyway.
const maxQueued = 64

// follow is told of every read. It keeps read-ahead going for those in order: as much as the
// link carries while it waits at the second read, twice that from the third on. Sizes are
// counted as sealed, for that is what the link carries.
func (im *Image) follow(obj flist.ObjectID, off int64, n int) {
	carries := im.inFlight()
	if carries == 0 {
		return
	}
	st, ok := im.streams.advance(obj, off, n)
	if !ok || im.gate.queued(readAhead) >= maxQueued {
		return
	}
	if st.run > 1 {
		carries *= 2
	}
	carries = min(carries, maxStream)
	want, mark, ahead := im.upcoming(st, carries)
	im.streams.thought(st, mark, ahead)
	for _, part := range split(want, max(carries/2, 64<<10)) {
		t := im.gate.enqueue(readAhead, sealedSize(part))
		if !im.spawn(func() { _ = im.enter(im.ctx, t, part) }) {
			t.abandon()
		}
	}
}

// upcoming returns the chunks after st.next, up to size sealed bytes of them, that were not
// asked for yet and that the cache lacks. mark is where the first of them begins.
func (im *Image) upcoming(st stream, size int64) (want []piece, mark, ahead int64) {
	ahead, mark = st.ahead, -1
	for e := range im.r.ExtentsAt(st.obj, st.next) {
		if e.Offset < st.next {
			continue // the reader has asked for a part of it
		}
		if mark < 0 {
			mark = e.Offset
		}
		if size <= 0 {
			break
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
		mark = 1<<63 - 1 // the end: there is nothing more to think about
	}
	return want, mark, ahead
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
