package mount_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/mount"
	"github.com/zosfs/zosfs/mount/kernel"
	"github.com/zosfs/zosfs/mount/mounttest"
)

func TestBeneath(t *testing.T) {
	testenv.NeedRoot(t)
	dir := testenv.TempDir(t)
	for _, name := range []string{"a", "a/b", "ab"} {
		sub := filepath.Join(dir, name)
		if err := os.Mkdir(sub, 0o755); err != nil {
			t.Fatal(err)
		}
		testenv.Mounted(t, sub)
		if err := unix.Mount("none", sub, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
	}
	got, err := mount.Beneath(filepath.Join(dir, "a"))
	if diff := cmp.Diff([]string{filepath.Join(dir, "a/b")}, got); err != nil || diff != "" {
		t.Errorf("Beneath = %v (-want +got):\n%s", err, diff)
	}
	if got, err := mount.Beneath(filepath.Join(dir, "ab")); err != nil || len(got) != 0 {
		t.Errorf("Beneath of a mount with none = %v, %v", got, err)
	}
}

// TestServed takes away who answers for a mount.
func TestServed(t *testing.T) {
	look := func(dir string) bool {
		all, err := mount.List()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range all {
			if m.Dir == dir {
				return mount.Served(m)
			}
		}
		t.Fatalf("no mount at %s", dir)
		return false
	}
	t.Run("fuse", func(t *testing.T) {
		m := at(t, mounttest.Image(t, small(t)), mount.Options{Mode: mount.FUSE})
		if !look(m.Dir()) {
			t.Error("a mount that is served is said not to be")
		}
	})
	for _, rung := range []kernel.Rung{kernel.FileBacked, kernel.Loop} {
		t.Run("kernel, "+string(rung), func(t *testing.T) {
			testenv.NeedEROFS(t)
			dir := testenv.TempDir(t)
			content := filepath.Join(dir, "content")
			h := hostWith(t, mount.HostOptions{Content: content, Images: filepath.Join(dir, "images"), Rung: rung})
			m := at(t, mounttest.Image(t, small(t)), mount.Options{Mode: mount.Kernel, Host: func() (*mount.Host, error) { return h, nil }})
			if !look(m.Dir()) {
				t.Error("a mount that is served is said not to be")
			}
			if err := unix.Unmount(content, unix.MNT_DETACH); err != nil {
				t.Fatal(err)
			}
			if look(m.Dir()) {
				t.Error("a mount without content device is said to be served")
			}
		})
	}
}
