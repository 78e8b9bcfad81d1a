// Package flist reads and writes the metadata database of a tree.
//
// An flist holds everything about a tree but content: nodes (inodes), entries (names),
// extended attributes, objects (the content of files, by digest), extents and chunks (where
// the content lies), blobs and sources. It is one immutable SQLite database, shipped
// compressed with zstd; anyone can look into it with sqlite3. The layout is normative in
// docs/format.md, section "Flist".
//
// [Writer] streams rows to temporary files and lays the database out page by page, in an
// order that depends on the rows alone: the same rows give the same bytes. [Reader] treats
// every flist as hostile: [Open] checks each row and the shape of the tree before anything
// is answered, with our own reader of the file format, so no SQL engine ever runs over a
// stranger's bytes. After Open, what a Reader returns satisfies every rule of the format.
//
// Two digests name an flist. [Digest] is the BLAKE3-256 of the shipped file. [TreeDigest]
// covers nodes, names, attributes and object digests alone: two flists of one tree have
// equal tree digests however their content is cut, packed and stored.
//
// Nothing here fetches anything. A Reader is safe for concurrent use, a Writer is not.
package flist
