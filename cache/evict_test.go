package cache_test

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zosfs/zosfs/cache"
	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/errs"
)

func TestLimitEvictsOldest(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir, small)
	for i := range 500 {
		put(c, i, 1000)
		if n := fileBytes(t, dir); n > small.Limit+small.SegmentSize {
			t.Fatalf("%d bytes after chunk %d, limit %d", n, i, small.Limit)
		}
	}
	checkBytes(t, c, dir)
	got := held(t, c, 500, 1000)
	if want := span(500-len(got), 500); !cmp.Equal(got, want) || len(got) < 48 {
		t.Errorf("held %v, want the latest 48 or more", got)
	}
	s := c.Stats()
	if s.EvictedChunks != 500-s.Chunks || s.EvictedBytes < s.EvictedChunks*1000 || s.PassedChunks != 0 {
		t.Errorf("evicted %d chunks, %d bytes, passed %d; held %d", s.EvictedChunks, s.EvictedBytes, s.PassedChunks, s.Chunks)
	}
}

func TestHotSurvivesScan(t *testing.T) {
	c := open(t, t.TempDir(), small)
	for i := range 40 {
		put(c, i, 1000)
	}
	hot := []int{0, 5, 10, 15, 20}
	for i := 100; i < 600; i++ {
		for _, h := range hot {
			if !check(t, c, h, 1000) {
				t.Fatalf("chunk %d, read all the time, is gone after %d others", h, i-100)
			}
		}
		put(c, i, 1000)
	}
	if check(t, c, 1, 1000) {
		t.Error("a chunk that is not read outlived 500 others")
	}
}

func TestAllHotPassesThroughThenYields(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir, small)
	n := 0
	for ; c.Stats().PassedChunks == 0; n++ {
		if n == 100 {
			t.Fatal("100 chunks went into a cache full of hot ones")
		}
		put(c, n, 1000)
		held(t, c, n, 1000) // all hot now
	}
	if s := c.Stats(); s.EvictedChunks != 0 || s.Chunks != int64(n-1) {
		t.Errorf("evicted %d hot chunks, held %d of %d", s.EvictedChunks, s.Chunks, n-1)
	}
	// Not read again, they give way in the end.
	for i := 2000; i < 2200; i++ {
		put(c, i, 1000)
	}
	if left := held(t, c, n, 1000); len(left) > 0 {
		t.Errorf("chunks %v outlived 200 others without being read", left)
	}
}

func pinned(seeds []int, n int) func(func(chunk.Digest) bool) {
	return func(yield func(chunk.Digest) bool) {
		for _, i := range seeds {
			if _, d := text(i, n); !yield(d) {
				return
			}
		}
	}
}

func TestPins(t *testing.T) {
	dir := t.TempDir()
	names := []string{"..", ".zosfs-tmp-1", "a", "hub.example/acme/debian:12", "ä %\x00"}
	slices.Sort(names)
	keep := []int{3, 9, 3, 17, 30, 550}
	c := open(t, dir, small)
	for i := range 40 {
		put(c, i, 1000)
	}
	for _, name := range names {
		if err := c.Pin(name, pinned(keep, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	churn := func(from int) {
		t.Helper()
		for i := from; i < from+300; i++ {
			put(c, i, 1000)
		}
		checkBytes(t, c, dir)
		if got := c.Pins(); !cmp.Equal(got, names) {
			t.Errorf("Pins = %q, want %q", got, names)
		}
		if s := c.Stats(); s.Pins != int64(len(names)) || s.PinnedChunks != int64(5*len(names)) {
			t.Errorf("Stats: %d pins of %d chunks, want %d of %d", s.Pins, s.PinnedChunks, len(names), 5*len(names))
		}
	}
	churn(1000)
	put(c, 550, 1000) // pinned before it came
	shut(t, c)
	c = open(t, dir, small)
	churn(2000)
	for _, name := range names[1:] {
		if err := c.Unpin(name); err != nil {
			t.Error(err)
		}
	}
	names = names[:1]
	churn(3000)
	if got, want := held(t, c, 1000, 1000), []int{3, 9, 17, 30, 550}; !cmp.Equal(got, want) {
		t.Errorf("held %v of the first, want the pinned %v", got, want)
	}
	if err := c.Pin(names[0], pinned(nil, 0)); err != nil { // replaced by an empty one
		t.Fatal(err)
	}
	for i := 4000; i < 4400; i++ {
		put(c, i, 1000)
	}
	if got := held(t, c, 1000, 1000); len(got) > 0 {
		t.Errorf("held %v after the pin was replaced", got)
	}
}

func TestPinErrors(t *testing.T) {
	c := open(t, t.TempDir(), cache.Options{})
	for _, name := range []string{"", strings.Repeat("a", 252), strings.Repeat("/", 84)} {
		if err := c.Pin(name, pinned(nil, 0)); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("Pin(%q) = %v, want fs.ErrInvalid", name, err)
		}
	}
	if err := c.Pin(strings.Repeat("a", 251), pinned(nil, 0)); err != nil {
		t.Error(err)
	}
	if err := c.Unpin("nobody"); !errors.Is(err, errs.ErrNotFound) {
		t.Errorf("Unpin = %v, want errs.ErrNotFound", err)
	}
}

func TestAllPinnedPassesThrough(t *testing.T) {
	dir := t.TempDir()
	o := small
	o.Memory = 4000
	c := open(t, dir, o)
	if err := c.Pin("all", pinned(span(0, 1000), 1000)); err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		put(c, i, 1000)
		if !check(t, c, i, 1000) {
			t.Fatalf("chunk %d cannot be read right after it came", i)
		}
	}
	checkBytes(t, c, dir)
	if n := fileBytes(t, dir); n > o.Limit+o.SegmentSize {
		t.Errorf("%d bytes, limit %d", n, o.Limit)
	}
	s := c.Stats()
	if s.EvictedChunks != 0 || s.PassedChunks != 1000-s.Chunks {
		t.Errorf("evicted %d pinned chunks, passed %d, held %d", s.EvictedChunks, s.PassedChunks, s.Chunks)
	}
	if got := held(t, c, int(s.Chunks), 1000); len(got) != int(s.Chunks) {
		t.Errorf("%d of the first %d are held", len(got), s.Chunks)
	}
	if freed, err := c.Prune(t.Context(), 0); err != nil || freed != 0 {
		t.Errorf("Prune freed %d bytes of pinned chunks, %v", freed, err)
	}
}

func TestPrune(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir, small)
	for i := range 40 {
		put(c, i, 1000)
	}
	held(t, c, 40, 1000) // hot, which does not save them
	if err := c.Pin("a", pinned([]int{2, 20}, 1000)); err != nil {
		t.Fatal(err)
	}
	before := fileBytes(t, dir)
	freed, err := c.Prune(t.Context(), 30<<10)
	got := fileBytes(t, dir)
	if err != nil || freed != before-got || got > 30<<10 {
		t.Errorf("Prune(30 KiB) = %d, %v; %d bytes left of %d", freed, err, got, before)
	}
	if got < 29<<10 {
		t.Errorf("Prune(30 KiB) left %d bytes where a chunk takes 1 KiB", got)
	}
	checkBytes(t, c, dir)
	if !check(t, c, 39, 1000) || check(t, c, 0, 1000) {
		t.Error("Prune did not begin with the oldest")
	}
	if _, err := c.Prune(t.Context(), 0); err != nil {
		t.Error(err)
	}
	checkBytes(t, c, dir)
	if got, want := held(t, c, 40, 1000), []int{2, 20}; !cmp.Equal(got, want) {
		t.Errorf("held %v after Prune(0), want the pinned %v", got, want)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Prune(ctx, 0); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("Prune = %v, want nil or context.Canceled", err)
	}
}

// TestPruneKeepsWhatFits makes a cache of one segment a little smaller: what was read stays, and
// of the rest the latest.
func TestPruneKeepsWhatFits(t *testing.T) {
	dir := t.TempDir()
	o := small
	o.Limit, o.SegmentSize = 1<<20, 128<<10
	c := open(t, dir, o)
	for i := range 100 {
		put(c, i, 1000)
	}
	for i := range 5 {
		check(t, c, i, 1000)
	}
	const target = 60 << 10
	if _, err := c.Prune(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	if n := fileBytes(t, dir); n > target || n < target-2<<10 {
		t.Errorf("%d bytes after Prune(%d)", n, target)
	}
	checkBytes(t, c, dir)
	got := held(t, c, 100, 1000)
	if want := append(span(0, 5), span(100-(len(got)-5), 100)...); !cmp.Equal(got, want) {
		t.Errorf("held %v after Prune, want %v", got, want)
	}
	shut(t, c)
	if again := held(t, open(t, dir, o), 100, 1000); !cmp.Equal(again, got) {
		t.Errorf("held %v after the next Open, want %v", again, got)
	}
}

func TestSmallerLimit(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir, small)
	if err := c.Pin("a", pinned(span(0, 10), 1000)); err != nil {
		t.Fatal(err)
	}
	for i := range 40 {
		put(c, i, 1000)
	}
	shut(t, c)
	c = open(t, dir, cache.Options{Limit: 20 << 10, Memory: -1})
	if n := fileBytes(t, dir); n > 20<<10 {
		t.Errorf("%d bytes after Open with limit %d", n, 20<<10)
	}
	if got := held(t, c, 10, 1000); len(got) != 10 {
		t.Errorf("only %v of the 10 pinned chunks are left", got)
	}
	checkBytes(t, c, dir)
}

func TestLargeChunks(t *testing.T) {
	dir := t.TempDir()
	o := cache.Options{Limit: 1 << 20, SegmentSize: 64 << 10, Memory: -1}
	c := open(t, dir, o)
	for i := range 30 {
		put(c, i, 200_000) // larger than a segment
	}
	if got, want := held(t, c, 30, 200_000), span(25, 30); !cmp.Equal(got, want) {
		t.Errorf("held %v, want %v", got, want)
	}
	put(c, 100, 2<<20)
	put(c, 101, chunk.MaxSize+1)
	if check(t, c, 100, 2<<20) || check(t, c, 101, chunk.MaxSize+1) {
		t.Error("a chunk that is too large was stored")
	}
	if n := fileBytes(t, dir); n > o.Limit {
		t.Errorf("%d bytes, limit %d", n, o.Limit)
	}
	if got := c.Stats().PassedChunks; got != 2 {
		t.Errorf("passed %d chunks, want 2", got)
	}
}

// TestDescriptorsAreBounded stores chunks of which only one fits into a segment, so that the
// segments are many before the limit of bytes is reached.
func TestDescriptorsAreBounded(t *testing.T) {
	c := open(t, t.TempDir(), cache.Options{Limit: 10 << 20, SegmentSize: 1, Memory: -1})
	for i := range 1100 {
		put(c, i, 6000)
	}
	if n := openFiles(t); n > 1010 || n < 900 {
		t.Errorf("%d files open, want about 1000", n)
	}
	if got := held(t, c, 1100, 6000); len(got) < 990 || got[len(got)-1] != 1099 {
		t.Errorf("%d held, up to %d; want about the latest 1000", len(got), got[len(got)-1])
	}
}
