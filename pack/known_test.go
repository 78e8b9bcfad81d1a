package pack_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/pack"
)

// contentOf returns the content of a file as an earlier pack found it.
func contentOf(r *flist.Reader, id flist.NodeID) *pack.Content {
	n := r.Node(id)
	if n.Object == 0 {
		return nil
	}
	o := r.Object(n.Object)
	c := &pack.Content{Digest: o.Digest, Size: o.Size}
	for e := range r.Extents(n.Object) {
		ch := r.Chunk(e.Chunk)
		c.Chunks = append(c.Chunks, pack.Extent{Offset: e.Offset, Size: ch.Size, Digest: ch.Chunk})
	}
	return c
}

// TestKnown packs with an answer for all files but those that changed: these alone are read,
// and the flist is as if all had been.
func TestKnown(t *testing.T) {
	dir := files(t, map[string]string{"a": "aaaa", "b/c": noise(900<<10, 1), "b/d": "dddd", "e": strings.Repeat("\x00", 300<<10) + "e", "empty": ""})
	d := newDest()
	_, first := mustPack(t, dir, d, pack.Options{})
	base := open(t, first)
	writeFile(t, dir+"/b/d", "new and longer")
	known := paths(base)
	var asked []string
	o, read := opens(pack.Options{Known: func(path string, st *unix.Stat_t) *pack.Content {
		asked = append(asked, path)
		return contentOf(base, known[path])
	}})
	res, got := mustPack(t, dir, d, o)
	if want := []string{"b/d"}; !slices.Equal(*read, want) {
		t.Errorf("read %q, want what is of another size alone, %q", *read, want)
	}
	if want := []string{"a", "e", "b/c", "b/d"}; !slices.Equal(asked, want) {
		t.Errorf("asked for %q, want %q", asked, want)
	}
	if res.FromCache != 3 {
		t.Errorf("%d files known, want 3", res.FromCache)
	}
	if _, want := mustPack(t, dir, d, pack.Options{}); !bytes.Equal(got, want) {
		t.Error("the flist differs from one for which all was read")
	}
	// To a store that has none of the chunks, all is read.
	o, read = opens(pack.Options{Known: o.Known})
	_, got = mustPack(t, dir, newDest(), o)
	if _, want := mustPack(t, dir, newDest(), pack.Options{}); !bytes.Equal(got, want) || len(*read) != 4 {
		t.Errorf("read %q for a store that has nothing; the same bytes: %v", *read, bytes.Equal(got, want))
	}
}
