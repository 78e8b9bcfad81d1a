// Package testenv tells tests what the machine they run on can do.
//
// A test that needs more than a plain process asks for it: NeedRoot, NeedFUSE,
// NeedOverlay, NeedEROFS, NeedMemoryGroup, NeedTool. Each finds out by trying, never by
// version or name, and skips the test with the reason where the machine cannot. A run that
// must not skip declares in the environment variable ZOSFS_NEED what is there, as a comma
// list of root, fuse, overlay, erofs, memory and tools, or all; a declared need that is not
// met fails the test.
//
// The functions are for use from the goroutine of the test. Each probe runs once a process.
package testenv
