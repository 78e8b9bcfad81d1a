package mounttest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/internal/treetest"
)

// compare looks at every field of every entry, and at content.
func (s *suite) compare(t *testing.T) {
	for _, sub := range []string{odd, plain, "access"} {
		treetest.Check(t, filepath.Join(s.ref, sub), filepath.Join(s.dir, sub), treetest.CompareOptions{})
	}
}

// identity: names of one inode have its number, others their own, and the whole tree is one
// device of its own.
func (s *suite) identity(t *testing.T) {
	a, b := stat(t, filepath.Join(s.dir, hello)), stat(t, filepath.Join(s.dir, "plain/hello-too"))
	if a.Ino != b.Ino || a.Nlink != 2 {
		t.Errorf("hard links have inodes %d and %d, nlink %d; want one inode, 2", a.Ino, b.Ino, a.Nlink)
	}
	seen := make(map[uint64]string)
	top := stat(t, s.dir)
	if outside := stat(t, filepath.Dir(s.dir)); top.Dev == outside.Dev {
		t.Errorf("the mount has the device %#x of the directory around it", top.Dev)
	}
	for _, name := range []string{"", plain, large, huge, many, many + "/entry-2999", "plain/symlink", hello} {
		st := stat(t, filepath.Join(s.dir, name))
		if st.Dev != top.Dev {
			t.Errorf("%q is on device %#x, want %#x", name, st.Dev, top.Dev)
		}
		if other, ok := seen[st.Ino]; ok || st.Ino == 0 {
			t.Errorf("%q has inode %d, as has %q", name, st.Ino, other)
		}
		seen[st.Ino] = name
	}
}

// times: an image has one time, which all three show; reading does not change it.
func (s *suite) times(t *testing.T) {
	path := filepath.Join(s.dir, large)
	before := stat(t, path)
	if before.Atim != before.Mtim || before.Ctim != before.Mtim {
		t.Errorf("atime %v and ctime %v are not the mtime %v", before.Atim, before.Ctim, before.Mtim)
	}
	if _, err := os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	if after := stat(t, path); after != before {
		t.Errorf("stat after reading = %+v, want %+v", after, before)
	}
}

// lookup: names that are not there fail as they do on any file system.
func (s *suite) lookup(t *testing.T) {
	for _, name := range []string{
		"nothing", "plain/nothing", "nothing/nothing", hello + "/below", hello + "/", plain + "/", "plain/.", "plain/..",
		"plain/symlink/", "plain/sub/../hello", strings.Repeat("n", 255), strings.Repeat("n", 256), "plain/Hello",
		"odd/symlinks/loop-a", "odd/symlinks/dangling", "many/entry-100000", "plain/" + strings.Repeat("sub/../", 700),
		"\xff", ".go-fuse", "plain/hello\n",
	} {
		for range 2 { // the second time from the kernel's memory
			both(t, s, fmt.Sprintf("stat %.40q", name), func(root string) (uint32, error) {
				var st unix.Stat_t
				err := unix.Stat(root+"/"+name, &st)
				return st.Mode, err
			})
		}
	}
}

// openFlags compares how names can be opened without changing anything.
func (s *suite) openFlags(t *testing.T) {
	flags := map[string]int{
		"O_RDONLY": 0, "O_DIRECTORY": unix.O_DIRECTORY, "O_NOFOLLOW": unix.O_NOFOLLOW, "O_PATH": unix.O_PATH,
		"O_NONBLOCK": unix.O_NONBLOCK, "O_NOATIME": unix.O_NOATIME, "O_EXCL|O_CREAT": unix.O_EXCL | unix.O_CREAT,
		"O_CREAT|O_DIRECTORY": unix.O_CREAT | unix.O_DIRECTORY,
		"O_PATH|O_NOFOLLOW":   unix.O_PATH | unix.O_NOFOLLOW, "O_SYNC": unix.O_SYNC, "O_APPEND": unix.O_APPEND,
	}
	for _, name := range []string{hello, plain, "plain/symlink", "odd/symlinks/loop-a", "odd/special/fifo", "odd/special/socket"} {
		for flag, bits := range flags {
			if name == "odd/special/fifo" && bits&(unix.O_NONBLOCK|unix.O_PATH|unix.O_DIRECTORY|unix.O_EXCL) == 0 {
				continue // would wait for a writer
			}
			both(t, s, fmt.Sprintf("open %s with %s", name, flag), func(root string) (bool, error) {
				fd, err := unix.Open(filepath.Join(root, name), bits|unix.O_CLOEXEC, 0o600)
				if err == nil {
					err = unix.Close(fd)
				}
				return err == nil, err
			})
		}
	}
}

// readlink: a target comes whole, or as much of it as the caller has room for.
func (s *suite) readlink(t *testing.T) {
	for _, name := range []string{"plain/symlink", "odd/symlinks/longest", "odd/symlinks/not-utf8", hello, plain} {
		for _, size := range []int{1, 3, 4095, 4096, 8192} {
			both(t, s, fmt.Sprintf("readlink %s, room for %d", name, size), func(root string) (string, error) {
				p := make([]byte, size)
				n, err := unix.Readlink(filepath.Join(root, name), p)
				return string(p[:max(n, 0)]), err
			})
		}
	}
}

// xattrs compares values, lists, and how their sizes are asked for.
func (s *suite) xattrs(t *testing.T) {
	for _, name := range []string{hello, "plain/script", "plain/symlink", plain, "odd/xattrs/long-value", "odd/xattrs/empty-value", "odd/xattrs/acl", "odd/xattrs/capability", "odd/special/fifo"} {
		for _, attr := range []string{"user.greeting", "user.empty", "user.a", "user.long", "user.none", "security.capability",
			"security.none", "trusted.none", "system.posix_acl_access", "system.posix_acl_default", "system.none", "none", "user.", strings.Repeat("n", 256)} {
			for _, size := range []int{0, 1, 5, 28, 1 << 16} {
				both(t, s, fmt.Sprintf("getxattr %.20s of %s, room for %d", attr, name, size), func(root string) (string, error) {
					p := make([]byte, size)
					n, err := unix.Lgetxattr(filepath.Join(root, name), attr, p)
					return fmt.Sprintf("%d %q", n, p[:min(size, max(n, 0))]), err
				})
			}
		}
	}
	list := func(root string, size int) (int, error) {
		return unix.Llistxattr(filepath.Join(root, hello), make([]byte, size))
	}
	n, err := list(s.dir, 0)
	if want := len("user.greeting\x00user.empty\x00"); n != want || err != nil {
		t.Errorf("listxattr without room = %d, %v, want %d, nil", n, err, want)
	}
	for _, size := range []int{1, n - 1, n, n + 1} {
		both(t, s, fmt.Sprintf("listxattr, room for %d", size), func(root string) (int, error) { return list(root, size) })
	}
	if root() {
		s.trustedXattrs(t)
	}
}

// trustedXattrs: names that only root may read are not shown to others.
func (s *suite) trustedXattrs(t *testing.T) {
	f := open(t, s.dir, "odd/xattrs/trusted")
	p := make([]byte, 1024)
	err := as(65534, 65534, func() error {
		n, err := unix.Flistxattr(int(f.Fd()), p)
		if err == nil && string(p[:n]) != "user.a\x00" {
			err = fmt.Errorf("list is %q, want user.a alone", p[:n])
		}
		if _, gerr := unix.Fgetxattr(int(f.Fd()), "trusted.a", p); !errors.Is(gerr, unix.ENODATA) {
			err = errors.Join(err, fmt.Errorf("getxattr trusted.a: %w, want %w", gerr, unix.ENODATA))
		}
		return err
	})
	if err != nil {
		t.Errorf("xattrs as user 65534: %v", err)
	}
}
