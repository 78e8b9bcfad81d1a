package flist

import "github.com/zosfs/zosfs/internal/sqlitefile"

const (
	applicationID = 0x5a4f5346 // "ZOSF"
	userVersion   = 1          // of the format
)

// The tables of format version 1, in the order in which they lie in the file. The text is
// part of the format: a reader accepts this schema and no other.
var (
	tableProperty = keyed("property", "CREATE TABLE property(key TEXT NOT NULL PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID")
	tableSource   = keyed("source", "CREATE TABLE source(url TEXT NOT NULL PRIMARY KEY, priority INTEGER NOT NULL) WITHOUT ROWID")
	tableNode     = rowed("node", "CREATE TABLE node(id INTEGER PRIMARY KEY, mode INTEGER NOT NULL, uid INTEGER NOT NULL, gid INTEGER NOT NULL, mtime INTEGER NOT NULL, size INTEGER NOT NULL, rdev INTEGER NOT NULL, nlink INTEGER NOT NULL, object INTEGER REFERENCES object, target BLOB, xattrs INTEGER)")
	tableEntry    = keyed("entry", "CREATE TABLE entry(parent INTEGER NOT NULL REFERENCES node, name BLOB NOT NULL, node INTEGER NOT NULL REFERENCES node, PRIMARY KEY(parent, name)) WITHOUT ROWID")
	tableXattr    = keyed("xattr", `CREATE TABLE xattr("set" INTEGER NOT NULL, name BLOB NOT NULL, value BLOB NOT NULL, PRIMARY KEY("set", name)) WITHOUT ROWID`)
	tableObject   = rowed("object", "CREATE TABLE object(id INTEGER PRIMARY KEY, digest BLOB NOT NULL, size INTEGER NOT NULL)")
	tableExtent   = keyed("extent", `CREATE TABLE extent(object INTEGER NOT NULL REFERENCES object, "offset" INTEGER NOT NULL, chunk INTEGER NOT NULL REFERENCES chunk, PRIMARY KEY(object, "offset")) WITHOUT ROWID`)
	tableChunk    = rowed("chunk", `CREATE TABLE chunk(id INTEGER PRIMARY KEY, digest BLOB NOT NULL, size INTEGER NOT NULL, blob INTEGER NOT NULL REFERENCES blob, "offset" INTEGER NOT NULL, stored INTEGER NOT NULL, codec INTEGER NOT NULL, "key" BLOB, base INTEGER)`)
	tableBlob     = rowed("blob", "CREATE TABLE blob(id INTEGER PRIMARY KEY, digest BLOB NOT NULL, size INTEGER NOT NULL)")

	schema = []sqlitefile.Table{tableProperty, tableSource, tableNode, tableEntry, tableXattr, tableObject, tableExtent, tableChunk, tableBlob}
)

// How many columns each table has.
const (
	propertyCols = 2
	sourceCols   = 2
	nodeCols     = 11
	entryCols    = 3
	xattrCols    = 3
	objectCols   = 3
	extentCols   = 3
	chunkCols    = 9
	blobCols     = 3
)

func rowed(name, sql string) sqlitefile.Table { return sqlitefile.Table{Name: name, SQL: sql} }

func keyed(name, sql string) sqlitefile.Table {
	return sqlitefile.Table{Name: name, SQL: sql, WithoutRowID: true}
}
