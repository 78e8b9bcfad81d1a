package cache_test

import (
	"bytes"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"sync"
	"testing"

	"github.com/zosfs/zosfs/cache"
	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/internal/testenv"
)

// world is a cache and what must be true of it.
type world struct {
	*testing.T
	rnd  *rand.Rand
	dir  string
	o    cache.Options
	c    *cache.Cache
	came map[int]bool // chunks that were put at any time
	must map[int]bool // pinned chunks that were on disk: held until unpinned or damaged
}

const worldChunks = 200

// size of a chunk in the world: all kinds, few of them large.
func size(seed int) int { return []int{1, 15, 16, 100, 999, 2000, 5000}[seed%7] }

// TestRandom does random things in random order. Contents are right or missing, and never
// missing where they must be there.
func TestRandom(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := &world{T: t, rnd: rand.New(rand.NewPCG(seed, 1)), dir: t.TempDir(), came: map[int]bool{}, must: map[int]bool{}}
			w.o = cache.Options{Limit: 100_000, SegmentSize: 10_000, Memory: []int64{-1, 8000}[seed%2]}
			w.c = open(t, w.dir, w.o)
			for range 3000 {
				w.step()
			}
			w.checkAll()
		})
	}
}

func (w *world) step() {
	i := w.rnd.IntN(worldChunks)
	switch n := w.rnd.IntN(1000); {
	case n < 400:
		put(w.c, i, size(i))
		w.came[i] = true
	case n < 940:
		w.read(i)
	case n < 960:
		w.pin()
	case n < 970:
		if err := w.c.Unpin("a"); err == nil {
			clear(w.must)
		}
	case n < 975:
		if _, err := w.c.Prune(w.Context(), w.rnd.Int64N(w.o.Limit)); err != nil {
			w.Error(err)
		}
	case n < 980:
		w.checkAll()
	case n < 990:
		w.reopen(func() {})
	default:
		w.reopen(w.damage)
	}
	if n := fileBytes(w.T, w.dir); n > w.o.Limit+w.o.SegmentSize {
		w.Fatalf("%d bytes, limit %d", n, w.o.Limit)
	}
}

func (w *world) read(i int) {
	want, d := text(i, size(i))
	off := w.rnd.IntN(len(want))
	p := make([]byte, w.rnd.IntN(len(want)-off+1))
	ok := w.c.Read(d, p, off)
	switch {
	case ok && !w.came[i]:
		w.Fatalf("chunk %d is held but never came", i)
	case ok && !bytes.Equal(p, want[off:off+len(p)]):
		w.Fatalf("chunk %d: [%d, %d) is wrong", i, off, off+len(p))
	case !ok && w.must[i]:
		w.Fatalf("pinned chunk %d is gone", i)
	}
}

// pin pins ten chunks. Those that are held now must stay, if that cannot be in memory alone.
func (w *world) pin() {
	var seeds []int
	clear(w.must)
	for range 10 {
		i := w.rnd.IntN(worldChunks)
		if w.o.Memory < 0 && check(w.T, w.c, i, size(i)) {
			w.must[i] = true
		}
		seeds = append(seeds, i)
	}
	if err := w.c.Pin("a", digestsOf(seeds...)); err != nil {
		w.Fatal(err)
	}
}

func (w *world) reopen(between func()) {
	shut(w.T, w.c)
	between()
	w.c = open(w.T, w.dir, w.o)
}

// damage changes or cuts a segment at random; after that anything may be missing.
func (w *world) damage() {
	clear(w.must)
	paths := segmentFiles(w.T, w.dir)
	if len(paths) == 0 {
		return
	}
	path := paths[w.rnd.IntN(len(paths))]
	b, err := os.ReadFile(path)
	if err != nil || len(b) == 0 {
		w.Fatalf("%d bytes in %s: %v", len(b), path, err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		w.Fatal(err)
	}
	defer f.Close()
	for range 5 {
		i := w.rnd.IntN(len(b))
		if _, err := f.WriteAt([]byte{^b[i]}, int64(i)); err != nil {
			w.Error(err)
		}
	}
}

func (w *world) checkAll() {
	for i := range worldChunks {
		if ok := check(w.T, w.c, i, size(i)); ok && !w.came[i] || !ok && w.must[i] {
			w.Fatalf("chunk %d: held %v, came %v, pinned %v", i, ok, w.came[i], w.must[i])
		}
	}
	checkBytes(w.T, w.c, w.dir)
}

// TestConcurrent has everything happen at once, with a reader beside the writer.
func TestConcurrent(t *testing.T) {
	testenv.NoLeaks(t)
	dir := t.TempDir()
	o := cache.Options{Limit: 100_000, SegmentSize: 10_000, Memory: 20_000}
	w, r := open(t, dir, o), open(t, dir, o)
	var all sync.WaitGroup
	for g := range uint64(4) {
		all.Go(func() {
			rnd := rand.New(rand.NewPCG(g, 2))
			for range 1500 {
				i := rnd.IntN(worldChunks)
				want, d := text(i, size(i))
				wait, finish := w.Claim(d)
				if finish != nil {
					all.Go(func() { finish(want, nil) })
				}
				if got, err := wait(t.Context()); err != nil || !bytes.Equal(got, want) {
					t.Errorf("wait = %d bytes, %v", len(got), err)
				}
				for range 3 {
					i := rnd.IntN(worldChunks)
					readSome(t, w, rnd, i)
					readSome(t, r, rnd, i)
				}
			}
		})
	}
	all.Go(func() {
		for range 20 {
			if err := w.Pin("a", digestsOf(1, 2)); err != nil {
				t.Error(err)
			}
			if _, err := w.Prune(t.Context(), 50_000); err != nil {
				t.Error(err)
			}
			for _, c := range []*cache.Cache{w, r} {
				if res, err := c.Verify(t.Context()); err != nil || res.Damaged != 0 {
					t.Errorf("Verify = %+v, %v", res, err)
				}
				_ = c.Stats()
				_ = c.Pins()
			}
			if err := w.Unpin("a"); err != nil {
				t.Error(err)
			}
		}
	})
	all.Wait()
	for _, c := range []*cache.Cache{w, r} {
		if s := c.Stats(); s.Damaged != 0 || s.WriteErrors != 0 {
			t.Errorf("%+v", s)
		}
	}
	checkBytes(t, w, dir)
	if n := openFiles(t); n > 60 {
		t.Errorf("%d files open for %d segments", n, w.Stats().Segments)
	}
	shut(t, r)
	shut(t, w)
	if n := openFiles(t); n != 0 {
		t.Errorf("%d files open after Close", n)
	}
}

// TestCloseWhileReading closes under readers and downloads.
func TestCloseWhileReading(t *testing.T) {
	testenv.NoLeaks(t)
	for range 20 {
		c := open(t, t.TempDir(), cache.Options{SegmentSize: 10_000, Memory: -1})
		var all sync.WaitGroup
		started := make(chan struct{}, 3)
		for g := range uint64(3) {
			all.Go(func() {
				rnd := rand.New(rand.NewPCG(g, 3))
				started <- struct{}{}
				for i := range 100 {
					put(c, i, size(i))
					readSome(t, c, rnd, i)
				}
			})
		}
		<-started
		shut(t, c)
		all.Wait()
		if n := openFiles(t); n != 0 {
			t.Fatalf("%d files open after Close", n)
		}
	}
}

func digestsOf(seeds ...int) iter.Seq[chunk.Digest] {
	return func(yield func(chunk.Digest) bool) {
		for _, i := range seeds {
			if _, d := text(i, size(i)); !yield(d) {
				return
			}
		}
	}
}

func readSome(t *testing.T, c *cache.Cache, rnd *rand.Rand, i int) {
	want, d := text(i, size(i))
	off := rnd.IntN(len(want))
	p := make([]byte, rnd.IntN(len(want)-off+1))
	if c.Read(d, p, off) && !bytes.Equal(p, want[off:off+len(p)]) {
		t.Errorf("chunk %d: [%d, %d) is wrong", i, off, off+len(p))
	}
}
