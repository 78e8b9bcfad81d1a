package cache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zosfs/zosfs/cache"
	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/internal/testenv"
)

// small is a cache in which a chunk of 1000 bytes is 1/64, on disk alone.
var small = cache.Options{Limit: 64 << 10, SegmentSize: 8 << 10, Memory: -1}

func open(t testing.TB, dir string, o cache.Options) *cache.Cache {
	t.Helper()
	c, err := cache.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shut(t, c) })
	return c
}

func shut(t testing.TB, c *cache.Cache) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// text returns n bytes that depend on seed and n alone, and their digest.
func text(seed, n int) ([]byte, chunk.Digest) {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	_, _ = r.Read(b)
	return b, chunk.Sum(b)
}

// put stores text(seed, n) unless it is held.
func put(c *cache.Cache, seed, n int) chunk.Digest {
	b, d := text(seed, n)
	if _, finish := c.Claim(d); finish != nil {
		finish(b, nil)
	}
	return d
}

// check reads text(seed, n) and reports whether it is held; wrong bytes fail the test.
func check(t testing.TB, c *cache.Cache, seed, n int) bool {
	t.Helper()
	want, d := text(seed, n)
	got := make([]byte, n)
	if !c.Read(d, got, 0) {
		return false
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("Read(chunk %d) gave wrong bytes", seed)
	}
	return true
}

// held returns which of the chunks [0, n) of size bytes are held.
func held(t testing.TB, c *cache.Cache, n, size int) []int {
	t.Helper()
	var all []int
	for i := range n {
		if check(t, c, i, size) {
			all = append(all, i)
		}
	}
	return all
}

func span(from, to int) []int {
	var all []int
	for i := from; i < to; i++ {
		all = append(all, i)
	}
	return all
}

// fileBytes adds up what lies in dir.
func fileBytes(t testing.TB, dir string) (n int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			var st fs.FileInfo
			if st, err = e.Info(); err == nil {
				n += st.Size()
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func checkBytes(t testing.TB, c *cache.Cache, dir string) {
	t.Helper()
	if got, want := c.Stats().Bytes, fileBytes(t, dir); got != want {
		t.Errorf("Stats().Bytes = %d, want %d as in the directory", got, want)
	}
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	for _, memory := range []int64{-1, 1 << 20} {
		for _, size := range []int{0, 1, 15, 16, 17, 1000, 100_000, chunk.MaxSize} {
			t.Run(fmt.Sprintf("memory %d, size %d", memory, size), func(t *testing.T) {
				c := open(t, dir, cache.Options{Memory: memory})
				data, d := text(7, size)
				put(c, 7, size)
				for range 2 { // the first use, and a later one
					for _, r := range [][2]int{{0, size}, {0, 0}, {size, 0}, {size / 3, size / 2}, {size - size/4, size / 4}} {
						p := make([]byte, r[1])
						if !c.Read(d, p, r[0]) || !bytes.Equal(p, data[r[0]:r[0]+r[1]]) {
							t.Errorf("Read [%d, %d+%d) of %d bytes is a miss or wrong", r[0], r[0], r[1], size)
						}
					}
					for _, r := range [][2]int{{0, size + 1}, {size + 1, 0}, {size, 1}, {-1, 1}, {1 << 40, 1}} {
						if c.Read(d, make([]byte, r[1]), r[0]) {
							t.Errorf("Read [%d, %d+%d) of %d bytes succeeded", r[0], r[0], r[1], size)
						}
					}
				}
			})
		}
	}
}

func TestReopen(t *testing.T) {
	dir := t.TempDir()
	o := cache.Options{SegmentSize: 8 << 10, Memory: -1}
	for round := range 4 {
		c := open(t, dir, o)
		for i := range 20 {
			put(c, 20*round+i, 1000)
		}
		if got, want := held(t, c, 100, 1000), span(0, 20*round+20); !cmp.Equal(got, want) {
			t.Errorf("round %d: held %v, want %v", round, got, want)
		}
		checkBytes(t, c, dir)
		shut(t, c)
	}
}

func TestClosed(t *testing.T) {
	c := open(t, t.TempDir(), cache.Options{})
	d := put(c, 1, 100)
	_, finish := c.Claim(chunk.Sum(nil))
	shut(t, c)
	finish(nil, nil)
	if c.Has(d) || c.Read(d, nil, 0) || c.Has(chunk.Sum(nil)) {
		t.Error("a closed cache holds a chunk")
	}
	if _, err := c.Prune(t.Context(), 0); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Prune = %v, want os.ErrClosed", err)
	}
	if err := c.Pin("a", slices.Values([]chunk.Digest{d})); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Pin = %v, want os.ErrClosed", err)
	}
	if n := openFiles(t); n > 0 {
		t.Errorf("%d files of the cache are still open", n)
	}
}

// openFiles counts descriptors of files that belong to a cache.
func openFiles(t testing.TB) (n int) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil &&
			(strings.Contains(to, "/segments/") || strings.Contains(to, "/pins/") || strings.HasSuffix(to, "/lock")) {
			n++
		}
	}
	return n
}

func TestClaimIsOneDownload(t *testing.T) {
	testenv.NoLeaks(t)
	c := open(t, t.TempDir(), cache.Options{})
	data, d := text(1, 5000)
	var downloads atomic.Int32
	finish := make(chan func([]byte, error), 1)
	var all, claimed sync.WaitGroup
	claimed.Add(50)
	for range 50 {
		all.Go(func() {
			wait, f := c.Claim(d)
			claimed.Done()
			if f != nil {
				downloads.Add(1)
				finish <- f
			}
			for range 2 {
				if got, err := wait(t.Context()); err != nil || !bytes.Equal(got, data) {
					t.Errorf("wait = %d bytes, %v", len(got), err)
				}
			}
		})
	}
	claimed.Wait()
	(<-finish)(data, nil)
	all.Wait()
	if n := downloads.Load(); n != 1 {
		t.Errorf("%d downloads, want 1", n)
	}
	wait, f := c.Claim(d)
	if got, err := wait(t.Context()); f != nil || err != nil || !bytes.Equal(got, data) {
		t.Errorf("Claim of a held chunk: duty %v, wait = %d bytes, %v", f != nil, len(got), err)
	}
}

func TestClaimError(t *testing.T) {
	c := open(t, t.TempDir(), cache.Options{})
	d := chunk.Sum(nil)
	first, finish := c.Claim(d)
	second, none := c.Claim(d)
	if finish == nil || none != nil {
		t.Fatal("the first claim has no duty, or the second has one")
	}
	finish(nil, errs.ErrUnavailable)
	for _, wait := range []func(context.Context) ([]byte, error){first, second} {
		if _, err := wait(t.Context()); !errors.Is(err, errs.ErrUnavailable) {
			t.Errorf("wait = %v, want errs.ErrUnavailable", err)
		}
	}
	if c.Has(d) {
		t.Error("a failed download is held")
	}
	if _, finish := c.Claim(d); finish == nil {
		t.Error("an error is remembered")
	}
}

func TestCancelledWaiterDisturbsNobody(t *testing.T) {
	c := open(t, t.TempDir(), cache.Options{})
	data, d := text(1, 100)
	wait, finish := c.Claim(d)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("wait = %v, want context.Canceled", err)
	}
	other, _ := c.Claim(d)
	finish(data, nil)
	if got, err := other(t.Context()); err != nil || !bytes.Equal(got, data) {
		t.Errorf("wait of another = %d bytes, %v", len(got), err)
	}
	if _, err := wait(ctx); err != nil {
		t.Errorf("wait for what is there = %v with a cancelled context", err)
	}
}

func TestFinishTwicePanics(t *testing.T) {
	c := open(t, t.TempDir(), cache.Options{})
	_, finish := c.Claim(chunk.Sum(nil))
	finish(nil, nil)
	defer func() {
		if recover() == nil {
			t.Error("the second finish did not panic")
		}
	}()
	finish(nil, nil)
}

func TestVerify(t *testing.T) {
	dir := t.TempDir()
	var log bytes.Buffer
	o := small
	o.Log = slog.New(slog.NewTextHandler(&log, nil))
	c := open(t, dir, o)
	for i := range 30 {
		put(c, i, 1000)
	}
	want := cache.VerifyResult{Chunks: 30, Bytes: 30_000}
	if got, err := c.Verify(t.Context()); err != nil || got != want {
		t.Errorf("Verify = %+v, %v, want %+v", got, err, want)
	}
	for i, seed := range []int{1, 8, 29} { // in a sealed segment, in another, in the active one
		flip(t, dir, seed)
		want = cache.VerifyResult{Chunks: int64(29 - i), Bytes: int64(29-i) * 1000, Damaged: 1}
		if got, err := c.Verify(t.Context()); err != nil || got != want {
			t.Errorf("Verify = %+v, %v, want %+v", got, err, want)
		}
		if check(t, c, seed, 1000) {
			t.Errorf("damaged chunk %d is held", seed)
		}
	}
	if s := c.Stats(); s.Damaged != 3 || s.Chunks != 27 {
		t.Errorf("Stats: %d damaged, %d chunks, want 3 and 27", s.Damaged, s.Chunks)
	}
	if n := strings.Count(log.String(), "damaged chunk"); n != 3 {
		t.Errorf("%d damaged chunks in the log, want 3:\n%s", n, &log)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Verify(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Verify = %v, want context.Canceled", err)
	}
}

// flip changes a byte in the middle of the stored plaintext of text(seed, 1000).
func flip(t testing.TB, dir string, seed int) {
	t.Helper()
	data, _ := text(seed, 1000)
	for _, path := range segmentFiles(t, dir) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if i := bytes.Index(b, data); i >= 0 {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt([]byte{^b[i+500]}, int64(i+500)); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("chunk %d is in no segment", seed)
}

func segmentFiles(t testing.TB, dir string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "segments", "*.seg"))
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func TestDamageIsAMissAndHeals(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir, small)
	put(c, 1, 1000)
	put(c, 2, 1000)
	flip(t, dir, 1)
	_, d := text(1, 1000)
	if c.Read(d, make([]byte, 10), 0) { // not the bytes that are damaged
		t.Error("a part of a damaged chunk was read")
	}
	put(c, 1, 1000)
	if !check(t, c, 1, 1000) || !check(t, c, 2, 1000) {
		t.Error("the chunk was not stored anew, or its neighbour is gone")
	}
	if got := c.Stats(); got.Damaged != 1 || got.Chunks != 2 {
		t.Errorf("Stats: %d damaged, %d chunks, want 1 and 2", got.Damaged, got.Chunks)
	}
}

func TestWrongPlaintextIsNotServedFromDisk(t *testing.T) {
	c := open(t, t.TempDir(), small)
	_, d := text(1, 1000)
	wrong, _ := text(2, 1000)
	_, finish := c.Claim(d)
	finish(wrong, nil) // against the contract
	if c.Read(d, make([]byte, 1000), 0) {
		t.Error("bytes that are not the digest's were read from disk")
	}
}

func TestMemoryIsBounded(t *testing.T) {
	o := small
	o.Memory = 10_000
	c := open(t, t.TempDir(), o)
	for i := range 50 {
		put(c, i, 1000)
	}
	put(c, 100, 10_001)
	if n := c.Stats().MemoryBytes; n > 10_000 || n < 5000 {
		t.Errorf("%d bytes in memory, want at most 10000 and not much less", n)
	}
}

func TestStatsCountReads(t *testing.T) {
	c := open(t, t.TempDir(), small)
	put(c, 1, 1000)
	check(t, c, 1, 1000)
	check(t, c, 1, 1000)
	check(t, c, 2, 1000)
	if s := c.Stats(); s.Hits != 2 || s.Misses != 1 {
		t.Errorf("%d hits, %d misses, want 2 and 1", s.Hits, s.Misses)
	}
}

func TestOpenErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := cache.Open(file, cache.Options{}); err == nil {
		t.Error("Open of a file succeeded")
	}
}
