package store_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/internal/atomicfile"
	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/store"
	"github.com/zosfs/zosfs/store/mem"
	"github.com/zosfs/zosfs/store/storetest"
)

type opener func(context.Context, store.Store, string) (*store.Index, error)

func open(t testing.TB, open opener, s store.Store, path string) *store.Index {
	t.Helper()
	x, err := open(t.Context(), s, path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := x.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return x
}

func TestIndexStore(t *testing.T) {
	for name, o := range map[string]opener{"usual": store.OpenIndex, "small": store.OpenSmallIndex} {
		t.Run(name, func(t *testing.T) {
			storetest.Test(t, func(t *testing.T) store.Store {
				return open(t, o, mem.New(), filepath.Join(t.TempDir(), "dir", "index"))
			})
		})
	}
}

// TestIndexRefreshed runs the clauses of a Locator where others put and delete, and where
// every look-up comes after a refresh and a new start.
func TestIndexRefreshed(t *testing.T) {
	for name, o := range map[string]opener{"usual": store.OpenIndex, "small": store.OpenSmallIndex} {
		t.Run(name, func(t *testing.T) {
			storetest.Test(t, func(t *testing.T) store.Store {
				inner := mem.New()
				return &others{Store: inner, x: open(t, o, inner, filepath.Join(t.TempDir(), "index"))}
			})
		})
	}
}

// others is a store with an index that learns only by refreshes.
type others struct {
	store.Store
	x *store.Index
}

func (s *others) Locate(ctx context.Context, chunks []chunk.Digest) (map[chunk.Digest]blob.Location, error) {
	if err := s.x.Refresh(ctx); err != nil {
		return nil, err
	}
	return s.x.Locate(ctx, chunks)
}

// truth returns where each chunk of the blobs is to be found.
func truth(blobs ...storetest.Blob) map[chunk.Digest]blob.Location {
	want := make(map[chunk.Digest]blob.Location)
	for _, b := range blobs {
		for _, r := range b.Table.Refs {
			if l, ok := want[r.Chunk]; !ok || b.Digest.Compare(l.Blob) < 0 {
				want[r.Chunk] = blob.Location{Blob: b.Digest, Ref: r}
			}
		}
	}
	return want
}

// checkIndex fails the test if x does not find the chunks of blobs, or finds those of absent.
func checkIndex(t *testing.T, x store.Locator, blobs, absent []storetest.Blob) {
	t.Helper()
	var ask []chunk.Digest
	for d := range truth(append(absent, blobs...)...) {
		ask = append(ask, d)
	}
	got, err := x.Locate(t.Context(), ask)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(truth(blobs...), got); diff != "" {
		t.Errorf("Locate (-want +got):\n%s", diff)
	}
}

func fill(t *testing.T, s store.Putter, blobs ...storetest.Blob) {
	t.Helper()
	for _, b := range blobs {
		if err := s.Put(t.Context(), b.Digest, b.Data); err != nil {
			t.Fatal(err)
		}
	}
}

// TestIndexCached counts the requests that an index makes over its life.
func TestIndexCached(t *testing.T) {
	blobs, path := storetest.Blobs(20), filepath.Join(t.TempDir(), "index")
	inner := mem.New()
	fill(t, inner, blobs[:10]...)
	f := storetest.NewFault(inner, nil)
	gets := 0
	step := func(name string, want int) {
		t.Helper()
		if n := f.Count(storetest.Get); n-gets != want {
			t.Errorf("%s: %d requests, want %d", name, n-gets, want)
		}
		gets = f.Count(storetest.Get)
	}
	x, err := store.OpenIndex(t.Context(), f, path)
	if err != nil {
		t.Fatal(err)
	}
	step("first open: one a blob", 10)
	checkIndex(t, x, blobs[:10], blobs[10:])
	fill(t, x, blobs[10:13]...)
	checkIndex(t, x, blobs[:13], blobs[13:])
	if err := errors.Join(x.Refresh(t.Context()), x.Close()); err != nil {
		t.Fatal(err)
	}
	step("own blobs", 0)

	x = open(t, store.OpenIndex, f, path)
	step("second open", 0)
	checkIndex(t, x, blobs[:13], blobs[13:])
	fill(t, inner, blobs[13:15]...)
	if err := x.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	step("refresh: the blobs of others", 2)
	checkIndex(t, x, blobs[:15], blobs[15:])
	for _, b := range blobs[:5] {
		if err := inner.Delete(t.Context(), b.Digest); err != nil {
			t.Fatal(err)
		}
	}
	if err := x.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	step("refresh after deletes", 0)
	checkIndex(t, x, blobs[5:15], append(blobs[:5:5], blobs[15:]...))
}

// TestIndexDamaged opens the file of an index after each kind of damage, and one of another
// store.
// TestIndexLeftovers has a killed process leave an unfinished file.
func TestIndexLeftovers(t *testing.T) {
	dir := t.TempDir()
	f, err := atomicfile.Create(filepath.Join(dir, "x"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Chtimes(f.Name(), time.Time{}, time.Now().Add(-48*time.Hour)); err != nil {
		t.Fatal(err)
	}
	open(t, store.OpenIndex, mem.New(), filepath.Join(dir, "index"))
	if _, err := os.Stat(f.Name()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what a killed process left two days ago: %v, want %v", err, fs.ErrNotExist)
	}
}

func TestIndexDamaged(t *testing.T) {
	blobs, inner, path := storetest.Blobs(5), mem.New(), filepath.Join(t.TempDir(), "index")
	fill(t, inner, blobs...)
	x, err := store.OpenIndex(t.Context(), inner, path)
	if err != nil {
		t.Fatal(err)
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{"empty": nil, "text": []byte("hello"), "zeros": make([]byte, len(good)), "long": append(good[:len(good):len(good)], 0)}
	for _, n := range []int{1, 7, 8, 55, 56, 57, len(good) / 2, len(good) - 1} {
		files[fmt.Sprintf("cut to %d", n)] = good[:n]
	}
	for _, i := range []int{0, 7, 8, 12, 16, 23, 24, 55, 56, 100, 400, len(good) - 1} {
		bad := append([]byte(nil), good...)
		bad[i] ^= 0x40
		files[fmt.Sprintf("byte %d", i)] = bad
	}
	for name, data := range files {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			f := storetest.NewFault(inner, nil)
			checkIndex(t, open(t, store.OpenIndex, f, path), blobs, nil)
			if n := f.Count(storetest.Get); n != len(blobs) {
				t.Errorf("%d tables were read, want all %d again", n, len(blobs))
			}
		})
	}
	t.Run("another store", func(t *testing.T) {
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
		other, all := mem.New(), storetest.Blobs(8)
		fill(t, other, all[3:]...)
		checkIndex(t, open(t, store.OpenIndex, other, path), all[3:], all[:3])
	})
	t.Run("not a file", func(t *testing.T) {
		if x, err := store.OpenIndex(t.Context(), inner, t.TempDir()); err == nil {
			t.Errorf("OpenIndex of a directory = %v, want an error", x)
		}
	})
}

// TestIndexOddBlobs has things in the store that are no blobs, or damaged ones.
func TestIndexOddBlobs(t *testing.T) {
	blobs, inner := storetest.Blobs(3), mem.New()
	fill(t, inner, blobs...)
	odd := [][]byte{nil, []byte("hello"), make([]byte, 100_000)}
	for i := range blobs {
		bad := append([]byte(nil), blobs[i].Data...)
		bad[len(bad)-1-30*i] ^= 1 // in the footer, then in the sum of the table
		odd = append(odd, bad)
	}
	for _, p := range odd {
		if err := inner.Put(t.Context(), blob.Sum(p), p); err != nil {
			t.Fatal(err)
		}
	}
	f, path := storetest.NewFault(inner, nil), filepath.Join(t.TempDir(), "index")
	x := open(t, store.OpenIndex, f, path)
	checkIndex(t, x, blobs, nil)
	n := f.Count(storetest.Get)
	fill(t, inner, storetest.Blobs(4)...)
	if err := x.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := f.Count(storetest.Get) - n; got != 1 {
		t.Errorf("a refresh after one Put made %d requests, want 1: what is no blob is not read again", got)
	}
}

// TestIndexLargeTable has a table that does not come with the first request.
func TestIndexLargeTable(t *testing.T) {
	var chunks [][]byte
	for i := range 1000 {
		chunks = append(chunks, storetest.Chunk(uint64(i), 8))
	}
	b, inner := storetest.NewBlob(0, chunks...), mem.New()
	fill(t, inner, b)
	f := storetest.NewFault(inner, nil)
	checkIndex(t, open(t, store.OpenSmallIndex, f, filepath.Join(t.TempDir(), "index")), []storetest.Blob{b}, nil)
	if n := f.Count(storetest.Get); n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
}

func TestIndexUnreachable(t *testing.T) {
	blobs, inner, path := storetest.Blobs(20), mem.New(), filepath.Join(t.TempDir(), "index")
	fill(t, inner, blobs[:19]...)
	f := storetest.NewFault(inner, func(c storetest.Call) storetest.Effect {
		switch {
		case c.Op == storetest.Get && c.Count == 10:
			return storetest.Effect{Err: errs.ErrUnavailable}
		case c.Op == storetest.Get && c.Blob == blobs[3].Digest:
			return storetest.Effect{Err: errs.ErrNotFound} // deleted after it was listed
		}
		return storetest.Effect{}
	})
	if x, err := store.OpenIndex(t.Context(), f, path); !errors.Is(err, errs.ErrUnavailable) {
		t.Fatalf("OpenIndex = %v, %v, want %v", x, err, errs.ErrUnavailable)
	}
	x := open(t, store.OpenIndex, f, path)
	checkIndex(t, x, append(blobs[:3:3], blobs[4:19]...), blobs[3:4])
	f.SetHook(func(c storetest.Call) storetest.Effect {
		if c.Op == storetest.List {
			return storetest.Effect{Err: errs.ErrUnavailable}
		}
		return storetest.Effect{}
	})
	if err := x.Refresh(t.Context()); !errors.Is(err, errs.ErrUnavailable) {
		t.Errorf("Refresh = %v, want %v", err, errs.ErrUnavailable)
	}
	checkIndex(t, x, append(blobs[:3:3], blobs[4:19]...), blobs[3:4])
	f.SetHook(nil)
	if err := x.Refresh(t.Context()); err != nil {
		t.Error(err)
	}
	checkIndex(t, x, blobs[:19], blobs[19:]) // the one that seemed deleted is back
}

func TestIndexClosed(t *testing.T) {
	x := open(t, store.OpenIndex, mem.New(), filepath.Join(t.TempDir(), "index"))
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := x.Locate(t.Context(), nil)
	for call, err := range map[string]error{"Locate": err, "Refresh": x.Refresh(t.Context())} {
		if !errors.Is(err, fs.ErrClosed) {
			t.Errorf("%s after Close = %v, want %v", call, err, fs.ErrClosed)
		}
	}
}

// TestIndexConcurrent puts, deletes, refreshes and looks up at once, over files small enough
// to be rewritten all the time, and looks at the outcome.
func TestIndexConcurrent(t *testing.T) {
	testenv.NoLeaks(t)
	blobs, path := storetest.Blobs(60), filepath.Join(t.TempDir(), "index")
	x := open(t, store.OpenSmallIndex, mem.New(), path)
	g, ctx := errgroup.WithContext(t.Context())
	var putters sync.WaitGroup
	for w := range 3 {
		putters.Add(1)
		g.Go(func() error {
			defer putters.Done()
			for i := w; i < len(blobs); i += 3 {
				if err := x.Put(ctx, blobs[i].Digest, blobs[i].Data); err != nil {
					return err
				}
				r := blobs[i].Table.Refs[0]
				if got, err := x.Locate(ctx, []chunk.Digest{r.Chunk}); err != nil || got[r.Chunk].Ref != r {
					return fmt.Errorf("Locate right after Put = %v, %w, want %v", got, err, r)
				}
				if i%5 == 0 {
					if err := x.Delete(ctx, blobs[i].Digest); err != nil {
						return err
					}
				}
				if i%10 == 0 { // comes back
					if err := x.Put(ctx, blobs[i].Digest, blobs[i].Data); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	done := make(chan struct{})
	go func() { putters.Wait(); close(done) }()
	g.Go(func() error {
		for {
			select {
			case <-done:
				return nil
			default:
			}
			if err := x.Refresh(ctx); err != nil {
				return err
			}
		}
	})
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	var kept, deleted []storetest.Blob
	for i, b := range blobs {
		if i%5 == 0 && i%10 != 0 {
			deleted = append(deleted, b)
		} else {
			kept = append(kept, b)
		}
	}
	checkIndex(t, x, kept, deleted)
	if err := x.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	checkIndex(t, x, kept, deleted)
}

func BenchmarkIndexLocate(b *testing.B) {
	x, err := store.OpenIndex(b.Context(), mem.New(), filepath.Join(b.TempDir(), "index"))
	if err != nil {
		b.Fatal(err)
	}
	var ask []chunk.Digest
	for i := range 1000 {
		var refs []blob.Ref
		for j := range 100 {
			d := chunk.Sum(fmt.Append(nil, i, j))
			refs = append(refs, blob.Ref{Chunk: d, Offset: uint32(8 + j), Stored: 1, Size: 1})
			ask = append(ask, d)
		}
		x.Add(blob.Sum(fmt.Append(nil, i)), blob.Table{Refs: refs})
	}
	b.ReportAllocs()
	for b.Loop() {
		if got, err := x.Locate(b.Context(), ask[:1000]); err != nil || len(got) != 1000 {
			b.Fatal(len(got), err)
		}
	}
	if err := x.Close(); err != nil {
		b.Fatal(err)
	}
}

// TestIndexFull: while the disk is full, the file is not written anew for each blob that is put;
// once it is not, all that was put meanwhile is in it.
func TestIndexFull(t *testing.T) {
	blobs, path, inner := storetest.Blobs(64), filepath.Join(t.TempDir(), "index"), mem.New()
	full := errs.ErrFull
	tries := 0
	o := func(ctx context.Context, s store.Store, path string) (*store.Index, error) {
		return store.OpenIndexMerging(ctx, s, path, func() error {
			tries++
			return full
		})
	}
	x, err := o(t.Context(), inner, path)
	if err != nil {
		t.Fatal(err)
	}
	fill(t, x, blobs[:60]...)
	chunks := len(truth(blobs[:60]...))
	most := 1
	for n := 4; n < chunks; n *= 2 {
		most++
	}
	if tries == 0 || tries > most {
		t.Errorf("%d tries for %d chunks, want at most %d", tries, chunks, most)
	}
	checkIndex(t, x, blobs[:60], blobs[60:])
	full = nil
	if err := x.Refresh(t.Context()); err != nil { // which writes it in its own way
		t.Fatal(err)
	}
	tries = 0
	fill(t, x, blobs[60:]...)
	if tries == 0 {
		t.Error("after a success nothing is merged for as long as after a failure")
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	checkIndex(t, open(t, o, inner, path), blobs, nil)
}
