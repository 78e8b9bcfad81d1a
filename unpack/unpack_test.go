package unpack_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/image"
	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/internal/treetest"
	"github.com/zosfs/zosfs/pack"
	"github.com/zosfs/zosfs/store"
	"github.com/zosfs/zosfs/store/dir"
	"github.com/zosfs/zosfs/unpack"
)

// A child of this test is an unpack without root: of the flist and store in these variables
// to the directory in the last.
const (
	childFlist = "UNPACK_TEST_FLIST"
	childStore = "UNPACK_TEST_STORE"
	childDir   = "UNPACK_TEST_DIR"
)

func TestMain(m *testing.M) {
	if to := os.Getenv(childDir); to != "" {
		os.Exit(child(to))
	}
	os.Exit(m.Run())
}

// dest is a store that holds no chunk yet.
type dest struct{ store.Store }

func (dest) Locate(context.Context, []chunk.Digest) (map[chunk.Digest]blob.Location, error) {
	return nil, nil
}

// source is a store whose reads can be watched.
type source struct {
	store.Getter
	get func() error
}

func (s *source) Get(ctx context.Context, id blob.Digest, off, n int64) (io.ReadCloser, error) {
	if s.get != nil {
		if err := s.get(); err != nil {
			return nil, err
		}
	}
	return s.Getter.Get(ctx, id, off, n)
}

// packed is a packed tree: paths of its flist and its store.
type packed struct{ flist, store string }

func packTree(t *testing.T, from string) packed {
	t.Helper()
	tmp := testenv.TempDir(t)
	reachable(t, tmp)
	p := packed{filepath.Join(tmp, "tree.flist"), filepath.Join(tmp, "store")}
	s, err := dir.New(p.store)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pack.Tree(t.Context(), from, dest{s}, p.flist, pack.Options{}); err != nil {
		t.Fatal(err)
	}
	return p
}

// reachable lets other users into a directory of the test.
func reachable(t *testing.T, dir string) {
	t.Helper()
	for d := dir; strings.Contains(d, "zosfs-test"); d = filepath.Dir(d) {
		must(t, os.Chmod(d, 0o755))
	}
}

// check compares an unpacked tree with the original. Blocks of zeros that are not holes may
// come back as holes: the format does not tell them apart.
func check(t *testing.T, from, to string) {
	t.Helper()
	diffs, err := treetest.Compare(from, to, treetest.CompareOptions{})
	must(t, err)
	treetest.Report(t, slices.DeleteFunc(diffs, func(d treetest.Diff) bool {
		return d.Path == "sparse/zeros-that-are-data" && d.Field == "holes"
	}))
}

// open returns the image of p. What reads it is ended with the test.
func (p packed) open(t *testing.T, get func() error) *image.Image {
	t.Helper()
	im, closeAll, err := p.image(get)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(closeAll)
	return im
}

func (p packed) image(get func() error) (*image.Image, func(), error) {
	r, err := flist.Open(p.flist, flist.OpenOptions{})
	if err != nil {
		return nil, nil, err
	}
	s, err := dir.New(p.store)
	if err != nil {
		return nil, nil, err
	}
	im, err := image.New(r, &source{s, get}, image.Options{})
	if err != nil {
		return nil, nil, err
	}
	return im, func() { _, _ = im.Close(), r.Close() }, nil
}

// target returns the path of a directory that does not exist.
func target(t *testing.T) string { return filepath.Join(testenv.TempDir(t), "out") }

func make1(t *testing.T, fill func(dir string)) string {
	t.Helper()
	d := filepath.Join(testenv.TempDir(t), "tree")
	if err := os.Mkdir(d, 0o755); err != nil {
		t.Fatal(err)
	}
	fill(d)
	return d
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestOddTree(t *testing.T) {
	from := make1(t, func(d string) { treetest.Odd(t, d, treetest.Options{Seed: 1}) })
	im := packTree(t, from).open(t, nil)
	to := target(t)
	var p unpack.Progress
	res, err := unpack.Tree(t.Context(), im, to, unpack.Options{Progress: &p})
	must(t, err)
	check(t, from, to)
	if testenv.Root() && (res.Devices.Count > 0 || res.Xattrs.Count > 0 || res.Modes.Count > 0) {
		t.Errorf("result %+v, want nothing left out", res)
	}
	if p.Bytes.Load() != p.TotalBytes.Load() || p.Files.Load() != p.TotalFiles.Load() || p.Files.Load() != res.Files {
		t.Errorf("progress: %d of %d files, %d of %d bytes", p.Files.Load(), p.TotalFiles.Load(), p.Bytes.Load(), p.TotalBytes.Load())
	}

	t.Run("over itself", func(t *testing.T) {
		if _, err := unpack.Tree(t.Context(), im, to, unpack.Options{}); !errors.Is(err, fs.ErrExist) {
			t.Errorf("into a full directory: %v, want fs.ErrExist", err)
		}
		check(t, from, to)
		_, err := unpack.Tree(t.Context(), im, to, unpack.Options{Over: true})
		must(t, err)
		check(t, from, to)
	})
}

func TestMachineTree(t *testing.T) {
	from := make1(t, func(d string) {
		_, err := treetest.Grow(d, treetest.GrowOptions{Files: 800, Seed: 3, MaxFile: 3 << 20})
		must(t, err)
	})
	to := target(t)
	_, err := unpack.Tree(t.Context(), packTree(t, from).open(t, nil), to, unpack.Options{})
	must(t, err)
	check(t, from, to)
}

// TestPlanted unpacks over a directory with symlinks that lead outside, where the image has
// directories, files, links and special files.
func TestPlanted(t *testing.T) {
	from := make1(t, func(d string) {
		must(t, os.Mkdir(filepath.Join(d, "dir"), 0o755),
			os.WriteFile(filepath.Join(d, "dir", "file"), []byte("new"), 0o644),
			os.WriteFile(filepath.Join(d, "file"), []byte("new"), 0o600),
			os.Link(filepath.Join(d, "file"), filepath.Join(d, "link")),
			os.Symlink("elsewhere", filepath.Join(d, "symlink")),
			unix.Mkfifo(filepath.Join(d, "fifo"), 0o644))
	})
	im := packTree(t, from).open(t, nil)
	outside := make1(t, func(d string) {
		must(t, os.WriteFile(filepath.Join(d, "victim"), []byte("old"), 0o640), os.Mkdir(filepath.Join(d, "victims"), 0o750))
	})
	before, err := treetest.Scan(outside)
	must(t, err)
	to := make1(t, func(d string) {
		must(t, os.Symlink(filepath.Join(outside, "victims"), filepath.Join(d, "dir")),
			os.WriteFile(filepath.Join(d, "mine"), []byte("mine"), 0o644))
		for _, name := range []string{"file", "link", "symlink", "fifo"} {
			must(t, os.Symlink(filepath.Join(outside, "victim"), filepath.Join(d, name)))
		}
	})
	_, err = unpack.Tree(t.Context(), im, to, unpack.Options{Over: true})
	must(t, err)
	after, err := treetest.Scan(outside)
	must(t, err)
	treetest.Report(t, before.Diff(after, treetest.CompareOptions{}))
	if p, err := os.ReadFile(filepath.Join(to, "mine")); err != nil || string(p) != "mine" {
		t.Errorf("a file that the image does not have: %q, %v", p, err)
	}
	must(t, os.Remove(filepath.Join(to, "mine")))
	mtime := treetest.CompareOptions{IgnoreMTime: true} // removing "mine" has changed that of the root
	treetest.Check(t, from, to, mtime)
}

// TestHardLinkedFileOver unpacks over a file that has another name outside: that must keep
// its content.
func TestHardLinkedFileOver(t *testing.T) {
	from := make1(t, func(d string) { must(t, os.WriteFile(filepath.Join(d, "f"), []byte("new"), 0o600)) })
	im := packTree(t, from).open(t, nil)
	base := testenv.TempDir(t)
	to, other := filepath.Join(base, "to"), filepath.Join(base, "other")
	must(t, os.Mkdir(to, 0o755), os.WriteFile(other, []byte("old"), 0o644), os.Link(other, filepath.Join(to, "f")))
	_, err := unpack.Tree(t.Context(), im, to, unpack.Options{Over: true})
	must(t, err)
	if p, err := os.ReadFile(other); err != nil || string(p) != "old" {
		t.Errorf("the other name: %q, %v, want what it was", p, err)
	}
}

func TestDirectoryInTheWay(t *testing.T) {
	from := make1(t, func(d string) { must(t, os.WriteFile(filepath.Join(d, "f"), []byte("new"), 0o600)) })
	im := packTree(t, from).open(t, nil)
	to := make1(t, func(d string) { must(t, os.MkdirAll(filepath.Join(d, "f", "kept"), 0o755)) })
	_, err := unpack.Tree(t.Context(), im, to, unpack.Options{Over: true})
	var at *fs.PathError
	if !errors.As(err, &at) || at.Path != "f" {
		t.Errorf("error %v, want one about f", err)
	}
	if _, err := os.Stat(filepath.Join(to, "f", "kept")); err != nil {
		t.Errorf("the directory in the way: %v, want it kept", err)
	}
}

func TestFailureLeavesNothing(t *testing.T) {
	from := make1(t, func(d string) {
		_, err := treetest.Grow(d, treetest.GrowOptions{Files: 300, Seed: 5, MaxFile: 100 << 10})
		must(t, err)
	})
	p := packTree(t, from)
	testenv.NoLeaks(t)
	boom := errors.Join(errors.New("boom"), errs.ErrCorrupt)
	for name, failAt := range map[string]int32{"first read": 1, "second read": 2} {
		t.Run(name, func(t *testing.T) {
			for kind, cancelled := range map[string]bool{"error": false, "cancel": true} {
				t.Run(kind, func(t *testing.T) {
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					var reads atomic.Int32
					im := p.open(t, func() error {
						if reads.Add(1) < failAt {
							return nil
						}
						if cancelled {
							cancel()
						}
						return boom
					})
					fresh, there := target(t), target(t)
					must(t, os.Mkdir(there, 0o751))
					for _, to := range []string{fresh, there} {
						before := descriptors(t)
						_, err := unpack.Tree(ctx, im, to, unpack.Options{})
						if cancelled && !errors.Is(err, context.Canceled) {
							t.Errorf("error %v, want context.Canceled", err)
						}
						if after := descriptors(t); after != before {
							t.Errorf("%d descriptors are open, %d were before", after, before)
						}
						var at *fs.PathError
						if !cancelled && (!errors.As(err, &at) || !errors.Is(err, errs.ErrCorrupt)) {
							t.Errorf("error %v, want one with a path and the cause", err)
						}
					}
					if _, err := os.Lstat(fresh); !errors.Is(err, fs.ErrNotExist) {
						t.Errorf("a directory that was not there: %v, want it gone", err)
					}
					list, err := os.ReadDir(there)
					if err != nil || len(list) > 0 {
						t.Errorf("a directory that was empty: %v, %v", list, err)
					}
					if st, err := os.Stat(there); err != nil || st.Mode().Perm() != 0o751 {
						t.Errorf("a directory that was empty: %v, %v, want its mode back", st, err)
					}
				})
			}
		})
	}
}

// child unpacks as the user who runs it, prints the result and exits.
func child(to string) int {
	im, closeAll, err := packed{os.Getenv(childFlist), os.Getenv(childStore)}.image(nil)
	if err != nil {
		_, _ = io.WriteString(os.Stderr, err.Error())
		return 1
	}
	defer closeAll()
	res, err := unpack.Tree(context.Background(), im, to, unpack.Options{})
	if err != nil {
		_, _ = io.WriteString(os.Stderr, err.Error())
		return 1
	}
	for _, l := range []struct {
		word string
		unpack.List
	}{{"device", res.Devices}, {"xattr", res.Xattrs}, {"mode", res.Modes}} {
		for _, p := range l.Paths {
			_, _ = io.WriteString(os.Stdout, l.word+" "+p+"\n")
		}
	}
	return 0
}

func TestNotRoot(t *testing.T) {
	testenv.NeedRoot(t)
	const other = 65534
	from := make1(t, func(d string) {
		f := func(name string) string { return filepath.Join(d, name) }
		must(t, os.WriteFile(f("suid"), []byte("x"), 0o755), os.Chmod(f("suid"), 0o755|os.ModeSetuid|os.ModeSetgid),
			os.WriteFile(f("mine"), []byte("x"), 0o755), os.Chown(f("mine"), other, other), os.Chmod(f("mine"), 0o755|os.ModeSetuid),
			unix.Setxattr(f("mine"), "user.note", []byte("kept"), 0),
			unix.Setxattr(f("suid"), "trusted.note", []byte("lost"), 0),
			unix.Mknod(f("disk"), unix.S_IFBLK|0o600, int(unix.Mkdev(7, 0))),
			os.Link(f("disk"), f("disk2")),
			unix.Mkfifo(f("fifo"), 0o644),
			os.Mkdir(f("closed"), 0o700), os.WriteFile(f("closed/in"), []byte("y"), 0), os.Link(f("closed/in"), f("in")),
			os.Chmod(f("closed"), 0))
	})
	p := packTree(t, from)
	base := testenv.TempDir(t)
	reachable(t, base)
	must(t, os.Chmod(base, 0o777))
	to := filepath.Join(base, "out")

	self, err := os.Executable()
	must(t, err)
	exe := filepath.Join(base, "unpack.test") // where the other user can run it
	data, err := os.ReadFile(self)
	must(t, err, os.WriteFile(exe, data, 0o755))
	must(t, exec.CommandContext(t.Context(), "chmod", "-R", "a+rX", filepath.Dir(p.flist)).Run())
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Dir = base
	cmd.Env = append(os.Environ(), childFlist+"="+p.flist, childStore+"="+p.store, childDir+"="+to, "TMPDIR="+base)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: other, Gid: other}}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	if got, want := string(out), "device disk\nxattr suid\nmode suid\n"; got != want {
		t.Errorf("listed:\n%swant:\n%s", got, want)
	}
	var st unix.Stat_t
	for name, want := range map[string]uint32{
		"suid": unix.S_IFREG | 0o755, "mine": unix.S_IFREG | 0o4755, "closed": unix.S_IFDIR, "closed/in": unix.S_IFREG, "fifo": unix.S_IFIFO | 0o644,
	} {
		must(t, unix.Lstat(filepath.Join(to, name), &st))
		if st.Mode != want || st.Uid != other || st.Gid != other {
			t.Errorf("%s: mode %#o, owner %d:%d, want %#o and %d", name, st.Mode, st.Uid, st.Gid, want, other)
		}
	}
	var in unix.Stat_t
	must(t, unix.Lstat(filepath.Join(to, "in"), &in), unix.Lstat(filepath.Join(to, "closed/in"), &st))
	if in.Ino != st.Ino {
		t.Error("a link to a file in a directory without rights is not one")
	}
	for _, name := range []string{"disk", "disk2"} {
		if err := unix.Lstat(filepath.Join(to, name), &st); !errors.Is(err, unix.ENOENT) {
			t.Errorf("%s: %v, want nothing there", name, err)
		}
	}
	buf := make([]byte, 16)
	if n, err := unix.Getxattr(filepath.Join(to, "mine"), "user.note", buf); err != nil || string(buf[:n]) != "kept" {
		t.Errorf("user.note: %q, %v", buf[:max(n, 0)], err)
	}
}

func TestOwners(t *testing.T) {
	testenv.NeedRoot(t)
	from := make1(t, func(d string) {
		f := filepath.Join(d, "f")
		must(t, os.WriteFile(f, []byte("x"), 0o755), os.Chown(f, 1234, 2345), os.Chmod(f, 0o755|os.ModeSetuid|os.ModeSetgid))
	})
	im := packTree(t, from).open(t, nil)
	for name, c := range map[string]struct {
		o        unpack.Owners
		uid, gid uint32
		mode     uint32
	}{
		"auto":   {unpack.OwnersAuto, 1234, 2345, 0o6755},
		"keep":   {unpack.OwnersKeep, 1234, 2345, 0o6755},
		"ignore": {unpack.OwnersIgnore, 0, 0, 0o755},
	} {
		t.Run(name, func(t *testing.T) {
			to := target(t)
			_, err := unpack.Tree(t.Context(), im, to, unpack.Options{Owners: c.o})
			must(t, err)
			var st unix.Stat_t
			must(t, unix.Lstat(filepath.Join(to, "f"), &st))
			if st.Uid != c.uid || st.Gid != c.gid || st.Mode&0o7777 != c.mode {
				t.Errorf("%d:%d %#o, want %d:%d %#o", st.Uid, st.Gid, st.Mode&0o7777, c.uid, c.gid, c.mode)
			}
		})
	}
}

// TestInheritedACL unpacks below a directory with a default ACL, which must not reach what
// is unpacked.
func TestInheritedACL(t *testing.T) {
	testenv.NeedTool(t, "setfacl")
	from := make1(t, func(d string) {
		must(t, os.Mkdir(filepath.Join(d, "sub"), 0o755), os.WriteFile(filepath.Join(d, "sub", "f"), []byte("x"), 0o644))
	})
	im := packTree(t, from).open(t, nil)
	base := testenv.TempDir(t)
	if out, err := exec.CommandContext(t.Context(), "setfacl", "-d", "-m", "u:1234:rwx", base).CombinedOutput(); err != nil {
		t.Fatalf("setfacl: %v: %s", err, out)
	}
	to := filepath.Join(base, "out")
	_, err := unpack.Tree(t.Context(), im, to, unpack.Options{})
	must(t, err)
	check(t, from, to)
}

// descriptors returns how many files this process has open below the test's directories:
// those of the store come and go on their own.
func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	n := 0
	for _, e := range list {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.Contains(to, "/out") {
			n++
		}
	}
	return n
}

func TestFull(t *testing.T) {
	testenv.NeedRoot(t)
	from := make1(t, func(d string) {
		_, err := treetest.Grow(d, treetest.GrowOptions{Files: 300, Seed: 7, MaxFile: 100 << 10})
		must(t, err)
	})
	im := packTree(t, from).open(t, nil)
	mnt := testenv.TempDir(t)
	testenv.Mounted(t, mnt)
	must(t, unix.Mount("tmpfs", mnt, "tmpfs", 0, "size=512k"))
	to := filepath.Join(mnt, "out")
	_, err := unpack.Tree(t.Context(), im, to, unpack.Options{})
	var at *fs.PathError
	if !errors.Is(err, errs.ErrFull) || !errors.As(err, &at) {
		t.Errorf("error %v, want errs.ErrFull and a path", err)
	}
	if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s: %v, want it gone", to, err)
	}
}
