package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TempDir returns a new directory on a real file system, one that keeps user xattrs and
// holes and is not in memory. It is removed at the end of the test. The first of the
// default temporary directory (TMPDIR), /var/tmp and the working directory that is such
// a file system is taken; the test fails if none is.
func TempDir(t testing.TB) string {
	t.Helper()
	dir, remove, err := makeTemp()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := remove(); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	return dir
}

// Mounted sees to it that nothing is mounted at dir when the test has ended: a mount that
// is left there then is detached, busy or not.
func Mounted(t testing.TB, dir string) {
	t.Helper()
	t.Cleanup(func() {
		// Mounts may be stacked; EINVAL says that none is left.
		for {
			err := unix.Unmount(dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
			if errors.Is(err, unix.EPERM) {
				err = fusermountDetach(dir)
			}
			if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
				return
			}
			if err != nil {
				t.Errorf("unmount %s: %v", dir, err)
				return
			}
		}
	})
}

// fusermountDetach unmounts dir for a user who is not root; unix.EINVAL says that nothing
// was mounted there.
func fusermountDetach(dir string) error {
	out, err := exec.CommandContext(context.Background(), "fusermount3", "-u", "-z", "--", dir).CombinedOutput()
	if err != nil && strings.Contains(string(out), "not found in") {
		return unix.EINVAL
	}
	if err != nil {
		return errors.New(strings.TrimSpace(string(out)))
	}
	return nil
}

func makeTemp() (dir string, remove func() error, err error) {
	wd, err := os.Getwd()
	if err != nil {
		return "", nil, err
	}
	var why []error
	for _, base := range []string{os.TempDir(), "/var/tmp", wd} {
		outer, err := os.MkdirTemp(base, "zosfs-test-")
		if err != nil {
			why = append(why, err)
			continue
		}
		spread(outer)
		dir, err := os.MkdirTemp(outer, "")
		if err == nil {
			err = suits(dir)
		}
		if err != nil {
			why = append(why, fmt.Errorf("%s: %w", base, err), os.RemoveAll(outer))
			continue
		}
		return dir, func() error { return os.RemoveAll(outer) }, nil
	}
	return "", nil, fmt.Errorf("no file system for tests, set TMPDIR to one with xattrs and holes: %w", errors.Join(why...))
}

// spread asks ext4 to put what is made in dir far from its neighbours. Near them it walks
// past every inode that was freed in the last minutes, which after the removal of a few
// trees makes the creation of a file 30 times slower. Other file systems do not care.
func spread(dir string) {
	const topdir = 0x00020000 // FS_TOPDIR_FL
	f, err := os.Open(dir)
	if err != nil {
		return
	}
	defer f.Close()
	if flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS); err == nil {
		_ = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags|topdir)
	}
}

// suits reports what dir's file system lacks.
func suits(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("statfs: %w", err)
	}
	if st.Type == unix.TMPFS_MAGIC || st.Type == unix.RAMFS_MAGIC {
		return errors.New("lies in memory")
	}
	path := filepath.Join(dir, "probe")
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(keepsXattrs(f), keepsHoles(f), f.Close(), os.Remove(path))
}

func keepsXattrs(f *os.File) error {
	if err := unix.Fsetxattr(int(f.Fd()), "user.zosfs", []byte("x"), 0); err != nil {
		return fmt.Errorf("set user xattr: %w", err)
	}
	return nil
}

func keepsHoles(f *os.File) error {
	const hole = 1 << 20
	if _, err := f.WriteAt([]byte("x"), hole); err != nil {
		return err
	}
	switch off, err := unix.Seek(int(f.Fd()), 0, unix.SEEK_DATA); {
	case err != nil:
		return fmt.Errorf("seek to data: %w", err)
	case off == 0:
		return errors.New("does not keep holes")
	}
	return nil
}
