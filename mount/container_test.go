package mount_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/internal/treetest"
	"github.com/zosfs/zosfs/mount/mounttest"
)

// TestContainer runs a container whose root is an overlay over a mount.
func TestContainer(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedOverlay(t)
	testenv.NeedTool(t, "go", "unshare")
	ref := testenv.TempDir(t)
	program := filepath.Join(ref, "bin/init")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./testdata/init")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	if err := errors.Join(
		os.Mkdir(filepath.Join(ref, "etc"), 0o755), os.Mkdir(filepath.Join(ref, "proc"), 0o755),
		os.Mkdir(filepath.Join(ref, "dev"), 0o755), unix.Mknod(filepath.Join(ref, "dev/null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))),
		os.WriteFile(filepath.Join(ref, "etc/message"), []byte("hello"), 0o644),
		os.WriteFile(filepath.Join(ref, "etc/remove"), []byte("remove"), 0o644),
	); err != nil {
		t.Fatal(err)
	}
	im := mounttest.Image(t, ref)
	for mode, mounted := range modes {
		t.Run(string(mode), func(t *testing.T) {
			m := mounted(t, im)
			root, upper, err := overlay(t, m.Dir())
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "--pid", "--fork", "--kill-child", filepath.Join(root, "bin/init"), "enter", root)
			got, err := cmd.CombinedOutput()
			const want = "pid 1 reads \"hello\" among bin dev etc proc\n" +
				"child reads \"hello, and more\", removed: true, IN=container\n"
			if err != nil || string(got) != want {
				t.Errorf("the container says %q, %v, want %q", got, err, want)
			}
			for name, want := range map[string]string{"etc/message": "hello, and more", "var/new": "new"} {
				if got, err := os.ReadFile(filepath.Join(upper, name)); err != nil || string(got) != want {
					t.Errorf("%s of the upper directory has %q, %v, want %q", name, got, err, want)
				}
			}
			var st unix.Stat_t
			if err := unix.Lstat(filepath.Join(upper, "etc/remove"), &st); err != nil || st.Mode != unix.S_IFCHR || st.Rdev != 0 {
				t.Errorf("etc/remove of the upper directory is %o, %d, %v, want a whiteout", st.Mode, st.Rdev, err)
			}
			treetest.Check(t, ref, m.Dir(), treetest.CompareOptions{})
			if err := unix.Unmount(root, 0); err != nil {
				t.Errorf("unmount of the root: %v", err)
			}
			if err := m.Unmount(t.Context(), false); err != nil || !ended(m) {
				t.Errorf("unmount: %v, ended: %v", err, ended(m))
			}
		})
	}
}
