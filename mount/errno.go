package mount

import (
	"context"
	"errors"
	"io/fs"
	"syscall"

	"github.com/zosfs/zosfs/errs"
)

// errnos is the table of [Errno]. The kinds stand first: the error of a read may also carry
// what a store met underneath (a file that is not there, a request that was called off), and
// that says nothing of the file that is read.
var errnos = []struct {
	kind  error
	errno syscall.Errno
}{
	{errs.ErrNotFound, syscall.EIO},    // a blob is missing, the file is not
	{errs.ErrCorrupt, syscall.EIO},     // never wrong bytes
	{errs.ErrFormat, syscall.EIO},      // a codec of a later version
	{errs.ErrUnavailable, syscall.EIO}, // after the deadline; there is no hope in asking at once again
	{errs.ErrDenied, syscall.EIO},      // the node lacks rights on the store, the reader has them on the file
	{errs.ErrFull, syscall.EIO},        // ENOSPC from a read would be read as a bug
	{context.Canceled, syscall.EINTR},  // the reader was killed
	{fs.ErrNotExist, syscall.ENOENT},   // a path in the image
	{fs.ErrPermission, syscall.EACCES},
	{fs.ErrExist, syscall.EEXIST},
	{errors.ErrUnsupported, syscall.ENOTSUP},
}

// Errno returns what a program sees when what it asked of a mount fails with err: 0 for nil,
// EIO for what no table knows.
func Errno(err error) syscall.Errno {
	if err == nil {
		return 0
	}
	for _, e := range errnos {
		if errors.Is(err, e.kind) {
			return e.errno
		}
	}
	return syscall.EIO
}
