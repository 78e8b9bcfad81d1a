package sqlitefile

import (
	"fmt"
	"sort"
)

// A Cursor looks rows up in one table. It trusts the order of keys, which a [Scan] has
// checked, but no offset: on a damaged file it answers wrongly or fails, and never loops.
// It is safe for concurrent use.
type Cursor struct {
	scan  Scan
	root  uint32
	cols  int
	table string
}

// Cursor returns a Cursor for a table with row ids (withoutRowID false) or without.
func (db *DB) Cursor(table string, cols int, withoutRowID bool) (Cursor, error) {
	root, err := db.root(table, withoutRowID)
	return Cursor{scan: Scan{db: db}, root: root, cols: cols, table: table}, err
}

// Row decodes the row with the given id into col, which has as many places as the table
// has columns, and reports whether there is one.
func (c *Cursor) Row(id int64, col []Value) (bool, error) {
	no := c.root
	for depth := 0; ; depth++ {
		nd, err := c.scan.enter(no, depth, tableLeaf, tableInterior)
		if err != nil {
			return false, c.wrap(err)
		}
		var found cell
		i := sort.Search(nd.n, func(i int) bool {
			cl, e := c.scan.key(&nd, i)
			if e != nil {
				err = e
			}
			return cl >= id
		})
		if err != nil {
			return false, c.wrap(err)
		}
		if i < nd.n {
			if found, err = c.scan.cell(&nd, i); err != nil {
				return false, c.wrap(err)
			}
		}
		switch {
		case nd.kind == tableInterior && i < nd.n:
			no = found.left
		case nd.kind == tableInterior:
			no = nd.right
		case i == nd.n || found.rowID != id:
			return false, nil
		default:
			return true, c.wrap(decode(found.payload, col))
		}
	}
}

// key returns the row id of a cell of a table page without its payload.
func (s *Scan) key(nd *node, i int) (int64, error) {
	p, err := nd.cell(i)
	if err != nil {
		return 0, err
	}
	if nd.kind == tableInterior {
		p = p[min(4, len(p)):]
	} else {
		_, n := varint(p)
		p = p[n:]
	}
	v, n := varint(p)
	if n == 0 {
		return 0, fmt.Errorf("page %d: cell %d is cut off: %w", nd.no, i, ErrCorrupt)
	}
	return int64(v), nil
}

// From calls yield for each row of a table without row ids, from the first for which less
// is false, until yield returns false. less must be true for a prefix of the table. The
// columns hold until yield returns.
func (c *Cursor) From(less func(col []Value) bool, yield func(col []Value) bool) error {
	var buf [8]Value
	_, err := c.from(c.root, 0, buf[:c.cols], less, yield)
	return c.wrap(err)
}

func (c *Cursor) from(no uint32, depth int, col []Value, less, yield func([]Value) bool) (bool, error) {
	nd, err := c.scan.enter(no, depth, indexLeaf, indexInterior)
	if err != nil {
		return false, err
	}
	first := 0
	if less != nil {
		first = sort.Search(nd.n, func(i int) bool {
			if e := c.load(&nd, i, col, nil); e != nil {
				err = e
				return true
			}
			return !less(col)
		})
		if err != nil {
			return false, err
		}
	}
	for i := first; i < nd.n; i++ {
		var left uint32
		if err := c.load(&nd, i, col, &left); err != nil {
			return false, err
		}
		if nd.kind == indexInterior {
			if more, err := c.from(left, depth+1, col, less, yield); !more || err != nil {
				return false, err
			}
			if err := c.load(&nd, i, col, nil); err != nil {
				return false, err
			}
		}
		less = nil // only the first path needs it
		if !yield(col) {
			return false, nil
		}
	}
	if nd.kind == indexInterior {
		return c.from(nd.right, depth+1, col, less, yield)
	}
	return true, nil
}

func (c *Cursor) load(nd *node, i int, col []Value, left *uint32) error {
	cl, err := c.scan.cell(nd, i)
	if err != nil {
		return err
	}
	if left != nil {
		*left = cl.left
	}
	return decode(cl.payload, col)
}

func (c *Cursor) wrap(err error) error {
	if err != nil {
		return fmt.Errorf("table %s: %w", c.table, err)
	}
	return nil
}
