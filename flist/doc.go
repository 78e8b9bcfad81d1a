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
// # Checked copies
//
// The check takes seconds for a million entries, and an flist does not change. So whoever has
// opened one may write a checked copy of it, with [Reader.Keep], and next time [OpenKept] takes
// its word for the rows. The copy is the plain database and what the check learned of it, under
// BLAKE3-256, all integers little-endian:
//
//	database   as it was checked
//	parts      the digest of each MiB of the database, the last one shorter
//	footer     magic, version of the checker, size of the database, facts
//	seal       the digest of parts and footer
//
// The digests find torn writes and bad disks, so nothing has to be synced. They prove nothing
// about who wrote the copy. That is left to the file system: it is a file of the user who opens
// it, which no other user may write to, in a directory of this node. It is private to the node
// and to one version of the checker; it is never shipped, and no part of docs/format.md.
//
// Nothing here fetches anything. A Reader is safe for concurrent use, a Writer is not.
package flist
