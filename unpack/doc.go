// Package unpack restores the tree of an image in a directory.
//
// Everything that an flist holds comes back: types, modes, owners (for root, or when asked),
// nanosecond times, extended attributes with capabilities and ACLs, hard links, holes, names
// and targets as bytes, at any depth. What the kernel refuses to this user (devices,
// attributes of other namespaces) is left out and listed in the [Result].
//
// # Safety
//
// Nothing outside of the directory is written, whatever the flist says and whatever lies in
// the directory. Each name is used relative to the descriptor of its parent and never
// followed if it is a symlink; a parent that had to be closed is opened again from its child
// and must be the same inode as before. Files are made anew, never written into.
//
// # Order
//
// A first walk makes directories, files, symlinks and special files; workers fill files as
// they are made, several at a time, in walk order, which is the order of blobs. A second walk
// makes the further hard links. A last one, from the leaves up, gives directories what would
// keep them from being filled, or change by that: owner, attributes, mode and time. Inodes
// get their owner first, then attributes, then the mode, because each may undo the next.
//
// # Failure
//
// A directory that did not exist is removed again when something fails, one that was empty
// is emptied. With [Options.Over] what was made stays, and so may directories that have no
// other rights than the owner's. The error names the path in the image.
package unpack
