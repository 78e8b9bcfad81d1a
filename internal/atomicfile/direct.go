package atomicfile

import (
	"errors"
	"io"
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
	return write(f, func(on bool) error { return setDirect(f, on) }, data)
}

// write writes data to w, the beginning past the page cache as far as can be. direct turns that
// on and off.
func write(w io.Writer, direct func(on bool) error, data []byte) error {
	n, err := writeDirect(w, direct, data)
	if err != nil {
		return err
	}
	_, err = w.Write(data[n:])
	return err
}

// writeDirect writes as much of the beginning of data past the page cache as can be, which
// may be nothing.
func writeDirect(w io.Writer, direct func(on bool) error, data []byte) (n int, err error) {
	if len(data) < directSize || uintptr(unsafe.Pointer(unsafe.SliceData(data)))%directAlign != 0 {
		return 0, nil
	}
	if err = direct(true); err == nil {
		n, err = w.Write(data[:len(data)&^(directAlign-1)])
	}
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		err = nil // not on this file system, or not from where the disk has stopped
	}
	return n, errors.Join(err, direct(false))
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
