package mount

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"testing"

	"github.com/zosfs/zosfs/errs"
)

func TestErrno(t *testing.T) {
	for _, kind := range errs.All() {
		in := false
		for _, e := range errnos {
			in = in || e.kind == kind //nolint:errorlint // the kinds themselves
		}
		if !in {
			t.Errorf("the table lacks %q", kind)
		}
		// Whatever the store met underneath, a reader has an I/O error.
		for _, err := range []error{kind, fmt.Errorf("read: %w: %w", fs.ErrNotExist, kind), fmt.Errorf("read: %w: %w", context.Canceled, kind)} {
			if got := Errno(err); got != syscall.EIO {
				t.Errorf("Errno(%v) = %v, want %v", err, got, syscall.EIO)
			}
		}
	}
	for _, c := range []struct {
		err  error
		want syscall.Errno
	}{
		{nil, 0},
		{errors.New("unknown"), syscall.EIO},
		{context.DeadlineExceeded, syscall.EIO},
		{fmt.Errorf("read: %w", context.Canceled), syscall.EINTR},
		{&fs.PathError{Op: "open", Path: "x", Err: fs.ErrNotExist}, syscall.ENOENT},
		{fs.ErrPermission, syscall.EACCES},
		{fs.ErrExist, syscall.EEXIST},
		{errors.ErrUnsupported, syscall.ENOTSUP},
	} {
		if got := Errno(c.err); got != c.want {
			t.Errorf("Errno(%v) = %v, want %v", c.err, got, c.want)
		}
	}
}
