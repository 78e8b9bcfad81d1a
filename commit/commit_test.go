package commit_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/commit"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/image"
	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/internal/treetest"
	"github.com/zosfs/zosfs/mount"
	"github.com/zosfs/zosfs/mount/overlay"
	"github.com/zosfs/zosfs/pack"
	"github.com/zosfs/zosfs/store"
	"github.com/zosfs/zosfs/store/dir"
	"github.com/zosfs/zosfs/unpack"
)

var stamp = time.Unix(1_700_000_000, 123_456_789)

// counted counts what is read of a store.
type counted struct {
	store.Store
	gets atomic.Int64
}

func (c *counted) Get(ctx context.Context, id blob.Digest, off, n int64) (io.ReadCloser, error) {
	c.gets.Add(1)
	return c.Store.Get(ctx, id, off, n)
}

// lab has a store, an image of a tree in it, and the image mounted with a writable layer.
type lab struct {
	*testing.T
	dir   string
	store *counted
	index *store.Index
	base  *flist.Reader
	im    *image.Image
	mode  mount.Mode
	upper *overlay.Upper
}

func (l *lab) must(err error) {
	l.Helper()
	if err != nil {
		l.Fatal(err)
	}
}

func (l *lab) path(name string) string { return filepath.Join(l.dir, name) }

// at returns a path in the writable mount.
func (l *lab) at(name string) string { return filepath.Join(l.dir, "rw", name) }

// open packs the tree that fill makes and mounts it in a mode, writable at l.at("").
func open(t *testing.T, mode mount.Mode, fill func(dir string)) *lab {
	t.Helper()
	testenv.NeedRoot(t)
	testenv.NeedFUSE(t)
	testenv.NeedOverlay(t)
	l := &lab{T: t, dir: testenv.TempDir(t), mode: mode}
	for _, d := range []string{"tree", "ro", "rw", "content"} {
		l.must(os.Mkdir(l.path(d), 0o755))
	}
	fill(l.path("tree"))
	files, err := dir.New(l.path("store"))
	l.must(err)
	l.store = &counted{Store: files}
	l.index, err = store.OpenIndex(t.Context(), l.store, l.path("index"))
	l.must(err)
	t.Cleanup(func() { l.must(l.index.Close()) })
	_, err = pack.Tree(t.Context(), l.path("tree"), l.index, l.path("base.flist"), pack.Options{Properties: map[string]string{"made.by": "test"}})
	l.must(err)
	l.base = l.flist("base.flist")
	l.im = l.image(l.base)
	l.mount()
	return l
}

func (l *lab) flist(name string) *flist.Reader {
	l.Helper()
	r, err := flist.Open(l.path(name), flist.OpenOptions{})
	l.must(err)
	l.Cleanup(func() { l.must(r.Close()) })
	return r
}

func (l *lab) image(r *flist.Reader) *image.Image {
	l.Helper()
	im, err := image.New(r, l.store, image.Options{})
	l.must(err)
	l.Cleanup(func() { l.must(im.Close()) })
	return im
}

func (l *lab) mount() {
	l.Helper()
	o := mount.Options{Mode: l.mode}
	if l.mode == mount.Kernel {
		testenv.NeedEROFS(l)
		h, err := mount.NewHost(mount.HostOptions{Content: l.path("content"), Images: l.path("images")})
		l.must(err)
		testenv.Mounted(l, l.path("content"))
		l.Cleanup(func() { l.must(h.Close(context.Background())) })
		o.Host = func() (*mount.Host, error) { return h, nil }
	}
	testenv.Mounted(l, l.path("ro"))
	m, err := mount.Mount(l.Context(), l.im, l.path("ro"), o)
	l.must(err)
	l.Cleanup(func() { l.must(m.Unmount(context.Background(), true)); m.Wait() })
	l.upper, err = overlay.Open(l.path("changes"), l.base.Digest().String(), overlay.Options{})
	l.must(err)
	l.Cleanup(func() { l.must(l.upper.Close()) })
	testenv.Mounted(l, l.at(""))
	_, err = l.upper.Mount(l.path("ro"), l.at(""))
	l.must(err)
	l.Cleanup(func() { l.must(unix.Unmount(l.at(""), unix.MNT_DETACH)) })
}

// commit commits the mount to the flist name, and opens that.
func (l *lab) commit(name string) (pack.Result, *flist.Reader) {
	l.Helper()
	res, err := commit.Tree(l.Context(), commit.Source{Dir: l.at(""), Upper: l.upper.Dir(), Base: l.base}, l.index, l.path(name), pack.Options{})
	l.must(err)
	return res, l.flist(name)
}

// check unpacks an flist and compares it with the mount.
func (l *lab) check(r *flist.Reader) {
	l.Helper()
	out := l.path("unpacked")
	l.must(os.RemoveAll(out))
	_, err := unpack.Tree(l.Context(), l.image(r), out, unpack.Options{})
	l.must(err)
	treetest.Check(l, l.at(""), out, treetest.CompareOptions{})
}

var modes = []mount.Mode{mount.Kernel, mount.FUSE}

func inModes(t *testing.T, f func(*testing.T, mount.Mode)) {
	t.Helper()
	for _, m := range modes {
		t.Run(string(m), func(t *testing.T) { f(t, m) })
	}
}

// TestNothing commits a mount that nobody wrote to: the same tree, and nothing read or sent.
func TestNothing(t *testing.T) {
	inModes(t, func(t *testing.T, m mount.Mode) {
		l := open(t, m, func(dir string) { treetest.Odd(t, dir, treetest.Options{Seed: 3}) })
		l.store.gets.Store(0)
		res, r := l.commit("new.flist")
		if r.TreeDigest() != l.base.TreeDigest() {
			t.Error("the tree is another one")
		}
		if n := l.store.gets.Load(); n != 0 || res.BytesSent != 0 || res.BytesRead != 0 {
			t.Errorf("%d requests, %d bytes sent, %d read", n, res.BytesSent, res.BytesRead)
		}
		if p, _ := r.Property(flist.PropertyParent); p != l.base.Digest().String() {
			t.Errorf("parent %q", p)
		}
		if p, _ := r.Property("made.by"); p != "test" {
			t.Errorf("the property of the base is %q", p)
		}
	})
}

// TestMetadata changes metadata alone, in every way, in a tree of which nothing is in any
// cache: no content is fetched, not by the changes and not by the commit.
func TestMetadata(t *testing.T) {
	inModes(t, func(t *testing.T, m mount.Mode) {
		l := open(t, m, func(dir string) {
			_, err := treetest.Grow(dir, treetest.GrowOptions{Files: 40, Seed: 2, MaxFile: 700 << 10})
			if err == nil {
				err = errors.Join(os.MkdirAll(filepath.Join(dir, "a/b/c"), 0o755), os.MkdirAll(filepath.Join(dir, "d"), 0o755))
			}
			for _, name := range []string{"chmod", "chown", "time", "xattr", "renamed", "a/b/c/deep", "a/moved", "both", "cut", "gone", "link"} {
				err = errors.Join(err, os.WriteFile(filepath.Join(dir, name), []byte(strings.Repeat(name, 20_000)), 0o644))
			}
			if err := errors.Join(err, os.Link(filepath.Join(dir, "link"), filepath.Join(dir, "link2"))); err != nil {
				t.Fatal(err)
			}
		})
		l.store.gets.Store(0)
		for what, err := range map[string]error{
			"chmod":             os.Chmod(l.at("chmod"), 0o600),
			"chown":             os.Chown(l.at("chown"), 5, 6),
			"time":              os.Chtimes(l.at("time"), stamp, stamp),
			"xattr":             unix.Setxattr(l.at("xattr"), "user.x", []byte("1"), 0),
			"rename":            os.Rename(l.at("renamed"), l.at("d/new name")),
			"rename and chmod":  errors.Join(os.Chmod(l.at("both"), 0o640), os.Rename(l.at("both"), l.at("d/both"))),
			"rename directory":  os.Rename(l.at("a/b"), l.at("d/b")),
			"in what was moved": os.Chmod(l.at("d/b/c/deep"), 0o400),
			"truncating open":   os.WriteFile(l.at("cut"), nil, 0),
			"remove":            os.Remove(l.at("gone")),
			"chmod of a link":   os.Chmod(l.at("link"), 0o600),
		} {
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
		res, r := l.commit("new.flist")
		if n := l.store.gets.Load(); n != 0 || res.BytesSent != 0 || res.BytesRead != 0 {
			t.Errorf("%d requests, %d bytes sent, %d read for changes of metadata", n, res.BytesSent, res.BytesRead)
		}
		l.check(r)
	})
}

// TestLinks writes to a file under one of its names: the others have what was written.
func TestLinks(t *testing.T) {
	inModes(t, func(t *testing.T, m mount.Mode) {
		l := open(t, m, func(dir string) {
			for i := range 4 {
				if i == 0 {
					l := os.WriteFile(filepath.Join(dir, "0"), []byte("old"), 0o644)
					if l != nil {
						t.Fatal(l)
					}
					continue
				}
				if err := os.Link(filepath.Join(dir, "0"), filepath.Join(dir, fmt.Sprint(i))); err != nil {
					t.Fatal(err)
				}
			}
		})
		l.must(os.WriteFile(l.at("2"), []byte("NEW"), 0o644))
		l.must(os.Remove(l.at("1")))
		l.must(os.Link(l.at("3"), l.at("4")))
		_, r := l.commit("new.flist")
		l.check(r)
	})
}

// TestSent commits a small change to a large tree: its bytes alone are read and sent.
func TestSent(t *testing.T) {
	inModes(t, func(t *testing.T, m mount.Mode) {
		l := open(t, m, func(dir string) {
			if _, err := treetest.Grow(dir, treetest.GrowOptions{Files: 300, Seed: 4, MaxFile: 200 << 10}); err != nil {
				t.Fatal(err)
			}
		})
		l.must(os.WriteFile(l.at("new"), []byte(strings.Repeat("new", 5000)), 0o644))
		l.store.gets.Store(0)
		res, r := l.commit("new.flist")
		if n := l.store.gets.Load(); n != 0 || res.BytesRead != 15_000 || res.BytesSent == 0 || res.BytesSent > 16_000 {
			t.Errorf("%d requests, %d bytes read, %d sent for a new file of 15,000", n, res.BytesRead, res.BytesSent)
		}
		l.check(r)
	})
}

// TestRandom does random things to the mount and to a directory of an ordinary file system
// side by side, commits, and compares what comes out elsewhere with both.
func TestRandom(t *testing.T) {
	inModes(t, func(t *testing.T, m mount.Mode) {
		for seed := range uint64(4) {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				l := open(t, m, func(dir string) {
					if _, err := treetest.Grow(dir, treetest.GrowOptions{Files: 120, Seed: seed, MaxFile: 64 << 10}); err != nil {
						t.Fatal(err)
					}
				})
				for round := range uint64(3) {
					scramble(t, seed*100+round, 40, l.at(""), l.path("tree"))
					_, r := l.commit(fmt.Sprintf("new%d.flist", round))
					l.check(r)
					treetest.Check(t, l.path("tree"), l.at(""), treetest.CompareOptions{})
				}
			})
		}
	})
}

// scramble does the same n random things to equal trees.
func scramble(t *testing.T, seed uint64, n int, roots ...string) {
	t.Helper()
	for i := range n {
		for _, root := range roots {
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			if err := one(root, r, fmt.Sprintf("new-%d-%d", seed, i)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func one(root string, r *rand.Rand, name string) error {
	var dirs, files []string
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			dirs = append(dirs, path)
		} else if err == nil {
			files = append(files, path)
		}
		return err
	})
	if err != nil || len(files) < 3 {
		return err
	}
	dir, file := dirs[r.IntN(len(dirs))], files[r.IntN(len(files))]
	into := dirs[r.IntN(len(dirs))]
	other := filepath.Join(into, name)
	fi, err := os.Lstat(file)
	if err != nil {
		return err
	}
	inside := other == dir || strings.HasPrefix(other, dir+"/")
	data := make([]byte, r.IntN(100_000))
	for i := range data {
		data[i] = byte(r.Uint32() >> 9)
	}
	op := r.IntN(13)
	switch {
	case op == 0:
		err = os.Remove(file)
	case op == 1 && dir != root && len(dirs) > 5:
		err = os.RemoveAll(dir)
	case op == 2:
		err = os.Rename(file, other)
	case op <= 4 && dir != root && !inside:
		err = os.Rename(dir, other)
	case op == 5 && fi.Mode().IsRegular():
		err = os.Chmod(file, fs.FileMode(0o400|r.IntN(256)))
	case op <= 7 && fi.Mode().IsRegular():
		var f *os.File
		if f, err = os.OpenFile(file, os.O_RDWR, 0); err == nil {
			_, err = f.WriteAt(data, int64(r.IntN(50_000)))
			err = errors.Join(err, f.Close())
		}
	case op == 8 && fi.Mode().IsRegular():
		err = os.Truncate(file, int64(r.IntN(80_000)))
	case op == 9:
		err = os.WriteFile(other, data, 0o644)
	case op == 10 && dir != root && len(dirs) > 5:
		err = errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o711), os.WriteFile(filepath.Join(dir, "fresh"), data, 0o600))
	case op == 11:
		err = os.Link(file, other)
	default:
		err = errors.Join(os.Mkdir(other, 0o750), os.Symlink("to/"+name, filepath.Join(other, "link")), unix.Mkfifo(filepath.Join(other, "pipe"), 0o600),
			unix.Setxattr(other, "user.test", []byte(name), 0))
	}
	if err != nil {
		return err
	}
	// Times are not those of the trees' clocks.
	return filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil {
			err = unix.Lstat(path, &st)
		}
		if err == nil && st.Mtim.Sec > stamp.Unix() {
			at := unix.NsecToTimespec(stamp.UnixNano())
			err = unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW)
		}
		return err
	})
}
