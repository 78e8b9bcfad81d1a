package atomicfile

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/internal/testenv"
)

// noise returns size bytes that lie off bytes behind a boundary of directAlign.
func noise(size, off int) []byte {
	p := make([]byte, size+off+directAlign)
	at := -uintptr(unsafe.Pointer(unsafe.SliceData(p))) % directAlign
	p = p[int(at)+off:][:size:size]
	_, _ = rand.NewChaCha8([32]byte{}).Read(p)
	return p
}

// isDirect reports whether what is written to f goes past the page cache.
func isDirect(t *testing.T, f *os.File) bool {
	t.Helper()
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	if err != nil {
		t.Fatal(err)
	}
	return flags&unix.O_DIRECT != 0
}

// takesDirect reports whether the file system of dir can be written past the page cache.
func takesDirect(t *testing.T, dir string) bool {
	t.Helper()
	path := filepath.Join(dir, "probe")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|unix.O_DIRECT, 0o600)
	if err == nil {
		_, err = f.Write(noise(directAlign, 0))
		err = errors.Join(err, f.Close())
	}
	if rerr := os.Remove(path); rerr != nil && !errors.Is(rerr, os.ErrNotExist) {
		t.Fatal(rerr)
	}
	return err == nil
}

// watched is a file that counts the bytes that are written past the page cache.
type watched struct {
	*os.File
	t      *testing.T
	direct int
}

func (w *watched) Write(p []byte) (int, error) {
	direct := isDirect(w.t, w.File)
	n, err := w.File.Write(p)
	if direct {
		w.direct += n
	}
	return n, err
}

// tmpfs mounts one of size bytes for the time of the test.
func tmpfs(t *testing.T, size int) string {
	t.Helper()
	testenv.NeedRoot(t)
	dir := t.TempDir()
	testenv.Mounted(t, dir)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestDirect: whatever the size and wherever the bytes lie, they are in the file, and the disk
// gets as much as can be without a copy.
func TestDirect(t *testing.T) {
	const large = directSize
	for place, dir := range map[string]func(*testing.T) string{
		"disk":  func(t *testing.T) string { return testenv.TempDir(t) },
		"tmpfs": func(t *testing.T) string { return tmpfs(t, 16<<20) },
	} {
		t.Run(place, func(t *testing.T) {
			dir := dir(t)
			takes := takesDirect(t, dir)
			for _, tt := range []struct{ size, off, direct int }{
				{0, 0, 0}, {1, 0, 0}, {large - 1, 0, 0}, {large, 0, large}, {large + 1, 0, large},
				{large + 4095, 0, large}, {large + 4096, 0, large + 4096}, {3*large + 5000, 0, 3*large + 4096},
				{large, 1, 0}, {large + 4096, 512, 0}, {large, 4095, 0},
			} {
				t.Run(fmt.Sprintf("%d bytes at %d", tt.size, tt.off), func(t *testing.T) {
					data := noise(tt.size, tt.off)
					path := filepath.Join(dir, "file")
					if err := WriteFile(path, data, 0o600); err != nil {
						t.Fatal(err)
					}
					if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, data) {
						t.Errorf("the file has %d bytes, %v, or other ones", len(got), err)
					}
					f, err := os.OpenFile(path, os.O_RDWR|os.O_TRUNC, 0)
					if err != nil {
						t.Fatal(err)
					}
					defer func() { _ = f.Close() }()
					w := &watched{File: f, t: t}
					if err := write(w, func(on bool) error { return setDirect(f, on) }, data); err != nil {
						t.Fatal(err)
					}
					if want := tt.direct; takes && w.direct != want || !takes && w.direct != 0 {
						t.Errorf("%d bytes went past the page cache, want %d", w.direct, want)
					}
					if isDirect(t, f) {
						t.Error("what is written afterwards would go past the page cache")
					}
				})
			}
		})
	}
}

// stubborn is a disk that stops taking direct writes after some bytes, with an error.
type stubborn struct {
	bytes.Buffer
	direct bool
	takes  int
	err    error
}

func (s *stubborn) set(on bool) error {
	s.direct = on
	return nil
}

func (s *stubborn) Write(p []byte) (int, error) {
	if !s.direct {
		return s.Buffer.Write(p)
	}
	n, _ := s.Buffer.Write(p[:s.takes])
	return n, s.err
}

// TestDirectStops: what a disk does not take directly, from whatever place on, goes the other
// way; any other error comes through.
func TestDirectStops(t *testing.T) {
	data := noise(2*directSize+7, 0)
	for _, takes := range []int{0, 512, directSize, directSize + 100} {
		for _, err := range []error{syscall.EINVAL, syscall.ENOTSUP, syscall.ENOSPC, syscall.EIO} {
			s := &stubborn{takes: takes, err: &os.PathError{Op: "write", Path: "file", Err: err}}
			got := write(s, s.set, data)
			if s.direct {
				t.Errorf("%v after %d bytes: direct writing stays on", err, takes)
			}
			if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EIO) {
				if !errors.Is(got, err) {
					t.Errorf("%v after %d bytes: write = %v", err, takes, got)
				}
				continue
			}
			if got != nil || !bytes.Equal(s.Bytes(), data) {
				t.Errorf("%v after %d bytes: write = %v, and %d bytes are there, or other ones", err, takes, got, s.Len())
			}
		}
	}
	// It cannot be turned on, or not off again.
	s := &stubborn{}
	if err := write(s, func(on bool) error {
		if on {
			return syscall.EINVAL
		}
		return nil
	}, data); err != nil || !bytes.Equal(s.Bytes(), data) {
		t.Errorf("where it cannot be turned on: %v", err)
	}
	broken := errors.New("injected")
	if err := write(&stubborn{takes: directSize}, func(on bool) error {
		if on {
			return nil
		}
		return broken
	}, data); !errors.Is(err, broken) {
		t.Errorf("where it cannot be turned off: %v, want %v", err, broken)
	}
}

// TestDirectFull: a disk that becomes full in the middle keeps nothing of the file.
func TestDirectFull(t *testing.T) {
	for _, off := range []int{0, 1} {
		dir := tmpfs(t, 2<<20)
		path := filepath.Join(dir, "file")
		if err := WriteFile(path, []byte(oldText), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := WriteFile(path, noise(4<<20, off), 0o600); !errors.Is(err, errs.ErrFull) {
			t.Errorf("write of more than there is room for: %v, want %v", err, errs.ErrFull)
		}
		if diff := cmp.Diff(map[string]string{"file": oldText}, list(t, dir)); diff != "" {
			t.Errorf("directory (-want +got):\n%s", diff)
		}
		if err := WriteFile(path, noise(1<<20, off), 0o600); err != nil {
			t.Errorf("the room is not given back: %v", err)
		}
	}
}
