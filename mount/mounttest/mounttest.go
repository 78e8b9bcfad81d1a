package mounttest

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/image"
	"github.com/zosfs/zosfs/internal/testenv"
)

// A Mounter mounts im at a directory of its own and returns that. It unmounts when the test
// ends, whatever is left open there.
type Mounter func(t *testing.T, im *image.Image) (dir string)

// Options say what [Test] tests with.
type Options struct {
	Big bool // a directory of 100,000 entries instead of 3,000, which takes some seconds
	// Kernel says that EROFS shows the tree: it counts no free inodes, and blocks without holes.
	Kernel bool
}

// Test tests that a mount shows what was packed, one subtest per clause, on one mount.
func Test(t *testing.T, o Options, mount Mounter) {
	entries := 3_000
	if o.Big {
		entries = 100_000
	}
	ref := makeReference(t, entries)
	s := &suite{ref: ref, dir: mount(t, Image(t, ref)), entries: entries, kernel: o.Kernel}
	for _, clause := range []struct {
		name string
		test func(*suite, *testing.T)
	}{
		{"Compare", (*suite).compare},
		{"CompareWarm", (*suite).compare},
		{"Identity", (*suite).identity},
		{"Times", (*suite).times},
		{"Lookup", (*suite).lookup},
		{"OpenFlags", (*suite).openFlags},
		{"ReadOnly", (*suite).readOnly},
		{"Access", (*suite).access},
		{"Readlink", (*suite).readlink},
		{"Xattrs", (*suite).xattrs},
		{"ListOrder", (*suite).listOrder},
		{"ListSeek", (*suite).listSeek},
		{"ListHuge", (*suite).listHuge},
		{"Statfs", (*suite).statfs},
		{"ReadEdges", (*suite).readEdges},
		{"ReadHuge", (*suite).readHuge},
		{"ReadDirect", (*suite).readDirect},
		{"ReadConcurrently", (*suite).readConcurrently},
		{"SeekHoles", (*suite).seekHoles},
		{"Blocks", (*suite).blocks},
		{"Map", (*suite).mapped},
		{"Exec", (*suite).exec},
		{"Locks", (*suite).locks},
		{"Notify", (*suite).notify},
		{"Devices", (*suite).devices},
		{"Tools", (*suite).tools},
	} {
		t.Run(clause.name, func(t *testing.T) { clause.test(s, t) })
	}
}

// suite is a mount beside the tree that it shows.
type suite struct {
	ref, dir string
	entries  int // in the directory many
	kernel   bool
}

// both calls f with either tree and fails the test unless f returns the same for both. An
// error is compared by its errno.
func both[T comparable](t *testing.T, s *suite, what string, f func(root string) (T, error)) {
	t.Helper()
	want, wantErr := f(s.ref)
	got, gotErr := f(s.dir)
	if got != want || errno(gotErr) != errno(wantErr) {
		t.Errorf("%s = %v, %v; want %v, %v", what, got, gotErr, want, wantErr)
	}
}

// errno returns what err is to the kernel, 0 for nil.
func errno(err error) unix.Errno {
	e, ok := errors.AsType[unix.Errno](err)
	if err != nil && !ok {
		return ^unix.Errno(0)
	}
	return e
}

// as calls f with the file system rights of another user and returns its error. Paths in f
// are to be relative to descriptors, because test directories are private.
func as(uid, gid int, f func() error) error {
	result := make(chan error)
	go func() {
		// The thread is not unlocked, so it ends with the goroutine and nobody inherits
		// its rights.
		runtime.LockOSThread()
		if _, err := unix.SetfsgidRetGid(gid); err != nil {
			result <- err
			return
		}
		if _, err := unix.SetfsuidRetUid(uid); err != nil {
			result <- err
			return
		}
		if err := dropCapabilities(uid); err != nil {
			result <- err
			return
		}
		result <- f()
	}()
	return <-result
}

// dropCapabilities takes all capabilities from this thread unless uid is root.
func dropCapabilities(uid int) error {
	if uid == 0 {
		return nil
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData // version 3 has 64 bits in two of them
	return unix.Capset(&header, &none[0])
}

// open opens a name for reading until the test ends.
func open(t *testing.T, elem ...string) *os.File {
	t.Helper()
	f, err := os.Open(filepath.Join(elem...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeIt(t, f) })
	return f
}

func closeIt(t *testing.T, c io.Closer) {
	if err := c.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

func stat(t *testing.T, path string) unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatalf("lstat %s: %v", path, err)
	}
	return st
}

// root reports whether the clauses that need it can run.
func root() bool { return testenv.Root() }
