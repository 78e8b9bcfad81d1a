// Package mount puts an image at a directory.
//
// [Mount] chooses the path: [Kernel], where the kernel reads a metadata image by itself, or
// [FUSE], where package fusefs answers it. [Auto] takes the first that works and says why it
// took another than the best. [Unmount] ends a mount whoever serves it, also one whose server
// has died; [List] tells what is mounted.
//
// [Errno] is the one table from kinds of failure to what a reader of a mount sees. The rule
// behind it: what can go wrong with content is EIO, because a program knows what to do about
// a bad disk; the reason stands in the log.
//
// All of the package is safe for concurrent use.
package mount
