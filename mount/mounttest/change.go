package mounttest

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// readOnly: nothing can be changed, and what was tried says so.
func (s *suite) readOnly(t *testing.T) {
	at := func(name string) string { return filepath.Join(s.dir, name) }
	opened := func(flags int, name string) error {
		fd, err := unix.Open(at(name), flags|unix.O_CLOEXEC, 0o600)
		if err == nil {
			err = errors.Join(errors.New("opened"), unix.Close(fd))
		}
		return err
	}
	now := []unix.Timespec{{Nsec: unix.UTIME_NOW}, {Nsec: unix.UTIME_NOW}}
	for _, c := range []struct {
		name string
		err  error
	}{
		{"open for writing", opened(unix.O_WRONLY, hello)},
		{"open for reading and writing", opened(unix.O_RDWR, hello)},
		{"open and truncate", opened(unix.O_WRONLY|unix.O_TRUNC, hello)},
		{"create", opened(unix.O_RDWR|unix.O_CREAT, "plain/new")},
		{"create alone", opened(unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, "plain/new")},
		{"create without a name", opened(unix.O_RDWR|unix.O_TMPFILE, plain)},
		{"truncate", unix.Truncate(at(hello), 0)},
		{"unlink", unix.Unlink(at(hello))},
		{"rmdir", unix.Rmdir(at("plain/sub/empty"))},
		{"mkdir", unix.Mkdir(at("plain/new"), 0o755)},
		{"mknod", unix.Mknod(at("plain/new"), unix.S_IFIFO|0o600, 0)},
		{"symlink", unix.Symlink("target", at("plain/new"))},
		{"link", unix.Link(at(hello), at("plain/new"))},
		{"rename", unix.Rename(at(hello), at("plain/new"))},
		{"rename over", unix.Rename(at(hello), at(large))},
		{"exchange", unix.Renameat2(unix.AT_FDCWD, at(hello), unix.AT_FDCWD, at(large), unix.RENAME_EXCHANGE)},
		{"chmod", unix.Chmod(at(hello), 0o600)},
		{"chown", unix.Chown(at(hello), unix.Getuid(), unix.Getgid())},
		{"lchown", unix.Lchown(at("plain/symlink"), unix.Getuid(), unix.Getgid())},
		{"utimens", unix.UtimesNanoAt(unix.AT_FDCWD, at(hello), now, 0)},
		{"setxattr", unix.Setxattr(at(hello), "user.new", []byte("1"), 0)},
		{"removexattr", unix.Removexattr(at(hello), "user.greeting")},
		{"access for writing", unix.Access(at(hello), unix.W_OK)},
	} {
		if !errors.Is(c.err, unix.EROFS) {
			t.Errorf("%s: %v, want %v", c.name, c.err, unix.EROFS)
		}
	}
	f := open(t, s.dir, hello)
	if err := unix.Fallocate(int(f.Fd()), 0, 0, 1); !errors.Is(err, unix.EBADF) {
		t.Errorf("fallocate of a file open for reading: %v, want %v", err, unix.EBADF)
	}
}

// access: modes and ACLs bind other users as they do on any file system.
func (s *suite) access(t *testing.T) {
	if !root() {
		t.Log("as one user there are no others to compare")
		return
	}
	names := []string{"acl", "of-group", "nothing"}
	for _, mode := range []uint32{0, 0o400, 0o040, 0o004, 0o111, 0o644, 0o751} {
		names = append(names, fmt.Sprintf("file-%03o", mode))
	}
	for _, mode := range []uint32{0o700, 0o750, 0o711, 0o744, 0o1777} {
		dir := fmt.Sprintf("dir-%04o", mode)
		names = append(names, dir, dir+"/file", dir+"/nothing")
	}
	for _, id := range [][2]int{{0, 0}, {1000, 1000}, {1001, 2000}, {65534, 65534}} {
		for _, name := range names {
			both(t, s, fmt.Sprintf("open access/%s as %d:%d", name, id[0], id[1]), func(root string) (bool, error) {
				dir := open(t, root, "access")
				return false, as(id[0], id[1], func() error { return readAt(int(dir.Fd()), name) })
			})
		}
	}
}

// readAt opens name and looks at what is in it.
func readAt(dirfd int, name string) error {
	fd, err := unix.Openat(dirfd, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	p := make([]byte, 4096)
	if _, err = unix.Read(fd, p); errors.Is(err, unix.EISDIR) {
		_, err = unix.Getdents(fd, p)
	}
	return errors.Join(err, unix.Close(fd))
}
