// Package db keeps the rows of a hub: accounts, tokens, repositories, flists, tags, and
// where blobs and chunks are. Bytes of blobs and flists lie elsewhere.
//
// The engine is SQLite in WAL mode, so that the operator's commands and a running hub may
// work on one database; what a method has written when it returns survives a crash. The
// SQL keeps to what PostgreSQL has too, as far as that costs nothing.
//
// # Who may read what
//
// A [Caller] may read a repository that is public, one of its own account that its token is
// not narrowed away from, and any with the scope of an admin. It may read a blob that a
// repository it may read needs, and one that its account has put, which proved that it holds
// the bytes; a narrowed token counts its own uploads only. Chunks are found in blobs that
// the caller may read and nowhere else, so a look-up proves nothing about other people's
// content. What may not be read is errs.ErrNotFound, as if it were not there.
//
// A DB is safe for concurrent use.
package db
