// Package treetest makes trees for tests and tells trees apart.
//
// [Odd] makes a tree of everything that POSIX and Linux allow and that programs forget.
// [Grow] makes one that looks like the file system of a machine, of any size, and [Mutate]
// turns it into its next version. Both depend on their seed alone.
//
// [Compare] finds every difference of two trees: all fields of all entries, and content.
// It looks at names, never at inode numbers, and works at any depth, also where a path is
// longer than PATH_MAX.
//
// The package sees a tree as the kernel shows it; it knows nothing of flists and images.
package treetest
