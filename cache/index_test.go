package cache

import (
	"math/rand/v2"
	"runtime"
	"testing"
	"unsafe"
)

// TestIndexMemory holds the package comment to its figures.
func TestIndexMemory(t *testing.T) {
	if n := unsafe.Sizeof(slot{}); n != 16 {
		t.Errorf("a slot takes %d bytes, want 16", n)
	}
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	x := newIndex()
	r := rand.New(rand.NewPCG(1, 1))
	const chunks = 1_000_000
	for n := 1; n <= chunks; n++ {
		x.put(r.Uint64(), makePlace(0, uint32(n)))
		if n%250_000 != 0 {
			continue
		}
		got, size := x.len()
		if got != n || float64(size)/float64(n) > 23 {
			t.Errorf("%d of %d chunks in %d bytes of slots, want 23 a chunk at most", got, n, size)
		}
	}
	// The heap's size classes add to that.
	if each := float64(heap()-before) / chunks; each > 24 || each < 18 {
		t.Errorf("%.1f bytes of heap a chunk, want 18 to 24", each)
	}
	runtime.KeepAlive(x)
}

// TestIndexModel compares the index with a map through all operations, with fingerprints
// that lie close together and places that repeat.
func TestIndexModel(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 3))
	x, model := newIndex(), map[uint64]place{}
	// Few enough for the same to come up, and for shards to be small and grow.
	pick := func() uint64 { return r.Uint64N(4000) }
	for step := range 300_000 {
		fp, at := pick(), makePlace(uint16(r.IntN(5)), r.Uint32N(4))
		old, has := model[fp]
		switch r.IntN(7) {
		case 0, 1, 2:
			x.put(fp, at)
			model[fp] = at
		case 3:
			want := has && old.same(at)
			if got := x.remove(fp, at); got != want {
				t.Fatalf("step %d: remove = %v, want %v", step, got, want)
			}
			if want {
				delete(model, fp)
			}
		case 4:
			next := makePlace(9, r.Uint32())
			want := has && old.same(at)
			if got := x.replace(fp, at, next); got != want {
				t.Fatalf("step %d: replace = %v, want %v", step, got, want)
			}
			if want {
				model[fp] = next
			}
		case 5:
			x.mark(fp, at, verified|recent, 0)
			x.mark(fp, at, 0, recent)
			if has && old.same(at) {
				model[fp] = old | verified
			}
		case 6:
			if got := x.get(fp); got != old {
				t.Fatalf("step %d: get = %x, want %x", step, got, old)
			}
		}
		if step%20_000 == 0 {
			x.removeSegments(func(s uint16) bool { return s == 3 })
			for fp, at := range model {
				if at.slot() == 3 {
					delete(model, fp)
				}
			}
			compareIndex(t, x, model)
		}
	}
	compareIndex(t, x, model)
}

func compareIndex(t *testing.T, x *index, model map[uint64]place) {
	t.Helper()
	if n, _ := x.len(); n != len(model) {
		t.Fatalf("%d entries, want %d", n, len(model))
	}
	perSlot := map[uint16]int{}
	for fp, at := range model {
		if got := x.get(fp); got != at {
			t.Fatalf("get(%x) = %x, want %x", fp, got, at)
		}
		perSlot[at.slot()]++
	}
	for slot, want := range perSlot {
		if got := len(x.inSegment(slot)); got != want {
			t.Fatalf("inSegment(%d) has %d entries, want %d", slot, got, want)
		}
	}
}

func BenchmarkIndexGet(b *testing.B) {
	x := newIndex()
	for n := range uint64(1_000_000) {
		x.put(n, makePlace(0, uint32(n)))
	}
	b.ReportAllocs()
	for n := uint64(0); b.Loop(); n++ {
		x.get(n % 2_000_000)
	}
}

func BenchmarkIndexPut(b *testing.B) {
	x := newIndex()
	b.ReportAllocs()
	for n := uint64(0); b.Loop(); n++ {
		x.put(n%10_000_000, makePlace(0, uint32(n)))
	}
}
