// Package overlay makes a read-only tree writable: with overlayfs, whose lower layer is a
// mount of the tree and whose upper layer is in a directory of this node.
//
// # The directory
//
// What is written to a tree is kept in an [Upper], a directory with
//
//	base     the digest of the flist whose tree is below; one line
//	upper/   what overlayfs has written: changed files, whiteouts, marks
//	work/    overlayfs's own, of the same file system
//	disk     in place of these two, where the size is bounded: an ext4 image with both in it,
//	         which is mounted at mnt/ as long as the Upper is open
//
// It fits one base. overlayfs names lower files in upper ones by their inodes, so with
// another tree below it would show a mixture; [Open] refuses that.
//
// # Options
//
// metacopy=on: a change of mode, owner, time or attributes copies no content.
// redirect_dir=on: a directory of the tree is renamed without its content being copied.
// index=on: files with several names stay one file when one of them is written to.
// xino=on: inode numbers are those of the tree, before and after a file is written to.
// Where the lower file system has no file handles the kernel goes on without index.
package overlay
