package image_test

import (
	"bytes"
	"cmp"
	"context"
	"iter"
	"maps"
	"math/rand/v2"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/image"
	"github.com/zosfs/zosfs/store"
	"github.com/zosfs/zosfs/store/mem"
)

// spec is one file of a test tree. Directories on the way appear by themselves.
type spec struct {
	path   string
	node   flist.Node // Mode 0 is a regular file 0644
	runs   []run      // content; gaps are holes
	size   int64      // 0: up to the end of the last run
	xattrs []flist.Xattr
	link   string // path of a node met before, of which this is a hard link
}

type run struct {
	off  int64
	data []byte
}

// packing says how chunks become blobs.
type packing struct {
	chunk   int                                // bytes of a chunk; 0 is 32 KiB
	perBlob int                                // chunks of a blob; 0 is 64
	order   func(n int) []int                  // permutation of the chunks; nil keeps that of the walk
	foreign func(i int) []byte                 // what lies before chunk i of the order and is not in the flist
	object  func(o *flist.Object)              // changes an object before it is written
	moved   func(map[chunk.Digest]flist.Chunk) // changes where chunks are said to lie
}

// world is an flist and its store, and what must come out of them.
type world struct {
	*flist.Reader
	store   *mem.Store
	content map[string][]byte
	blobs   []blob.Digest
	places  map[chunk.Digest]flist.Chunk // with Blob as index into blobs and from 1
}

// build makes a world; the Reader is closed with the test.
func build(t testing.TB, p packing, specs ...spec) *world {
	t.Helper()
	w := &world{store: mem.New(), content: map[string][]byte{}, places: map[chunk.Digest]flist.Chunk{}}
	b := &builder{t: t, w: w, packing: p, children: map[string][]string{}, specs: map[string]*spec{}}
	if b.chunk == 0 {
		b.chunk = 32 << 10
	}
	if b.perBlob == 0 {
		b.perBlob = 64
	}
	for i := range specs {
		b.place(&specs[i])
	}
	b.pack()
	w.Reader = b.write()
	return w
}

type builder struct {
	t testing.TB
	w *world
	packing
	specs    map[string]*spec
	children map[string][]string

	flist *flist.Writer
	nodes map[string]flist.NodeID
	ids   map[uint32]flist.BlobID // of indices into w.blobs
}

func (b *builder) place(s *spec) {
	if s.node.Mode == 0 {
		s.node.Mode = flist.ModeRegular | 0o644
	}
	for _, r := range s.runs {
		s.size = max(s.size, r.off+int64(len(r.data)))
	}
	if s.node.Type() == flist.ModeRegular && s.link == "" {
		p := make([]byte, s.size)
		for _, r := range s.runs {
			copy(p[r.off:], r.data)
		}
		b.w.content[s.path] = p
	}
	b.specs[s.path] = s
	for p := s.path; p != "."; p = path.Dir(p) {
		dir := path.Dir(p)
		if b.specs[p] == nil {
			b.specs[p] = &spec{path: p, node: flist.Node{Mode: flist.ModeDir | 0o755}}
		}
		if !slices.Contains(b.children[dir], path.Base(p)) {
			b.children[dir] = append(b.children[dir], path.Base(p))
		}
	}
}

// cut returns the chunks of a spec.
func (b *builder) cut(s *spec, fn func(off int64, p []byte)) {
	for _, r := range s.runs {
		for off := 0; off < len(r.data); off += b.chunk {
			fn(r.off+int64(off), r.data[off:min(off+b.chunk, len(r.data))])
		}
	}
}

func (b *builder) walk(dir string, fn func(s *spec, dir, name string)) {
	names := slices.Sorted(slices.Values(b.children[dir]))
	for _, n := range names {
		fn(b.specs[path.Join(dir, n)], dir, n)
	}
	for _, n := range names {
		if s := b.specs[path.Join(dir, n)]; s.node.Type() == flist.ModeDir {
			b.walk(s.path, fn)
		}
	}
}

func (b *builder) pack() {
	var plain [][]byte
	seen := map[chunk.Digest]bool{}
	b.walk(".", func(s *spec, _, _ string) {
		b.cut(s, func(_ int64, p []byte) {
			if d := chunk.Sum(p); !seen[d] {
				seen[d] = true
				plain = append(plain, p)
			}
		})
	})
	sealer, err := blob.NewSealer()
	if err != nil {
		b.t.Fatal(err)
	}
	order := make([]int, len(plain))
	for i := range order {
		order[i] = i
	}
	if b.order != nil {
		order = b.order(len(plain))
	}
	bw := blob.NewWriter(0)
	flush := func() {
		p, d, _ := bw.Finish()
		if err := b.w.store.Put(context.Background(), d, p); err != nil {
			b.t.Fatal(err)
		}
		b.w.blobs = append(b.w.blobs, d)
		bw = blob.NewWriter(0)
	}
	for n, i := range order {
		if b.foreign != nil {
			if p := b.foreign(n); len(p) > 0 {
				bw.Add(sealer.Seal(nil, chunk.Sum(p), p))
			}
		}
		d := chunk.Sum(plain[i])
		sealed := sealer.Seal(nil, d, plain[i])
		ref := bw.Add(sealed)
		b.w.places[d] = flist.Chunk{Ref: ref, Blob: flist.BlobID(len(b.w.blobs) + 1)}
		// Opening one now makes the shared decoder outside of any synctest bubble.
		if got, err := blob.Open(nil, ref, sealed.Data); err != nil || !bytes.Equal(got, plain[i]) {
			b.t.Fatalf("Open(Seal(chunk %d)) = %v", i, err)
		}
		if (n+1)%b.perBlob == 0 {
			flush()
		}
	}
	if bw.Len() > 0 {
		flush()
	}
	if b.moved != nil {
		b.moved(b.w.places)
	}
}

func (b *builder) write() *flist.Reader {
	b.t.Helper()
	must := func(err error) {
		if err != nil {
			b.t.Helper()
			b.t.Fatal(err)
		}
	}
	dir := b.t.TempDir()
	var err error
	b.flist, err = flist.NewWriter(dir)
	must(err)
	defer b.flist.Close()
	b.flist.SetProperty(flist.PropertyChunker, chunk.DefaultParams().String())
	b.nodes, b.ids = map[string]flist.NodeID{}, map[uint32]flist.BlobID{}
	root := flist.Node{Mode: flist.ModeDir | 0o755}
	if s := b.specs["."]; s != nil {
		root = s.node
	}
	b.nodes["."], err = b.flist.AddNode(root)
	must(err)
	b.walk(".", func(s *spec, dir, name string) {
		id := b.nodes[s.link]
		if s.link == "" {
			id = b.node(s)
		}
		b.nodes[s.path] = id
		must(b.flist.AddEntry(b.nodes[dir], []byte(name), id))
	})
	file := filepath.Join(dir, "t.flist")
	_, err = b.flist.Finish(file)
	must(err)
	r, err := flist.Open(file, flist.OpenOptions{TempDir: dir})
	must(err)
	b.t.Cleanup(func() { _ = r.Close() })
	return r
}

func (b *builder) node(s *spec) flist.NodeID {
	b.t.Helper()
	n := s.node
	must := func(err error) {
		if err != nil {
			b.t.Helper()
			b.t.Fatalf("%s: %v", s.path, err)
		}
	}
	var err error
	if n.Type() == flist.ModeSymlink {
		n.Size = int64(len(n.Target))
	}
	if n.Type() == flist.ModeRegular && s.size > 0 {
		n.Size = s.size
		n.Object, err = b.object1(s)
		must(err)
	}
	n.Xattrs, err = b.flist.AddXattrs(s.xattrs)
	must(err)
	id, err := b.flist.AddNode(n)
	must(err)
	return id
}

func (b *builder) object1(s *spec) (flist.ObjectID, error) {
	var extents []flist.Extent
	var err error
	b.cut(s, func(off int64, p []byte) {
		c := b.w.places[chunk.Sum(p)]
		at := uint32(c.Blob)
		if b.ids[at] == 0 {
			b.ids[at] = b.flist.AddBlob()
			d := b.w.blobs[at-1]
			size, _ := b.w.store.Stat(context.Background(), d)
			b.flist.SetBlob(b.ids[at], flist.Blob{Digest: d, Size: size})
		}
		c.Blob = b.ids[at]
		id, e := b.flist.AddChunk(c)
		err = cmp.Or(err, e)
		extents = append(extents, flist.Extent{Offset: off, Chunk: id})
	})
	if err != nil {
		return 0, err
	}
	o := flist.Object{Digest: chunk.Sum(b.w.content[s.path]), Size: s.size}
	if b.object != nil {
		b.object(&o)
	}
	return b.flist.AddObject(o, extents)
}

// open returns the Image of w with content from src, w.store if nil; it is closed with the
// test.
func (w *world) open(t testing.TB, src store.Getter, o image.Options) *image.Image {
	t.Helper()
	if src == nil {
		src = w.store
	}
	im, err := image.New(w.Reader, src, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := im.Close(); err != nil {
			t.Errorf("Close() = %v", err)
		}
	})
	return im
}

// find returns the node at path.
func find(t testing.TB, im *image.Image, path string) flist.NodeID {
	t.Helper()
	id, err := im.Tree().Resolve(path)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// noise returns n bytes that do not compress.
func noise(seed uint64, n int) []byte {
	p := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	_, _ = r.Read(p)
	return p
}

// prose returns n bytes that compress.
func prose(seed uint64, n int) []byte {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		b.WriteString(strings.Repeat(string(rune('a'+(seed+uint64(i))%26)), 1+i%9))
		b.WriteByte(byte(seed + uint64(i)*seed))
	}
	return []byte(b.String()[:n])
}

func whole(path string, data []byte) spec { return spec{path: path, runs: []run{{0, data}}} }

func (w *world) paths() []string { return slices.Sorted(maps.Keys(w.content)) }

// inBubble runs a subtest in a synctest bubble.
func inBubble(t *testing.T, name string, f func(*testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

func allNodes(im *image.Image) iter.Seq[flist.NodeID] {
	return func(yield func(flist.NodeID) bool) {
		for id := range im.Tree().Len() {
			if !yield(flist.NodeID(id + 1)) {
				return
			}
		}
	}
}
