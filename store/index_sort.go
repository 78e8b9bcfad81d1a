package store

import (
	"bufio"
	"container/heap"
	"errors"
	"io"
	"os"
	"slices"
	"sync"

	"github.com/zosfs/zosfs/blob"
)

// A cursor gives record after record, in ascending order, and then false.
type cursor func(*record) (bool, error)

// sorter sorts records in bounded memory: what does not fit goes to a temporary file as a
// sorted run. add is safe for concurrent use.
type sorter struct {
	limit int // records in memory

	mu   sync.Mutex
	buf  []record
	tmp  *os.File // unlinked; nil as long as all fits
	runs []int64  // where in tmp each run ends, in bytes
}

func newSorter(limit int) *sorter { return &sorter{limit: limit} }

// add adds the chunks of the blob with the given number.
func (s *sorter) add(number uint32, refs []blob.Ref) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range refs {
		if len(s.buf) >= s.limit {
			if err := s.spill(); err != nil {
				return err
			}
		}
		s.buf = append(s.buf, record{r.Chunk, number, r.Offset, r.Stored, r.Size, uint32(r.Codec)})
	}
	return nil
}

// spill writes the records in memory to the end of tmp as a run.
func (s *sorter) spill() error {
	if s.tmp == nil {
		f, err := os.CreateTemp("", "zosfs-index-")
		if err != nil {
			return err
		}
		s.tmp = f
		if err := os.Remove(f.Name()); err != nil {
			return err
		}
	}
	s.sort()
	w, p := bufio.NewWriterSize(s.tmp, 256<<10), make([]byte, 0, recordSize)
	for i := range s.buf {
		if _, err := w.Write(s.buf[i].append(p)); err != nil {
			return err
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	s.runs = append(s.runs, s.runEnd()+int64(len(s.buf))*recordSize)
	s.buf = s.buf[:0]
	return nil
}

func (s *sorter) runEnd() int64 {
	if len(s.runs) == 0 {
		return 0
	}
	return s.runs[len(s.runs)-1]
}

func (s *sorter) sort() {
	slices.SortFunc(s.buf, func(a, b record) int { return a.compare(&b) })
}

// merge calls emit for the records of s and of other, in ascending order; equal ones once.
func (s *sorter) merge(other cursor, emit func(*record) error) error {
	cursors := []cursor{other, s.memory()}
	start := int64(0)
	for _, end := range s.runs {
		cursors = append(cursors, s.run(start, end))
		start = end
	}
	var h heads
	for _, c := range cursors {
		if err := h.push(&head{next: c}); err != nil {
			return err
		}
	}
	var last record
	for n := 0; len(h) > 0; n++ {
		top := h[0]
		if n == 0 || top.at != last {
			if err := emit(&top.at); err != nil {
				return err
			}
			last = top.at
		}
		ok, err := top.next(&top.at)
		switch {
		case err != nil:
			return err
		case ok:
			heap.Fix(&h, 0)
		default:
			heap.Pop(&h)
		}
	}
	return nil
}

// memory returns the records that are in memory.
func (s *sorter) memory() cursor {
	s.sort()
	i := 0
	return func(r *record) (bool, error) {
		if i == len(s.buf) {
			return false, nil
		}
		*r = s.buf[i]
		i++
		return true, nil
	}
}

// run returns the records of tmp in the range of bytes.
func (s *sorter) run(start, end int64) cursor {
	in, p := bufio.NewReaderSize(io.NewSectionReader(s.tmp, start, end-start), 64<<10), make([]byte, recordSize)
	return func(r *record) (bool, error) {
		if _, err := io.ReadFull(in, p); errors.Is(err, io.EOF) {
			return false, nil
		} else if err != nil {
			return false, err
		}
		r.parse(p)
		return true, nil
	}
}

func (s *sorter) close() {
	if s.tmp != nil {
		_ = s.tmp.Close() // nothing in it is needed any more
	}
}

// heads are the cursors of a merge by their current records; a heap.
type heads []*head

type head struct {
	at   record
	next cursor
}

// push adds a cursor if it has a record.
func (h *heads) push(c *head) error {
	ok, err := c.next(&c.at)
	if ok {
		heap.Push(h, c)
	}
	return err
}

// Len implements heap.Interface.
func (h heads) Len() int { return len(h) }

// Less implements heap.Interface.
func (h heads) Less(i, j int) bool { return h[i].at.compare(&h[j].at) < 0 }

// Swap implements heap.Interface.
func (h heads) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *heads) Push(x any) { *h = append(*h, x.(*head)) }

// Pop implements heap.Interface.
func (h *heads) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}
