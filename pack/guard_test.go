package pack_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/pack"
)

// shuffled returns a tree with n small files and one large file, made of their contents in
// another order, between which stands what is new.
func shuffled(t *testing.T, n, size int) string {
	t.Helper()
	of := make(map[string]string)
	var large bytes.Buffer
	for i := range n {
		of[fmt.Sprintf("f%03d", i)] = noise(size, byte(i))
		large.WriteString(noise(size, byte(i*7%n)))
		large.WriteString(noise(3000, byte(i+100)))
	}
	of["z-large"] = large.String()
	return files(t, of)
}

// cut1K cuts so finely that the large file consists of pieces of the small ones.
var cut1K = chunk.Params{ID: chunk.FastCDC, Whole: 0, Min: 256, Avg: 1 << 10, Max: 4 << 10}

func blobsOf(r *flist.Reader, id flist.NodeID) map[flist.BlobID]int {
	in := make(map[flist.BlobID]int)
	for e := range r.Extents(r.Node(id).Object) {
		in[r.Chunk(e.Chunk).Blob]++
	}
	return in
}

func TestGuard(t *testing.T) {
	dir := shuffled(t, 40, 60_000)
	// In one pack, the chunks of the small files have rows already, so there is nothing to be
	// moved. The guard is for content that the store holds.
	before := files(t, nil)
	list, err := filepath.Glob(filepath.Join(dir, "f*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range list {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(before, filepath.Base(f)), string(data))
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, filepath.Join(dir, "small"), noise(60_000, 3))

	o := pack.Options{Chunker: cut1K, CacheDir: t.TempDir(), Start: later()}
	d := newDest()
	mustPack(t, before, d, o)
	res, want := mustPack(t, dir, d, o)
	if res.ChunksCopy == 0 || len(d.copies) != 1 {
		t.Fatalf("%d chunks copied to %d blobs, want some in one; %+v", res.ChunksCopy, len(d.copies), res)
	}
	r := open(t, want)
	names := paths(r)
	large := blobsOf(r, names["z-large"])
	if len(large) > 2 { // the copy, and where the small file lies that comes first
		t.Errorf("the large file lies in blobs %v", large)
	}
	content(t, r, d, names["z-large"])
	if small := blobsOf(r, names["small"]); len(small) != 1 {
		t.Errorf("the small file lies in blobs %v", small)
	}

	for name, o := range map[string]pack.Options{
		"again": {Chunker: cut1K}, "8 workers": {Chunker: cut1K, Workers: 8}, "with the cache": o,
	} {
		again, got := mustPack(t, dir, d, o)
		if !bytes.Equal(got, want) {
			t.Errorf("%s: other bytes", name)
		}
		if again.BlobsSent != 0 || again.ChunksNew != 0 || again.ChunksCopy != res.ChunksCopy {
			t.Errorf("%s: %+v, want the same copies and nothing sent", name, again)
		}
	}
}

// TestGuardLeavesAlone packs what must not be copied.
func TestGuardLeavesAlone(t *testing.T) {
	base := noise(20<<20, 1)
	edited := []byte(base)
	for i := 3 << 20; i < len(edited); i += 6 << 20 { // one change in six MiB
		edited[i] ^= 0xff
	}
	for name, c := range map[string]struct{ first, then map[string]string }{
		"new":                {nil, map[string]string{"a": base}},
		"same":               {map[string]string{"a": base}, map[string]string{"b": base}},
		"a few changes":      {map[string]string{"a": base}, map[string]string{"a": string(edited)}},
		"small files":        {map[string]string{"a": base[:300_000]}, map[string]string{"b": base[100_000:400_000]}},
		"repeats":            {nil, map[string]string{"a": noise(40_000, 1), "b": noise(600_000, 2) + string(bytes.Repeat([]byte(noise(100_000, 3)), 12))}},
		"between two blobs":  {nil, map[string]string{"a": noise(8<<20-300_000, 1), "b": noise(700_000, 2)}},
		"over several blobs": {map[string]string{"a": noise(700_000, 1), "b": base}, map[string]string{"c": base}},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDest()
			mustPack(t, files(t, c.first), d, pack.Options{})
			dir := files(t, c.then)
			res, want := mustPack(t, dir, d, pack.Options{})
			if res.ChunksCopy > 0 || len(d.copies) > 0 {
				t.Errorf("%d chunks copied to %d blobs, want none", res.ChunksCopy, len(d.copies))
			}
			if _, again := mustPack(t, dir, d, pack.Options{}); !bytes.Equal(again, want) {
				t.Error("packed again: other bytes")
			}
		})
	}
}

// TestGuardMixed has the guard see new content between content of the store.
func TestGuardMixed(t *testing.T) {
	var large bytes.Buffer
	first := make(map[string]string)
	for i := range 60 {
		part := noise(30_000, byte(i))
		first[fmt.Sprintf("%02d", (i*37)%60)] = part
		large.WriteString(part)
		large.WriteString(noise(20_000, byte(i+100)))
	}
	d := newDest()
	mustPack(t, files(t, first), d, pack.Options{Chunker: cut1K})
	dir := files(t, map[string]string{"a": large.String(), "b": noise(20_000, 130), "c": noise(30_000, 31)})
	res, want := mustPack(t, dir, d, pack.Options{Chunker: cut1K})
	if res.ChunksCopy == 0 || res.ChunksNew == 0 {
		t.Fatalf("%+v, want chunks that are new and such that are copied", res)
	}
	if _, again := mustPack(t, dir, d, pack.Options{Chunker: cut1K, Workers: 5}); !bytes.Equal(again, want) {
		t.Error("packed again: other bytes")
	}
	// New chunks must be found by later packs, so they are not in copies alone.
	later := files(t, map[string]string{"n": noise(20_000, 130)})
	if res, _ := mustPack(t, later, d, pack.Options{Chunker: cut1K}); res.ChunksNew > 3 {
		t.Errorf("%d chunks are new, want only those at the ends", res.ChunksNew)
	}
}
