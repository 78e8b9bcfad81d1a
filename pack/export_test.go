package pack

import "io"

// WithHook returns o with a hook that is called with "visit", before an entry is packed,
// and for files that are read with "open", before that, "read", after it, and "done", when
// the content was read. Its error takes the place of one of the file system.
func WithHook(o Options, hook func(event, path string) error) Options {
	o.hook = hook
	return o
}

// Nanos is what nodes have for a modification time.
var Nanos = nanos

// Known is the content of a record of the pack cache.
type Known struct {
	Dir, Name string
	Extents   int
}

// DecodeCache reads all records of a cache without its frames.
func DecodeCache(r io.Reader) (all []Known) {
	c := newCacheReader(r)
	for {
		c.next()
		if c.dead {
			return all
		}
		if c.row != nil {
			all = append(all, Known{c.at, c.row.name, len(c.row.pieces)})
		}
	}
}
