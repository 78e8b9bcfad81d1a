package mount_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/mount"
	"github.com/zosfs/zosfs/mount/mounttest"
)

// TestClearContent takes away what a dead process has left, and nothing else: not a file system of
// the same kind that the directory lies on.
func TestClearContent(t *testing.T) {
	ref := small(t)
	if err := os.Mkdir(filepath.Join(ref, "content"), 0o755); err != nil {
		t.Fatal(err)
	}
	m := at(t, mounttest.Image(t, ref), mount.Options{Mode: mount.FUSE})
	for _, dir := range []string{filepath.Join(m.Dir(), "content"), m.Dir(), filepath.Join(m.Dir(), "none"), "/no/such/content"} {
		if err := mount.ClearContent(dir); err != nil {
			t.Errorf("ClearContent(%s) where there is none: %v", dir, err)
		}
	}
	if on, err := mount.Holds(filepath.Join(m.Dir(), "content")); err != nil || on.Dir != m.Dir() {
		t.Fatalf("afterwards it lies on %+v, %v", on, err)
	}

	_, store, path := noise(t, 2, 100_000)
	j := newJob(t, store, path)
	host, first := startHost(t, j, nil)
	fd := host.descriptor(t, first.Connection.FD) // as a keeper has it that does not answer
	defer func() { _ = fd.Close() }()
	at := j.Mounts[0].Dir
	host.kill()
	if err := mount.ClearContent(j.Content); err != nil {
		t.Fatal(err)
	}
	if _, err := os.ReadFile(filepath.Join(at, "0")); !errors.Is(err, unix.EIO) {
		t.Errorf("read of a mount without content: %v, want %v", err, unix.EIO)
	}
	if left, err := os.ReadDir(j.Content); err != nil || len(left) != 0 {
		t.Errorf("where the devices were: %v, %v", left, err)
	}
}
