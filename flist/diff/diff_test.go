package diff_test

import (
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/flist/diff"
)

// file is one line of a tree. Directories on the way must come before it.
type file struct {
	path    string
	node    flist.Node
	content string // of a regular file: a chunk for every 10 bytes
	xattr   string // value of user.x
	link    string // another name of this path
}

func dir(path string) file { return file{path: path, node: flist.Node{Mode: flist.ModeDir | 0o755}} }
func regular(path, data string) file {
	return file{path: path, node: flist.Node{Mode: flist.ModeRegular | 0o644}, content: data}
}
func link(path, to string) file { return file{path: path, link: to} }

// open makes an flist of files and opens it.
func open(t testing.TB, files ...file) *flist.Reader {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	tmp := t.TempDir()
	w, err := flist.NewWriter(tmp)
	must(err)
	defer func() { must(w.Close()) }()
	if !slices.ContainsFunc(files, func(f file) bool { return f.path == "." }) {
		files = append([]file{dir(".")}, files...)
	}
	files = inOrder(files)
	ids := make(map[string]flist.NodeID)
	blob := w.AddBlob()
	at := uint32(8)
	for _, f := range files {
		id, linked := ids[f.link]
		if !linked {
			if f.content != "" {
				var extents []flist.Extent
				for off := 0; off < len(f.content); off += 10 {
					p := f.content[off:min(off+10, len(f.content))]
					c := flist.Chunk{Blob: blob}
					c.Chunk, c.Offset, c.Stored, c.Size = chunk.Sum([]byte(p)), at, uint32(len(p)), uint32(len(p))
					if _, met := w.FindChunk(c.Chunk); !met {
						at += c.Stored
					}
					n, err := w.AddChunk(c)
					must(err)
					extents = append(extents, flist.Extent{Offset: int64(off), Chunk: n})
				}
				f.node.Size = int64(len(f.content))
				f.node.Object, err = w.AddObject(flist.Object{Digest: chunk.Sum([]byte(f.content)), Size: f.node.Size}, extents)
				must(err)
			}
			if f.xattr != "" {
				f.node.Xattrs, err = w.AddXattrs([]flist.Xattr{{Name: "user.x", Value: []byte(f.xattr)}})
				must(err)
			}
			f.node.Size = max(f.node.Size, int64(len(f.node.Target)))
			id, err = w.AddNode(f.node)
			must(err)
		}
		ids[f.path] = id
		if f.path != "." {
			must(w.AddEntry(ids[path.Dir(f.path)], []byte(path.Base(f.path)), id))
		}
	}
	w.SetBlob(blob, flist.Blob{Digest: [32]byte(chunk.Sum([]byte(t.Name()))), Size: 1 << 20})
	file := filepath.Join(tmp, "t.flist")
	if at == 8 {
		t.Fatal("a tree without content has a blob")
	}
	_, err = w.Finish(file)
	must(err)
	r, err := flist.Open(file, flist.OpenOptions{TempDir: tmp})
	must(err)
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// inOrder sorts files as package flist wants them: the names of a directory, then what is in
// its subdirectories, one after another.
func inOrder(files []file) []file {
	in := make(map[string][]file)
	for _, f := range files {
		if f.path != "." {
			in[path.Dir(f.path)] = append(in[path.Dir(f.path)], f)
		}
	}
	out := []file{files[slices.IndexFunc(files, func(f file) bool { return f.path == "." })]}
	for todo := []string{"."}; len(todo) > 0; {
		dir := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		names := in[dir]
		slices.SortFunc(names, func(a, b file) int { return strings.Compare(a.path, b.path) })
		out = append(out, names...)
		for _, f := range slices.Backward(names) {
			todo = append(todo, f.path)
		}
	}
	return out
}

func base() []file {
	return []file{
		dir("a"), regular("a/one", "0123456789abcdefghij"), regular("a/two", "two"), link("a/two-again", "a/two"),
		dir("a.d"), dir("a/deep"), regular("a/deep/x", "x"),
		{path: "link", node: flist.Node{Mode: flist.ModeSymlink | 0o777, Target: []byte("a")}},
		{path: "pipe", node: flist.Node{Mode: flist.ModeFIFO | 0o600}},
		{path: "disk", node: flist.Node{Mode: flist.ModeBlock | 0o600, Rdev: 0x801}},
	}
}

// change returns the base with one file changed, without those for which f returns false.
func change(f func(*file) bool) []file {
	var out []file
	for _, one := range base() {
		if f(&one) {
			out = append(out, one)
		}
	}
	return out
}

func only(path string, f func(*flist.Node)) []file {
	return change(func(x *file) bool {
		if x.path == path {
			f(&x.node)
		}
		return true
	})
}

func TestTrees(t *testing.T) {
	for _, tt := range []struct {
		name string
		new  []file
		want string
	}{
		{"nothing", base(), ""},
		{"added", append(base(), dir("new"), regular("new/x", "x")), "+new +new/x"},
		{"removed", change(func(f *file) bool { return !strings.HasPrefix(f.path, "a/deep") }), "-a/deep -a/deep/x"},
		{"content", change(func(f *file) bool {
			if f.path == "a/one" {
				f.content = "0123456789abcdefghiJ"
			}
			return true
		}), "a/one:content"},
		{"to empty", change(func(f *file) bool {
			if f.path == "a/one" {
				f.content = ""
			}
			return true
		}), "a/one:content"},
		{"mode", only("a/one", func(n *flist.Node) { n.Mode |= 0o4000 }), "a/one:mode"},
		{"owner and time of a directory", only("a", func(n *flist.Node) { n.UID, n.MTime = 7, -1 }), "a:owner,mtime"},
		{"group", only("pipe", func(n *flist.Node) { n.GID = 7 }), "pipe:owner"},
		{"target", only("link", func(n *flist.Node) { n.Target = []byte("b") }), "link:target"},
		{"device", only("disk", func(n *flist.Node) { n.Rdev = 0x802 }), "disk:device"},
		{"xattr", change(func(f *file) bool {
			if f.path == "pipe" {
				f.xattr = "1"
			}
			return true
		}), "pipe:xattrs"},
		{"type", only("pipe", func(n *flist.Node) { n.Mode = flist.ModeSocket | 0o600 }), "pipe:type"},
		{"file for a directory", change(func(f *file) bool {
			if f.path == "a/deep" {
				*f = regular("a/deep", "x")
			}
			return f.path != "a/deep/x"
		}), "a/deep:type -a/deep/x"},
		{"name unlinked", change(func(f *file) bool { return f.path != "a/two-again" }), "a/two:links -a/two-again"},
		{"no more one file", change(func(f *file) bool {
			if f.path == "a/two-again" {
				*f = regular("a/two-again", "two")
			}
			return true
		}), "a/two:links a/two-again:links"},
		{"root", append(base(), file{path: ".", node: flist.Node{Mode: flist.ModeDir | 0o700}}), ":mode"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			var sum diff.Summary
			for c := range diff.Trees(open(t, base()...), open(t, tt.new...)) {
				sum.Add(c)
				switch {
				case c.Old == 0:
					got = append(got, "+"+c.Path)
				case c.New == 0:
					got = append(got, "-"+c.Path)
				default:
					got = append(got, c.Path+":"+c.Fields.String())
				}
			}
			if got := strings.Join(got, " "); got != tt.want {
				t.Errorf("Trees = %q, want %q", got, tt.want)
			}
			if n := sum.Added + sum.Removed + sum.Modified; n != int64(len(got)) {
				t.Errorf("Summary counts %d changes of %d", n, len(got))
			}
		})
	}
}

func TestTreesStops(t *testing.T) {
	n := 0
	for range diff.Trees(open(t, regular("x", "x")), open(t, base()...)) {
		if n++; n == 3 {
			break
		}
	}
	if n != 3 {
		t.Errorf("%d changes before the break", n)
	}
}

// TestDeep compares trees that are deeper than a stack of calls should be.
func TestDeep(t *testing.T) {
	deep := func(leaf string) []file {
		var files []file
		p := ""
		for i := range 3000 {
			p += fmt.Sprintf("/%d", i%10)
			files = append(files, dir(p[1:]))
		}
		return append(files, regular(p[1:]+"/leaf", leaf))
	}
	var got []diff.Change
	for c := range diff.Trees(open(t, deep("x")...), open(t, deep("y")...)) {
		got = append(got, c)
	}
	if len(got) != 1 || !strings.HasSuffix(got[0].Path, "/leaf") || got[0].Fields != diff.Content {
		t.Errorf("%d changes: %.100v", len(got), got)
	}
}

func TestDu(t *testing.T) {
	a := open(t, regular("x", "0123456789abcdefghij"), regular("same", "0123456789"))
	b := open(t, regular("x", "0123456789ABCDE"))
	got, total := diff.Du(a, b)
	want := []diff.Usage{
		{Logical: 30, Plain: 20, Stored: 20, Unique: 10},
		{Logical: 15, Plain: 15, Stored: 15, Unique: 5},
	}
	if !cmp.Equal(got, want) || total != (diff.Total{Plain: 25, Stored: 25}) {
		t.Errorf("Du = %+v, %+v", got, total)
	}
	if got, total := diff.Du(a, a); got[0].Unique != 0 || total.Stored != 20 {
		t.Errorf("Du of an image twice = %+v, %+v", got, total)
	}
}

func BenchmarkTrees(b *testing.B) {
	files := func(n int) []file {
		var all []file
		for i := range 100_000 {
			if i%100 == 0 {
				all = append(all, dir(fmt.Sprintf("d%04d", i/100)))
			}
			f := regular(fmt.Sprintf("d%04d/f%d", i/100, i), "x")
			f.node.MTime = int64(i % n)
			all = append(all, f)
		}
		return all
	}
	x, y := open(b, files(1000)...), open(b, files(1001)...)
	for b.Loop() {
		for range diff.Trees(x, y) {
		}
	}
}
