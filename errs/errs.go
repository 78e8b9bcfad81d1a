// Package errs names the kinds of failure that cross package borders.
//
// A kind is a sentinel: wrap it with what you know and test with [errors.Is]. Three
// tables translate kinds at the edges of the program: errno in package mount, HTTP
// status in package hub, exit code in cmd/zosfs. Each is tested against [All], so a
// new kind cannot be forgotten.
//
// Where the standard library has a fitting sentinel it is used instead: fs.ErrNotExist
// for a path that an image does not have, fs.ErrExist, fs.ErrPermission for the local
// file system, errors.ErrUnsupported, context.Canceled.
package errs

import "errors"

var (
	// ErrNotFound says that a store, hub or cache does not hold the named thing. It is
	// never about a path inside an image, which is fs.ErrNotExist.
	ErrNotFound = errors.New("not found")
	// ErrCorrupt says that bytes are not what their digest or their own structure
	// promises: damage, or a lie. The same bytes fail again; another source may do better.
	ErrCorrupt = errors.New("data damaged")
	// ErrFormat says that input is not in a format, or not in a version of it, that
	// this program reads.
	ErrFormat = errors.New("bad format")
	// ErrUnavailable says that a peer could not be reached or asked to be left alone.
	// Trying later may succeed.
	ErrUnavailable = errors.New("unavailable")
	// ErrDenied says that a peer refused for want of credentials or rights.
	ErrDenied = errors.New("access denied")
	// ErrFull says that a disk, quota or size limit is exhausted.
	ErrFull = errors.New("no space")
)

// All returns every kind, in a fixed order, for tests of the tables at the edges.
func All() []error {
	return []error{ErrNotFound, ErrCorrupt, ErrFormat, ErrUnavailable, ErrDenied, ErrFull}
}
