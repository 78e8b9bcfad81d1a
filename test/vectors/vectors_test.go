package vectors_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/image"
	"github.com/zosfs/zosfs/store"
	"github.com/zosfs/zosfs/store/dir"
)

var update = flag.Bool("update", false, "make the vectors of a version that has none yet")

const root = "../../testdata/vectors"

// stream is a generated run of bytes: a linear congruential generator, so that any program
// can make it (multiplier 6364136223846793005, increment 1442695040888963407, the high byte
// of each state).
func stream(seed uint64, n int) []byte {
	p := make([]byte, n)
	for i := range p {
		seed = seed*6364136223846793005 + 1442695040888963407
		p[i] = byte(seed >> 56)
	}
	return p
}

// contents are the files of the vector image, by name.
func contents() map[string][]byte {
	sparse := make([]byte, 1<<20)
	copy(sparse[300<<10:], stream(4, 5000))
	return map[string][]byte{
		"text":   bytes.Repeat([]byte("All happy families are alike.\n"), 3000),
		"random": stream(1, 100),
		"large":  append(stream(2, 700_000), bytes.Repeat([]byte("x"), 100_000)...),
		"sparse": sparse,
	}
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// make1 writes the vectors of flist version 1 and blob version 1.
func make1(t *testing.T, to string) {
	t.Helper()
	w := must[*flist.Writer](t)(flist.NewWriter(t.TempDir()))
	defer w.Close()
	bw := blob.NewWriter(0)
	id := w.AddBlob()
	sealer := must[*blob.Sealer](t)(blob.NewSealer())
	cutter := must[*chunk.Cutter](t)(chunk.NewCutter(chunk.DefaultParams()))
	w.SetProperty(flist.PropertyChunker, chunk.DefaultParams().String())
	w.SetProperty(flist.PropertyAuthor, "vectors")
	w.AddSource(flist.Source{URL: "file:///srv/blobs", Priority: 5})
	content := contents()
	object := func(name string, from, n int) flist.ObjectID {
		var extents []flist.Extent
		for off, size := from, 0; off < from+n; off += size {
			if size = n; !chunk.DefaultParams().IsWhole(int64(n)) {
				size = cutter.Next(content[name][off : from+n])
			}
			p := content[name][off : off+size]
			ref := bw.Add(sealer.Seal(nil, chunk.Sum(p), p))
			extents = append(extents, flist.Extent{Offset: int64(off), Chunk: must[flist.ChunkID](t)(w.AddChunk(flist.Chunk{Blob: id, Ref: ref}))})
		}
		return must[flist.ObjectID](t)(w.AddObject(flist.Object{Digest: chunk.Sum(content[name]), Size: int64(len(content[name]))}, extents))
	}
	node := func(parent flist.NodeID, name string, n flist.Node) flist.NodeID {
		nid := must[flist.NodeID](t)(w.AddNode(n))
		if parent != 0 {
			if err := w.AddEntry(parent, []byte(name), nid); err != nil {
				t.Fatal(err)
			}
		}
		return nid
	}
	file := func(name string, from, n int, mode uint32, set flist.XattrSetID) flist.Node {
		return flist.Node{Mode: flist.ModeRegular | mode, UID: 1000, GID: 100, MTime: 1_700_000_000_123_456_789, Size: int64(len(content[name])), Object: object(name, from, n), Xattrs: set}
	}
	top := node(0, "", flist.Node{Mode: flist.ModeDir | 0o755, MTime: 1})
	d := node(top, "dir", flist.Node{Mode: flist.ModeDir | 0o1777, MTime: -1})
	node(top, "empty", flist.Node{Mode: flist.ModeRegular})
	set := must[flist.XattrSetID](t)(w.AddXattrs([]flist.Xattr{{Name: "user.comment", Value: []byte("hello")}, {Name: "security.capability", Value: []byte("\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")}}))
	text := node(top, "text", file("text", 0, len(content["text"]), 0o4755, set))
	node(d, "block", flist.Node{Mode: flist.ModeBlock | 0o660, GID: 6, Rdev: 0x1234_0000_5678})
	node(d, "char", flist.Node{Mode: flist.ModeChar | 0o666, Rdev: 1<<8 | 3})
	node(d, "fifo", flist.Node{Mode: flist.ModeFIFO | 0o600, Xattrs: set})
	if err := w.AddEntry(d, []byte("hardlink"), text); err != nil {
		t.Fatal(err)
	}
	node(d, "large", file("large", 0, len(content["large"]), 0o644, 0))
	node(d, "link", flist.Node{Mode: flist.ModeSymlink | 0o777, Size: 7, Target: []byte("../text")})
	node(d, "not utf-8 \xff\xfe\n", file("random", 0, 100, 0, 0))
	node(d, "socket", flist.Node{Mode: flist.ModeSocket | 0o755})
	node(d, "sparse", file("sparse", 300<<10, 8192, 0o444, 0))
	p, digest, _ := bw.Finish()
	w.SetBlob(id, flist.Blob{Digest: digest, Size: int64(len(p))})
	st := must[*dir.Store](t)(dir.New(filepath.Join(to, "store")))
	if err := st.Put(t.Context(), digest, p); err != nil {
		t.Fatal(err)
	}
	must[flist.Summary](t)(w.Finish(filepath.Join(to, "image.flist")))
	if err := os.WriteFile(filepath.Join(to, "listing.txt"), []byte(listing(t, to)), 0o644); err != nil {
		t.Fatal(err)
	}
}

// listing reads a vector through the reader, the store and the image, and writes down all
// that is in it.
func listing(t *testing.T, at string) string {
	t.Helper()
	r := must[*flist.Reader](t)(flist.Open(filepath.Join(at, "image.flist"), flist.OpenOptions{TempDir: t.TempDir()}))
	defer r.Close()
	st := must[*dir.Store](t)(dir.New(filepath.Join(at, "store")))
	im := must[*image.Image](t)(image.New(r, st, image.Options{}))
	defer im.Close()
	var b strings.Builder
	fmt.Fprintf(&b, "flist %v\ntree %v\ncounts %+v\n", r.Digest(), r.TreeDigest(), r.Counts())
	p := must[string](t)(func() (string, error) { s, err := json.Marshal(r.Properties()); return string(s), err }())
	fmt.Fprintf(&b, "properties %s\nsources %+v\n", p, r.Sources())
	for e := range r.Entries() {
		n := r.Node(e.Node)
		fmt.Fprintf(&b, "%d/%q node %d mode %o uid %d gid %d nlink %d mtime %d size %d rdev %#x target %q\n", e.Parent, e.Name, e.Node, n.Mode, n.UID, n.GID, n.Nlink, n.MTime, n.Size, n.Rdev, n.Target)
		for _, x := range r.Xattrs(n.Xattrs) {
			fmt.Fprintf(&b, "\t%s %x\n", x.Name, x.Value)
		}
		if n.Object == 0 {
			continue
		}
		for x := range r.Extents(n.Object) {
			c := r.Chunk(x.Chunk)
			fmt.Fprintf(&b, "\textent %d chunk %v size %d codec %v stored %d at %d of blob %v\n", x.Offset, c.Chunk, c.Size, c.Codec, c.Stored, c.Offset, r.Blob(c.Blob).Digest)
		}
		content := make([]byte, n.Size)
		if _, err := im.ReadAt(t.Context(), e.Node, content, 0); err != nil && !errors.Is(err, io.EOF) {
			t.Fatalf("read %q: %v", e.Name, err)
		}
		if got, want := chunk.Sum(content), r.Object(n.Object).Digest; got != want {
			t.Errorf("%q: content has digest %v, want %v", e.Name, got, want)
		}
		fmt.Fprintf(&b, "\tcontent %v\n", chunk.Sum(content))
	}
	return b.String()
}

func TestVectors(t *testing.T) {
	if *update {
		if _, err := os.Stat(filepath.Join(root, "v1")); errors.Is(err, os.ErrNotExist) {
			make1(t, filepath.Join(root, "v1"))
		}
	}
	versions := must[[]os.DirEntry](t)(os.ReadDir(root))
	if len(versions) == 0 {
		t.Fatal("no vectors")
	}
	for _, v := range versions {
		at := filepath.Join(root, v.Name())
		t.Run(v.Name()+"/read", func(t *testing.T) {
			want := must[[]byte](t)(os.ReadFile(filepath.Join(at, "listing.txt")))
			if diff := cmp.Diff(string(want), listing(t, at)); diff != "" {
				t.Errorf("listing (-want +got):\n%s", diff)
			}
		})
		t.Run(v.Name()+"/content", func(t *testing.T) { sameContent(t, at) })
		t.Run(v.Name()+"/write", func(t *testing.T) { rewrite(t, at) })
	}
}

// sameContent compares the files of a vector with the generated ones.
func sameContent(t *testing.T, at string) {
	want := make(map[chunk.Digest]bool)
	for _, p := range contents() {
		want[chunk.Sum(p)] = true
	}
	r := must[*flist.Reader](t)(flist.Open(filepath.Join(at, "image.flist"), flist.OpenOptions{TempDir: t.TempDir()}))
	defer r.Close()
	for _, o := range r.Objects() {
		if !want[o.Digest] {
			t.Errorf("object %v is none of the generated files", o.Digest)
		}
		delete(want, o.Digest)
	}
	if len(want) != 0 {
		t.Errorf("%d files are missing", len(want))
	}
}

// rewrite writes what a vector holds again, and wants the same bytes: of the database, apart
// from its compression, and of the blobs, apart from the sealing of chunks.
func rewrite(t *testing.T, at string) {
	path := filepath.Join(at, "image.flist")
	r := must[*flist.Reader](t)(flist.Open(path, flist.OpenOptions{TempDir: t.TempDir()}))
	defer r.Close()
	w := must[*flist.Writer](t)(flist.NewWriter(t.TempDir()))
	defer w.Close()
	for k, v := range r.Properties() {
		w.SetProperty(k, v)
	}
	for _, s := range r.Sources() {
		w.AddSource(s)
	}
	for id, b := range r.Blobs() {
		if got := w.AddBlob(); got != id {
			t.Fatalf("AddBlob = %d, want %d", got, id)
		}
		w.SetBlob(id, b)
	}
	for _, c := range r.Chunks() {
		must[flist.ChunkID](t)(w.AddChunk(c))
	}
	for id, o := range r.Objects() {
		var extents []flist.Extent
		for e := range r.Extents(id) {
			extents = append(extents, e)
		}
		must[flist.ObjectID](t)(w.AddObject(o, extents))
	}
	for _, set := range r.XattrSets() {
		must[flist.XattrSetID](t)(w.AddXattrs(set))
	}
	for _, n := range r.Nodes() {
		must[flist.NodeID](t)(w.AddNode(n))
	}
	for e := range r.Entries() {
		if err := w.AddEntry(e.Parent, e.Name, e.Node); err != nil {
			t.Fatal(err)
		}
	}
	again := filepath.Join(t.TempDir(), "again.flist")
	must[flist.Summary](t)(w.Finish(again))
	if !bytes.Equal(plain(t, path), plain(t, again)) {
		t.Error("the same rows give another database than they did")
	}
	st := must[*dir.Store](t)(dir.New(filepath.Join(at, "store")))
	for _, b := range r.Blobs() {
		p := make([]byte, b.Size)
		if err := store.ReadRange(t.Context(), st, b.Digest, 0, p); err != nil {
			t.Fatal(err)
		}
		table := must[blob.Table](t)(blob.Verify(p))
		bw := blob.NewWriter(table.Flags)
		for _, ref := range table.Refs {
			bw.Add(blob.Sealed{Chunk: ref.Chunk, Size: ref.Size, Codec: ref.Codec, Data: p[ref.Offset:][:ref.Stored]})
		}
		if q, d, _ := bw.Finish(); !bytes.Equal(p, q) || d != b.Digest {
			t.Errorf("blob %v: the same chunks give another blob", b.Digest)
		}
	}
}

func plain(t *testing.T, path string) []byte {
	t.Helper()
	dec := must[*zstd.Decoder](t)(zstd.NewReader(nil))
	defer dec.Close()
	return must[[]byte](t)(dec.DecodeAll(must[[]byte](t)(os.ReadFile(path)), nil))
}
