package sqlitefile

import "fmt"

// A Scan reads whole tables of a hostile database. All tables read with one Scan share no
// page, and no page is met twice, so a scan ends after as many steps as there are bytes. It
// is not safe for concurrent use.
type Scan struct {
	db   *DB
	seen []uint64 // a bit a page; nil in look-ups, which descend one path
}

// NewScan begins a pass over db.
func (db *DB) NewScan() *Scan { return &Scan{db: db, seen: make([]uint64, db.pages/64+1)} }

func (s *Scan) use(no uint32) error {
	if s.seen == nil || no > s.db.pages {
		return nil
	}
	if s.seen[no/64]&(1<<(no%64)) != 0 {
		return fmt.Errorf("page %d: used twice: %w", no, ErrCorrupt)
	}
	s.seen[no/64] |= 1 << (no % 64)
	return nil
}

func (db *DB) root(name string, withoutRowID bool) (uint32, error) {
	for _, s := range db.schema {
		if s.table.Name == name && s.table.WithoutRowID == withoutRowID {
			return s.root, nil
		}
	}
	return 0, fmt.Errorf("database: no table %q: %w", name, ErrCorrupt)
}

// Rows calls fn for each row of a table with row ids, in ascending order of them, which is
// checked. A row must have exactly cols columns. The columns hold until fn returns; an
// error of fn ends the scan and is returned.
func (s *Scan) Rows(table string, cols int, fn func(id int64, col []Value) error) error {
	root, err := s.db.root(table, false)
	if err != nil {
		return err
	}
	if err := s.rows(root, cols, fn); err != nil {
		return fmt.Errorf("table %s: %w", table, err)
	}
	return nil
}

func (s *Scan) rows(root uint32, cols int, fn func(int64, []Value) error) error {
	r := rowScan{Scan: s, col: make([]Value, cols), fn: fn}
	return r.page(root, 0)
}

type rowScan struct {
	*Scan
	col  []Value
	fn   func(int64, []Value) error
	some bool
	last int64
}

func (r *rowScan) page(no uint32, depth int) error {
	nd, err := r.enter(no, depth, tableLeaf, tableInterior)
	if err != nil {
		return err
	}
	for i := range nd.n {
		c, err := r.cell(&nd, i)
		if err != nil {
			return err
		}
		if nd.kind == tableInterior {
			if err := r.page(c.left, depth+1); err != nil {
				return err
			}
			// The key is the last row of the left child, or one between it and the next.
			if !r.some || r.last > c.rowID {
				return fmt.Errorf("page %d: key %d after row %d: %w", no, c.rowID, r.last, ErrCorrupt)
			}
			r.last = c.rowID
			continue
		}
		if r.some && c.rowID <= r.last {
			return fmt.Errorf("page %d: row %d after %d: %w", no, c.rowID, r.last, ErrCorrupt)
		}
		r.some, r.last = true, c.rowID
		if err := decode(c.payload, r.col); err != nil {
			return fmt.Errorf("row %d: %w", c.rowID, err)
		}
		if err := r.fn(c.rowID, r.col); err != nil {
			return err
		}
	}
	if nd.kind == tableInterior {
		return r.page(nd.right, depth+1)
	}
	return nil
}

func (s *Scan) enter(no uint32, depth int, leaf, interior byte) (node, error) {
	if depth > maxDepth {
		return node{}, fmt.Errorf("page %d: deeper than %d: %w", no, maxDepth, ErrCorrupt)
	}
	nd, err := s.db.node(no)
	if err != nil {
		return nd, err
	}
	if nd.kind != leaf && nd.kind != interior {
		return nd, fmt.Errorf("page %d: type %d in a tree of %d and %d: %w", no, nd.kind, leaf, interior, ErrCorrupt)
	}
	return nd, s.use(no)
}

// Keys calls fn for each row of a table without row ids, in the order of the file. The
// order is fn's to check: what keys mean is the caller's. Otherwise it is as [Scan.Rows].
func (s *Scan) Keys(table string, cols int, fn func(col []Value) error) error {
	root, err := s.db.root(table, true)
	if err != nil {
		return err
	}
	k := keyScan{Scan: s, col: make([]Value, cols), fn: fn}
	if err := k.page(root, 0); err != nil {
		return fmt.Errorf("table %s: %w", table, err)
	}
	return nil
}

type keyScan struct {
	*Scan
	col []Value
	fn  func([]Value) error
}

func (k *keyScan) page(no uint32, depth int) error {
	nd, err := k.enter(no, depth, indexLeaf, indexInterior)
	if err != nil {
		return err
	}
	for i := range nd.n {
		c, err := k.cell(&nd, i)
		if err != nil {
			return err
		}
		if nd.kind == indexInterior {
			if err := k.page(c.left, depth+1); err != nil {
				return err
			}
		}
		if err := decode(c.payload, k.col); err != nil {
			return err
		}
		if err := k.fn(k.col); err != nil {
			return err
		}
	}
	if nd.kind == indexInterior {
		return k.page(nd.right, depth+1)
	}
	return nil
}
