// Package pack turns a directory into an flist and blobs.
//
// # Pipeline
//
//	walker -> readers -> gather -> look-up -> placer -> uploads
//	            lane -^                        ^-> sealers
//
// The walker stats everything in the canonical order of package flist and hands regular
// files on: small ones to the readers, which run side by side, larger and sparse ones to
// the lane, which reads one after another and passes on parts of about 4 MiB. Gather takes
// the results in walk order again and collects them into batches; each batch asks the
// destination once which chunks it holds, and a few batches are under way at a time. The
// placer, alone and in walk order, decides for each chunk where it lies, has the new ones
// sealed, lays them out in blobs and writes the rows. So rows and blobs depend on the tree
// and on the answers of the destination, and never on the number of workers or on timing.
//
// # Memory
//
// Plaintext lives in two pools of slabs outside of the Go heap, one for the readers and
// one for the lane. Each pool is given out in walk order, and only things earlier in that
// order have to end for slabs to come back, so no stage can starve another for good; gather
// asks about a smaller batch when a pool runs dry. A sealed chunk overwrites its plaintext.
//
// # Where a chunk lies
//
// A chunk has one row, so it is placed once, at its first use in walk order: where the
// destination says it lies, or, when it is new, in the blob that is being filled. To keep
// pieces of a file together there is one exception, for files of more than 512 KiB. Each
// part of such a file (4 MiB, by content offset, so cut points do not depend on batches) is
// judged by the places of its chunks alone: where they make four or more runs in blobs and
// the mean run is under 512 KiB, the chunks without a row are stored again, together, in
// blobs with [blob.FlagCopy], and their rows name these. New chunks are laid out in ordinary
// blobs before the judgement. So a later pack of the tree, for which nothing is new because
// look-ups find ordinary blobs and pass over copies, sees the same places, comes to the same
// judgement and makes the same copies, which the store already holds. A chunk that begins a
// blob does not begin a run: an ordinary file that goes on in the next blob is not scattered.
//
// # What is recorded
//
// Everything that package flist knows of: all types of file, names and targets as bytes,
// times in nanoseconds, extended attributes, hard links, holes. A file with fewer blocks
// than bytes is asked for its holes; chunks that are all zeros become holes in any file.
// Device numbers are kept as makedev(3) has them. Entries on other file systems are packed
// like any other, unless [Options.OneFileSystem] is set.
//
// # What may go wrong
//
// A file that differs after reading from what the walk saw of it, and a name that is gone,
// are collected and fail the pack at its end, with a [ChangedError]: a tree that changes is
// best packed from a snapshot. What cannot be read fails it at once. Options say otherwise.
// A pack that fails or is cancelled leaves no flist and no temporary file; blobs that it has
// sent stay in the store, where they do no harm.
package pack
