// Package kernel mounts an image so that the kernel serves names and attributes by itself.
//
// Two things are mounted as one EROFS file system: a metadata image, a file that [WriteImage]
// makes of a validated flist, and a content device, a file whose bytes are those of
// image.Device and that somebody serves (package fusefs). The kernel parses nothing that came
// over a network: the metadata image is our own work, and [CheckImage] proves, by a digest at its
// end, that it is still as it was written.
//
// [Mount] tries what there is: EROFS over the two files themselves (Linux 6.12), else over loop
// devices. [Clone] shows a file system that is mounted already at another directory, so that
// both have one superblock and one page cache.
//
// Everything here is system calls of root. All of it is safe for concurrent use.
package kernel
