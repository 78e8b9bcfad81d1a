// Package chunk cuts a run of bytes into chunks and names them.
//
// A chunk is the unit of deduplication, compression, verification and caching. Its name is
// the BLAKE3-256 of its plaintext ([Digest]). Cut points depend on the bytes of the run and
// on [Params] alone, so equal runs give equal chunks wherever and whenever they are cut.
package chunk
