package overlay_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/internal/treetest"
	"github.com/zosfs/zosfs/mount/overlay"
)

const base = "0123abcd"

var treeTime = time.Unix(1700000000, 123456789)

// bench is a tree, a place for changes and a mount point.
type bench struct {
	*testing.T
	tree, upper, at string
}

func open(t *testing.T) *bench {
	t.Helper()
	testenv.NeedRoot(t)
	testenv.NeedOverlay(t)
	dir := testenv.TempDir(t)
	b := &bench{t, filepath.Join(dir, "tree"), filepath.Join(dir, "changes: all"), filepath.Join(dir, "mnt")}
	for _, d := range []string{b.tree, b.at} {
		b.must(os.Mkdir(d, 0o755))
	}
	b.must(os.WriteFile(filepath.Join(b.tree, "file"), []byte("old"), 0o640))
	testenv.Mounted(t, filepath.Join(b.upper, "mnt"))
	testenv.Mounted(t, b.at)
	return b
}

func (b *bench) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// mount opens the changes and mounts them over the tree.
func (b *bench) mount(o overlay.Options) *overlay.Upper {
	b.Helper()
	u, err := overlay.Open(b.upper, base, o)
	b.must(err)
	_, err = u.Mount(b.tree, b.at)
	b.must(err)
	return u
}

func (b *bench) umount() {
	b.Helper()
	b.must(unix.Unmount(b.at, 0))
}

func (b *bench) file(name string) string { return filepath.Join(b.at, name) }

func (b *bench) want(name, text string) {
	b.Helper()
	if p, err := os.ReadFile(b.file(name)); err != nil || string(p) != text {
		b.Errorf("%s holds %q, %v, want %q", name, p, err, text)
	}
}

// TestKept mounts, writes, mounts again and goes on, and throws the changes away.
func TestKept(t *testing.T) {
	for name, o := range map[string]overlay.Options{"directory": {}, "bounded": {Size: 16 << 20}} {
		t.Run(name, func(t *testing.T) {
			b := open(t)
			u := b.mount(o)
			b.must(os.WriteFile(b.file("file"), []byte("new"), 0o640))
			b.must(os.WriteFile(b.file("more"), []byte("more"), 0o600))
			b.umount()
			b.must(u.Close())

			u = b.mount(overlay.Options{})
			b.want("file", "new")
			b.want("more", "more")
			if p, err := os.ReadFile(filepath.Join(b.tree, "file")); err != nil || string(p) != "old" {
				t.Errorf("the tree below was written to: %q, %v", p, err)
			}
			b.umount()
			b.must(u.Reset())
			_, err := u.Mount(b.tree, b.at)
			b.must(err)
			treetest.Check(t, b.tree, b.at, treetest.CompareOptions{})
			b.umount()
			b.must(u.Remove())
			if _, err := os.Lstat(b.upper); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("after Remove: %v", err)
			}
		})
	}
}

// TestRoot gives the root of the overlay all that the root of the tree has.
func TestRoot(t *testing.T) {
	b := open(t)
	b.must(os.Chown(b.tree, 7, 8))
	b.must(os.Chmod(b.tree, 0o1751|fs.ModeSticky))
	b.must(unix.Lsetxattr(b.tree, "user.root", []byte("x"), 0))
	b.must(os.Chtimes(b.tree, treeTime, treeTime))
	u := b.mount(overlay.Options{})
	treetest.Check(t, b.tree, b.at, treetest.CompareOptions{})
	b.umount()
	b.must(u.Close())
}

// TestOther refuses changes of another tree, those in use, and a directory of something else.
func TestOther(t *testing.T) {
	b := open(t)
	u := b.mount(overlay.Options{})
	if _, err := overlay.Open(b.upper, base, overlay.Options{}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Open of changes in use = %v, want %v", err, fs.ErrExist)
	}
	b.umount()
	b.must(u.Close())
	if _, err := overlay.Open(b.upper, "other", overlay.Options{}); !errors.Is(err, errs.ErrFormat) {
		t.Errorf("Open of changes of another tree = %v, want %v", err, errs.ErrFormat)
	}
	if _, err := overlay.Open(b.tree, base, overlay.Options{}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Open of a directory of something else = %v, want %v", err, fs.ErrExist)
	}
	if p, err := os.ReadFile(filepath.Join(b.tree, "file")); err != nil || string(p) != "old" {
		t.Errorf("what was in it: %q, %v", p, err)
	}
	u, err := overlay.Open(b.upper, base, overlay.Options{})
	b.must(err)
	b.must(u.Close())
}

// TestFull writes beyond the bound: the writer gets ENOSPC, and what was there is there.
func TestFull(t *testing.T) {
	b := open(t)
	u := b.mount(overlay.Options{Size: 8 << 20})
	err := os.WriteFile(b.file("big"), bytes.Repeat([]byte("x"), 16<<20), 0o600)
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("writing 16 MiB into 8 = %v, want %v", err, syscall.ENOSPC)
	}
	b.must(os.Remove(b.file("big")))
	b.must(os.WriteFile(b.file("file"), []byte("new"), 0o640))
	b.want("file", "new")
	b.umount()
	b.must(u.Remove())
	if _, err := overlay.Open(b.upper, base, overlay.Options{Size: 1000}); !errors.Is(err, errs.ErrFull) {
		t.Errorf("Open with a bound of 1,000 bytes = %v, want %v", err, errs.ErrFull)
	}
}

// TestNoUpper says what is wrong with a directory that overlayfs cannot write to.
func TestNoUpper(t *testing.T) {
	b := open(t)
	u := b.mount(overlay.Options{})
	second, err := overlay.Open(b.file("changes"), base, overlay.Options{})
	b.must(err)
	if _, err := second.Mount(b.tree, b.at); err == nil {
		t.Error("changes are kept in an overlay")
	} else {
		t.Log(err)
	}
	b.must(second.Close())
	b.umount()
	b.must(u.Close())
}
