package merge_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/flist/merge"
	"github.com/zosfs/zosfs/image"
	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/internal/treetest"
	"github.com/zosfs/zosfs/pack"
	"github.com/zosfs/zosfs/store"
	"github.com/zosfs/zosfs/store/dir"
	"github.com/zosfs/zosfs/unpack"
)

// shop is a directory with a store and what was packed into it.
type shop struct {
	t     testing.TB
	dir   string
	store *dir.Store
}

func open(t testing.TB) *shop {
	t.Helper()
	s := &shop{t: t, dir: testenv.TempDir(t)}
	var err error
	if s.store, err = dir.New(s.path("store")); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *shop) path(name string) string { return filepath.Join(s.dir, name) }

func (s *shop) mkdir(names ...string) {
	s.t.Helper()
	for _, n := range names {
		if err := os.MkdirAll(s.path(n), 0o755); err != nil {
			s.t.Fatal(err)
		}
	}
}

// pack packs a directory and opens its flist.
func (s *shop) pack(name string) *flist.Reader {
	s.t.Helper()
	out := s.path(name + ".flist")
	if _, err := pack.Tree(s.t.Context(), s.path(name), plain{s.store}, out, pack.Options{}); err != nil {
		s.t.Fatal(err)
	}
	return s.reader(out)
}

// plain is a store that does not look up chunks.
type plain struct{ store.Store }

func (plain) Locate(context.Context, []chunk.Digest) (map[chunk.Digest]blob.Location, error) {
	return nil, nil
}

func (s *shop) reader(path string) *flist.Reader {
	s.t.Helper()
	r, err := flist.Open(path, flist.OpenOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if err := r.Close(); err != nil {
			s.t.Error(err)
		}
	})
	return r
}

// merge merges layers, the lowest first, and unpacks the result into the directory name.
func (s *shop) merge(name string, layers ...*flist.Reader) *flist.Reader {
	s.t.Helper()
	out := s.path(name + ".flist")
	if _, err := merge.Layers(out, layers, merge.Options{}); err != nil {
		s.t.Fatal(err)
	}
	r := s.reader(out)
	im, err := image.New(r, s.store, image.Options{})
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() {
		if err := im.Close(); err != nil {
			s.t.Error(err)
		}
	}()
	if _, err := unpack.Tree(s.t.Context(), im, s.path(name), unpack.Options{}); err != nil {
		s.t.Fatal(err)
	}
	return r
}

// overlay mounts layers, the lowest first, at the directory name; with upper, writable.
func (s *shop) overlay(name, upper string, layers ...string) {
	s.t.Helper()
	s.mkdir(name)
	var lower []string
	for _, l := range slices.Backward(layers) {
		lower = append(lower, s.path(l))
	}
	data := "lowerdir=" + strings.Join(lower, ":") + ",redirect_dir=on,metacopy=on"
	if upper != "" {
		s.mkdir(upper, upper+".work")
		data += ",index=off,upperdir=" + s.path(upper) + ",workdir=" + s.path(upper+".work")
	}
	testenv.Mounted(s.t, s.path(name))
	if err := unix.Mount("overlay", s.path(name), "overlay", 0, data); err != nil {
		s.t.Fatalf("mount overlay: %v", err)
	}
}

func (s *shop) umount(name string) {
	s.t.Helper()
	if err := unix.Unmount(s.path(name), 0); err != nil {
		s.t.Fatal(err)
	}
}

// scramble does n random things to the tree at root.
func scramble(t testing.TB, root string, n int, seed uint64) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 9))
	for i := range n {
		var dirs, files []string
		err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if e.IsDir() {
				dirs = append(dirs, path)
			} else {
				files = append(files, path)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		dir, file := dirs[r.IntN(len(dirs))], files[r.IntN(len(files))]
		other := filepath.Join(dirs[r.IntN(len(dirs))], fmt.Sprintf("new-%d-%d", seed, i))
		regular := func() bool { fi, err := os.Lstat(file); return err == nil && fi.Mode().IsRegular() }
		switch r.IntN(12) {
		case 0, 1:
			err = os.Remove(file)
		case 2:
			if dir != root {
				err = os.RemoveAll(dir)
			}
		case 3:
			err = os.Rename(file, other)
		case 4, 5:
			if dir != root && !strings.HasPrefix(other, dir+"/") {
				err = os.Rename(dir, other)
			}
		case 6:
			if regular() {
				err = os.Chmod(file, fs.FileMode(0o600|r.IntN(64)))
			}
		case 7:
			if regular() {
				err = os.WriteFile(file, fmt.Appendf(nil, "written %d", i), 0o644)
			}
		case 8:
			err = errors.Join(os.Mkdir(other, 0o750), os.WriteFile(filepath.Join(other, "in"), []byte(other), 0o600))
		case 9: // a directory made anew where one was is opaque
			if dir != root {
				err = errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o711), os.WriteFile(filepath.Join(dir, "fresh"), []byte("x"), 0o600))
			}
		case 10:
			err = os.Link(file, other)
		case 11:
			err = errors.Join(os.Lchown(dir, 7, 8), unix.Lsetxattr(dir, "user.test", fmt.Appendf(nil, "%d", i), 0))
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(files) < 5 {
			return
		}
	}
}

// TestOverlay merges what overlayfs itself left in upper directories, and compares the result
// with a mount of the same layers.
func TestOverlay(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedOverlay(t)
	seen := make(map[string]int)
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			s := open(t)
			s.mkdir("base")
			if _, err := treetest.Grow(s.path("base"), treetest.GrowOptions{Files: 150, Seed: seed, MaxFile: 32 << 10}); err != nil {
				t.Fatal(err)
			}
			names, layers := []string{"base"}, []*flist.Reader{s.pack("base")}
			for i := range 3 {
				upper := fmt.Sprintf("upper%d", i)
				s.overlay("rw", upper, names...)
				scramble(t, s.path("rw"), 25, seed*10+uint64(i))
				s.umount("rw")
				names, layers = append(names, upper), append(layers, s.pack(upper))
				marks(layers[i+1], seen)
			}
			s.overlay("want", "", names...)
			merged := s.merge("got", layers...)
			treetest.Check(t, s.path("want"), s.path("got"), treetest.CompareOptions{})

			// Layer by layer gives the same tree, and the same again the same bytes.
			again := s.merge("again", layers...)
			if again.Digest() != merged.Digest() {
				t.Error("two merges of the same layers have different bytes")
			}
			one := layers[0]
			for i, l := range layers[1:] {
				one = s.merge(fmt.Sprintf("step%d", i), one, l)
			}
			if one.TreeDigest() != merged.TreeDigest() {
				t.Error("merging one after another gives another tree")
			}
		})
	}
	for _, mark := range []string{"whiteout", "opaque", "redirect", "absolute redirect", "metacopy"} {
		if seen[mark] == 0 {
			t.Errorf("no layer has a mark %q: %v", mark, seen)
		}
	}
}

// marks counts what overlayfs left in a layer.
func marks(r *flist.Reader, seen map[string]int) {
	for _, n := range r.Nodes() {
		if n.Type() == flist.ModeChar && n.Rdev == 0 {
			seen["whiteout"]++
		}
		for _, x := range r.Xattrs(n.Xattrs) {
			if name, ok := strings.CutPrefix(x.Name, "trusted.overlay."); ok {
				if name == "redirect" && x.Value[0] == '/' {
					name = "absolute redirect"
				}
				seen[name]++
			}
		}
	}
}

// layer makes an upper directory by hand.
func (s *shop) layer(name string, fill func(at func(string) string) error) *flist.Reader {
	s.t.Helper()
	s.mkdir(name)
	if err := fill(func(p string) string { return filepath.Join(s.path(name), p) }); err != nil {
		s.t.Fatal(err)
	}
	return s.pack(name)
}

func TestOneLayer(t *testing.T) {
	s := open(t)
	s.mkdir("odd")
	treetest.Odd(t, s.path("odd"), treetest.Options{})
	layer := s.pack("odd")
	if got := s.merge("got", layer); got.TreeDigest() != layer.TreeDigest() {
		t.Error("a merge of one layer is another tree")
	}
}

func TestProperties(t *testing.T) {
	s := open(t)
	file := func(text string) func(at func(string) string) error {
		return func(at func(string) string) error { return os.WriteFile(at("f"), []byte(text), 0o600) }
	}
	out := s.path("out.flist")
	layers := []*flist.Reader{s.layer("a", file("a")), s.layer("b", file("b"))}
	if _, err := merge.Layers(out, layers, merge.Options{Properties: map[string]string{"k": "v"}}); err != nil {
		t.Fatal(err)
	}
	r := s.reader(out)
	if v, ok := r.Property("k"); !ok || v != "v" {
		t.Errorf("property k = %q, %v", v, ok)
	}
	if v, _ := r.Property(flist.PropertyChunker); v == "" {
		t.Error("no chunker")
	}
	if n := r.Counts(); n.Blobs != 1 || n.Files != 1 {
		t.Errorf("%d blobs and %d files, want what is not hidden alone: 1, 1", n.Blobs, n.Files)
	}
}

// TestHostile merges layers whose marks lead nowhere, or round in circles.
func TestHostile(t *testing.T) {
	testenv.NeedRoot(t)
	s := open(t)
	base := s.layer("base", func(at func(string) string) error {
		return errors.Join(os.Mkdir(at("d"), 0o755), os.WriteFile(at("d/f"), bytes.Repeat([]byte("x"), 100), 0o600))
	})
	mark := func(path, name, value string) error {
		return unix.Lsetxattr(path, "trusted.overlay."+name, []byte(value), 0)
	}
	for name, tt := range map[string]struct {
		fill func(at func(string) string) error
		want error
	}{
		"redirect to nothing": {func(at func(string) string) error {
			return errors.Join(os.Mkdir(at("e"), 0o755), mark(at("e"), "redirect", "/no/such"))
		}, nil},
		"redirect to a file": {func(at func(string) string) error {
			return errors.Join(os.Mkdir(at("e"), 0o755), mark(at("e"), "redirect", "/d/f"))
		}, nil},
		"redirect with dots": {func(at func(string) string) error {
			return errors.Join(os.Mkdir(at("e"), 0o755), mark(at("e"), "redirect", "/../../d//."))
		}, nil},
		"redirect to itself": {func(at func(string) string) error {
			return errors.Join(os.Mkdir(at("e"), 0o755), mark(at("e"), "redirect", "e"))
		}, nil},
		"content nowhere": {func(at func(string) string) error {
			return errors.Join(os.WriteFile(at("f"), nil, 0o600), mark(at("f"), "metacopy", ""))
		}, errs.ErrCorrupt},
		"content in a directory": {func(at func(string) string) error {
			return errors.Join(os.WriteFile(at("f"), nil, 0o600), mark(at("f"), "metacopy", ""), mark(at("f"), "redirect", "/d"))
		}, errs.ErrCorrupt},
		"whiteout of nothing": {func(at func(string) string) error {
			return syscall.Mknod(at("none"), syscall.S_IFCHR, 0)
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := &shop{t: t, dir: testenv.TempDir(t), store: s.store}
			_, err := merge.Layers(s.path("out.flist"), []*flist.Reader{base, s.layer("upper", tt.fill)}, merge.Options{})
			if !errors.Is(err, tt.want) {
				t.Errorf("Layers = %v, want %v", err, tt.want)
			}
			if _, there := os.Stat(s.path("out.flist")); (there == nil) != (err == nil) {
				t.Errorf("after %v: %v", err, there)
			}
		})
	}
	if _, err := merge.Layers(s.path("none.flist"), nil, merge.Options{}); err == nil {
		t.Error("a merge of nothing succeeds")
	}
}
