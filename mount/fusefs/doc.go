// Package fusefs shows an image as a read-only file system through FUSE.
//
// One [Server] serves one mount of one [image.Image]. It is built so that the kernel asks
// each question once: names, attributes and symlink targets never change, so they are
// answered with time-outs that never run out, listings come with the attributes of what
// they list (READDIRPLUS), names that are not there are cached as well, and OPEN and OPENDIR
// are answered with ENOSYS, after which the kernel opens files without a message. What has
// been looked at once costs no round trip any more, and content in the page cache none
// either. Why this and not handles or passthrough: reading 20,000 small files takes 0.08 s
// this way and 0.9 s in the usual one, most of which are OPEN and RELEASE round trips.
//
// The server is stateless. A node of the file system is the node of the flist with the same
// number (and that is st_ino), nothing is kept per open file or per look-up, FORGET is
// ignored. Each request can be answered, or answered again, by another process that serves
// the same flist with the same [Options].
//
// Rules that reading keeps: bytes come from [image.Image.ReadAt] alone, which verifies them;
// an answer is whole or an error, because the kernel takes a short one for the end of the
// file; a signal does not fail a read, unless it kills the reader.
//
// As root the mount shows device nodes, setuid bits and file capabilities for what they are
// and is open to all users, the kernel checking modes and ACLs as on any local file system.
// For other users fusermount3 mounts, always with nodev and nosuid: then those are shown
// still but have no effect.
//
// All of the package is safe for concurrent use.
package fusefs
