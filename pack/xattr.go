package pack

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/flist"
)

// An xattrReader reads extended attributes. It is not safe for concurrent use.
type xattrReader struct {
	buf    []byte
	byPath bool // the kernel has no listxattrat
}

// read returns the attributes of name in the directory fd.
func (r *xattrReader) read(fd int, name string) ([]flist.Xattr, error) {
	names, err := grown(&r.buf, func(p []byte) (int, error) { return r.list(fd, name, p) })
	if errors.Is(err, unix.EOPNOTSUPP) || err == nil && len(names) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var set []flist.Xattr
	path := procPath(fd, name)
	for _, key := range strings.Split(strings.TrimSuffix(string(names), "\x00"), "\x00") {
		value, err := grown(&r.buf, func(p []byte) (int, error) { return unix.Lgetxattr(path, key, p) })
		switch {
		case errors.Is(err, unix.ENODATA), errors.Is(err, unix.EOPNOTSUPP):
			continue // removed meanwhile, or a name without a value
		case err != nil:
			return nil, fmt.Errorf("attribute %s: %w", key, err)
		}
		set = append(set, flist.Xattr{Name: key, Value: bytes.Clone(value)})
	}
	return set, nil
}

// list is listxattrat(2), which Linux has from 6.13 on, else llistxattr(2) by way of /proc,
// which takes longer.
func (r *xattrReader) list(fd int, name string, buf []byte) (int, error) {
	if !r.byPath {
		n, err := listxattrat(fd, name, buf)
		if !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EPERM) { // EPERM: from a filter of system calls
			return n, err
		}
		r.byPath = true
	}
	return unix.Llistxattr(procPath(fd, name), buf)
}

func listxattrat(fd int, name string, buf []byte) (int, error) {
	p, err := unix.BytePtrFromString(name)
	if err != nil {
		return 0, err
	}
	n, _, errno := unix.Syscall6(unix.SYS_LISTXATTRAT, uintptr(fd), uintptr(unsafe.Pointer(p)),
		unix.AT_SYMLINK_NOFOLLOW, uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(len(buf)), 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
