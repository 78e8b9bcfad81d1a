package sqlitefile

import (
	"fmt"
	"strings"
)

// A DB is an open database: bytes in memory or mapped, which must not change.
type DB struct {
	data   []byte
	pages  uint32
	header Header
	schema []schemaRow
}

// Open reads header and schema of the database in data, which the DB keeps.
func Open(data []byte) (*DB, error) {
	if len(data) < pageSize || len(data)%pageSize != 0 || len(data)/pageSize > 1<<32-2 || string(data[:16]) != magic {
		return nil, fmt.Errorf("not an SQLite database of %d-byte pages: %w", pageSize, ErrCorrupt)
	}
	db := &DB{data: data, pages: uint32(len(data) / pageSize)}
	db.header = Header{ApplicationID: be32(data[68:]), UserVersion: be32(data[60:])}
	switch {
	case be16(data[16:]) != pageSize || data[20] != 0:
		return nil, fmt.Errorf("database: pages of %d bytes, want %d: %w", be16(data[16:]), pageSize, ErrCorrupt)
	case data[18] != 1 || data[19] != 1:
		return nil, fmt.Errorf("database: not in rollback journal mode: %w", ErrCorrupt)
	case be32(data[56:]) != 1 || be32(data[44:]) != 4:
		return nil, fmt.Errorf("database: not UTF-8 in schema format 4: %w", ErrCorrupt)
	case be32(data[28:]) != db.pages:
		return nil, fmt.Errorf("database: %d pages, the header says %d: %w", db.pages, be32(data[28:]), ErrCorrupt)
	}
	return db, db.readSchema()
}

func (db *DB) readSchema() error {
	return db.NewScan().rows(1, 5, func(_ int64, col []Value) error {
		if col[0].Kind != Text || string(col[0].Bytes) != "table" || col[1].Kind != Text || col[3].Kind != Int || col[4].Kind != Text {
			return fmt.Errorf("schema: more than plain tables: %w", ErrCorrupt)
		}
		sql := string(col[4].Bytes)
		t := Table{Name: string(col[1].Bytes), SQL: sql, WithoutRowID: strings.HasSuffix(sql, "WITHOUT ROWID")}
		if col[3].Int < 2 || col[3].Int > int64(db.pages) || len(db.schema) == maxTables {
			return fmt.Errorf("schema: table %q at page %d: %w", t.Name, col[3].Int, ErrCorrupt)
		}
		db.schema = append(db.schema, schemaRow{t, uint32(col[3].Int)})
		return nil
	})
}

const maxTables = 64

// Header returns the ids in the header.
func (db *DB) Header() Header { return db.header }

// Tables returns the schema in its order.
func (db *DB) Tables() []Table {
	ts := make([]Table, len(db.schema))
	for i, s := range db.schema {
		ts[i] = s.table
	}
	return ts
}

func (db *DB) page(no uint32) ([]byte, error) {
	if no == 0 || no > db.pages {
		return nil, fmt.Errorf("page %d of %d: %w", no, db.pages, ErrCorrupt)
	}
	return db.data[int(no-1)*pageSize:][:pageSize:pageSize], nil
}

// node is a b-tree page that has been looked at.
type node struct {
	b     []byte
	no    uint32
	kind  byte
	n     int // cells
	ptrs  int // offset of the cell pointers
	right uint32
}

func (db *DB) node(no uint32) (node, error) {
	b, err := db.page(no)
	if err != nil {
		return node{}, err
	}
	start := 0
	if no == 1 {
		start = headerSize
	}
	nd := node{b: b, no: no, kind: b[start], n: be16(b[start+3:]), ptrs: start + 8}
	switch nd.kind {
	case tableLeaf, indexLeaf:
	case tableInterior, indexInterior:
		nd.right = be32(b[start+8:])
		nd.ptrs += 4
	default:
		return node{}, fmt.Errorf("page %d: type %d: %w", no, nd.kind, ErrCorrupt)
	}
	if nd.ptrs+2*nd.n > pageSize {
		return node{}, fmt.Errorf("page %d: %d cells: %w", no, nd.n, ErrCorrupt)
	}
	return nd, nil
}

func (nd *node) interior() bool { return nd.kind == tableInterior || nd.kind == indexInterior }

func (nd *node) cell(i int) ([]byte, error) {
	off := be16(nd.b[nd.ptrs+2*i:])
	if off < nd.ptrs+2*nd.n || off >= pageSize {
		return nil, fmt.Errorf("page %d: cell %d at %d: %w", nd.no, i, off, ErrCorrupt)
	}
	return nd.b[off:], nil
}

// cell is one decoded cell: what there is depends on the type of its page.
type cell struct {
	left    uint32 // of interior pages
	rowID   int64  // of table pages
	payload []byte // of all but interior table pages
}

func (s *Scan) cell(nd *node, i int) (cell, error) {
	p, err := nd.cell(i)
	if err != nil {
		return cell{}, err
	}
	bad := func() (cell, error) {
		return cell{}, fmt.Errorf("page %d: cell %d is cut off: %w", nd.no, i, ErrCorrupt)
	}
	var out cell
	if nd.interior() {
		if len(p) < 4 {
			return bad()
		}
		out.left, p = be32(p), p[4:]
	}
	var size uint64
	maxLocal := indexMaxLocal
	if nd.kind != tableInterior {
		var n int
		if size, n = varint(p); n == 0 {
			return bad()
		}
		p = p[n:]
	}
	if nd.kind == tableLeaf || nd.kind == tableInterior {
		v, n := varint(p)
		if n == 0 {
			return bad()
		}
		out.rowID, p, maxLocal = int64(v), p[n:], tableMaxLocal
	}
	if nd.kind == tableInterior {
		return out, nil
	}
	if size > maxPayload {
		return cell{}, fmt.Errorf("page %d: cell %d: row of %d bytes: %w", nd.no, i, size, ErrCorrupt)
	}
	keep := local(int(size), maxLocal)
	if keep > len(p) || keep < int(size) && keep+4 > len(p) {
		return bad()
	}
	if out.payload = p[:keep:keep]; keep < int(size) {
		out.payload, err = s.overflow(out.payload, be32(p[keep:]), int(size))
	}
	return out, err
}

// maxPayload bounds a row, in bytes, so that a lie about its size allocates little.
const maxPayload = 16 << 20

// overflow returns the whole payload of size bytes whose rest is in the chain from page no.
func (s *Scan) overflow(local []byte, no uint32, size int) ([]byte, error) {
	// A chain that the file has no room for is a lie about the size.
	links := (size - len(local) + overflowData - 1) / overflowData
	if int64(links) > int64(s.db.pages) {
		return nil, fmt.Errorf("row of %d bytes: %w", size, ErrCorrupt)
	}
	out := append(make([]byte, 0, size), local...)
	for len(out) < size {
		p, err := s.db.page(no)
		if err != nil {
			return nil, err
		}
		if err := s.use(no); err != nil {
			return nil, err
		}
		out = append(out, p[4:4+min(overflowData, size-len(out))]...)
		no = be32(p)
	}
	if no != 0 {
		return nil, fmt.Errorf("row of %d bytes: its chain of pages goes on: %w", size, ErrCorrupt)
	}
	return out, nil
}
