package mount_test

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/internal/treetest"
	"github.com/zosfs/zosfs/mount"
	"github.com/zosfs/zosfs/mount/kernel"
	"github.com/zosfs/zosfs/mount/mounttest"
)

// island mounts a file system of its own, inside of which mounts can be moved.
func island(t *testing.T) string {
	t.Helper()
	testenv.NeedRoot(t)
	dir := testenv.TempDir(t)
	testenv.Mounted(t, dir)
	if err := unix.Mount("none", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", dir, "", unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestMoved: a mount that is moved, or a directory above which is renamed, is the same one at
// another place.
func TestMoved(t *testing.T) {
	move := func(from, to string) error { return unix.Mount(from, to, "", unix.MS_MOVE, "") }
	rename := func(from, to string) error { return os.Rename(filepath.Dir(from), filepath.Dir(to)) }
	for name, c := range map[string]struct {
		rung kernel.Rung
		move func(from, to string) error
		into string // what is there before it is moved, besides that it comes from
	}{
		"move":        {"", move, "b/mnt"},
		"move a loop": {kernel.Loop, move, "b/mnt"},
		"rename":      {"", rename, ""},
	} {
		t.Run(name, func(t *testing.T) {
			ref := small(t)
			h, im, dir := newHost(t, c.rung), mounttest.Image(t, ref), island(t)
			from, to := filepath.Join(dir, "a", "mnt"), filepath.Join(dir, "b", "mnt")
			if err := os.MkdirAll(from, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.MkdirAll(filepath.Join(dir, c.into), 0o700); err != nil {
				t.Fatal(err)
			}
			testenv.Mounted(t, from)
			testenv.Mounted(t, to)
			o := mount.Options{Mode: mount.Kernel, Host: func() (*mount.Host, error) { return h, nil }}
			m, err := mount.Mount(t.Context(), im, from, o)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.move(from, to); err != nil {
				t.Fatal(err)
			}
			h.Refresh()
			if m.Detached() || ended(m) || m.Dir() != to {
				t.Errorf("after the move it is at %s, detached is %v, ended %v, want it at %s", m.Dir(), m.Detached(), ended(m), to)
			}
			dev, _, _ := m.Kernel()
			if at, ok := mount.Where(m.ID(), dev); !ok || at != to {
				t.Errorf("Where = %q, %v, want %q", at, ok, to)
			}
			if at, ok := mount.Where(m.ID(), dev+1); ok {
				t.Errorf("Where finds another file system at %q", at)
			}
			treetest.Check(t, ref, to, treetest.CompareOptions{})
			if c.rung == "" {
				if other := kernelAt(t, h, im); statDev(t, other.Dir()) != dev {
					t.Error("what is mounted after the move is not shared")
				}
			}
			// Something over it is not unmounted in its place, be it the same file system.
			if err := unix.Mount(to, to, "", unix.MS_BIND, ""); err != nil {
				t.Fatal(err)
			}
			if err := m.Unmount(t.Context(), false); err == nil {
				t.Error("what is over it is unmounted in its place")
			}
			if err := unix.Unmount(to, 0); err != nil {
				t.Fatal(err)
			}
			if err := m.Unmount(t.Context(), false); err != nil || !m.Detached() {
				t.Errorf("unmount: %v, detached is %v", err, m.Detached())
			}
			if at, ok := mount.Where(m.ID(), dev); ok {
				t.Errorf("after it was unmounted Where finds it at %q", at)
			}
		})
	}
}

// TestMovedIsNoticed: nobody need ask for it after a move that the kernel tells of.
func TestMovedIsNoticed(t *testing.T) {
	h, im, dir := newHost(t, ""), mounttest.Image(t, small(t)), island(t)
	from, to := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	for _, d := range []string{from, to} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
		testenv.Mounted(t, d)
	}
	o := mount.Options{Mode: mount.Kernel, Host: func() (*mount.Host, error) { return h, nil }}
	first, err := mount.Mount(t.Context(), im, from, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(from, to, "", unix.MS_MOVE, ""); err != nil {
		t.Fatal(err)
	}
	second, err := mount.Mount(t.Context(), im, from, o) // its place is free
	if err != nil {
		t.Fatal(err)
	}
	for m, want := range map[*mount.Mounted]string{first: to, second: from} {
		if m.Dir() != want || m.Detached() || statDev(t, want) != statDev(t, first.Dir()) {
			t.Errorf("a mount is at %s, detached is %v, want it at %s", m.Dir(), m.Detached(), want)
		}
	}
	for _, m := range []*mount.Mounted{first, second} {
		if err := m.Unmount(t.Context(), false); err != nil {
			t.Error(err)
		}
		waitDone(t, "the mount", m)
	}
}
