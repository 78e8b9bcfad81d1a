package node_test

import (
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"

	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/node"
)

// TestMemoryLimit: a running service limits its memory, with room for each mount.
func TestMemoryLimit(t *testing.T) {
	t.Setenv("GOMEMLIMIT", "")
	before := debug.SetMemoryLimit(-1)
	t.Cleanup(func() { // after the end of the service
		if now := debug.SetMemoryLimit(-1); now != before {
			t.Errorf("limit after the end is %d, want %d as before", now, before)
		}
	})
	w := newWorld(t)
	tree := testenv.TempDir(t)
	if err := os.WriteFile(filepath.Join(tree, "file"), []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	ref := w.publish(tree, "one")
	s := serve(t, node.Options{})
	idle := debug.SetMemoryLimit(-1)
	if idle < 40<<20 || idle > 48<<20 {
		t.Errorf("limit with nothing mounted is %d bytes, want 40 MiB and a little", idle)
	}
	info := s.mount(w, ref)
	if now := debug.SetMemoryLimit(-1); now <= idle || now > idle+1<<20 {
		t.Errorf("limit with a mount is %d bytes, want a little more than %d", now, idle)
	}
	if err := s.Unmount(t.Context(), info.Dir, false); err != nil {
		t.Fatal(err)
	}
	if now := debug.SetMemoryLimit(-1); now != idle {
		t.Errorf("limit after the unmount is %d bytes, want %d", now, idle)
	}
}
