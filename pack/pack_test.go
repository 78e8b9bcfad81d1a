package pack_test

import (
	"bytes"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/internal/treetest"
	"github.com/zosfs/zosfs/pack"
)

func grow(t *testing.T, files int, largest int64) string {
	t.Helper()
	dir := filepath.Join(testenv.TempDir(t), "tree")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := treetest.Grow(dir, treetest.GrowOptions{Files: files, Seed: 1, MaxFile: largest}); err != nil {
		t.Fatal(err)
	}
	return dir
}

func oddTree(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(testenv.TempDir(t), "odd")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	treetest.Odd(t, dir, treetest.Options{Seed: 1})
	return dir
}

func TestSameBytes(t *testing.T) {
	copies := map[string][2]string{"odd": {oddTree(t), oddTree(t)}}
	machine := grow(t, 700, 3<<20)
	twin := filepath.Join(testenv.TempDir(t), "copy")
	if out, err := exec.CommandContext(t.Context(), "cp", "-a", machine, twin).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v, %s", err, out)
	}
	copies["machine"] = [2]string{machine, twin}
	for name, dirs := range copies {
		t.Run(name, func(t *testing.T) {
			dir := dirs[0]
			empty := newDest()
			first, want := mustPack(t, dir, empty, pack.Options{Workers: 1})
			open(t, want)
			check := func(name, dir string, d *dest, o pack.Options) pack.Result {
				t.Helper()
				res, got := mustPack(t, dir, d, o)
				if !bytes.Equal(got, want) {
					t.Errorf("%s: other bytes; result %+v, want %+v", name, res, first)
				}
				return res
			}
			check("2 workers", dir, newDest(), pack.Options{Workers: 2})
			check("8 workers", dir, newDest(), pack.Options{Workers: 8})
			if res := check("again", dir, empty, pack.Options{}); res.BlobsSent != 0 || res.ChunksNew != 0 {
				t.Errorf("again: %d blobs and %d chunks were sent, want none", res.BlobsSent, res.ChunksNew)
			}
			check("another directory", dirs[1], newDest(), pack.Options{})
			check("another directory, again", dirs[1], empty, pack.Options{})
		})
	}
}

// TestTreeDigest packs a tree into stores that already hold some of it in other ways: the
// tree digest is that of the tree, and packing again gives the same bytes.
func TestTreeDigest(t *testing.T) {
	dir := grow(t, 400, 4<<20)
	alone, plain := mustPack(t, dir, newDest(), pack.Options{})
	other := newDest()
	mustPack(t, dir, other, pack.Options{Exclude: []string{"**/*[a-m]"}})
	first, shared := mustPack(t, dir, other, pack.Options{})
	if first.TreeDigest != alone.TreeDigest {
		t.Errorf("tree digest %v, want %v", first.TreeDigest, alone.TreeDigest)
	}
	if bytes.Equal(shared, plain) || first.ChunksKnown == 0 {
		t.Error("the store had nothing of the tree, so the test proves nothing")
	}
	again, twice := mustPack(t, dir, other, pack.Options{Workers: 7})
	if !bytes.Equal(twice, shared) || again.BlobsSent != 0 {
		t.Errorf("packed again: %d blobs sent, same bytes: %v", again.BlobsSent, bytes.Equal(twice, shared))
	}
	small, _ := mustPack(t, dir, newDest(), pack.Options{Chunker: chunk.Params{ID: chunk.FastCDC, Whole: 4 << 10, Min: 2 << 10, Avg: 8 << 10, Max: 32 << 10}})
	if small.TreeDigest != alone.TreeDigest || small.Counts.Chunks <= alone.Counts.Chunks {
		t.Errorf("cut finer: tree digest %v and %d chunks, want %v and more than %d", small.TreeDigest, small.Counts.Chunks, alone.TreeDigest, alone.Counts.Chunks)
	}
}

func TestFarTimes(t *testing.T) {
	for _, c := range []struct {
		sec, nsec, want int64
	}{
		{0, 1, 1}, {-1, 999_999_999, -1}, {9223372035, 999_999_999, 9223372035_999_999_999},
		{9223372037, 0, math.MaxInt64}, {12_000_000_000, 0, math.MaxInt64}, {math.MaxInt64, 0, math.MaxInt64},
		{-9223372036, 0, -9223372036_000_000_000}, {-9223372038, 0, math.MinInt64}, {math.MinInt64, 0, math.MinInt64},
	} {
		if got := pack.Nanos(unix.Timespec{Sec: c.sec, Nsec: c.nsec}); got != c.want {
			t.Errorf("%d s and %d ns: %d, want %d", c.sec, c.nsec, got, c.want)
		}
	}
}

// TestRows compares every field of every entry with what the kernel says.
func TestRows(t *testing.T) {
	dir := oddTree(t)
	d := newDest()
	_, p := mustPack(t, dir, d, pack.Options{})
	r := open(t, p)
	seen := 0
	for path, id := range paths(r) {
		if len(path) > 3000 {
			continue // tests of unpack compare these
		}
		seen++
		full := filepath.Join(dir, path)
		n := r.Node(id)
		var st unix.Stat_t
		if err := unix.Lstat(full, &st); err != nil {
			t.Fatal(err)
		}
		want := flist.Node{Mode: st.Mode, UID: st.Uid, GID: st.Gid, MTime: st.Mtim.Nano(), Nlink: n.Nlink, Object: n.Object, Xattrs: n.Xattrs}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			want.Size = st.Size
			if st.Size <= 1<<20 {
				data, err := os.ReadFile(full)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(content(t, r, d, id), data) {
					t.Errorf("%q: other content", path)
				}
			}
		case unix.S_IFLNK:
			target, err := os.Readlink(full)
			if err != nil {
				t.Fatal(err)
			}
			want.Target, want.Size = []byte(target), int64(len(target))
		case unix.S_IFBLK, unix.S_IFCHR:
			want.Rdev = uint64(st.Rdev)
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			want.Nlink = uint32(st.Nlink)
		}
		if diff := cmp.Diff(want, n); diff != "" {
			t.Errorf("%q: (-kernel +flist)\n%s", path, diff)
		}
		attrs := make(map[string]string)
		for _, x := range r.Xattrs(n.Xattrs) {
			attrs[x.Name] = string(x.Value)
		}
		if diff := cmp.Diff(xattrs(t, full), attrs); diff != "" {
			t.Errorf("%q: attributes (-kernel +flist)\n%s", path, diff)
		}
	}
	if seen < 2000 {
		t.Errorf("%d entries compared, want at least 2000", seen)
	}
}

func xattrs(t *testing.T, path string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range bytes.Split(bytes.TrimSuffix(buf[:n], []byte{0}), []byte{0}) {
		if len(name) > 0 {
			value := make([]byte, 64<<10)
			n, err := unix.Lgetxattr(path, string(name), value)
			if err != nil {
				t.Fatal(err)
			}
			all[string(name)] = string(value[:n])
		}
	}
	return all
}

// TestSecondVersion packs a tree, changes a little of it and packs again.
func TestSecondVersion(t *testing.T) {
	dir := grow(t, 1000, 2<<20)
	d := newDest()
	first, _ := mustPack(t, dir, d, pack.Options{})
	if _, err := treetest.Mutate(dir, 1, 1); err != nil {
		t.Fatal(err)
	}
	next, p := mustPack(t, dir, d, pack.Options{})
	open(t, p)
	if next.BytesSent*10 > first.BytesSent || next.BytesSent == 0 {
		t.Errorf("%d bytes sent for a change of 1 %%, %d for the whole", next.BytesSent, first.BytesSent)
	}
	if next.ChunksNew == 0 || next.ChunksKnown < 9*next.ChunksNew {
		t.Errorf("%d chunks new and %d known", next.ChunksNew, next.ChunksKnown)
	}
	// 4, 8, 16 MiB, then 24 MiB a look-up, and one for the rest.
	if most := 5 + next.BytesRead/(24<<20); next.Lookups > most {
		t.Errorf("%d look-ups for %d bytes, want at most %d", next.Lookups, next.BytesRead, most)
	}
	for _, b := range d.puts[:len(d.puts)-2] {
		if size, err := d.Stat(t.Context(), b); err != nil || size > blob.TargetSize+1<<20 {
			t.Errorf("blob %v: %d bytes, %v", b, size, err)
		}
	}
}

// TestSparse packs a file of 5 GiB with a little data, and files whose content is zeros.
func TestSparse(t *testing.T) {
	dir := testenv.TempDir(t)
	const size = 5<<30 + 12345
	f, err := os.Create(filepath.Join(dir, "big"))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	data := []byte(noise(100_000, 1))
	at := []int64{0, 3 << 30, size - int64(len(data))}
	for _, off := range at {
		if _, err := f.WriteAt(data, off); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	zeros := strings.Repeat("\x00", 300_000)
	writeFile(t, filepath.Join(dir, "zeros"), zeros)
	writeFile(t, filepath.Join(dir, "zeros2"), strings.Repeat(zeros, 10))
	res, p := mustPack(t, dir, newDest(), pack.Options{})
	if res.BytesRead > 4<<20 {
		t.Errorf("%d bytes read, want holes left alone", res.BytesRead)
	}
	r := open(t, p)
	names := paths(r)
	obj := r.Node(names["big"]).Object
	covered := make([]bool, len(at))
	for e := range r.Extents(obj) {
		end := e.Offset + int64(r.Chunk(e.Chunk).Size)
		for i, off := range at {
			if e.Offset <= off && off < end {
				covered[i] = true
			}
		}
	}
	if !slices.Equal(covered, []bool{true, true, true}) {
		t.Errorf("data covered: %v", covered)
	}
	if n := r.Node(names["big"]); n.Size != size {
		t.Errorf("size %d, want %d", n.Size, int64(size))
	}
	for name, want := range map[string]string{"zeros": zeros, "zeros2": strings.Repeat(zeros, 10)} {
		o := r.Node(names[name]).Object
		for range r.Extents(o) {
			t.Errorf("%s has an extent, want a hole", name)
		}
		if got := r.Object(o).Digest; got != chunk.Sum([]byte(want)) {
			t.Errorf("%s: digest %v", name, got)
		}
	}
}

// TestHoleLayouts packs equal content with different holes: one object, one set of rows.
func TestHoleLayouts(t *testing.T) {
	dir := testenv.TempDir(t)
	const size = 12 << 20
	whole := []byte(noise(1<<20, 3) + strings.Repeat("\x00", 10<<20+777) + noise(1<<20-777, 4))
	for name, cut := range map[string]bool{"a-holes": true, "b-data": false, "c-holes": true} {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Truncate(size); err != nil {
			t.Fatal(err)
		}
		for off := 0; off < size; off += 4096 {
			p := whole[off : off+4096]
			if cut && !bytes.ContainsFunc(p, func(r rune) bool { return r != 0 }) {
				continue
			}
			if _, err := f.WriteAt(p, int64(off)); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	d := newDest()
	_, first := mustPack(t, dir, d, pack.Options{})
	r := open(t, first)
	if n := r.Counts().Objects; n != 1 {
		t.Errorf("%d objects, want 1", n)
	}
	if got := content(t, r, d, paths(r)["b-data"]); !bytes.Equal(got, whole) {
		t.Error("other content")
	}
	if _, again := mustPack(t, dir, d, pack.Options{}); !bytes.Equal(again, first) {
		t.Error("packed again: other bytes")
	}
}

func TestExclude(t *testing.T) {
	dir := files(t, map[string]string{"a/keep": "1", "a/drop": "2", "b/c/keep": "3", "b/c/d/x": "4", "log": "5", "z.tmp": "6", "b/z.tmp": "7"})
	for name, c := range map[string]struct {
		patterns []string
		want     string
	}{
		"none":            {nil, "a a/drop a/keep b b/c b/c/d b/c/d/x b/c/keep b/z.tmp log z.tmp"},
		"name":            {[]string{"log"}, "a a/drop a/keep b b/c b/c/d b/c/d/x b/c/keep b/z.tmp z.tmp"},
		"directory":       {[]string{"b"}, "a a/drop a/keep log z.tmp"},
		"anywhere":        {[]string{"**/*.tmp"}, "a a/drop a/keep b b/c b/c/d b/c/d/x b/c/keep log"},
		"top only":        {[]string{"*.tmp"}, "a a/drop a/keep b b/c b/c/d b/c/d/x b/c/keep b/z.tmp log"},
		"but one":         {[]string{"*", "!b/c/d/x"}, "b b/c b/c/d b/c/d/x"},
		"but a directory": {[]string{"*", "!b/c"}, "b b/c b/c/d b/c/d/x b/c/keep"},
		"but a wildcard":  {[]string{"*", "!a/k*"}, "a a/keep"},
	} {
		t.Run(name, func(t *testing.T) {
			_, p := mustPack(t, dir, newDest(), pack.Options{Exclude: c.patterns})
			got := slices.Sorted(maps.Keys(paths(open(t, p))))
			if s := strings.Join(got[1:], " "); s != c.want {
				t.Errorf("kept %q, want %q", s, c.want)
			}
		})
	}
	if _, err := pack.Tree(t.Context(), dir, newDest(), filepath.Join(t.TempDir(), "x"), pack.Options{Exclude: []string{"[a"}}); err == nil {
		t.Error("a bad pattern is no error")
	}
}

func TestOneFileSystem(t *testing.T) {
	testenv.NeedRoot(t)
	dir := files(t, map[string]string{"f": "1", "mnt/under": "2"})
	mnt := filepath.Join(dir, "mnt")
	testenv.Mounted(t, mnt)
	if err := unix.Mount("tmpfs", mnt, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(mnt, "over"), "3")
	for one, want := range map[bool][]string{false: {".", "f", "mnt", "mnt/over"}, true: {".", "f", "mnt"}} {
		_, p := mustPack(t, dir, newDest(), pack.Options{OneFileSystem: one})
		if got := slices.Sorted(maps.Keys(paths(open(t, p)))); !slices.Equal(got, want) {
			t.Errorf("one file system %v: %v, want %v", one, got, want)
		}
	}
}

func TestProgress(t *testing.T) {
	dir := grow(t, 200, 1<<20)
	var p pack.Progress
	res, _ := mustPack(t, dir, newDest(), pack.Options{Progress: &p, Count: true})
	if !p.Counted.Load() || p.TotalFiles.Load() != res.Counts.Files || p.TotalBytes.Load() != res.Counts.Size {
		t.Errorf("totals %d files, %d bytes (%v), want %d and %d", p.TotalFiles.Load(), p.TotalBytes.Load(), p.Counted.Load(), res.Counts.Files, res.Counts.Size)
	}
	if p.Bytes.Load() != res.Counts.Size || p.SentBytes.Load() != res.BytesSent || p.DedupBytes.Load() != res.BytesDedup {
		t.Errorf("done %d bytes, %d sent, %d dedup; result %+v", p.Bytes.Load(), p.SentBytes.Load(), p.DedupBytes.Load(), res)
	}
}

func TestProperties(t *testing.T) {
	dir := files(t, map[string]string{"f": "1"})
	_, p := mustPack(t, dir, newDest(), pack.Options{
		Properties: map[string]string{flist.PropertyAuthor: "me"}, Sources: []flist.Source{{URL: "https://hub/x", Priority: 3}},
	})
	r := open(t, p)
	want := map[string]string{flist.PropertyAuthor: "me", flist.PropertyChunker: chunk.DefaultParams().String()}
	if diff := cmp.Diff(want, r.Properties()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]flist.Source{{URL: "https://hub/x", Priority: 3}}, r.Sources()); diff != "" {
		t.Error(diff)
	}
}

// TestOutInside packs a directory to an flist that appears in it.
func TestOutInside(t *testing.T) {
	dir := files(t, map[string]string{"f": "1"})
	out := filepath.Join(dir, "x.flist")
	if _, err := pack.Tree(t.Context(), dir, newDest(), out, pack.Options{}); err != nil {
		t.Fatal(err)
	}
	leftovers(t, dir, "f", "x.flist")
}
