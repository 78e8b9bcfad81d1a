// Package erofs writes EROFS images that hold the metadata of a tree: every inode, name and
// extended attribute. The content of regular files is not in the image; it lies on another
// device, at addresses that the caller gives, and the kernel reads it from there.
//
// [Write] makes two passes over the tree: one lays out (what lies where), one emits, from the
// first byte to the last. In memory are 4 bytes an inode and the distinct attributes; the
// image depends on the tree and the options alone.
//
// The format is that of the Linux kernel (Documentation/filesystems/erofs.rst and
// fs/erofs/erofs_fs.h), block size 4096, uncompressed, from Linux 5.16 on (device table,
// chunk-based files). What is used of it:
//
//	block 0     superblock at 1024, one device slot at 1152
//	block 1 …   inodes: 64 bytes, attributes, then symlink target, small directory, or chunk
//	            indexes
//	…           blocks of larger directories and long symlink targets
//	…           shared attributes
//
// A file is mapped by one chunk index of 8 bytes where it has no holes, whatever its size.
package erofs
