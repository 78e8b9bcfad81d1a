package cache_test

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zosfs/zosfs/cache"
	"github.com/zosfs/zosfs/errs"
)

func TestReaderSeesWhatTheWriterStores(t *testing.T) {
	dir := t.TempDir()
	w, r := open(t, dir, small), open(t, dir, small)
	if w.Stats().ReadOnly || !r.Stats().ReadOnly {
		t.Fatal("the second is not the reader")
	}
	for i := range 300 { // through the beginning, a growing segment, new ones, eviction
		if check(t, r, i, 1000) {
			t.Fatalf("chunk %d is held before it came", i)
		}
		put(w, i, 1000)
		if !check(t, r, i, 1000) {
			t.Fatalf("chunk %d, just stored, is not seen by the reader", i)
		}
	}
	if got, want := held(t, r, 300, 1000), held(t, w, 300, 1000); !cmp.Equal(got, want) {
		t.Errorf("reader holds %v, writer %v", got, want)
	}
	checkBytes(t, r, dir)
	if s := r.Stats(); s.Damaged != 0 || s.WriteErrors != 0 {
		t.Errorf("reader counts %d damaged, %d write errors", s.Damaged, s.WriteErrors)
	}
}

// TestReaderLooksAwayWhileTheWriterEvicts has the reader miss whole generations of segments.
func TestReaderLooksAwayWhileTheWriterEvicts(t *testing.T) {
	dir := t.TempDir()
	w := open(t, dir, small)
	for i := range 30 {
		put(w, i, 1000)
	}
	r := open(t, dir, small)
	for round := range 5 {
		from := 1000 * (round + 1)
		for i := range 200 {
			put(w, from+i, 1000)
		}
		for i := range 30 { // its descriptors lead to files that are gone
			if check(t, r, i, 1000) {
				t.Fatalf("round %d: chunk %d was read from an evicted segment that was emptied", round, i)
			}
		}
		if !check(t, r, from+199, 1000) {
			t.Errorf("round %d: the latest chunk is not seen", round)
		}
		checkBytes(t, r, dir)
		if _, err := r.Verify(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if _, err := w.Prune(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if res, err := r.Verify(t.Context()); err != nil || res != (cache.VerifyResult{}) {
		t.Errorf("Verify of what was pruned = %+v, %v", res, err)
	}
	put(w, 1, 1000)
	if !check(t, r, 1, 1000) {
		t.Error("the reader lost its way when all segments were gone")
	}
	if s := r.Stats(); s.Damaged != 0 {
		t.Errorf("%d evicted chunks count as damaged", s.Damaged)
	}
}

func TestReaderDoesNotWrite(t *testing.T) {
	dir := t.TempDir()
	w := open(t, dir, small)
	put(w, 1, 1000)
	o := small
	o.Memory = 10_000
	r := open(t, dir, o)
	before := fileBytes(t, dir)
	d := put(r, 2, 1000)
	if !check(t, r, 2, 1000) {
		t.Error("the reader does not keep in memory what it downloaded")
	}
	if _, err := r.Prune(t.Context(), 0); !errors.Is(err, cache.ErrReadOnly) || !errors.Is(err, errs.ErrUnavailable) {
		t.Errorf("Prune = %v, want ErrReadOnly", err)
	}
	if err := r.Pin("a", pinned([]int{1}, 1000)); !errors.Is(err, cache.ErrReadOnly) {
		t.Errorf("Pin = %v, want ErrReadOnly", err)
	}
	if err := r.Unpin("a"); !errors.Is(err, cache.ErrReadOnly) {
		t.Errorf("Unpin = %v, want ErrReadOnly", err)
	}
	if w.Has(d) || fileBytes(t, dir) != before || r.Stats().PassedChunks != 1 {
		t.Error("the reader wrote")
	}
}

func TestReaderLeavesTornTailAlone(t *testing.T) {
	dir := t.TempDir()
	w := open(t, dir, small)
	put(w, 1, 1000)
	path := segmentFiles(t, dir)[0]
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// Half of the next record is there, as a reader may see it.
	torn := append(bytes.Clone(b), b[32:500]...)
	if err := os.WriteFile(path, torn, 0o600); err != nil {
		t.Fatal(err)
	}
	r := open(t, dir, small)
	if !check(t, r, 1, 1000) || check(t, r, 2, 1000) {
		t.Error("what is before a torn record is not held, or what is after it")
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, torn) {
		t.Errorf("the reader changed the segment: %v", err)
	}
	put(w, 2, 1000)
	if !check(t, r, 2, 1000) {
		t.Error("the record is not seen when it is whole")
	}
}

func TestReaderTakesOver(t *testing.T) {
	dir := t.TempDir()
	w, r := open(t, dir, small), open(t, dir, small)
	for i := range 20 {
		put(w, i, 1000)
	}
	if err := w.Pin("a", pinned([]int{1}, 1000)); err != nil {
		t.Fatal(err)
	}
	if got := len(held(t, r, 20, 1000)); got != 20 {
		t.Errorf("reader holds %d of 20", got)
	}
	shut(t, w)
	put(r, 20, 1000)
	if got := held(t, r, 21, 1000); !cmp.Equal(got, span(0, 21)) {
		t.Errorf("held %v after taking over, want all 21", got)
	}
	if s := r.Stats(); s.ReadOnly || s.Pins != 1 || s.PassedChunks != 0 {
		t.Errorf("after taking over: %+v", s)
	}
	checkBytes(t, r, dir)
	if again := open(t, dir, small); !again.Stats().ReadOnly {
		t.Error("there are two writers")
	}
}

// TestReadOnly opens a cache that is not there, then one without a writer: nothing is written.
func TestReadOnly(t *testing.T) {
	dir := t.TempDir() + "/cache"
	o := small
	o.ReadOnly = true
	r := open(t, dir, o)
	put(r, 1, 1000)
	if s := r.Stats(); !s.ReadOnly || s.Chunks != 0 || s.Bytes != 0 || s.PassedChunks != 1 {
		t.Errorf("a reader of nothing that got a chunk has %+v", s)
	}
	if _, err := r.Prune(t.Context(), 0); !errors.Is(err, cache.ErrReadOnly) {
		t.Errorf("Prune = %v, want %v", err, cache.ErrReadOnly)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a reader made the directory: %v", err)
	}
	w := open(t, dir, small)
	put(w, 1, 1000)
	if !check(t, r, 1, 1000) {
		t.Error("the reader does not see what came after it")
	}
	shut(t, w)
	put(r, 2, 1000)
	r2 := open(t, dir, o)
	if !check(t, r2, 1, 1000) || check(t, r2, 2, 1000) {
		t.Error("a reader for good took the place of the writer")
	}
}
