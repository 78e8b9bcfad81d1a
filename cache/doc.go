// Package cache is the node's chunk cache: verified plaintext chunks in append-only files,
// shared by all images of a node, with a byte limit, pins, and one download per chunk.
//
// # Promises
//
// What [Cache.Read] returns is what the chunk's digest names: each record is checked against
// its digest at its first use after every start, and the digest in its header at every use.
// A record that does not check out is dropped, counted, logged, and a miss. Neither a full
// disk nor a failing one makes a read fail: what cannot be kept passes through, and stays in
// a small memory of recent chunks for a while. Nothing is synced to disk but pins; what a
// crash tears is cut off or found out at its first use, and fetched again.
//
// # Directory
//
//	lock                    held by the one writer (flock)
//	segments/%08x.seg       written once, front to back; the highest number is the newest
//	pins/<escaped name>.pin the digests of a pin, ascending
//
//	segment   header 32 | record | record | ... | table, once the segment is full
//	record    header 48 | plaintext | zeros up to a multiple of 16
//	table     12 a record | trailer 56
//
// All integers are little-endian:
//
//	segment header   magic "zosfsseg", version u32, number u32, 12 zero bytes, CRC32C of bytes 0-27
//	record header    magic "ZCR1", size u32, digest [32], flags u32 (0), CRC32C of bytes 0-43
//	table entry      first 8 bytes of the digest, offset in units of 16 u32
//	trailer          magic "zosfstab", records u32, number u32, table offset u64,
//	                 BLAKE3-256 of the table and the trailer's bytes 0-23
//	pin              magic "zosfspin", version u32, 4 zero bytes, digests, BLAKE3-256 of all before
//
// The table spares [Open] the walk over all records; where it is missing or does not check
// out, the records' headers are walked instead, up to the first that is not whole.
//
// # Memory
//
// The index is an open-addressing table of 16-byte slots in 256 shards. A shard grows by a
// quarter when 7/8 of its slots are taken, so a chunk costs 18 to 23 bytes, 10 million of
// them at most 230 MB, and growth needs at any moment 1/256 more. A slot has 8 bytes of the
// digest: two chunks that agree in these share a slot, and the later one wins. Each segment
// costs a descriptor; there are at most about 1000.
//
// # Eviction
//
// A hand goes round the segments, the oldest first:
//
//	        hand
//	         v
//	+-----+-----+-----+-----+-----+--------+
//	|     | 07  | 08  | 09  | 0a  | active |
//	+-----+-----+-----+-----+-----+--------+
//	         |                        ^
//	         +-- read since the hand -+
//	             came by, or pinned
//
// The segment under the hand is deleted after what was read since the last visit, or is
// pinned, was appended to the active one. Where that is more than 3/4 of it, little would be
// gained for much writing: it stays, its marks are cleared and the hand moves on. A hand that
// meets [maxVisits] such segments in a row rests while a part of a segment's bytes pass through:
// a cache full of hot or pinned chunks costs next to nothing more.
//
// # Concurrency
//
// All methods are safe for concurrent use. Appending, evicting and re-reading the directory
// happen in turns (Cache.turn); whoever has the turn may do I/O. Read, Has and waiting for a
// download take the turn only in a reader (below), after a miss. Locks, in their order, none
// held during I/O: flights.mu, Cache.mu, the index's shards, recent.mu, each a leaf but
// Cache.mu, under which a shard may be locked.
//
// One process writes. [Open] in a second one gives a reader: it finds what the writer has
// stored so far, keeps what it downloads in memory alone, and takes over when it has
// something to store and the writer is gone, unless it was to be one for good
// ([Options].ReadOnly). The writer evicts without asking; a reader's
// descriptors stay valid, find the file empty, and that is a miss.
package cache
