// Package mounttest says, in tests, how a mounted image behaves.
//
// [Test] packs a tree of oddities, has it mounted, and compares the mount with the tree it
// came from through every system call that reads, and through the tools that people use.
// [Faults] lets the store fail under a mount. Both are run by every path that package mount
// can take, so that no program can tell the paths apart.
//
// A [Mounter] mounts an image for the time of one test. [Pack] makes an flist and blobs of a
// tree, in the plainest way: it stands here so that a mount can be tested without the packer.
package mounttest
