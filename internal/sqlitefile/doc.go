// Package sqlitefile reads and writes SQLite database files without an SQL engine.
//
// It knows the file format alone (https://www.sqlite.org/fileformat2.html, version 3, page
// size 4096, UTF-8, rollback journal mode), and of that the part which a bulk-loaded
// database of plain tables needs: table b-trees, index b-trees (WITHOUT ROWID tables),
// overflow chains, records. What [Writer] writes passes SQLite's own integrity check, and
// depends on the rows alone: no free pages, no clock, no library version. [DB] reads any
// such file, ours or SQLite's, and treats it as hostile: every offset is checked, no page
// may be used twice, keys must ascend.
//
// Why not an SQL engine: a reader must survive files made to break it, a writer must give
// the same bytes in ten years, and a scan must cost nanoseconds a row; figures are in
// docs/decisions/0001-flist-without-sql-engine.md.
//
// A DB is safe for concurrent use, a Writer is not.
package sqlitefile

import (
	"encoding/binary"
	"errors"
)

// ErrCorrupt is wrapped by every error about a file that breaks the format.
var ErrCorrupt = errors.New("damaged database file")

const (
	pageSize   = 4096
	headerSize = 100 // of the file, at the start of page 1
	magic      = "SQLite format 3\x00"

	// The engine's version number that readers may expect in the header. It says which
	// release wrote the file last; ours is a constant so that bytes do not depend on it.
	writerVersion = 3040000

	// Payload that stays in the page, from the format's section 1.6.
	tableMaxLocal = pageSize - 35
	indexMaxLocal = (pageSize-12)*64/255 - 23
	minLocal      = (pageSize-12)*32/255 - 23
	overflowData  = pageSize - 4

	maxDepth = 20 // of a b-tree; 4-way pages of 2^32 give 16
)

// The types of b-tree pages.
const (
	indexInterior = 2
	tableInterior = 5
	indexLeaf     = 10
	tableLeaf     = 13
)

// A Table is one table of the schema. Its SQL is kept to the letter.
type Table struct {
	Name         string
	SQL          string
	WithoutRowID bool
}

// local returns how many of n payload bytes stay in the page.
func local(n, maxLocal int) int {
	if n <= maxLocal {
		return n
	}
	if k := minLocal + (n-minLocal)%overflowData; k <= maxLocal {
		return k
	}
	return minLocal
}

// putVarint appends v in SQLite's big-endian variable-length form, 1 to 9 bytes.
func putVarint(p []byte, v uint64) []byte {
	if v < 1<<7 {
		return append(p, byte(v))
	}
	if v >= 1<<56 {
		for shift := 57; shift >= 8; shift -= 7 {
			p = append(p, byte(v>>shift)|0x80)
		}
		return append(p, byte(v))
	}
	n := 2
	for v>>(7*n) != 0 {
		n++
	}
	for i := n - 1; i > 0; i-- {
		p = append(p, byte(v>>(7*i))|0x80)
	}
	return append(p, byte(v)&0x7f)
}

// varint decodes what putVarint encodes; n is 0 where p ends too early.
func varint(p []byte) (v uint64, n int) {
	if len(p) > 0 && p[0] < 0x80 {
		return uint64(p[0]), 1
	}
	for i := range min(len(p), 8) {
		v = v<<7 | uint64(p[i]&0x7f)
		if p[i] < 0x80 {
			return v, i + 1
		}
	}
	if len(p) < 9 {
		return 0, 0
	}
	return v<<8 | uint64(p[8]), 9
}

func be16(p []byte) int        { return int(binary.BigEndian.Uint16(p)) }
func be32(p []byte) uint32     { return binary.BigEndian.Uint32(p) }
func put16(p []byte, v int)    { binary.BigEndian.PutUint16(p, uint16(v)) }
func put32(p []byte, v uint32) { binary.BigEndian.PutUint32(p, v) }
