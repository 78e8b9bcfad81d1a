package mount_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/mount"
	"github.com/zosfs/zosfs/mount/mounttest"
)

// TestHolds looks for our mounts below overlays, whose paths have what must be escaped.
func TestHolds(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedOverlay(t)
	ref := small(t)
	if err := os.WriteFile(filepath.Join(ref, "program"), []byte("x"), 0o755); err != nil {
		t.Fatal(err)
	}
	for mode, mounted := range modes {
		t.Run(string(mode), func(t *testing.T) {
			m := mounted(t, mounttest.Image(t, ref))
			want := mount.Info{Dir: m.Dir(), Mode: mode}
			one, _, err := overlay(t, m.Dir())
			if err != nil {
				t.Fatal(err)
			}
			two, _, err := overlay(t, one)
			if err != nil {
				t.Fatal(err)
			}
			odd := filepath.Join(testenv.TempDir(t), "a:b, c\\d")
			plain, odder := filepath.Join(odd, "plain"), filepath.Join(odd, "merged")
			for _, dir := range []string{odd, plain, odder, filepath.Join(odd, "bound")} {
				if err := os.Mkdir(dir, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			bound := filepath.Join(odd, "bound")
			testenv.Mounted(t, bound)
			if err := unix.Mount(one, bound, "", unix.MS_BIND, ""); err != nil {
				t.Fatal(err)
			}
			testenv.Mounted(t, odder)
			escaped := filepath.Join(filepath.Dir(odd), `a\:b\, c\\d`)
			if err := unix.Mount("overlay", odder, "overlay", unix.MS_RDONLY, fmt.Sprintf("lowerdir=%s/plain:%[1]s/bound", escaped)); err != nil {
				t.Fatal(err)
			}
			for _, dir := range []string{m.Dir(), one, two, odder} {
				for _, path := range []string{dir, filepath.Join(dir, "program")} {
					got, err := mount.Holds(path)
					if err != nil || got.Dir != want.Dir || got.Mode != want.Mode {
						t.Errorf("Holds(%s) = %+v, %v, want %s", path, got, err, want.Dir)
					}
				}
			}
			if got, err := mount.Holds(plain); err != nil || got != (mount.Info{}) {
				t.Errorf("Holds(%s) = %+v, %v, want nothing", plain, got, err)
			}
			if _, err := mount.Holds(filepath.Join(one, "none")); !os.IsNotExist(err) {
				t.Errorf("Holds of nothing: %v", err)
			}
		})
	}
}
