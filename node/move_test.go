package node_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/internal/testenv"
)

// TestMoved has mounts moved, and directories above them renamed, while a service runs and while
// none does: they are where they are, are served, and can be unmounted there.
func TestMoved(t *testing.T) {
	testenv.NoLeaks(t)
	s := newSite(t)
	tree, base := growBig(t, 71), testenv.TempDir(t)
	testenv.Mounted(t, base)
	at := func(name string) string {
		dir := filepath.Join(base, name, "mnt")
		testenv.Mounted(t, dir)
		return dir
	}
	mkdir := func(dir string) error { return os.MkdirAll(dir, 0o755) }
	// Mounts can be moved below one that is private.
	err := errors.Join(unix.Mount("none", base, "tmpfs", 0, ""), unix.Mount("", base, "", unix.MS_PRIVATE, ""), mkdir(at("a")), mkdir(at("b")))
	if err != nil {
		t.Fatal(err)
	}
	c := s.start(0)
	ref := s.publish(tree, "moved")
	info := s.mount(c, ref, at("a"))
	move := func(from, to string) {
		t.Helper()
		if err := unix.Mount(at(from), at(to), "", unix.MS_MOVE, ""); err != nil {
			t.Fatal(err)
		}
	}
	rename := func(from, to string) {
		t.Helper()
		if err := os.Rename(filepath.Dir(at(from)), filepath.Dir(at(to))); err != nil {
			t.Fatal(err)
		}
	}
	wantAt := func(name string) {
		t.Helper()
		got := s.mounts(c, 1)[0]
		if got.Dir != at(name) || got.Detached || got.Digest != info.Digest || !got.Since.Equal(info.Since) {
			t.Errorf("the mount is %+v, want what was mounted at %s, at %s", got, info.Dir, at(name))
		}
		check(t, tree, at(name))
	}
	move("a", "b")
	wantAt("b")
	rename("b", "c")
	wantAt("c")
	c.kill()
	move("c", "a")
	c = s.start(0)
	wantAt("a")
	c.kill()
	rename("a", "d")
	c = s.start(0)
	wantAt("d")
	if err := c.Unmount(t.Context(), at("d"), false); err != nil {
		t.Errorf("unmount where it is: %v", err)
	}
	s.mounts(c, 0)
	s.stop(c)
}
