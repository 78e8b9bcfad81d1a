package fusefs_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/internal/testenv"
)

const (
	// stageEnv makes the test binary prepare what TestRootless needs instead of testing.
	stageEnv = "ZOSFS_TEST_ROOTLESS"
	nobody   = 65534
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(stageEnv); dir != "" {
		if err := rootless(context.Background(), dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestRootless runs the other tests once more as a user without rights, through fusermount3.
// A mount namespace of its own has a /dev/fuse that all may open.
func TestRootless(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedFUSE(t)
	testenv.NeedTool(t, "fusermount3")
	dir := testenv.TempDir(t)
	if err := errors.Join(os.Chmod(dir, 0o755), copyFile("/proc/self/exe", filepath.Join(dir, "test"))); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "test"))
	cmd.Env = append(os.Environ(), stageEnv+"="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("tests as user %d: %v\n%s", nobody, err, out)
	}
}

// rootless runs as root in a mount namespace of its own; what it mounts goes with that.
func rootless(ctx context.Context, private string) error {
	const dir = "/mnt" // is there everywhere, and nobody may go to a directory of root's tests
	device, temp := filepath.Join(dir, "fuse"), filepath.Join(dir, "tmp")
	err := errors.Join(
		unix.Mount(private, dir, "", unix.MS_BIND, ""),
		unix.Mknod(device, unix.S_IFCHR, int(unix.Mkdev(10, 229))), // misc, fuse
		os.Chmod(device, 0o666),
		unix.Mount(device, "/dev/fuse", "", unix.MS_BIND, ""),
		os.Mkdir(temp, 0o700),
		os.Chown(temp, nobody, nobody),
	)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(dir, "test"), "-test.run",
		"^(TestSuite|TestFaults|TestCost|TestTable|TestUnmount|TestUnmountLazy|TestMountErrors)$")
	cmd.Dir = temp
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + temp, testenv.Env + "=fuse"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}

// copyFile makes a program of the file from.
func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close(), os.Chmod(to, 0o755))
}
