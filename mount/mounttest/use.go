package mounttest

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/internal/treetest"
)

// statfs: the figures of the tree, nothing free, read-only.
func (s *suite) statfs(t *testing.T) {
	var st unix.Statfs_t
	if err := unix.Statfs(s.dir, &st); err != nil {
		t.Fatal(err)
	}
	nodes := make(map[uint64]bool)
	size := int64(0)
	err := filepath.WalkDir(s.ref, func(path string, _ fs.DirEntry, err error) error {
		var one unix.Stat_t
		if serr := unix.Lstat(path, &one); errors.Is(serr, unix.ENAMETOOLONG) {
			return fs.SkipDir
		}
		if !nodes[one.Ino] && one.Mode&unix.S_IFMT == unix.S_IFREG {
			size += one.Size
		}
		nodes[one.Ino] = true
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if s.kernel { // EROFS counts from the other end
		st.Files, st.Ffree = st.Files-st.Ffree, 0
	}
	// Very deep directories are not walked.
	if got, least := int(st.Files), len(nodes); got < least || got > least+100 {
		t.Errorf("files = %d, want %d and a few", got, least)
	}
	if got := int64(st.Blocks) * st.Bsize; got < size || got > size+int64(st.Files)*st.Bsize {
		t.Errorf("%d blocks of %d bytes, want those of %d bytes in %d files", st.Blocks, st.Bsize, size, st.Files)
	}
	if st.Namelen != 255 || st.Flags&unix.ST_RDONLY == 0 || st.Bfree != 0 || st.Bavail != 0 || st.Ffree != 0 {
		t.Errorf("statfs = %+v, want names of 255 bytes, read-only, nothing free", st)
	}
}

// exec: programs and scripts run out of the mount, others do not.
func (s *suite) exec(t *testing.T) {
	for _, c := range []struct{ name, want string }{
		{"plain/program", "one two\n"},
		{"plain/script", "script one\n"},
	} {
		for range 2 {
			out, err := exec.CommandContext(t.Context(), filepath.Join(s.dir, c.name), "one", "two").CombinedOutput()
			if err != nil || string(out) != c.want {
				t.Errorf("%s prints %q, %v, want %q", c.name, out, err, c.want)
			}
		}
	}
	if err := exec.CommandContext(t.Context(), filepath.Join(s.dir, hello)).Run(); !errors.Is(err, unix.EACCES) {
		t.Errorf("run a file without x: %v, want %v", err, unix.EACCES)
	}
}

// locks: advisory locks hold against each other.
func (s *suite) locks(t *testing.T) {
	a, b := open(t, s.dir, hello), open(t, s.dir, hello)
	if err := unix.Flock(int(a.Fd()), unix.LOCK_EX); err != nil {
		t.Fatalf("flock: %v", err)
	}
	if err := unix.Flock(int(b.Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("second flock: %v, want %v", err, unix.EWOULDBLOCK)
	}
	if err := unix.Flock(int(a.Fd()), unix.LOCK_UN); err != nil {
		t.Error(err)
	}
	lock := unix.Flock_t{Type: unix.F_RDLCK, Whence: unix.SEEK_SET}
	if err := unix.FcntlFlock(a.Fd(), unix.F_OFD_SETLK, &lock); err != nil {
		t.Errorf("fcntl lock: %v", err)
	}
}

// notify: a watch can be set, and tells of what happens here.
func (s *suite) notify(t *testing.T) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	if _, err := unix.InotifyAddWatch(fd, filepath.Join(s.dir, hello), unix.IN_OPEN); err != nil {
		t.Fatalf("inotify: %v", err)
	}
	open(t, s.dir, hello)
	p := make([]byte, 4096)
	if n, err := unix.Read(fd, p); err != nil || n < unix.SizeofInotifyEvent {
		t.Errorf("read of an event = %d, %v", n, err)
	}
}

// devices: for root, device nodes work.
func (s *suite) devices(t *testing.T) {
	if !root() {
		t.Log("only root has device nodes")
		return
	}
	f, err := os.OpenFile(filepath.Join(s.dir, "odd/special/char-1-3"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer closeIt(t, f)
	if n, err := f.WriteString("into nothing"); n != 12 || err != nil {
		t.Errorf("write to the null device = %d, %v", n, err)
	}
}

// tools: what people use runs to its end and has nothing to complain of.
func (s *suite) tools(t *testing.T) {
	copied := filepath.Join(testenv.TempDir(t), "copy")
	for _, command := range [][]string{
		{"find", plain, "odd/names", many, "-printf", "%p %s %m\n"},
		{"du", "-s", plain, "odd/names", "odd/sparse", many},
		{"tar", "--xattrs", "--acls", "-cf", "-", plain, "odd/names", "odd/xattrs"},
		{"tar", "-S", "-cf", "-", "odd/sparse"},
		{"cp", "-a", plain, copied},
		{"ls", "-laR", plain, "odd/names"},
		{"sha256sum", large},
		{"file", "plain/program"},
	} {
		if _, err := exec.LookPath(command[0]); err != nil {
			t.Logf("%s is not installed", command[0])
			continue
		}
		cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
		cmd.Dir = s.dir
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := cmd.Run(); err != nil || stderr.Len() > 0 {
			t.Errorf("%q: %v, %s", command, err, stderr.String())
		}
	}
	treetest.Check(t, filepath.Join(s.ref, plain), copied, treetest.CompareOptions{})
}

// blocks: what a file takes is its data, not its size; EROFS knows the size alone.
func (s *suite) blocks(t *testing.T) {
	if s.kernel {
		for _, name := range []string{hello, large, "odd/empty/file"} {
			if st := stat(t, filepath.Join(s.dir, name)); st.Blocks != (st.Size+4095)/4096*8 {
				t.Errorf("%s of %d bytes takes %d blocks", name, st.Size, st.Blocks)
			}
		}
		return
	}
	for _, name := range []string{huge, hello, large, "odd/sparse/comb", "odd/sparse/all", "odd/sparse/odd-offsets", "odd/empty/file"} {
		want, got := stat(t, filepath.Join(s.ref, name)).Blocks, stat(t, filepath.Join(s.dir, name)).Blocks
		// The file system of the reference may count blocks of its own there.
		if got > want || got < want-64 {
			t.Errorf("%s takes %d blocks, want %d", name, got, want)
		}
	}
}
