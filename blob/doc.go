// Package blob seals chunks and lays them out in blobs.
//
// A sealed chunk is a chunk as stores hold it: compressed, or as it is where that saves
// nothing (and, with the codecs reserved for it, encrypted). A blob is what a store holds:
// a short header, sealed chunks one after another, a table of them, and a footer that
// finds and proves the table. Blobs are named by the SHA-256 of all their bytes. The layout
// is normative in docs/format.md, section "Blob":
//
//	header 8 | sealed chunk | sealed chunk | ... | table: 48 a chunk | footer 56
//
// A reader that knows where a chunk lies (from an flist) reads that range and calls [Open];
// one that does not reads the footer, then the table, with [ReadTable]. Nothing that comes
// out of [Open] has not been verified against the chunk's digest.
//
// Values of this package are safe for concurrent use where their comment says so; [Writer]
// and [Sealer] are not.
package blob
