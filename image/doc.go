// Package image joins an flist and a store to a tree with readable, verified content.
//
// [Tree] is the metadata: every node and name of the flist in flat arrays, immutable, 52
// bytes an entry and the names. It never waits for anything. [Image] adds content:
// [Image.ReadAt] maps a range of a file to chunks, takes them from the node's [Cache] or
// fetches them from the store, and [Image.FS] shows the same as an io/fs file system.
//
// # Reading
//
// A chunk is delivered only after its digest was verified; holes read as zeros. Chunks that
// the cache lacks are claimed there, so that one download serves all readers, and fetched as
// ranges of blobs: pieces that lie closer than the window, bandwidth x delay of the source,
// are one range, and a range takes along what follows it in the blob as far as the window
// covers. On a source whose delay is unknown or below a millisecond the window is zero and
// nothing is fetched that was not asked for. Whoever reads a file in order gets a further
// read-ahead of up to four times bandwidth x delay, so that the link is always filled.
//
// Downloads belong to the Image, not to the reader who caused them: a reader who goes away
// hurts nobody. On-demand reads come before read-ahead, and read-ahead before [Image.Prefetch].
//
// Beside the Tree an Image takes an eighth of a byte a chunk, and 4 bytes a chunk more from
// the first miss on, to know the neighbours of each in its blob.
//
// # Failure
//
// What may pass is tried again, with growing pauses of at most a second, until
// [Options.Deadline] goes by without a chunk; what every source denies having, or refuses,
// fails at once. Either way the reader gets a [*ReadError]. A failure is remembered for at
// most a second, in which reads that begin anew fail with it at once; then the source is
// asked again, so one that comes back is used without further ado.
//
// # Concurrency
//
// Tree and Image are safe for concurrent use. Their locks (gate.mu, failures.mu, streams.mu,
// ahead.mu, memory.mu, meter.mu, the ring of errors) are leaves: none is held while another is taken, nor during I/O.
package image
