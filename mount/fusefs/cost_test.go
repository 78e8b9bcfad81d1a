package fusefs_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/mount/fusefs"
	"github.com/zosfs/zosfs/mount/mounttest"
)

// walk looks at every name below dir, with its attributes, and reads every file.
func walk(t *testing.T, dir string, read bool) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if _, err := d.Info(); err != nil {
			return err
		}
		if !read || !d.Type().IsRegular() {
			return nil
		}
		_, err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// smallTree makes 20 directories of 50 small files, and a link in each.
func smallTree(t *testing.T) string {
	t.Helper()
	dir := testenv.TempDir(t)
	for i := range 20 {
		sub := filepath.Join(dir, strconv.Itoa(i))
		err := os.Mkdir(sub, 0o755)
		for j := range 50 {
			err = errors.Join(err, os.WriteFile(filepath.Join(sub, strconv.Itoa(j)), []byte(sub), 0o644))
		}
		if err = errors.Join(err, os.Symlink("0", filepath.Join(sub, "link"))); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestCost counts the requests of what programs do most.
func TestCost(t *testing.T) {
	s := mount(t, mounttest.Image(t, smallTree(t)), fusefs.Options{})
	var last fusefs.Stats
	// since returns the requests by kind since the last call, but for statfs: others ask for
	// that, such as a node service in another test that looks for dead mounts.
	since := func() map[string]uint64 {
		now := s.Stats()
		diff := make(map[string]uint64)
		for kind, n := range now.Requests {
			if n -= last.Requests[kind]; n != 0 && kind != "statfs" {
				diff[kind] = n
			}
		}
		last = now
		return diff
	}
	since()

	walk(t, s.Dir(), false)
	first := since()
	if first["lookup"] != 0 || first["getattr"] != 0 || first["readdir"] != 0 {
		t.Errorf("the first walk cost %v, want listings alone", first)
	}
	if n := first["readdirplus"]; n < 21 || n > 3*21 {
		t.Errorf("the first walk of 21 directories cost %d listings", n)
	}

	walk(t, s.Dir(), true)
	if diff := cmp.Diff(map[string]uint64{"open": 1, "read": 1000, "flush": 1}, since()); diff != "" {
		t.Errorf("cost of the first reading of 1000 files (-want +got):\n%s", diff)
	}

	everything := func() {
		walk(t, s.Dir(), true)
		for _, name := range []string{"0/link", "7/7", "7/nothing", "nothing"} {
			path := filepath.Join(s.Dir(), name)
			var st unix.Stat_t
			err := unix.Stat(path, &st)
			_, lerr := os.Readlink(path)
			_, xerr := unix.Listxattr(path, nil)
			if err := errors.Join(err, lerr, xerr); errors.Is(err, unix.EIO) {
				t.Fatal(err)
			}
			_, _ = unix.Getxattr(path, "security.capability", nil)
		}
	}
	everything()
	since()
	everything()
	if again := since(); len(again) != 0 {
		t.Errorf("looking at everything again cost %v, want nothing", again)
	}
}

// TestReadAhead: the kernel has the read-ahead of the mount that it was given.
func TestReadAhead(t *testing.T) {
	testenv.NeedRoot(t)
	s := mount(t, mounttest.Image(t, smallTree(t)), fusefs.Options{})
	var st unix.Stat_t
	if err := unix.Stat(s.Dir(), &st); err != nil {
		t.Fatal(err)
	}
	kb, err := os.ReadFile(fmt.Sprintf("/sys/class/bdi/%d:%d/read_ahead_kb", unix.Major(st.Dev), unix.Minor(st.Dev)))
	if err != nil || string(kb) != "1024\n" {
		t.Errorf("read_ahead_kb is %q, %v, want 1024", kb, err)
	}
}

// TestCostSequential: with the read-ahead raised, one request carries 1 MiB.
func TestCostSequential(t *testing.T) {
	testenv.NeedRoot(t)
	const size = 16 << 20
	dir := testenv.TempDir(t)
	if err := os.WriteFile(filepath.Join(dir, "file"), make([]byte, size), 0o644); err != nil {
		t.Fatal(err)
	}
	s := mount(t, mounttest.Image(t, dir), fusefs.Options{})
	if _, err := os.ReadFile(filepath.Join(s.Dir(), "file")); err != nil {
		t.Fatal(err)
	}
	st := s.Stats()
	// The window begins small.
	if n := st.Requests["read"]; n > size>>20+8 || st.ReadBytes != size {
		t.Errorf("reading %d bytes took %d requests of %d bytes together", size, n, st.ReadBytes)
	}
}

// TestCostCached: content comes back from the image after the kernel dropped it, in one
// request a file.
func TestCostCached(t *testing.T) {
	dir := testenv.TempDir(t)
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	im := mounttest.Image(t, dir)
	s := mount(t, im, fusefs.Options{})
	f, err := os.Open(filepath.Join(s.Dir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for want := range uint64(3) {
		if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
			t.Fatal(err)
		}
		p := make([]byte, 7)
		if _, err := f.ReadAt(p, 0); err != nil || string(p) != "content" {
			t.Fatalf("read = %q, %v", p, err)
		}
		if got := s.Stats().Requests["read"]; got != want+1 {
			t.Errorf("%d requests, want %d", got, want+1)
		}
	}
}
