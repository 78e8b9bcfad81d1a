package kernel_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/image"
	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/internal/treetest"
	"github.com/zosfs/zosfs/mount/kernel"
	"github.com/zosfs/zosfs/mount/mounttest"
)

var rungs = []kernel.Rung{kernel.FileBacked, kernel.Loop}

func need(t *testing.T) {
	t.Helper()
	testenv.NeedRoot(t)
	testenv.NeedEROFS(t)
}

// source makes both files of im; the content device is a plain file.
func source(t *testing.T, im *image.Image) kernel.Source {
	t.Helper()
	s := kernel.Source{Image: written(t, im)}
	s.Device = filepath.Join(filepath.Dir(s.Image), "device")
	size, err := im.Device().Size()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(s.Device)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(f, io.NewSectionReader(deviceReader{t.Context(), im.Device()}, 0, size))
	if err := errors.Join(err, f.Truncate(max(size, image.DeviceBlock)), f.Close()); err != nil {
		t.Fatal(err)
	}
	return s
}

type deviceReader struct {
	ctx context.Context
	dev *image.Device
}

func (r deviceReader) ReadAt(p []byte, off int64) (int, error) { return r.dev.ReadAt(r.ctx, p, off) }

// point returns an empty directory that has no mount when the test has ended.
func point(t *testing.T) string {
	t.Helper()
	dir := testenv.TempDir(t)
	testenv.Mounted(t, dir)
	return dir
}

func mounted(t *testing.T, s kernel.Source, rung kernel.Rung) (string, kernel.Mounted) {
	t.Helper()
	dir := point(t)
	m, err := kernel.Mount(s, dir, rung)
	if err != nil {
		t.Fatal(err)
	}
	return dir, m
}

func statDev(t *testing.T, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Dev
}

// TestMount compares trees, without anybody who serves: hard links, devices, holes and all.
func TestMount(t *testing.T) {
	need(t)
	ref := testenv.TempDir(t)
	treetest.Odd(t, ref, treetest.Options{Seed: 4})
	s := source(t, mounttest.Image(t, ref))
	for _, rung := range rungs {
		t.Run(string(rung), func(t *testing.T) {
			dir, m := mounted(t, s, rung)
			if m.Rung != rung || m.Dev != statDev(t, dir) {
				t.Errorf("Mount = %+v, want rung %q and st_dev %d", m, rung, statDev(t, dir))
			}
			treetest.Check(t, ref, dir, treetest.CompareOptions{})
			if err := unix.Unmount(dir, 0); err != nil {
				t.Fatal(err)
			}
			if left := loops(t, filepath.Dir(s.Image)); len(left) > 0 {
				t.Errorf("loop devices left after the unmount: %v", left)
			}
		})
	}
}

// loops returns the loop devices over files in dir.
func loops(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, f := range files {
		if back, err := os.ReadFile(f); err == nil && strings.HasPrefix(string(back), dir) {
			found = append(found, f)
		}
	}
	return found
}

// TestMountWithoutContent: the smallest images there are.
func TestMountWithoutContent(t *testing.T) {
	need(t)
	for _, n := range []int{0, 5} {
		s := source(t, build(t, flat(n)))
		for _, rung := range rungs {
			dir, _ := mounted(t, s, rung)
			if entries, err := os.ReadDir(dir); err != nil || len(entries) != n {
				t.Errorf("%s: %d entries, %v, want %d", rung, len(entries), err, n)
			}
		}
	}
}

// TestMountErrors: what cannot be mounted is said with the kernel's own words, and leaves nothing.
func TestMountErrors(t *testing.T) {
	need(t)
	good := source(t, build(t, flat(5)))
	dir := filepath.Dir(good.Image)
	garbage := filepath.Join(dir, "garbage")
	if err := os.WriteFile(garbage, []byte(strings.Repeat("garbage ", 4096)), 0o600); err != nil {
		t.Fatal(err)
	}
	nothing := filepath.Join(dir, "nothing")
	for _, c := range []struct {
		name string
		s    kernel.Source
		rung kernel.Rung
		want error
		text string
	}{
		{"superblock", kernel.Source{Image: garbage, Device: good.Device}, "", unix.EINVAL, "kernel log"},
		{"superblock of a loop device", kernel.Source{Image: garbage, Device: good.Device}, kernel.Loop, unix.EINVAL, "kernel log"},
		{"no image", kernel.Source{Image: nothing, Device: good.Device}, "", fs.ErrNotExist, "file: "},
		{"no device", kernel.Source{Image: good.Image, Device: nothing}, "", fs.ErrNotExist, "loop: "},
		{"no device for a file", kernel.Source{Image: good.Image, Device: nothing}, kernel.FileBacked, fs.ErrNotExist, "file: "},
		{"no device for a loop device", kernel.Source{Image: good.Image, Device: nothing}, kernel.Loop, fs.ErrNotExist, nothing},
		{"device is a directory", kernel.Source{Image: good.Image, Device: dir}, kernel.Loop, unix.EINVAL, dir},
		{"unknown rung", good, "cdrom", errs.ErrFormat, "cdrom"},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := point(t)
			before := statDev(t, at)
			m, err := kernel.Mount(c.s, at, c.rung)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) || strings.Contains(err.Error(), "%!") {
				t.Errorf("Mount = %+v, %v, want %v and %q", m, err, c.want, c.text)
			}
			if statDev(t, at) != before {
				t.Error("something is mounted")
			}
			if left := loops(t, dir); len(left) > 0 {
				t.Errorf("loop devices left: %v", left)
			}
		})
	}
	if _, err := kernel.Mount(good, nothing, ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Mount at nothing: %v, want %v", err, fs.ErrNotExist)
	}
}

// TestClone: a clone is the same file system; what is another one by now is not shown.
func TestClone(t *testing.T) {
	need(t)
	s := source(t, build(t, flat(5)))
	from, m := mounted(t, s, "")
	at := point(t)
	if c, err := kernel.Clone(from, m.Dev, at); err != nil || c.Dev != m.Dev || statDev(t, at) != m.Dev {
		t.Errorf("Clone = %+v, %v, want st_dev %d", c, err, m.Dev)
	}
	if err := unix.Unmount(from, 0); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(at); err != nil || len(entries) != 5 {
		t.Errorf("a clone without the original has %d entries, %v", len(entries), err)
	}

	other := point(t)
	before := statDev(t, other)
	refused := func(what string, want error) {
		t.Helper()
		if c, err := kernel.Clone(from, m.Dev, other); !errors.Is(err, want) {
			t.Errorf("Clone of %s = %+v, %v, want %v", what, c, err, want)
		}
		if statDev(t, other) != before {
			t.Errorf("Clone of %s mounts it", what)
		}
	}
	refused("what is not mounted", errors.ErrUnsupported)
	if err := unix.Mount("none", from, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	refused("another file system", errors.ErrUnsupported)
	if again, err := kernel.Mount(s, from, ""); err != nil || again.Dev == m.Dev {
		t.Fatalf("Mount = %+v, %v, want another st_dev than %d", again, err, m.Dev)
	}
	refused("another file system of the same image", errors.ErrUnsupported)
	from = filepath.Join(from, "nothing")
	refused("nothing", fs.ErrNotExist)
}
