package cache

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

const segmentSuffix = ".seg"

// segment is one file of records. Its records never change; the active one grows at its end.
type segment struct {
	number uint32
	slot   uint16 // in Cache.segs, until the last reference is gone
	file   *os.File
	end    atomic.Int64 // where the next record would begin
	size   atomic.Int64 // of the file
	sealed bool         // has its table; for whoever has the turn

	refs    atomic.Int64 // the cache itself holds one until gone
	gone    bool         // guarded by Cache.mu: no new references
	evicted bool         // set before gone: the file is unlinked
}

func segmentName(number uint32) string { return fmt.Sprintf("%08x%s", number, segmentSuffix) }

// parseSegmentName is the reverse of segmentName.
func parseSegmentName(name string) (uint32, bool) {
	hex, ok := strings.CutSuffix(name, segmentSuffix)
	n, err := strconv.ParseUint(hex, 16, 32)
	return uint32(n), ok && err == nil && segmentName(uint32(n)) == name
}

// listSegments returns the numbers of the segments in dir, ascending.
func listSegments(dir string) ([]uint32, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	names, err := d.Readdirnames(-1)
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	var numbers []uint32
	for _, name := range names {
		if n, ok := parseSegmentName(name); ok {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, err
}

// createSegment makes an empty segment, or leaves nothing.
func createSegment(dir string, number uint32) (*segment, error) {
	path := filepath.Join(dir, segmentName(number))
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if _, err := f.Write(appendSegmentHeader(nil, number)); err != nil {
		_ = f.Close()
		_ = os.Remove(path)
		return nil, err
	}
	return newSegment(f, number, segmentHeaderSize, segmentHeaderSize), nil
}

func newSegment(f *os.File, number uint32, end, size int64) *segment {
	s := &segment{number: number, file: f}
	s.end.Store(end)
	s.size.Store(size)
	s.refs.Store(1)
	return s
}

// openSegment opens the segment with that number and returns its entries too. One that is
// no segment is errs.ErrFormat.
func openSegment(dir string, number uint32, flag int) (*segment, []entry, error) {
	f, err := os.OpenFile(filepath.Join(dir, segmentName(number)), flag|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, nil, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: f.Name(), Err: fs.ErrInvalid}
	}
	if err == nil {
		err = readSegmentHeader(f, number)
	}
	if err != nil {
		_ = f.Close()
		return nil, nil, err
	}
	s := newSegment(f, number, segmentHeaderSize, st.Size())
	entries, end, sealed := s.entries()
	s.end.Store(end)
	s.sealed = sealed
	return s, entries, nil
}

// entries returns what the segment holds, in order, and where the records end: from its
// table (whole is true), or from the records themselves.
func (s *segment) entries() (entries []entry, end int64, whole bool) {
	size := s.size.Load()
	if entries, end, ok := readTable(s.file, size, s.number); ok {
		return entries, end, true
	}
	entries, end = scan(s.file, segmentHeaderSize, size)
	return entries, end, false
}

// full reports whether the file goes on after the last record: with a table, or with what a
// crash left there.
func (s *segment) full() bool { return s.end.Load() != s.size.Load() }

// stat returns the size of the file now and whether it still has a name.
func (s *segment) stat() (size int64, linked bool) {
	st, err := s.file.Stat()
	if err != nil {
		return 0, false
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	return st.Size(), !ok || sys.Nlink > 0
}

// release gives up one reference. The last one closes the file and frees the slot. An
// evicted file is emptied before, since another process may have it open still.
func (c *Cache) release(s *segment) {
	if s.refs.Add(-1) > 0 {
		return
	}
	if s.evicted {
		_ = s.file.Truncate(0)
	}
	_ = s.file.Close()
	c.mu.Lock()
	c.segs[s.slot] = nil
	c.mu.Unlock()
}

// attach gives s a slot, after which its records can be indexed.
func (c *Cache) attach(s *segment) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.Index(c.segs, nil)
	if i < 0 {
		i = len(c.segs)
		c.segs = append(c.segs, nil)
	}
	s.slot = uint16(i)
	c.segs[i] = s
	c.bytes.Add(s.size.Load())
	c.segments.Add(1)
}

// detach ends the cache's own hold on s; none of its records may be in the index any more.
func (c *Cache) detach(s *segment) {
	c.mu.Lock()
	s.gone = true
	c.mu.Unlock()
	c.bytes.Add(-s.size.Load())
	c.segments.Add(-1)
	c.release(s)
}

// enter adds the records of s to the index; of equal ones the last is found.
func (c *Cache) enter(s *segment, entries []entry) {
	for _, e := range entries {
		c.index.put(e.fp, makePlace(s.slot, e.unit))
	}
}
