package image_test

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/image"
)

// odd is a tree with a node of every kind.
func odd() []spec {
	return []spec{
		{path: ".", node: flist.Node{Mode: flist.ModeDir | 0o751, UID: 1, MTime: 12}},
		{path: "bin", node: flist.Node{Mode: flist.ModeSymlink | 0o777, Target: []byte("usr/bin")}},
		{path: "usr/bin/sh", node: flist.Node{Mode: flist.ModeRegular | 0o4755, UID: 3, GID: 4, MTime: -5}, runs: []run{{0, prose(1, 5000)}},
			xattrs: []flist.Xattr{{Name: "user.b", Value: []byte("2")}, {Name: "security.capability", Value: []byte{1, 0, 2}}}},
		{path: "usr/bin/zsh", link: "usr/bin/sh"},
		{path: "usr/bin/abs", node: flist.Node{Mode: flist.ModeSymlink | 0o777, Target: []byte("/usr/bin/sh")}},
		{path: "usr/bin/up", node: flist.Node{Mode: flist.ModeSymlink | 0o777, Target: []byte("../../../../etc/")}},
		{path: "usr/bin/gone", node: flist.Node{Mode: flist.ModeSymlink | 0o777, Target: []byte("nowhere")}},
		{path: "loop", node: flist.Node{Mode: flist.ModeSymlink | 0o777, Target: []byte("loop")}},
		{path: "etc/passwd", runs: []run{{0, []byte("root")}}, xattrs: []flist.Xattr{{Name: "user.b", Value: []byte("3")}}},
		{path: "etc/empty"},
		{path: "etc/\xff\xfe", runs: []run{{0, []byte("not utf-8")}}},
		{path: "dev/sda", node: flist.Node{Mode: flist.ModeBlock | 0o660, Rdev: 0x800}},
		{path: "dev/null", node: flist.Node{Mode: flist.ModeChar | 0o666, Rdev: 0x103}},
		{path: "dev/fifo", node: flist.Node{Mode: flist.ModeFIFO | 0o600}},
		{path: "dev/sock", node: flist.Node{Mode: flist.ModeSocket | 0o600}},
		{path: "empty1", node: flist.Node{Mode: flist.ModeDir | 0o1777}},
		{path: "empty2", node: flist.Node{Mode: flist.ModeDir | 0o2755}},
		{path: "zz/a/b/c", runs: []run{{0, []byte("deep")}}},
	}
}

func TestTreeIsTheFlist(t *testing.T) {
	w := build(t, packing{}, odd()...)
	tree := image.NewTree(w.Reader)
	if got, want := tree.Len(), int(w.Counts().Nodes); got != want {
		t.Fatalf("Len() = %d, want %d", got, want)
	}
	type all struct {
		Attr   image.Attr
		Target string
		Xattrs []flist.Xattr
		Names  []string
	}
	got, want := map[flist.NodeID]all{}, map[flist.NodeID]all{}
	for id, n := range w.Nodes() {
		a := all{Target: string(n.Target), Attr: image.Attr{Mode: n.Mode, UID: n.UID, GID: n.GID, Nlink: n.Nlink,
			MTime: n.MTime, Size: n.Size, Rdev: n.Rdev, Object: n.Object, Xattrs: n.Xattrs}}
		for _, x := range w.Xattrs(n.Xattrs) {
			a.Xattrs = append(a.Xattrs, flist.Xattr{Name: x.Name, Value: append([]byte(nil), x.Value...)})
		}
		for e := range w.Dir(id) {
			a.Names = append(a.Names, fmt.Sprint(string(e.Name), e.Node))
		}
		want[id] = a
	}
	// From here on the Tree stands alone: it must hold nothing of the mapping.
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for id := range want {
		a := all{Attr: tree.Attr(id), Target: tree.Target(id), Xattrs: tree.Xattrs(id)}
		for i := range tree.DirLen(id) {
			name, child := tree.DirEntry(id, i)
			a.Names = append(a.Names, fmt.Sprint(name, child))
			if found, ok := tree.Lookup(id, name); !ok || found != child {
				t.Errorf("Lookup(%d, %q) = %d, %v, want %d", id, name, found, ok, child)
			}
			if tree.Attr(child).Type() == flist.ModeDir && tree.Parent(child) != id {
				t.Errorf("Parent(%d) = %d, want %d", child, tree.Parent(child), id)
			}
		}
		got[id] = a
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("tree differs from the flist (-want +got):\n%s", d)
	}
}

func TestTreeLookup(t *testing.T) {
	tree := image.NewTree(build(t, packing{}, odd()...).Reader)
	etc, err := tree.Resolve("etc")
	if err != nil {
		t.Fatal(err)
	}
	file, _ := tree.Lookup(etc, "passwd")
	for _, name := range []string{"", ".", "..", "a", "passw", "passwdx", "\xff", "\xff\xff"} {
		if id, ok := tree.Lookup(etc, name); ok {
			t.Errorf("Lookup(etc, %q) = %d, want none", name, id)
		}
	}
	if id, ok := tree.Lookup(file, "x"); ok || tree.DirLen(file) != 0 {
		t.Errorf("Lookup(file, x) = %d, DirLen = %d; want nothing in a file", id, tree.DirLen(file))
	}
	if got := tree.Parent(flist.Root); got != flist.Root {
		t.Errorf("Parent(root) = %d, want %d", got, flist.Root)
	}
	if v, ok := tree.Xattr(file, "user.b"); !ok || string(v) != "3" {
		t.Errorf("Xattr(passwd, user.b) = %q, %v, want 3", v, ok)
	}
	if v, ok := tree.Xattr(file, "user.c"); ok {
		t.Errorf("Xattr(passwd, user.c) = %q, want none", v)
	}
	if n := testing.AllocsPerRun(100, func() {
		tree.Lookup(etc, "passwd")
		tree.DirEntry(etc, 1)
		tree.Attr(file)
		tree.Xattr(file, "user.b")
	}); n != 0 {
		t.Errorf("look-ups allocate %v times, want 0", n)
	}
}

func TestTreePath(t *testing.T) {
	specs := odd()
	tree := image.NewTree(build(t, packing{}, specs...).Reader)
	for _, s := range append(specs, spec{path: "zz/a"}, spec{path: "usr"}) {
		id, err := tree.Resolve(s.path)
		if err != nil {
			t.Fatal(err)
		}
		want := s.path
		switch {
		case s.path == ".":
			want = ""
		case s.link != "":
			want = s.link // the first name of a hard link
		}
		if got := tree.Path(id); got != want {
			t.Errorf("Path(%d) = %q, want %q", id, got, want)
		}
	}
}

func TestResolve(t *testing.T) {
	tree := image.NewTree(build(t, packing{}, odd()...).Reader)
	const none, loop = "<not there>", "<loop>"
	tests := []struct{ path, exact, link, follow string }{
		{"", "", "", ""},
		{"/", "", "", ""},
		{"..", "", "", ""},
		{"//usr/./bin//sh", "usr/bin/sh", "usr/bin/sh", "usr/bin/sh"},
		{"usr/bin/../bin", "usr/bin", "usr/bin", "usr/bin"},
		{"etc/\xff\xfe", "etc/\xff\xfe", "etc/\xff\xfe", "etc/\xff\xfe"},
		{"etc/passwd/", none, none, none},
		{"etc/passwd/x", none, none, none},
		{"etc/none", none, none, none},
		{"bin", "bin", "bin", "usr/bin"},
		{"bin/", none, "usr/bin", "usr/bin"},
		{"bin/sh", none, "usr/bin/sh", "usr/bin/sh"},
		{"bin/abs", none, "usr/bin/abs", "usr/bin/sh"},
		{"bin/up/passwd", none, "etc/passwd", "etc/passwd"},
		{"usr/bin/up", "usr/bin/up", "usr/bin/up", "etc"},
		{"usr/bin/gone", "usr/bin/gone", "usr/bin/gone", none},
		{"loop", "loop", "loop", loop},
		{"loop/x", none, loop, loop},
	}
	for _, tt := range tests {
		for _, way := range []struct {
			name    string
			resolve func(string) (flist.NodeID, error)
			want    string
		}{{"Resolve", tree.Resolve, tt.exact}, {"ResolveLink", tree.ResolveLink, tt.link}, {"ResolveFollow", tree.ResolveFollow, tt.follow}} {
			id, err := way.resolve(tt.path)
			switch {
			case way.want == none || way.want == loop:
				kind := fs.ErrNotExist
				if way.want == loop {
					kind = syscall.ELOOP
				}
				if e, ok := errors.AsType[*fs.PathError](err); !ok || e.Path != tt.path || !errors.Is(err, kind) {
					t.Errorf("%s(%q) = %d, %v, want a PathError of %v", way.name, tt.path, id, err, kind)
				}
			case err != nil || tree.Path(id) != way.want:
				t.Errorf("%s(%q) = %d, %v, want %q", way.name, tt.path, id, err, way.want)
			}
		}
	}
}

// many returns n files in n/25 directories.
func many(n int) []spec {
	out := make([]spec, n)
	for i := range out {
		out[i] = spec{path: fmt.Sprintf("usr/share/package-%04d/file-%02d.txt", i/25, i%25)}
	}
	return out
}

func TestTreeSize(t *testing.T) {
	w := build(t, packing{}, many(5000)...)
	names := 0
	for e := range w.Entries() {
		names += len(e.Name)
	}
	entries := float64(w.Counts().Entries)
	got := (float64(image.NewTree(w.Reader).Bytes()) - float64(names)) / entries
	if got > 56 {
		t.Errorf("%.1f bytes an entry besides the name, want at most 56", got)
	}
	t.Logf("%.1f bytes an entry besides the name of %.1f bytes", got, float64(names)/entries)
}

func BenchmarkNewTree(b *testing.B) {
	w := build(b, packing{}, many(20000)...)
	b.ReportAllocs()
	for b.Loop() {
		image.NewTree(w.Reader)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(w.Counts().Entries), "ns/entry")
}

func BenchmarkResolve(b *testing.B) {
	tree := image.NewTree(build(b, packing{}, many(20000)...).Reader)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := tree.Resolve("usr/share/package-0400/file-07.txt"); err != nil {
			b.Fatal(err)
		}
	}
}

func TestTreeHugeTarget(t *testing.T) {
	target := strings.Repeat("./", 2000) + "f"
	tree := image.NewTree(build(t, packing{}, spec{path: "f"},
		spec{path: "l", node: flist.Node{Mode: flist.ModeSymlink | 0o777, Target: []byte(target)}}).Reader)
	if id, err := tree.ResolveFollow("l"); err != nil || tree.Path(id) != "f" {
		t.Errorf("ResolveFollow(l) = %d, %v, want f", id, err)
	}
}
