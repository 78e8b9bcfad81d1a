// Package mapped has arrays that outgrow memory.
//
// A [Slice] is on the heap while it is small. Then its items move to a temporary file with
// no name, which is mapped into memory: the kernel may write them to the disk and take their
// memory for something else, so a process that keeps a few bytes for each of a hundred
// million things has no more memory of its own than for one of a million.
package mapped

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/errs"
)

// heapLimit is from how many bytes on items are in a file.
var heapLimit = 1 << 20

// A Slice is an array that grows. T must not contain pointers. The zero value is empty, with
// its file in the system's directory for temporary files; Close it always. It is not safe
// for concurrent use.
type Slice[T any] struct {
	// Items are all items. The caller may change them; they are valid until the next call
	// of a method.
	Items []T
	// Dir is where the file is made.
	Dir string

	f   *os.File
	mem []byte // mapped, with room for more items; nil while Items is on the heap
	new int    // items appended since Release
}

// releaseEvery is how many bytes are appended between two calls of Release.
const releaseEvery = 4 << 20

// Append adds v. A full disk is errs.ErrFull and leaves the Slice as it was.
func (s *Slice[T]) Append(v T) error {
	if n := len(s.Items); n == cap(s.Items) {
		if err := s.reserve(max(64, 2*n)); err != nil {
			return err
		}
	}
	s.Items = append(s.Items, v)
	if s.new++; s.mem != nil && s.new*int(unsafe.Sizeof(v)) >= releaseEvery {
		s.Release()
	}
	return nil
}

// Release lets go of the memory that the items take in this process, if they are in a file.
// They come back when they are used, mostly from the page cache.
func (s *Slice[T]) Release() {
	s.new = 0
	if s.mem != nil {
		_ = unix.Madvise(s.mem, unix.MADV_DONTNEED) // of a shared file nothing is lost
	}
}

// Resize makes s n items long. Those that are added are zero. Errors are as in Append.
func (s *Slice[T]) Resize(n int) error {
	if n > cap(s.Items) {
		if err := s.reserve(n); err != nil {
			return err
		}
	}
	old := len(s.Items)
	s.Items = s.Items[:n]
	if n > old {
		clear(s.Items[old:])
	}
	return nil
}

// reserve makes room for n items in all, which is more than there is.
func (s *Slice[T]) reserve(n int) error {
	var zero T
	size := n * int(unsafe.Sizeof(zero))
	if size <= heapLimit {
		s.Items = append(make([]T, 0, n), s.Items...)
		return nil
	}
	if s.f == nil {
		if err := s.create(); err != nil {
			return err
		}
	}
	// Space that the file system does not have is found out here: a page that cannot be
	// written ends the process.
	if err := allocate(s.f, int64(size)); err != nil {
		return s.failed(size, err)
	}
	var mem []byte
	var err error
	if s.mem == nil {
		mem, err = unix.Mmap(int(s.f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	} else {
		mem, err = unix.Mremap(s.mem, size, unix.MREMAP_MAYMOVE)
	}
	if err != nil {
		return s.failed(size, err)
	}
	items := unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(mem))), n)[:len(s.Items)]
	if s.mem == nil {
		copy(items, s.Items)
	}
	s.mem, s.Items = mem, items
	return nil
}

func (s *Slice[T]) create() (err error) {
	s.f, err = createTemp(s.Dir)
	if err != nil {
		return fmt.Errorf("temporary file: %w", err)
	}
	return nil
}

// createTemp makes a file with no name in dir. Where the file system can, the directory is not
// touched for that, so that whoever looks at it does not see it change.
func createTemp(dir string) (*os.File, error) {
	if dir == "" {
		dir = os.TempDir()
	}
	f, err := os.OpenFile(dir, os.O_RDWR|unix.O_TMPFILE, 0o600)
	if err == nil {
		return f, nil
	}
	if f, err = os.CreateTemp(dir, "zosfs-mapped-"); err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (s *Slice[T]) failed(size int, err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		err = fmt.Errorf("%w: %w", errs.ErrFull, err)
	}
	return fmt.Errorf("temporary file of %d bytes in %s: %w", size, s.Dir, err)
}

// allocate gives the file size bytes on the disk.
func allocate(f *os.File, size int64) error {
	for {
		err := unix.Fallocate(int(f.Fd()), 0, 0, size)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case !errors.Is(err, unix.EOPNOTSUPP):
			return err
		}
		return fill(f, size)
	}
}

// fill writes zeros up to size, for file systems that do not know fallocate.
func fill(f *os.File, size int64) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	zeros := make([]byte, 1<<20)
	for off := st.Size(); off < size; {
		n, err := f.WriteAt(zeros[:min(int64(len(zeros)), size-off)], off)
		if err != nil {
			return err
		}
		off += int64(n)
	}
	return nil
}

// Close empties the Slice and gives back its memory and its file. It may be called again.
func (s *Slice[T]) Close() error {
	var err error
	s.Items = nil
	if s.mem != nil {
		err = unix.Munmap(s.mem)
		s.mem = nil
	}
	if s.f != nil {
		err = errors.Join(err, s.f.Close())
		s.f = nil
	}
	return err
}
