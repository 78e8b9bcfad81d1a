package flist_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/internal/testenv"
)

// fake makes a sealed chunk of size bytes in blob id, at the next free place.
type packer struct {
	t    testing.TB
	w    *flist.Writer
	blob flist.BlobID
	at   uint32
	n    byte
}

func (p *packer) chunk(size uint32) flist.ChunkID {
	p.t.Helper()
	p.n++
	if p.blob == 0 {
		p.blob, p.at = p.w.AddBlob(), 8
	}
	id, err := p.w.AddChunk(flist.Chunk{Blob: p.blob, Ref: blob.Ref{
		Chunk: chunk.Sum([]byte{p.n}), Offset: p.at, Stored: size, Size: size, Codec: blob.CodecStored}})
	if err != nil {
		p.t.Fatal(err)
	}
	p.at += size
	return id
}

func ok[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// sample adds a small tree with everything that a row can hold.
func sample(t testing.TB, w *flist.Writer) {
	t.Helper()
	p := &packer{t: t, w: w}
	node, xs, obj := ok[flist.NodeID](t), ok[flist.XattrSetID](t), ok[flist.ObjectID](t)
	entry := func(parent flist.NodeID, name string, id flist.NodeID) {
		t.Helper()
		if err := w.AddEntry(parent, []byte(name), id); err != nil {
			t.Fatal(err)
		}
	}
	w.SetProperty(flist.PropertyChunker, chunk.DefaultParams().String())
	w.AddSource(flist.Source{URL: "file:///b", Priority: 1})
	w.AddSource(flist.Source{URL: "file:///c", Priority: 0})
	root := node(w.AddNode(flist.Node{Mode: flist.ModeDir | 0o755, MTime: -1}))
	set := xs(w.AddXattrs([]flist.Xattr{{Name: "user.b", Value: []byte("2")}, {Name: "user.a", Value: nil}}))
	o := obj(w.AddObject(flist.Object{Digest: chunk.Sum([]byte("o1")), Size: 1 << 33}, []flist.Extent{
		{Offset: 4096, Chunk: p.chunk(100)}, {Offset: 8192, Chunk: p.chunk(4096)}, {Offset: 12288, Chunk: p.chunk(5)}}))
	a := node(w.AddNode(flist.Node{Mode: flist.ModeRegular | 0o4755, UID: 1<<32 - 2, Size: 1 << 33, Object: o, Xattrs: set, MTime: 1<<62 + 5}))
	entry(root, "a", a)
	d := node(w.AddNode(flist.Node{Mode: flist.ModeDir | 0o1777, Xattrs: set}))
	entry(root, "d", d)
	e := node(w.AddNode(flist.Node{Mode: flist.ModeDir | 0o700, Xattrs: xs(w.AddXattrs([]flist.Xattr{{Name: "user.big", Value: bytes.Repeat([]byte{7}, 60000)}}))}))
	entry(root, "e", e)
	entry(root, "hard", a)
	entry(root, "z\xff\n", node(w.AddNode(flist.Node{Mode: flist.ModeChar | 0o600, Rdev: 1<<40 | 259})))
	dd := node(w.AddNode(flist.Node{Mode: flist.ModeDir}))
	entry(d, "dd", dd)
	target := []byte(strings.Repeat("t", 4095))
	entry(d, "link", node(w.AddNode(flist.Node{Mode: flist.ModeSymlink | 0o777, Size: 4095, Target: target})))
	entry(d, strings.Repeat("n", 255), node(w.AddNode(flist.Node{Mode: flist.ModeFIFO})))
	entry(dd, "s", node(w.AddNode(flist.Node{Mode: flist.ModeSocket})))
	entry(e, "empty", node(w.AddNode(flist.Node{Mode: flist.ModeRegular})))
	entry(e, "hard", a)
	w.SetBlob(1, flist.Blob{Digest: blob.Sum([]byte("b1")), Size: 5000})
}

func write(t testing.TB, fill func(testing.TB, *flist.Writer)) (string, flist.Summary) {
	t.Helper()
	w, err := flist.NewWriter(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}()
	fill(t, w)
	path := filepath.Join(t.TempDir(), "x.flist")
	s, err := w.Finish(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, s
}

func open(t testing.TB, path string) *flist.Reader {
	t.Helper()
	r, err := flist.Open(path, flist.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func TestRoundTrip(t *testing.T) {
	path, sum := write(t, sample)
	r := open(t, path)
	if r.Digest() != sum.Digest || r.TreeDigest() != sum.TreeDigest {
		t.Errorf("digests %v %v, Finish said %v %v", r.Digest(), r.TreeDigest(), sum.Digest, sum.TreeDigest)
	}
	want := flist.Counts{Nodes: 10, Entries: 11, Files: 2, Dirs: 4, Symlinks: 1, Objects: 1, Chunks: 3, Blobs: 1, Size: 1 << 33, Unique: 4201, Stored: 4201}
	if diff := cmp.Diff(want, r.Counts()); diff != "" {
		t.Errorf("Counts (-want +got):\n%s", diff)
	}
	var got []string
	for e := range r.Entries() {
		n := r.Node(e.Node)
		got = append(got, fmt.Sprintf("%d/%.4q %d %o %d %d", e.Parent, e.Name, e.Node, n.Mode, n.Nlink, n.Size))
	}
	if diff := cmp.Diff([]string{
		`1/"a" 2 104755 3 8589934592`, `1/"d" 3 41777 3 0`, `1/"e" 4 40700 2 0`, `1/"hard" 2 104755 3 8589934592`, `1/"z\xff\n" 5 20600 1 0`,
		`3/"dd" 6 40000 2 0`, `3/"link" 7 120777 1 4095`, `3/"nnnn" 8 10000 1 0`, `4/"empt" 10 100000 1 0`, `4/"hard" 2 104755 3 8589934592`, `6/"s" 9 140000 1 0`,
	}, got); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	if id, ok := r.Lookup(3, []byte("dd")); id != 6 || !ok {
		t.Errorf("Lookup(3, dd) = %v, %v", id, ok)
	}
	if id, ok := r.Lookup(1, []byte("b")); ok {
		t.Errorf("Lookup(1, b) = %v, %v, want none", id, ok)
	}
	if n := r.Node(5); n.Rdev != 1<<40|259 {
		t.Errorf("Node(5).Rdev = %#x", n.Rdev)
	}
	if diff := cmp.Diff([]flist.Xattr{{Name: "user.a", Value: []byte{}}, {Name: "user.b", Value: []byte("2")}}, r.Xattrs(1)); diff != "" {
		t.Errorf("Xattrs(1) (-want +got):\n%s", diff)
	}
	sets := 0
	for id, set := range r.XattrSets() {
		if diff := cmp.Diff(r.Xattrs(id), set); diff != "" {
			t.Errorf("XattrSets at %d: %s", id, diff)
		}
		sets++
	}
	if sets != 2 {
		t.Errorf("XattrSets gave %d sets, want 2", sets)
	}
	if diff := cmp.Diff([]flist.Source{{URL: "file:///c", Priority: 0}, {URL: "file:///b", Priority: 1}}, r.Sources()); diff != "" {
		t.Errorf("Sources (-want +got):\n%s", diff)
	}
	for off, want := range map[int64]int{0: 3, 4096: 3, 4195: 3, 4196: 2, 8192: 2, 12287: 2, 12288: 1, 12292: 1, 12293: 0, 1 << 32: 0} {
		if got := len(slices.Collect(r.ExtentsAt(1, off))); got != want {
			t.Errorf("ExtentsAt(1, %d) gave %d extents, want %d", off, got, want)
		}
	}
}

func TestDeterministic(t *testing.T) {
	a, sa := write(t, sample)
	b, sb := write(t, sample)
	pa, pb := ok[[]byte](t)(os.ReadFile(a)), ok[[]byte](t)(os.ReadFile(b))
	if !bytes.Equal(pa, pb) || sa != sb {
		t.Error("the same rows gave different files")
	}
	// Other storage, same tree: another flist digest and the same tree digest.
	_, sc := write(t, func(t testing.TB, w *flist.Writer) {
		sample(t, w)
		w.SetBlob(1, flist.Blob{Digest: blob.Sum([]byte("elsewhere")), Size: 6000})
		w.SetProperty("image.author", "somebody")
	})
	if sc.TreeDigest != sa.TreeDigest || sc.Digest == sa.Digest {
		t.Errorf("tree digest %v and digest %v against %v and %v", sc.TreeDigest, sc.Digest, sa.TreeDigest, sa.Digest)
	}
}

// plain unpacks a shipped flist.
func plain(t testing.TB, path string) []byte {
	t.Helper()
	dec := ok[*zstd.Decoder](t)(zstd.NewReader(nil))
	defer dec.Close()
	return ok[[]byte](t)(dec.DecodeAll(ok[[]byte](t)(os.ReadFile(path)), nil))
}

// TestHostile changes a good database through the real SQL engine, one rule at a time.
func TestHostile(t *testing.T) {
	testenv.NeedTool(t, "sqlite3")
	path, _ := write(t, sample)
	good := plain(t, path)
	for _, c := range []struct {
		sql  string
		want error // nil: still good
	}{
		{"SELECT 1", nil},
		{"INSERT INTO property VALUES('x.unknown', x'00')", nil},
		{"PRAGMA user_version=2", errs.ErrFormat},
		{"PRAGMA application_id=1", errs.ErrFormat},
		{"CREATE TABLE evil(x)", errs.ErrCorrupt},
		{"CREATE TRIGGER evil AFTER INSERT ON node BEGIN SELECT 1; END", errs.ErrCorrupt},
		{"CREATE VIEW evil AS SELECT 1", errs.ErrCorrupt},
		{"CREATE INDEX evil ON chunk(digest)", errs.ErrCorrupt},
		{"DELETE FROM node", errs.ErrCorrupt},
		{"DELETE FROM node WHERE id=10", errs.ErrCorrupt},
		{"DELETE FROM entry WHERE name=CAST('empty' AS BLOB)", errs.ErrCorrupt},
		{"DELETE FROM entry WHERE name=CAST('dd' AS BLOB)", errs.ErrCorrupt},
		{"UPDATE entry SET name=CAST('..' AS BLOB) WHERE node=9", errs.ErrCorrupt},
		{"UPDATE entry SET name=CAST('.' AS BLOB) WHERE node=9", errs.ErrCorrupt},
		{"UPDATE entry SET name=CAST('../x' AS BLOB) WHERE node=9", errs.ErrCorrupt},
		{"UPDATE entry SET name=CAST('/etc' AS BLOB) WHERE node=9", errs.ErrCorrupt},
		{"UPDATE entry SET name=x'610062' WHERE node=9", errs.ErrCorrupt},
		{"UPDATE entry SET name=x'' WHERE node=9", errs.ErrCorrupt},
		{"UPDATE entry SET name=zeroblob(256) WHERE node=9", errs.ErrCorrupt},
		{"UPDATE entry SET name='text' WHERE node=9", errs.ErrCorrupt},
		{"INSERT INTO entry VALUES(6, CAST('loop' AS BLOB), 3)", errs.ErrCorrupt},
		{"INSERT INTO entry VALUES(6, CAST('root' AS BLOB), 1)", errs.ErrCorrupt},
		{"INSERT INTO entry VALUES(2, CAST('in a file' AS BLOB), 9)", errs.ErrCorrupt},
		{"INSERT INTO entry VALUES(1, CAST('zz' AS BLOB), 99)", errs.ErrCorrupt},
		{"INSERT INTO entry VALUES(99, CAST('zz' AS BLOB), 2)", errs.ErrCorrupt},
		{"UPDATE node SET nlink=2 WHERE id=2", errs.ErrCorrupt},
		{"UPDATE node SET mode=0 WHERE id=2", errs.ErrCorrupt},
		{"UPDATE node SET mode=mode|65536 WHERE id=2", errs.ErrCorrupt},
		{"UPDATE node SET mode=16877 WHERE id=9", errs.ErrCorrupt},
		{"UPDATE node SET size=-1 WHERE id=2", errs.ErrCorrupt},
		{"UPDATE node SET size=size+1 WHERE id=2", errs.ErrCorrupt},
		{"UPDATE node SET uid=-1 WHERE id=2", errs.ErrCorrupt},
		{"UPDATE node SET uid=4294967296 WHERE id=2", errs.ErrCorrupt},
		{"UPDATE node SET mtime='now' WHERE id=2", errs.ErrCorrupt},
		{"UPDATE node SET mtime=1.5 WHERE id=2", errs.ErrCorrupt},
		{"UPDATE node SET object=2 WHERE id=2", errs.ErrCorrupt},
		{"UPDATE node SET object=NULL WHERE id=2", errs.ErrCorrupt},
		{"UPDATE node SET object=1 WHERE id=3", errs.ErrCorrupt},
		{"UPDATE node SET rdev=5 WHERE id=2", errs.ErrCorrupt},
		{"UPDATE node SET xattrs=3 WHERE id=2", errs.ErrCorrupt},
		{"UPDATE node SET xattrs=2 WHERE id=2", errs.ErrCorrupt},
		{"UPDATE node SET target=x'00', size=1 WHERE id=7", errs.ErrCorrupt},
		{"UPDATE node SET target=NULL WHERE id=7", errs.ErrCorrupt},
		{"UPDATE node SET target=zeroblob(5000), size=5000 WHERE id=7", errs.ErrCorrupt},
		{"UPDATE xattr SET name=x'' WHERE name=CAST('user.a' AS BLOB)", errs.ErrCorrupt},
		{"UPDATE xattr SET value=zeroblob(65537) WHERE \"set\"=2", errs.ErrCorrupt},
		{"UPDATE xattr SET \"set\"=3 WHERE \"set\"=2", errs.ErrCorrupt},
		{"INSERT INTO xattr VALUES(3, CAST('user.unused' AS BLOB), x'')", errs.ErrCorrupt},
		{"UPDATE object SET size=0", errs.ErrCorrupt},
		{"UPDATE object SET size=100", errs.ErrCorrupt},
		{"UPDATE object SET digest=x'00'", errs.ErrCorrupt},
		{"UPDATE object SET digest=zeroblob(32)", errs.ErrCorrupt},
		{"INSERT INTO object VALUES(2, zeroblob(32), 5)", errs.ErrCorrupt},
		{"UPDATE extent SET \"offset\"=4097 WHERE \"offset\"=8192", errs.ErrCorrupt},
		{"UPDATE extent SET \"offset\"=8589934592 WHERE \"offset\"=12288", errs.ErrCorrupt},
		{"UPDATE extent SET \"offset\"=-8 WHERE \"offset\"=4096", errs.ErrCorrupt},
		{"UPDATE extent SET chunk=4 WHERE \"offset\"=12288", errs.ErrCorrupt},
		{"UPDATE extent SET object=2 WHERE \"offset\"=12288", errs.ErrCorrupt},
		{"DELETE FROM extent WHERE \"offset\"=12288", errs.ErrCorrupt},
		{"UPDATE chunk SET size=0 WHERE id=1", errs.ErrCorrupt},
		{"UPDATE chunk SET size=4194305, stored=4194305 WHERE id=3", errs.ErrCorrupt},
		{"UPDATE chunk SET stored=4 WHERE id=3", errs.ErrCorrupt},
		{"UPDATE chunk SET \"offset\"=4999 WHERE id=3", errs.ErrCorrupt},
		{"UPDATE chunk SET blob=2 WHERE id=3", errs.ErrCorrupt},
		{"UPDATE chunk SET \"key\"=zeroblob(32) WHERE id=3", errs.ErrCorrupt},
		{"UPDATE chunk SET codec=256 WHERE id=3", errs.ErrCorrupt},
		{"UPDATE chunk SET codec=2, \"key\"=zeroblob(32) WHERE id=3", nil}, // readable, all but that chunk
		{"UPDATE blob SET digest=zeroblob(32)", errs.ErrCorrupt},
		{"UPDATE blob SET size=100", errs.ErrCorrupt},
		{"INSERT INTO blob SELECT 2, digest, size FROM blob", errs.ErrCorrupt},
		{"INSERT INTO blob VALUES(2, x'aa', 5)", errs.ErrCorrupt},
		{"UPDATE source SET priority='high'", errs.ErrCorrupt},
	} {
		t.Run(c.sql, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.flist")
			if err := os.WriteFile(path, good, 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.CommandContext(t.Context(), "sqlite3", "-bail", path, c.sql).CombinedOutput(); err != nil {
				t.Fatalf("sqlite3: %v: %s", err, out)
			}
			r, err := flist.Open(path, flist.OpenOptions{TempDir: t.TempDir()})
			if err == nil {
				defer r.Close()
			}
			if c.want == nil && err != nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("Open = %v, want %v", err, c.want)
			}
		})
	}
}

func TestNotAnFlist(t *testing.T) {
	path, _ := write(t, sample)
	shipped := ok[[]byte](t)(os.ReadFile(path))
	bomb := ok[*zstd.Encoder](t)(zstd.NewWriter(nil)).EncodeAll(make([]byte, 64<<20), nil)
	for name, c := range map[string]struct {
		data []byte
		max  int64
		want error
	}{
		"empty":     {nil, 0, errs.ErrFormat},
		"text":      {[]byte("hello, this is no flist at all"), 0, errs.ErrFormat},
		"cut":       {shipped[:len(shipped)/2], 0, errs.ErrCorrupt},
		"tail":      {append(slices.Clone(shipped), "tail"...), 0, errs.ErrCorrupt},
		"cut plain": {plain(t, path)[:4096*2], 0, errs.ErrCorrupt},
		"bomb":      {bomb, 1 << 20, errs.ErrFull},
		"zeros":     {bomb, 0, errs.ErrCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := flist.OpenBytes(c.data, flist.OpenOptions{MaxSize: c.max})
			if err == nil {
				defer r.Close()
			}
			if !errors.Is(err, c.want) {
				t.Errorf("OpenBytes = %v, want %v", err, c.want)
			}
		})
	}
}

// TestDamage flips a bit here and there, in one byte of a database at a time.
func TestDamage(t *testing.T) {
	path, _ := write(t, sample)
	good := plain(t, path)
	for at := 0; at < len(good); at += 41 {
		bad := slices.Clone(good)
		bad[at] ^= 1 << (at % 8)
		r, err := flist.OpenBytes(bad, flist.OpenOptions{})
		switch {
		case err == nil:
			walk(r)
			_ = r.Close()
		case !errors.Is(err, errs.ErrCorrupt) && !errors.Is(err, errs.ErrFormat):
			t.Fatalf("byte %d: %v", at, err)
		}
	}
}

// walk asks r for everything, which must not panic.
func walk(r *flist.Reader) {
	n := 0
	for e := range r.Entries() {
		if id, ok := r.Lookup(e.Parent, e.Name); !ok || id != e.Node {
			panic(fmt.Sprintf("Lookup(%d, %q) = %d, %v", e.Parent, e.Name, id, ok))
		}
	}
	for id, node := range r.Nodes() {
		n += len(r.Xattrs(node.Xattrs)) + len(slices.Collect(r.Dir(id)))
		if node.Object != 0 {
			for e := range r.ExtentsAt(node.Object, 0) {
				n += int(r.Blob(r.Chunk(e.Chunk).Blob).Size)
			}
		}
	}
	if n < 0 {
		panic("sizes below zero")
	}
}

func TestWriterRefuses(t *testing.T) {
	w := ok[*flist.Writer](t)(flist.NewWriter(t.TempDir()))
	defer w.Close()
	root := ok[flist.NodeID](t)(w.AddNode(flist.Node{Mode: flist.ModeDir}))
	file := ok[flist.NodeID](t)(w.AddNode(flist.Node{Mode: flist.ModeRegular}))
	if err := w.AddEntry(root, []byte("b"), file); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"order":        w.AddEntry(root, []byte("a"), file),
		"twice":        w.AddEntry(root, []byte("b"), file),
		"slash":        w.AddEntry(root, []byte("c/d"), file),
		"no node":      w.AddEntry(root, []byte("e"), 9),
		"the root":     w.AddEntry(root, []byte("f"), root),
		"in a file":    w.AddEntry(file, []byte("g"), file),
		"no such mode": func() error { _, err := w.AddNode(flist.Node{Mode: 1}); return err }(),
		"xattr twice":  func() error { _, err := w.AddXattrs([]flist.Xattr{{Name: "a"}, {Name: "a"}}); return err }(),
	} {
		if err == nil {
			t.Errorf("%s: no error", what)
		}
	}
}

// TestIntern adds enough digests for every shard to grow, some of them again.
func TestIntern(t *testing.T) {
	w := ok[*flist.Writer](t)(flist.NewWriter(t.TempDir()))
	defer w.Close()
	digest := func(i int) chunk.Digest { return chunk.Sum(fmt.Appendf(nil, "%d", i)) }
	const n = 30000
	for i := range n {
		for range 1 + i%2 {
			id := ok[flist.ObjectID](t)(w.AddObject(flist.Object{Digest: digest(i), Size: 1}, nil))
			if int(id) != i+1 {
				t.Fatalf("AddObject %d = %d", i, id)
			}
		}
	}
	for i := range n {
		if id, ok := w.FindObject(digest(i)); !ok || int(id) != i+1 {
			t.Fatalf("FindObject %d = %d, %v", i, id, ok)
		}
	}
	if _, ok := w.FindObject(digest(n)); ok {
		t.Error("found what was never added")
	}
}

func FuzzOpen(f *testing.F) {
	path, _ := write(f, sample)
	p := plain(f, path)
	f.Add(p)
	f.Add(ok[[]byte](f)(os.ReadFile(path)))
	empty, _ := write(f, func(t testing.TB, w *flist.Writer) { ok[flist.NodeID](t)(w.AddNode(flist.Node{Mode: flist.ModeDir})) })
	f.Add(plain(f, empty))
	for at := 100; at < len(p); at += 997 {
		q := slices.Clone(p)
		q[at]++
		f.Add(q)
	}
	f.Fuzz(func(_ *testing.T, p []byte) {
		r, err := flist.OpenBytes(p, flist.OpenOptions{MaxSize: 16 << 20})
		if err != nil {
			return
		}
		defer r.Close()
		walk(r)
	})
}
