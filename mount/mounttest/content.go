package mounttest

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"unsafe"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// readEdges: reads at and around the end of a file, and of what is no file.
func (s *suite) readEdges(t *testing.T) {
	for _, name := range []string{hello, large, "odd/empty/file", "odd/sparse/all-odd-size", plain} {
		size := stat(t, filepath.Join(s.ref, name)).Size
		for _, off := range []int64{0, 1, size - 1, size, size + 1, size + 1<<40, -1, 1<<63 - 1} {
			for _, n := range []int{0, 1, 100, 5000} {
				both(t, s, fmt.Sprintf("pread %s [%d, +%d)", name, off, n), func(root string) (string, error) {
					p := make([]byte, n)
					n, err := unix.Pread(int(open(t, root, name).Fd()), p, off)
					return string(p[:max(n, 0)]), err
				})
			}
		}
	}
}

// readHuge: offsets beyond 4 GiB, holes, and the places where they meet data.
func (s *suite) readHuge(t *testing.T) {
	f := open(t, s.dir, huge)
	if st := stat(t, f.Name()); st.Size != hugeSize {
		t.Errorf("size = %d, want %d", st.Size, int64(hugeSize))
	}
	for _, at := range append(hugeMarks, 1<<30, 1<<32, 1<<32-1) {
		for _, off := range []int64{at, max(0, at-3000), max(0, at-70_000)} {
			p := make([]byte, 200_000)
			n, err := f.ReadAt(p, off)
			if err != nil && !errors.Is(err, io.EOF) {
				t.Errorf("read at %d: %v", off, err)
			}
			if i := differAt(p[:n], hugeAt(off, len(p))); i >= 0 {
				t.Errorf("read at %d gives %d bytes, differs at %d", off, n, i)
			}
		}
	}
}

// readDirect: O_DIRECT goes around the page cache, and gives the same.
func (s *suite) readDirect(t *testing.T) {
	fd, err := unix.Open(filepath.Join(s.dir, large), unix.O_RDONLY|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EINVAL) {
		return // not every file system has it
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	want, err := os.ReadFile(filepath.Join(s.ref, large))
	if err != nil {
		t.Fatal(err)
	}
	p, err := unix.Mmap(-1, 0, 4<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE) // aligned
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(p) }()
	n, err := unix.Pread(fd, p, 0)
	if err != nil || differAt(p[:max(n, 0)], want) >= 0 {
		t.Errorf("pread with O_DIRECT = %d, %v, want the %d bytes of the file", n, err, len(want))
	}
}

// readConcurrently: many readers of one file at random places each get what is there.
func (s *suite) readConcurrently(t *testing.T) {
	want, err := os.ReadFile(filepath.Join(s.ref, large))
	if err != nil {
		t.Fatal(err)
	}
	var g errgroup.Group
	for seed := range uint64(8) {
		g.Go(func() error {
			f, err := os.Open(filepath.Join(s.dir, large))
			if err != nil {
				return err
			}
			defer func() { _ = f.Close() }()
			rng := rand.New(rand.NewPCG(seed, 0))
			for range 200 {
				off := rng.IntN(largeSize)
				p := make([]byte, 1+rng.IntN(min(300_000, largeSize-off)))
				if rng.IntN(4) == 0 { // drop what the kernel holds, so that some reads come to the server
					if err := unix.Fadvise(int(f.Fd()), int64(off), int64(len(p)), unix.FADV_DONTNEED); err != nil {
						return err
					}
				}
				if _, err := f.ReadAt(p, int64(off)); err != nil {
					return err
				}
				if i := differAt(p, want[off:off+len(p)]); i >= 0 {
					return fmt.Errorf("read of %d bytes at %d differs at %d", len(p), off, i)
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
}

// seekHoles: where data and holes begin, and the edges of lseek.
func (s *suite) seekHoles(t *testing.T) {
	for _, name := range []string{huge, hello, "odd/sparse/comb", "odd/sparse/all", "odd/sparse/end", "odd/empty/file"} {
		size := stat(t, filepath.Join(s.ref, name)).Size
		for _, off := range []int64{0, 1, 4096, 5000, size / 2, size - 1, size, size + 1, -1} {
			for _, whence := range []int{unix.SEEK_DATA, unix.SEEK_HOLE, unix.SEEK_END} {
				both(t, s, fmt.Sprintf("lseek %s to %d, whence %d", name, off, whence), func(root string) (int64, error) {
					return unix.Seek(int(open(t, root, name).Fd()), off, whence)
				})
			}
		}
	}
}

// mapped: memory mappings show the file, zeros after its end, and keep changes private.
func (s *suite) mapped(t *testing.T) {
	want, err := os.ReadFile(filepath.Join(s.ref, large))
	if err != nil {
		t.Fatal(err)
	}
	f := open(t, s.dir, large)
	length := (largeSize + 4095) &^ 4095
	for name, flags := range map[string]int{"shared": unix.MAP_SHARED, "private": unix.MAP_PRIVATE} {
		prot := unix.PROT_READ
		if flags == unix.MAP_PRIVATE {
			prot |= unix.PROT_WRITE
		}
		p, err := unix.Mmap(int(f.Fd()), 0, length, prot, flags)
		if err != nil {
			t.Fatalf("mmap %s: %v", name, err)
		}
		if i := differAt(p[:largeSize], want); i >= 0 {
			t.Errorf("%s mapping differs at %d", name, i)
		}
		for i, b := range p[largeSize:] {
			if b != 0 {
				t.Errorf("%s mapping has %#x, %d bytes after the end", name, b, i)
				break
			}
		}
		if flags == unix.MAP_PRIVATE {
			p[0]++
		}
		if err := unix.Munmap(p); err != nil {
			t.Error(err)
		}
	}
	p := make([]byte, 1)
	if _, err := f.ReadAt(p, 0); err != nil || p[0] != want[0] {
		t.Errorf("a change of a private mapping shows in the file: %#x, %v, want %#x", p[0], err, want[0])
	}
	_, err = unix.MmapPtr(int(f.Fd()), 0, unsafe.Pointer(nil), 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if !errors.Is(err, unix.EACCES) {
		t.Errorf("mmap shared and writable: %v, want %v", err, unix.EACCES)
	}
}
