package pack_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/internal/atomicfile"
	"github.com/zosfs/zosfs/internal/treetest"
	"github.com/zosfs/zosfs/pack"
)

// opens returns options that count the files which are read.
func opens(o pack.Options) (pack.Options, *[]string) {
	var read []string
	done := make(chan struct{}, 1)
	done <- struct{}{}
	return pack.WithHook(o, func(event, path string) error {
		if event == "open" {
			<-done
			read = append(read, path)
			done <- struct{}{}
		}
		return nil
	}), &read
}

func cacheFile(t *testing.T, dir string) string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil || len(list) != 1 {
		t.Fatalf("cache directory: %v, %v, want one file", list, err)
	}
	return filepath.Join(dir, list[0].Name())
}

func TestCache(t *testing.T) {
	dir := oddTree(t)
	d := newDest()
	o := pack.Options{CacheDir: t.TempDir(), Start: later()}
	_, want := mustPack(t, dir, d, o)

	o2, read := opens(o)
	res, got := mustPack(t, dir, d, o2)
	if !bytes.Equal(got, want) {
		t.Error("packed again: other bytes")
	}
	if len(*read) != 0 || res.BytesRead != 0 || res.FromCache == 0 {
		t.Errorf("%q and %d bytes were read, %d came from the cache", *read, res.BytesRead, res.FromCache)
	}
	if res.ChunksNew != 0 || res.ChunksKnown != res.Counts.Chunks {
		t.Errorf("%d new chunks and %d known ones, want 0 and %d", res.ChunksNew, res.ChunksKnown, res.Counts.Chunks)
	}
	first, err := os.ReadFile(cacheFile(t, o.CacheDir))
	if err != nil {
		t.Fatal(err)
	}
	mustPack(t, dir, d, o)
	if second, err := os.ReadFile(cacheFile(t, o.CacheDir)); err != nil || !bytes.Equal(first, second) {
		t.Errorf("a cache made from the cache alone differs: %v", err)
	}
}

// TestCacheChange changes files, also such that only the inode or the ctime tells.
func TestCacheChange(t *testing.T) {
	dir := files(t, map[string]string{"a": "aaaa", "b/same size": "bbbb", "b/new": "cccc", "c": "cccc", "d/e/f": "ffff", "z": "zzzz"})
	d := newDest()
	o := pack.Options{CacheDir: t.TempDir(), Start: later()}
	mustPack(t, dir, d, o)

	same := filepath.Join(dir, "b/same size")
	st, err := os.Stat(same)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, same, "BBBB")
	if err := os.Chtimes(same, st.ModTime(), st.ModTime()); err != nil { // only the ctime tells
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "b/added"), "new")
	if err := os.Remove(filepath.Join(dir, "c")); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "tmp"), "ffff")
	if err := os.Rename(filepath.Join(dir, "tmp"), filepath.Join(dir, "d/e/f")); err != nil {
		t.Fatal(err)
	}
	o2, read := opens(o)
	_, got := mustPack(t, dir, d, o2)
	slices.Sort(*read)
	if want := []string{"b/added", "b/same size", "d/e/f"}; !slices.Equal(*read, want) {
		t.Errorf("read %q, want %q", *read, want)
	}
	if _, want := mustPack(t, dir, d, pack.Options{}); !bytes.Equal(got, want) {
		t.Error("other bytes than without a cache")
	}
}

// TestCacheRacy packs files that were written just before, or after, the start.
func TestCacheRacy(t *testing.T) {
	dir := files(t, map[string]string{"a": "aaaa"})
	st, err := os.Stat(filepath.Join(dir, "a"))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		start time.Time
		kept  bool
	}{
		"no start":      {time.Time{}, false},
		"before":        {st.ModTime().Add(-time.Second), false},
		"90 ms after":   {st.ModTime().Add(90 * time.Millisecond), false},
		"200 ms after":  {st.ModTime().Add(200 * time.Millisecond), true},
		"an hour after": {later(), true},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDest()
			o := pack.Options{CacheDir: t.TempDir(), Start: c.start}
			mustPack(t, dir, d, o)
			if res, _ := mustPack(t, dir, d, o); (res.FromCache == 1) != c.kept {
				t.Errorf("%d files from the cache, kept should be %v", res.FromCache, c.kept)
			}
		})
	}
}

// TestCacheDamage breaks a cache in every way that a disk can.
func TestCacheDamage(t *testing.T) {
	of := map[string]string{}
	for i := range 60 {
		of[string([]byte{'a' + byte(i%20), '/', 'A' + byte(i)})] = noise(100+i, byte(i))
	}
	dir := files(t, of)
	d := newDest()
	o := pack.Options{CacheDir: t.TempDir(), Start: later()}
	_, want := mustPack(t, dir, d, o)
	path := cacheFile(t, o.CacheDir)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	try := func(name string, p []byte) {
		t.Helper()
		if err := os.WriteFile(path, p, 0o600); err != nil {
			t.Fatal(err)
		}
		res, got := mustPack(t, dir, d, o)
		if !bytes.Equal(got, want) {
			t.Errorf("%s: other bytes", name)
		}
		if res.FromCache != 0 { // all of this cache is in one frame
			t.Errorf("%s: %d files from the cache", name, res.FromCache)
		}
	}
	for i := 0; i < len(good); i += 1 + len(good)/60 {
		p := bytes.Clone(good)
		p[i] ^= 0x10
		try("flipped", p)
		try("cut", good[:i])
	}
	try("empty", nil)

	elsewhere := pack.Options{CacheDir: t.TempDir(), Start: later()}
	other := files(t, of)
	mustPack(t, other, d, elsewhere)
	p, err := os.ReadFile(cacheFile(t, elsewhere.CacheDir))
	if err != nil {
		t.Fatal(err)
	}
	try("of another directory", p)
}

// TestCacheLeftovers has killed packs leave their unfinished caches.
func TestCacheLeftovers(t *testing.T) {
	o := pack.Options{CacheDir: t.TempDir(), Start: later()}
	f, err := atomicfile.Create(filepath.Join(o.CacheDir, "x"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Chtimes(f.Name(), time.Time{}, time.Now().Add(-48*time.Hour)); err != nil {
		t.Fatal(err)
	}
	mustPack(t, files(t, map[string]string{"a": "aaaa"}), newDest(), o)
	cacheFile(t, o.CacheDir) // fails if there are two
}

// TestCacheOtherStore packs, with a warm cache, to stores that lack what the cache knows.
func TestCacheOtherStore(t *testing.T) {
	dir := grow(t, 900, 2<<20)
	full := newDest()
	o := pack.Options{CacheDir: t.TempDir(), Start: later()}
	_, want := mustPack(t, dir, full, o)

	t.Run("empty", func(t *testing.T) {
		d := newDest()
		if _, got := mustPack(t, dir, d, o); !bytes.Equal(got, want) {
			t.Error("other bytes than without the cache")
		}
		if len(d.puts) != len(full.puts) {
			t.Errorf("%d blobs sent, want %d", len(d.puts), len(full.puts))
		}
	})
	t.Run("one blob lost", func(t *testing.T) {
		d := full.clone(t)
		lost := full.puts[len(full.puts)/2]
		if err := d.Delete(t.Context(), lost); err != nil {
			t.Fatal(err)
		}
		for c, l := range d.chunks {
			if l.Blob == lost {
				delete(d.chunks, c)
			}
		}
		res, p := mustPack(t, dir, d, o)
		if res.FromCache == 0 || res.ChunksNew == 0 {
			t.Errorf("result %+v, want some files from the cache and some read again", res)
		}
		r := open(t, p)
		for _, id := range paths(r) {
			if n := r.Node(id); n.Object != 0 {
				content(t, r, d, id)
			}
		}
	})
}

// TestCacheRepeats packs files that the pack cache knows, and the store does not, and after
// them copies that it does not know: a copy is on its way to be sealed when its chunk turns
// out to be placed already, and its buffer must not be given away before that is done.
func TestCacheRepeats(t *testing.T) {
	of, sum := map[string]string{}, int64(0)
	for i := range 30 {
		of[fmt.Sprintf("a/%02d", i)] = noise(100<<10, byte(i))
	}
	dir := files(t, of)
	o := pack.Options{CacheDir: t.TempDir(), Start: later(), Workers: 4}
	mustPack(t, dir, newDest(), o)
	for i := range 30 {
		writeFile(t, filepath.Join(dir, fmt.Sprintf("a/%02d copy", i)), of[fmt.Sprintf("a/%02d", i)])
	}
	for _, c := range of {
		sum += int64(len(c))
	}
	res, got := mustPack(t, dir, newDest(), o)
	if _, want := mustPack(t, dir, newDest(), pack.Options{}); !bytes.Equal(got, want) {
		t.Error("other bytes than without the cache")
	}
	if res.Counts.Unique != sum || res.ChunksNew != 30 {
		t.Errorf("%d new chunks of %d bytes, want 30 of %d", res.ChunksNew, res.Counts.Unique, sum)
	}
}

// TestCacheKeepsNoFailure has a file change while it is packed: it must not be known then.
func TestCacheKeepsNoFailure(t *testing.T) {
	dir := files(t, map[string]string{"a": "aaaa", "b": "bbbb"})
	d := newDest()
	o := pack.Options{CacheDir: t.TempDir(), Start: later(), AllowChanged: true}
	mustPack(t, dir, d, pack.WithHook(o, func(event, path string) error {
		if event == "done" && path == "b" {
			return os.WriteFile(filepath.Join(dir, "b"), []byte("BBBB"), 0o644)
		}
		return nil
	}))
	o2, read := opens(o)
	_, p := mustPack(t, dir, d, o2)
	if !slices.Equal(*read, []string{"b"}) {
		t.Errorf("read %q, want b alone", *read)
	}
	r := open(t, p)
	if got := r.Object(r.Node(paths(r)["b"]).Object).Digest; got != chunk.Sum([]byte("BBBB")) {
		t.Error("old content")
	}
}

// TestCacheAfterMutate packs version after version with the cache and without.
func TestCacheAfterMutate(t *testing.T) {
	dir := grow(t, 500, 1<<20)
	d := newDest()
	o := pack.Options{CacheDir: t.TempDir(), Start: later()}
	mustPack(t, dir, d, o)
	for i := range 3 {
		if _, err := treetest.Mutate(dir, 5, uint64(i)); err != nil {
			t.Fatal(err)
		}
		plain := d.clone(t)
		_, want := mustPack(t, dir, plain, pack.Options{})
		res, got := mustPack(t, dir, d, o)
		if !bytes.Equal(got, want) {
			t.Fatalf("version %d: other bytes than without the cache", i)
		}
		if res.FromCache < 400 {
			t.Errorf("version %d: %d files from the cache", i, res.FromCache)
		}
	}
}

func FuzzCache(f *testing.F) {
	f.Add([]byte(""))
	f.Add([]byte("\x01\x03a/b"))
	f.Add([]byte("\x02\x01x\x01\x02\x04\x05\x06\x00" + strings.Repeat("d", 32)))
	f.Add([]byte("\x02\x01x\x01\x02\x04\x05\x06\x01\x00\x04" + strings.Repeat("c", 32) + strings.Repeat("d", 32)))
	f.Add([]byte("\x01\x01b\x01\x01a"))
	f.Add([]byte("\x02\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"))
	f.Fuzz(func(t *testing.T, p []byte) {
		for _, k := range pack.DecodeCache(bytes.NewReader(p)) {
			if len(k.Name) > 255 || k.Extents > len(p) || len(k.Dir) > len(p) {
				t.Errorf("record %q/%q with %d extents out of %d bytes", k.Dir, k.Name, k.Extents, len(p))
			}
		}
	})
}
