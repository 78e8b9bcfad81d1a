package flist_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/internal/treetest"
	"github.com/zosfs/zosfs/mount/mounttest"
	"github.com/zosfs/zosfs/store/mem"
)

// keep writes the checked copy of the flist at path and returns where it is.
func keep(t testing.TB, path string) string {
	t.Helper()
	kept := filepath.Join(t.TempDir(), "kept")
	if err := open(t, path).Keep(kept); err != nil {
		t.Fatal(err)
	}
	return kept
}

// dump asks r for everything.
func dump(r *flist.Reader) []string {
	out := []string{fmt.Sprint(r.Digest(), r.TreeDigest(), r.Counts(), r.Properties(), r.Sources())}
	add := func(a ...any) { out = append(out, fmt.Sprintf("%q", a)) }
	for id, n := range r.Nodes() {
		add("node", id, n, r.Node(id), r.Xattrs(n.Xattrs), slices.Collect(r.Dir(id)))
	}
	for e := range r.Entries() {
		id, ok := r.Lookup(e.Parent, e.Name)
		add("entry", e, id, ok)
	}
	for id, set := range r.XattrSets() {
		add("set", id, set)
	}
	for id, o := range r.Objects() {
		add("object", id, o, r.Object(id), slices.Collect(r.Extents(id)))
		for e := range r.Extents(id) {
			last := e.Offset + int64(r.Chunk(e.Chunk).Size)
			add("at", slices.Collect(r.ExtentsAt(id, e.Offset)), slices.Collect(r.ExtentsAt(id, last-1)), slices.Collect(r.ExtentsAt(id, last)))
		}
	}
	for id, c := range r.Chunks() {
		add("chunk", id, c, r.Chunk(id))
	}
	for id, b := range r.Blobs() {
		add("blob", id, b, r.Blob(id))
	}
	return out
}

// TestAllExtents gives in one go what Extents gives object by object.
func TestAllExtents(t *testing.T) {
	small, _ := write(t, sample)
	r := open(t, small)
	var want, got []string
	for id := range r.Objects() {
		for e := range r.Extents(id) {
			want = append(want, fmt.Sprint(id, e))
		}
	}
	for id, e := range r.AllExtents() {
		got = append(got, fmt.Sprint(id, e))
	}
	if len(want) < 2 || !slices.Equal(got, want) {
		t.Errorf("AllExtents = %v, want %v", got, want)
	}
	for range r.AllExtents() {
		break // which must not go on
	}
}

// TestKeepSame has copies answer what the flists themselves do.
func TestKeepSame(t *testing.T) {
	small, _ := write(t, sample)
	unpacked := filepath.Join(t.TempDir(), "plain.flist")
	if err := os.WriteFile(unpacked, plain(t, small), 0o600); err != nil {
		t.Fatal(err)
	}
	empty, _ := write(t, func(t testing.TB, w *flist.Writer) { ok[flist.NodeID](t)(w.AddNode(flist.Node{Mode: flist.ModeDir})) })
	large, _ := write(t, big(12_000)) // of several parts
	tree := testenv.TempDir(t)
	treetest.Odd(t, tree, treetest.Options{})
	odd := mounttest.Pack(t, tree, mem.New(), 0)
	for name, path := range map[string]string{
		"sample": small, "plain": unpacked, "empty": empty, "large": large, "odd": odd, "vector": "../testdata/vectors/v1/image.flist",
	} {
		t.Run(name, func(t *testing.T) {
			testenv.NoLeaks(t)
			want := dump(open(t, path))
			kept := keep(t, path)
			r, err := flist.OpenKept(kept)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, dump(r)); diff != "" {
				t.Errorf("the copy answers otherwise (-want +got):\n%s", diff)
			}
			// It may be renewed, or lost, while it is in use.
			before := ok[[]byte](t)(os.ReadFile(kept))
			if err := r.Keep(kept); err != nil {
				t.Errorf("Keep of a copy = %v", err)
			}
			if !bytes.Equal(before, ok[[]byte](t)(os.ReadFile(kept))) {
				t.Error("the copy of a copy has other bytes")
			}
			if err := errors.Join(os.Remove(kept), r.Release()); err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff(want, dump(r)); diff != "" {
				t.Errorf("after Release (-want +got):\n%s", diff)
			}
			if err := errors.Join(r.Close(), r.Close()); err != nil {
				t.Errorf("Close = %v", err)
			}
		})
	}
}

// layout says where the structures of a copy begin; the package comment has them. footer is
// less than 0 if p is no copy.
func layout(p []byte) (parts, footer, seal int) {
	footer = bytes.LastIndex(p, []byte("zosfs checked\n\x00\x00"))
	if footer < 0 || footer+32+chunk.DigestSize > len(p) {
		return 0, -1, 0
	}
	return int(binary.LittleEndian.Uint64(p[footer+24:])), footer, len(p) - chunk.DigestSize
}

// refused sees that p is no copy, for the reason want or for one of both kinds.
func refused(t testing.TB, what string, p []byte, want ...error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kept")
	if err := os.WriteFile(path, p, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := flist.OpenKept(path)
	if err == nil {
		_ = r.Close()
	}
	if !slices.ContainsFunc(want, func(w error) bool { return errors.Is(err, w) }) {
		t.Errorf("%s: OpenKept = %v, want %v", what, err, want)
	}
	_ = os.Remove(path)
}

func TestKeptDamage(t *testing.T) {
	path, _ := write(t, sample)
	small := ok[[]byte](t)(os.ReadFile(keep(t, path)))
	path, _ = write(t, big(12_000))
	large := ok[[]byte](t)(os.ReadFile(keep(t, path)))
	for _, good := range [][]byte{small, large} {
		parts, footer, seal := layout(good)
		flip := func(at int, want ...error) {
			t.Helper()
			bad := slices.Clone(good)
			bad[at] ^= 1 << (at % 8)
			refused(t, fmt.Sprintf("byte %d of %d, database to %d, footer at %d", at, len(good), parts, footer), bad, want...)
		}
		step := max(1, parts/200) | 1
		for at := 0; at < parts; at += step {
			flip(at, errs.ErrCorrupt)
		}
		flip(parts-1, errs.ErrCorrupt)
		for at := parts; at < footer; at++ {
			flip(at, errs.ErrCorrupt)
		}
		for at := footer; at < footer+24; at++ { // magic and version
			flip(at, errs.ErrFormat)
		}
		for at := footer + 24; at < len(good); at++ {
			flip(at, errs.ErrCorrupt)
		}
		for _, n := range []int{0, 1, 31, 32, 4096, parts / 2, parts - 1, parts, parts + 1, parts + 32, footer, footer + 16, footer + 24, footer + 32, seal, seal + 1, len(good) - 1} {
			refused(t, fmt.Sprintf("cut to %d of %d bytes", n, len(good)), good[:n], errs.ErrFormat, errs.ErrCorrupt)
		}
		torn := slices.Clone(good)
		clear(torn[parts/2 : parts]) // as where a crash came before the data
		refused(t, "torn", torn, errs.ErrCorrupt)
		refused(t, "lengthened", append(slices.Clone(good), 0), errs.ErrFormat)
		refused(t, "without its first page", good[4096:], errs.ErrCorrupt)
		refused(t, "with another page", slices.Concat(good[:4096], good), errs.ErrCorrupt)
	}
	parts, _, _ := layout(small)
	otherParts, _, _ := layout(large)
	refused(t, "the end of another copy", slices.Concat(small[:parts], large[otherParts:]), errs.ErrCorrupt)
	refused(t, "an flist", plain(t, path), errs.ErrFormat)
}

// TestKeptSealed has tails whose seal is right and that are not to be believed.
func TestKeptSealed(t *testing.T) {
	path, _ := write(t, sample)
	good := ok[[]byte](t)(os.ReadFile(keep(t, path)))
	parts, footer, _ := layout(good)
	set := func(at int, v uint64) []byte {
		p := slices.Clone(good)
		binary.LittleEndian.PutUint64(p[at:], v)
		d := chunk.Sum(p[parts : len(p)-chunk.DigestSize])
		return append(p[:len(p)-chunk.DigestSize], d[:]...)
	}
	refused(t, "an older version", set(footer+16, 0), errs.ErrFormat)
	refused(t, "a newer version", set(footer+16, 2), errs.ErrFormat)
	for _, size := range []uint64{0, 1, uint64(parts) - 4096, uint64(parts) + 1, 1 << 62, 1<<63 - 1, 1 << 63, 1<<64 - 1} {
		refused(t, fmt.Sprintf("a database of %d bytes", size), set(footer+24, size), errs.ErrCorrupt)
	}
	refused(t, "another digest of a part", set(parts, 1), errs.ErrCorrupt)
	if p := set(footer+16, 1); !bytes.Equal(p, good) {
		t.Error("a seal made here is not that of Keep: this test proves nothing")
	}
}

func TestKeptOwner(t *testing.T) {
	path, _ := write(t, sample)
	kept := keep(t, path)
	denied := func(what string, want error) {
		t.Helper()
		r, err := flist.OpenKept(kept)
		if err == nil {
			_ = r.Close()
		}
		if !errors.Is(err, want) {
			t.Errorf("%s: OpenKept = %v, want %v", what, err, want)
		}
	}
	denied("as Keep made it", nil)
	for _, mode := range []os.FileMode{0o620, 0o602} {
		if err := os.Chmod(kept, mode); err != nil {
			t.Fatal(err)
		}
		denied(mode.String(), errs.ErrDenied)
	}
	if err := errors.Join(os.Remove(kept), os.Mkdir(kept, 0o700)); err != nil {
		t.Fatal(err)
	}
	denied("a directory", errs.ErrFormat)
	if err := os.Remove(kept); err != nil {
		t.Fatal(err)
	}
	denied("nothing", fs.ErrNotExist)
}

// TestKeptForeign is root, for whom somebody else has left a copy.
func TestKeptForeign(t *testing.T) {
	testenv.NeedRoot(t)
	path, _ := write(t, sample)
	kept := keep(t, path)
	if err := os.Chown(kept, 1, 1); err != nil {
		t.Fatal(err)
	}
	if r, err := flist.OpenKept(kept); !errors.Is(err, errs.ErrDenied) {
		t.Errorf("OpenKept = %v, %v; want %v", r, err, errs.ErrDenied)
	}
}

// TestKeepRace has several write one copy; each may be the one that lasts.
func TestKeepRace(t *testing.T) {
	path, _ := write(t, sample)
	r := open(t, path)
	kept := filepath.Join(t.TempDir(), "kept")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 10 {
				if err := r.Keep(kept); err != nil {
					t.Errorf("Keep = %v", err)
				}
				again, err := flist.OpenKept(kept)
				if errors.Is(err, fs.ErrNotExist) { // just between two
					continue
				}
				if err != nil {
					t.Errorf("OpenKept = %v", err)
					return
				}
				walk(again)
				_ = again.Close()
			}
		})
	}
	wg.Wait()
	left := ok[[]os.DirEntry](t)(os.ReadDir(filepath.Dir(kept)))
	if len(left) != 1 || left[0].Name() != "kept" {
		t.Errorf("Keep left %v", left)
	}
}

func TestKeepFails(t *testing.T) {
	path, _ := write(t, sample)
	r := open(t, path)
	dir := t.TempDir()
	if err := r.Keep(filepath.Join(dir, "none", "kept")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Keep in no directory = %v, want %v", err, fs.ErrNotExist)
	}
	busy := filepath.Join(dir, "busy")
	if err := os.MkdirAll(filepath.Join(busy, "child"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := r.Keep(busy); err == nil {
		t.Error("Keep in place of a directory = nil")
	}
	if left := ok[[]os.DirEntry](t)(os.ReadDir(dir)); len(left) != 1 {
		t.Errorf("Keep left %v", left)
	}
	walk(r)
}

func TestKeepFull(t *testing.T) {
	testenv.NeedRoot(t)
	path, _ := write(t, sample)
	r := open(t, path)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=16k"); err != nil {
		t.Fatal(err)
	}
	testenv.Mounted(t, dir)
	if err := r.Keep(filepath.Join(dir, "kept")); !errors.Is(err, errs.ErrFull) {
		t.Errorf("Keep on a full disk = %v, want %v", err, errs.ErrFull)
	}
	if left := ok[[]os.DirEntry](t)(os.ReadDir(dir)); len(left) != 0 {
		t.Errorf("Keep left %v", left)
	}
}

// FuzzOpenKept opens whatever it is given, as it is and, so that the seal does not keep
// everything out, with a seal of its own on the tail.
func FuzzOpenKept(f *testing.F) {
	path, _ := write(f, sample)
	p := ok[[]byte](f)(os.ReadFile(keep(f, path)))
	good := string(p)
	f.Add(p)
	parts, footer, seal := layout(p)
	for _, n := range []int{0, parts, footer, seal} {
		f.Add(p[:n])
	}
	for _, at := range []int{0, 100, parts - 1, parts, footer, footer + 16, footer + 24, footer + 31, footer + 32, seal, len(p) - 1} {
		q := slices.Clone(p)
		q[at]++
		f.Add(q)
	}
	f.Add(plain(f, path))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, p []byte) {
		try := func(p []byte) (opened bool) {
			path := filepath.Join(dir, strings.ReplaceAll(t.Name(), "/", "-"))
			if err := os.WriteFile(path, p, 0o600); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = os.Remove(path) }()
			r, err := flist.OpenKept(path)
			if err != nil {
				if !errors.Is(err, errs.ErrCorrupt) && !errors.Is(err, errs.ErrFormat) {
					t.Errorf("OpenKept = %v", err)
				}
				return false
			}
			defer r.Close()
			return true
		}
		if try(p) && string(p) != good {
			t.Error("OpenKept took what Keep did not write")
		}
		if parts, footer, seal := layout(p); footer >= 0 && parts >= 0 && parts <= seal {
			d := chunk.Sum(p[parts:seal])
			try(append(slices.Clone(p[:seal]), d[:]...))
		}
	})
}
