package mount_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/internal/treetest"
	"github.com/zosfs/zosfs/mount"
	"github.com/zosfs/zosfs/mount/kernel"
	"github.com/zosfs/zosfs/mount/mounttest"
)

// TestImageKept: a metadata image is made once; one that was damaged or removed, also by a
// version of later days, is made anew, and never mounted.
func TestImageKept(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedFUSE(t)
	testenv.NeedEROFS(t)
	ref := small(t)
	im := mounttest.Image(t, ref)
	work := testenv.TempDir(t)
	images := filepath.Join(work, "images")
	path := filepath.Join(images, im.Flist().Digest().String()+kernel.Suffix)
	h := hostWith(t, mount.HostOptions{Content: filepath.Join(work, "content"), Images: images})
	mounted := func() os.FileInfo {
		t.Helper()
		m := kernelAt(t, h, im)
		treetest.Check(t, ref, m.Dir(), treetest.CompareOptions{})
		if err := m.Unmount(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	first := mounted()
	if again := mounted(); !os.SameFile(first, again) {
		t.Error("the image is made again")
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, damage := range map[string]func() error{
		"flip":          func() error { return os.WriteFile(path, append([]byte{1}, whole[1:]...), 0o600) },
		"truncate":      func() error { return os.Truncate(path, 5000) },
		"empty":         func() error { return os.Truncate(path, 0) },
		"later version": func() error { return os.WriteFile(path, append(whole[:len(whole)-1:len(whole)-1], 2), 0o600) },
		"remove":        func() error { return os.Remove(path) },
	} {
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		mounted()
		if got, err := os.ReadFile(path); err != nil || string(got) != string(whole) {
			t.Errorf("%s: another image of %d bytes, %v", name, len(got), err)
		}
	}
	// What cannot be kept is said, and nothing is mounted.
	if err := errors.Join(os.RemoveAll(images), os.WriteFile(images, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	dir := testenv.TempDir(t)
	testenv.Mounted(t, dir)
	_, err = mount.Mount(t.Context(), im, dir, mount.Options{Mode: mount.Kernel, Host: func() (*mount.Host, error) { return h, nil }})
	if err == nil {
		t.Error("mounted without a place for the image")
	}
	if list, err := mount.Holds(dir); err != nil || list != (mount.Info{}) {
		t.Errorf("%v is mounted, %v", list, err)
	}
	if _, err := os.Stat(filepath.Join(work, "content", im.Flist().Digest().String())); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a device is left: %v", err)
	}
}
