package sqlitefile

import (
	"bufio"
	"fmt"
	"os"
)

// Header is what the writer of a database may choose in its header.
type Header struct {
	ApplicationID uint32
	UserVersion   uint32
}

// A Writer lays a database out, table after table, each filled in ascending order of keys.
// Pages are written once, in order, but for the first.
type Writer struct {
	f      *os.File
	buf    *bufio.Writer
	pages  uint32 // written or reserved so far
	schema []schemaRow
	header Header
}

type schemaRow struct {
	table Table
	root  uint32
}

// NewWriter begins a database in f, which must be empty and stays the caller's.
func NewWriter(f *os.File, h Header) (*Writer, error) {
	w := &Writer{f: f, buf: bufio.NewWriterSize(f, 64*pageSize), header: h}
	var first [pageSize]byte // its place; Finish fills it
	_, err := w.write(first[:])
	return w, err
}

// lockPage holds the bytes that SQLite locks, at 1 GiB; the format forbids its use.
const lockPage = 1<<30/pageSize + 1

// next returns the number that the page after no will have.
func next(no uint32) uint32 {
	if no+1 == lockPage {
		return no + 2
	}
	return no + 1
}

func (w *Writer) write(page []byte) (uint32, error) {
	if w.pages >= 1<<32-3 {
		return 0, fmt.Errorf("database: more than %d pages", w.pages)
	}
	no := next(w.pages)
	if no != w.pages+1 {
		var unused [pageSize]byte
		if _, err := w.buf.Write(unused[:]); err != nil {
			return 0, err
		}
	}
	w.pages = no
	_, err := w.buf.Write(page)
	return no, err
}

// Begin starts a table; the one before must have ended.
func (w *Writer) Begin(t Table) *TableWriter {
	tw := &TableWriter{w: w, table: t, leaf: tableLeaf, interior: tableInterior, maxLocal: tableMaxLocal}
	if t.WithoutRowID {
		tw.leaf, tw.interior, tw.maxLocal = indexLeaf, indexInterior, indexMaxLocal
	}
	return tw
}

// Finish writes the schema and the header. The database is then complete in the file, but
// not synced.
func (w *Writer) Finish() error {
	if err := w.buf.Flush(); err != nil {
		return err
	}
	page, err := w.firstPage()
	if err != nil {
		return err
	}
	_, err = w.f.WriteAt(page, 0)
	return err
}

func (w *Writer) firstPage() ([]byte, error) {
	p := newPage(tableLeaf, headerSize)
	for i, s := range w.schema {
		var r Record
		r.Text("table").Text(s.table.Name).Text(s.table.Name).Int(int64(s.root)).Text(s.table.SQL)
		payload := r.encode()
		cell := putVarint(nil, uint64(len(payload)))
		cell = putVarint(cell, uint64(i+1))
		if cell = append(cell, payload...); !p.fits(len(cell)) {
			return nil, fmt.Errorf("database: the schema does not fit the first page")
		}
		p.add(cell)
	}
	b := p.bytes(0)
	copy(b, magic)
	put16(b[16:], pageSize)
	b[18], b[19] = 1, 1 // rollback journal
	b[21], b[22], b[23] = 64, 32, 32
	put32(b[24:], 1) // change counter
	put32(b[28:], w.pages)
	put32(b[40:], 1) // schema cookie
	put32(b[44:], 4) // schema format
	put32(b[56:], 1) // UTF-8
	put32(b[60:], w.header.UserVersion)
	put32(b[68:], w.header.ApplicationID)
	put32(b[92:], 1) // version-valid-for, equal to the change counter
	put32(b[96:], writerVersion)
	return b, nil
}

// A TableWriter fills one table from left to right. Pages of each level are closed when
// they are full; a level keeps its newest child back, so that no page ends up without keys.
type TableWriter struct {
	w        *Writer
	table    Table
	leaf     byte
	interior byte
	maxLocal int
	rows     int64
	last     int64 // row id
	cells    [][]byte
	used     int
	levels   []level
}

// level collects the children of the interior page that is open at one height.
type level struct {
	kids []child
	used int
}

// child is a closed page and the key that parts it from the next one: the rest of an
// interior cell behind the page number.
type child struct {
	page uint32
	key  []byte
}

// Insert appends the row with the given id, which must exceed the one before.
func (t *TableWriter) Insert(id int64, r *Record) error {
	if t.rows > 0 && id <= t.last {
		return fmt.Errorf("table %s: row %d after row %d", t.table.Name, id, t.last)
	}
	payload := r.encode()
	cell := putVarint(make([]byte, 0, len(payload)+9), uint64(len(payload)))
	cell = putVarint(cell, uint64(id))
	cell, err := t.payload(cell, payload)
	if err != nil {
		return err
	}
	if !t.fits(len(cell)) {
		if err := t.closeLeaf(t.cells, putVarint(nil, uint64(t.last))); err != nil {
			return err
		}
		t.cells, t.used = t.cells[:0], 0
	}
	t.last = id
	t.push(cell)
	return nil
}

// Append appends the row to a table without row ids. The caller sees to the order.
func (t *TableWriter) Append(r *Record) error {
	payload := r.encode()
	cell := putVarint(make([]byte, 0, len(payload)+4), uint64(len(payload)))
	cell, err := t.payload(cell, payload)
	if err != nil {
		return err
	}
	if !t.fits(len(cell)) {
		// The last row of the page moves up and parts it from the next.
		n := len(t.cells) - 1
		if err := t.closeLeaf(t.cells[:n], t.cells[n]); err != nil {
			return err
		}
		t.cells, t.used = t.cells[:0], 0
	}
	t.push(cell)
	return nil
}

func (t *TableWriter) fits(n int) bool { return 8+t.used+n+2 <= pageSize }

func (t *TableWriter) push(cell []byte) {
	t.rows++
	t.cells = append(t.cells, cell)
	t.used += len(cell) + 2
}

// payload appends the part of p that stays in the page, and the chain that holds the rest.
func (t *TableWriter) payload(cell, p []byte) ([]byte, error) {
	n := local(len(p), t.maxLocal)
	cell = append(cell, p[:n]...)
	if n == len(p) {
		return cell, nil
	}
	first := next(t.w.pages)
	for rest := p[n:]; len(rest) > 0; {
		var page [pageSize]byte
		k := copy(page[4:], rest)
		if rest = rest[k:]; len(rest) > 0 {
			put32(page[:], next(next(t.w.pages)))
		}
		if _, err := t.w.write(page[:]); err != nil {
			return nil, err
		}
	}
	return append(cell, byte(first>>24), byte(first>>16), byte(first>>8), byte(first)), nil
}

func (t *TableWriter) closeLeaf(cells [][]byte, key []byte) error {
	no, err := t.w.write(pageOf(t.leaf, cells, 0))
	if err != nil {
		return err
	}
	return t.addChild(0, child{no, key})
}

func (t *TableWriter) addChild(height int, c child) error {
	if height == len(t.levels) {
		t.levels = append(t.levels, level{})
	}
	l := &t.levels[height]
	if size := 4 + len(c.key) + 2; 12+l.used+size > pageSize {
		// Close the page over all but the newest child, whose key would be its last.
		n := len(l.kids) - 1
		no, err := t.w.write(t.interiorPage(l.kids[:n]))
		if err != nil {
			return err
		}
		up := child{no, l.kids[n-1].key}
		keep := l.kids[n]
		l.kids, l.used = append(l.kids[:0], keep), 4+len(keep.key)+2
		if err := t.addChild(height+1, up); err != nil {
			return err
		}
		l = &t.levels[height]
	}
	l.kids = append(l.kids, c)
	l.used += 4 + len(c.key) + 2
	return nil
}

// interiorPage lays kids out; the key of the last one is not in the page.
func (t *TableWriter) interiorPage(kids []child) []byte {
	n := len(kids) - 1
	cells := make([][]byte, n)
	for i, k := range kids[:n] {
		cells[i] = append([]byte{byte(k.page >> 24), byte(k.page >> 16), byte(k.page >> 8), byte(k.page)}, k.key...)
	}
	return pageOf(t.interior, cells, kids[n].page)
}

// End closes the table.
func (t *TableWriter) End() error {
	root, err := t.w.write(pageOf(t.leaf, t.cells, 0))
	if err != nil {
		return err
	}
	for i := range t.levels {
		kids := append(t.levels[i].kids, child{page: root})
		if root, err = t.w.write(t.interiorPage(kids)); err != nil {
			return err
		}
	}
	t.w.schema = append(t.w.schema, schemaRow{t.table, root})
	return nil
}

// page is a b-tree page under construction.
type page struct {
	b     []byte
	start int // of the b-tree header: 100 in the first page
	head  int // size of that header
	n     int // cells
	top   int // of the cells' area
}

func newPage(kind byte, start int) *page {
	p := &page{b: make([]byte, pageSize), start: start, head: 8, top: pageSize}
	if kind == indexInterior || kind == tableInterior {
		p.head = 12
	}
	p.b[start] = kind
	return p
}

func (p *page) fits(n int) bool { return p.start+p.head+2*(p.n+1) <= p.top-n }

func (p *page) add(cell []byte) {
	p.top -= len(cell)
	copy(p.b[p.top:], cell)
	put16(p.b[p.start+p.head+2*p.n:], p.top)
	p.n++
}

func (p *page) bytes(right uint32) []byte {
	h := p.b[p.start:]
	put16(h[3:], p.n)
	put16(h[5:], p.top)
	if p.head == 12 {
		put32(h[8:], right)
	}
	return p.b
}

func pageOf(kind byte, cells [][]byte, right uint32) []byte {
	p := newPage(kind, 0)
	for _, c := range cells {
		p.add(c)
	}
	return p.bytes(right)
}
