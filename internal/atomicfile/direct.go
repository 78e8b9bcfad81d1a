package atomicfile

import (
	"errors"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// directSize is from what size on data goes to the disk without a copy in the page cache:
	// whoever waits for the disk anyway gains nothing from that, and it costs a processor more
	// than the hashing of the data does.
	directSize = 1 << 20
	// directAlign is what the disks and file systems of today ask of addresses and lengths.
	directAlign = 4096
)

// writeAll writes data to the empty file f.
func writeAll(f *os.File, data []byte) error {
	n, err := writeDirect(f, data)
	if err != nil {
		return err
	}
	_, err = f.Write(data[n:])
	return err
}

// writeDirect writes as much of the beginning of data past the page cache as can be, which
// may be nothing.
func writeDirect(f *os.File, data []byte) (n int, err error) {
	if len(data) < directSize || uintptr(unsafe.Pointer(unsafe.SliceData(data)))%directAlign != 0 {
		return 0, nil
	}
	whole := data[:len(data)&^(directAlign-1)]
	err = setDirect(f, true)
	if err == nil {
		n, err = f.Write(whole)
		err = errors.Join(err, setDirect(f, false))
	}
	if n == 0 && (errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP)) {
		err = nil // not on this file system
	}
	return n, err
}

// setDirect turns O_DIRECT on or off.
func setDirect(f *os.File, on bool) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = c.Control(func(fd uintptr) {
		flags, err := unix.FcntlInt(fd, unix.F_GETFL, 0)
		if err != nil {
			failed = err
			return
		}
		flags &^= unix.O_DIRECT
		if on {
			flags |= unix.O_DIRECT
		}
		_, failed = unix.FcntlInt(fd, unix.F_SETFL, flags)
	})
	return errors.Join(err, failed)
}
