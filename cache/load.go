package cache

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/zosfs/zosfs/errs"
)

// load reads the directory into an empty cache.
func (c *Cache) load() error {
	absent := func(err error) bool { return c.opts.ReadOnly && errors.Is(err, fs.ErrNotExist) }
	if err := c.loadPins(); err != nil && !absent(err) {
		return err
	}
	numbers, err := listSegments(c.dir)
	if err != nil && !absent(err) {
		return err
	}
	for i, n := range numbers {
		c.loadSegment(n, i == len(numbers)-1)
	}
	if !c.readOnly.Load() {
		c.makeRoom(0, len(numbers))
	}
	return nil
}

// loadSegment adds the segment n. What is in its place but is none, is removed by a writer.
func (c *Cache) loadSegment(n uint32, last bool) bool {
	flag := os.O_RDWR
	if c.readOnly.Load() {
		flag = os.O_RDONLY
	}
	s, entries, err := openSegment(c.dir, n, flag)
	if err != nil {
		c.dismiss(n, err)
		return false
	}
	c.next = n + 1
	c.attach(s)
	c.enter(s, entries)
	c.order = append(c.order, s)
	if c.readOnly.Load() || s.sealed {
		return true
	}
	c.resize(s, s.end.Load()) // cut the torn tail
	if last {
		c.order = c.order[:len(c.order)-1]
		c.active, c.held = s, entries
	} else {
		c.writeTable(s, entries)
	}
	return true
}

// dismiss is for a segment that could not be opened.
func (c *Cache) dismiss(n uint32, err error) {
	path := filepath.Join(c.dir, segmentName(n))
	switch {
	case c.readOnly.Load() || errors.Is(err, fs.ErrNotExist):
	case errors.Is(err, errs.ErrFormat):
		c.opts.Log.Warn("cache: removed what is no segment", "path", path)
		if err := os.Remove(path); err != nil {
			c.opts.Log.Warn("cache: remove", "err", err)
		}
	default:
		c.next = n + 1
		c.opts.Log.Warn("cache: left out a segment", "path", path, "err", err)
	}
}

// clear forgets all segments; their files stay.
func (c *Cache) clear() {
	all := c.order
	if c.active != nil {
		all = append(all, c.active)
	}
	c.order, c.active, c.held = nil, nil, nil
	c.forget(all)
}

// forget drops segments from the index and lets go of them.
func (c *Cache) forget(all []*segment) {
	if len(all) == 0 {
		return
	}
	slots := make(map[uint16]bool, len(all))
	for _, s := range all {
		slots[s.slot] = true
	}
	c.index.removeSegments(func(slot uint16) bool { return slots[slot] })
	for _, s := range all {
		c.detach(s)
	}
}

// promote makes a reader whose writer has gone the writer. The caller has the turn.
func (c *Cache) promote() bool {
	if c.opts.ReadOnly {
		return false
	}
	ok, err := c.tryLock()
	if !ok {
		if err != nil {
			c.failed("lock", err)
		}
		return false
	}
	c.clear()
	c.clearPins()
	c.readOnly.Store(false)
	if err := c.load(); err != nil {
		c.failed("take over", err)
	}
	return true
}

// refresh looks for what the writer stored since the last look, and reports whether there
// may be more chunks now. Where nothing happened it costs two system calls, unless all is
// true: then it looks for what was evicted too.
func (c *Cache) refresh(all bool) bool {
	c.turn <- struct{}{}
	defer c.give()
	if c.closed || !c.readOnly.Load() {
		return false
	}
	if len(c.order) == 0 {
		return c.relist()
	}
	tail := c.order[len(c.order)-1]
	_, linked := tail.stat()
	_, err := os.Lstat(filepath.Join(c.dir, segmentName(tail.number+1)))
	grown := c.extend(tail) // after the look for the next, since no more comes once that is there
	if linked && err != nil && !tail.full() && !all {
		return grown
	}
	return c.relist() || grown
}

// extend enters what was appended to the writer's active segment.
func (c *Cache) extend(s *segment) bool {
	size, linked := s.stat()
	if !linked {
		return false
	}
	entries, end := scan(s.file, s.end.Load(), size)
	c.bytes.Add(size - s.size.Swap(size))
	s.end.Store(end)
	c.enter(s, entries)
	return len(entries) > 0
}

// relist brings the reader's segments in line with the directory.
func (c *Cache) relist() bool {
	numbers, err := listSegments(c.dir)
	if err != nil {
		return false
	}
	var gone []*segment
	c.order = slices.DeleteFunc(c.order, func(s *segment) bool {
		_, found := slices.BinarySearch(numbers, s.number)
		if !found {
			gone = append(gone, s)
		}
		return !found
	})
	c.forget(gone)
	more := false
	for _, n := range numbers {
		if k := len(c.order); k == 0 || n > c.order[k-1].number {
			more = c.loadSegment(n, false) || more
		}
	}
	return more
}
