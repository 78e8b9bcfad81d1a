package kernel_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/image"
	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/internal/treetest"
	"github.com/zosfs/zosfs/mount/kernel"
	"github.com/zosfs/zosfs/mount/mounttest"
	"github.com/zosfs/zosfs/store/mem"
)

const (
	partSize    = 4 << 20 // of what one digest covers
	trailerSize = 72
)

// build returns an image whose flist fill writes, without any content.
func build(t testing.TB, fill func(*flist.Writer) error) *image.Image {
	t.Helper()
	dir := testenv.TempDir(t)
	w, err := flist.NewWriter(dir)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "tree.flist")
	if _, err = w.AddNode(flist.Node{Mode: flist.ModeDir | 0o755}); err == nil {
		err = fill(w)
	}
	if err == nil {
		_, err = w.Finish(path)
	}
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return mounttest.Open(t, path, mem.New(), image.Options{})
}

// flat adds n empty files to the root.
func flat(n int) func(*flist.Writer) error {
	return func(w *flist.Writer) error {
		for i := range n {
			id, err := w.AddNode(flist.Node{Mode: flist.ModeRegular | 0o644})
			if err == nil {
				err = w.AddEntry(flist.Root, fmt.Appendf(nil, "empty-%06d", i), id)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
}

// written returns the path of the metadata image of im.
func written(t testing.TB, im *image.Image) string {
	t.Helper()
	path := filepath.Join(testenv.TempDir(t), "image"+kernel.Suffix)
	if err := kernel.WriteImage(path, im.Flist(), im.Device()); err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	p, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestWriteImage: one flist gives one image, which is accepted, whatever is in it.
func TestWriteImage(t *testing.T) {
	for name, im := range map[string]*image.Image{
		"odd":        odd(t),
		"one node":   build(t, flat(0)),
		"no content": build(t, flat(10)),
		"two parts":  build(t, flat(60_000)),
	} {
		t.Run(name, func(t *testing.T) {
			path := written(t, im)
			want, err := im.Device().Size()
			if err != nil {
				t.Fatal(err)
			}
			if got, err := kernel.CheckImage(path); got != want || err != nil {
				t.Errorf("CheckImage = %d, %v, want %d", got, err, want)
			}
			if !bytes.Equal(read(t, path), read(t, written(t, im))) {
				t.Error("the same flist gave two images")
			}
		})
	}
}

func odd(t *testing.T) *image.Image {
	dir := testenv.TempDir(t)
	treetest.Odd(t, dir, treetest.Options{Seed: 1})
	return mounttest.Image(t, dir)
}

// TestCheckImage damages an image of two parts in each place that means something else.
func TestCheckImage(t *testing.T) {
	path := written(t, build(t, flat(60_000)))
	whole := read(t, path)
	n := len(whole)
	size := int(binary.LittleEndian.Uint64(whole[n-trailerSize+8:]))
	sums := n - trailerSize - size
	if size <= partSize || sums != 2*chunk.DigestSize {
		t.Fatalf("an image of %d bytes with %d bytes of digests, want two parts", size, sums)
	}
	check := func(t *testing.T, p []byte, want error) {
		t.Helper()
		if err := os.WriteFile(path, p, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := kernel.CheckImage(path); !errors.Is(err, want) {
			t.Errorf("CheckImage = %v, want %v", err, want)
		}
	}
	places := []int{0, 1024, partSize / 2, partSize - 1, partSize, size - 1} // of both parts
	for at := size; at < n-1; at++ {                                         // digests and the trailer, but its version
		places = append(places, at)
	}
	for _, at := range places {
		t.Run(fmt.Sprintf("flip %d", at), func(t *testing.T) {
			p := bytes.Clone(whole)
			p[at] ^= 1 << (at % 8)
			check(t, p, errs.ErrCorrupt)
		})
	}
	for _, keep := range []int{0, 1, trailerSize - 1, trailerSize, trailerSize + 1, size, size + trailerSize, n - 4096, n - 8, n - 1} {
		t.Run(fmt.Sprintf("keep %d", keep), func(t *testing.T) { check(t, whole[:keep], errs.ErrCorrupt) })
	}
	t.Run("end alone", func(t *testing.T) { check(t, whole[n-trailerSize:], errs.ErrCorrupt) })
	t.Run("begin lost", func(t *testing.T) { check(t, whole[4096:], errs.ErrCorrupt) })
	t.Run("longer", func(t *testing.T) { check(t, append(bytes.Clone(whole), 0), errs.ErrCorrupt) })
	t.Run("other version", func(t *testing.T) {
		p := bytes.Clone(whole)
		p[n-1]++
		check(t, p, errs.ErrFormat)
	})
	t.Run("swapped parts", func(t *testing.T) {
		p := bytes.Clone(whole)
		copy(p[size:], whole[size+chunk.DigestSize:][:chunk.DigestSize])
		copy(p[size+chunk.DigestSize:], whole[size:][:chunk.DigestSize])
		check(t, p, errs.ErrCorrupt)
	})
	t.Run("whole", func(t *testing.T) { check(t, whole, nil) })
	if _, err := kernel.CheckImage(filepath.Join(filepath.Dir(path), "nothing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("CheckImage of nothing: %v, want %v", err, fs.ErrNotExist)
	}
}

// FuzzCheckImage: what is accepted is whole, to the last byte.
func FuzzCheckImage(f *testing.F) {
	whole := read(f, written(f, build(f, flat(3))))
	n := len(whole)
	f.Add(whole)
	f.Add([]byte{})
	f.Add(whole[:n-1])
	f.Add(whole[n-trailerSize:])
	for _, at := range []int{0, 1030, n - trailerSize - 1, n - 64, n - 60, n - 56, n - 48, n - 1} {
		p := bytes.Clone(whole)
		p[at] ^= 0x80
		f.Add(p)
	}
	path := filepath.Join(testenv.TempDir(f), "image")
	check := func(t *testing.T, p []byte) error {
		if err := os.WriteFile(path, p, 0o600); err != nil {
			t.Fatal(err)
		}
		device, err := kernel.CheckImage(path)
		if err == nil && device < 0 {
			t.Errorf("a device of %d bytes", device)
		}
		return err
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		if err := check(t, p); err != nil {
			if !errors.Is(err, errs.ErrCorrupt) && !errors.Is(err, errs.ErrFormat) {
				t.Errorf("CheckImage = %v, want a kind that says to write it anew", err)
			}
			return
		}
		for at := len(p) - 1; at >= 0; at -= 1 + len(p)/64 {
			p[at] ^= 1
			if check(t, p) == nil {
				t.Errorf("byte %d of %d does not count", at, len(p))
			}
			p[at] ^= 1
		}
	})
}

// TestWriteImageRefuses: what EROFS cannot express leaves no file, and the one before in peace.
func TestWriteImageRefuses(t *testing.T) {
	with := func(n flist.Node, set ...flist.Xattr) *image.Image {
		return build(t, func(w *flist.Writer) error {
			var err error
			if n.Xattrs, err = w.AddXattrs(set); err != nil {
				return err
			}
			id, err := w.AddNode(n)
			if err != nil {
				return err
			}
			return w.AddEntry(flist.Root, []byte("it"), id)
		})
	}
	for name, im := range map[string]*image.Image{
		"namespace": with(flist.Node{Mode: flist.ModeRegular}, flist.Xattr{Name: "btrfs.compression", Value: []byte("zstd")}),
		"device":    with(flist.Node{Mode: flist.ModeChar, Rdev: 0xffff00000001}),
	} {
		t.Run(name, func(t *testing.T) {
			dir := testenv.TempDir(t)
			path := filepath.Join(dir, "image")
			for _, before := range []string{"", "before"} {
				if before != "" {
					if err := os.WriteFile(path, []byte(before), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				if err := kernel.WriteImage(path, im.Flist(), im.Device()); !errors.Is(err, errors.ErrUnsupported) {
					t.Errorf("WriteImage = %v, want %v", err, errors.ErrUnsupported)
				}
				entries, err := os.ReadDir(dir)
				if err != nil {
					t.Fatal(err)
				}
				var left []string
				for _, e := range entries {
					left = append(left, e.Name()+"="+string(read(t, filepath.Join(dir, e.Name()))))
				}
				if want := map[string]string{"": "[]", "before": "[image=before]"}[before]; fmt.Sprint(left) != want {
					t.Errorf("left in the directory: %v, want %v", left, want)
				}
			}
		})
	}
}

func TestIsImage(t *testing.T) {
	for _, c := range []struct {
		fs, source, name string
		ok               bool
	}{
		{"erofs", "/cache/images/00ff.zosfs.erofs", "00ff", true},
		{"ext4", "/cache/images/00ff.zosfs.erofs", "", false},
		{"erofs", "00ff.zosfs.erofs", "", false},
		{"erofs", "/cache/images/00ff.erofs", "", false},
		{"erofs", "/dev/loop0", "", false},
	} {
		if name, ok := kernel.IsImage(c.fs, c.source); ok != c.ok || ok && name != c.name {
			t.Errorf("IsImage(%q, %q) = %q, %v, want %q, %v", c.fs, c.source, name, ok, c.name, c.ok)
		}
	}
}
