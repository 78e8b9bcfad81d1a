package image

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/flist"
)

func admitted(t *ticket) bool {
	select {
	case <-t.ready:
		return true
	default:
		return false
	}
}

func TestGateOrder(t *testing.T) {
	g := newGate()
	var flying []*ticket
	for range maxPrefetch {
		flying = append(flying, g.enqueue(prefetch, 1))
	}
	fifth := g.enqueue(prefetch, 1)
	for i, tk := range flying {
		if !admitted(tk) {
			t.Fatalf("prefetch %d is not admitted to an empty gate", i)
		}
	}
	if admitted(fifth) {
		t.Errorf("more than %d prefetches are admitted", maxPrefetch)
	}
	demand := g.enqueue(onDemand, 1)
	if !admitted(demand) {
		t.Error("on-demand is not admitted beside prefetch")
	}
	flying[0].release()
	if admitted(fifth) {
		t.Error("prefetch is admitted while on-demand is under way")
	}
	demand.release()
	if !admitted(fifth) {
		t.Error("prefetch is not admitted when on-demand is done")
	}
}

func TestGateKeepsRoomForDemand(t *testing.T) {
	g := newGate()
	var ahead []*ticket
	for range maxFlights {
		ahead = append(ahead, g.enqueue(readAhead, 1))
	}
	n := 0
	for _, tk := range ahead {
		if admitted(tk) {
			n++
		}
	}
	if n != maxFlights-keptForDemand {
		t.Errorf("%d read-aheads are admitted, want %d", n, maxFlights-keptForDemand)
	}
	for i := range keptForDemand {
		if !admitted(g.enqueue(onDemand, 1)) {
			t.Errorf("on-demand %d is not admitted beside read-ahead", i)
		}
	}
	waiting := g.enqueue(onDemand, 1)
	ahead[0].release()
	if !admitted(waiting) {
		t.Error("a free place does not go to the on-demand read that waits")
	}
}

func TestGateBoundsBytes(t *testing.T) {
	g := newGate()
	huge := g.enqueue(onDemand, 2*maxFlightBytes)
	if !admitted(huge) {
		t.Fatal("a download larger than the bound never flies")
	}
	second := g.enqueue(onDemand, 1)
	if admitted(second) {
		t.Error("admitted beyond the bound of bytes")
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	gone := errors.New("gone")
	cancel(gone)
	if err := second.wait(ctx); !errors.Is(err, gone) {
		t.Errorf("wait with a done context = %v, want %v", err, gone)
	}
	third := g.enqueue(onDemand, 1)
	huge.release()
	if !admitted(third) || admitted(second) {
		t.Errorf("third admitted: %v, abandoned one: %v; want true, false", admitted(third), admitted(second))
	}
	third.abandon()
	if g.bytes != 0 || g.flying != [classes]int{} {
		t.Errorf("%d bytes, %v flying after all is released", g.bytes, g.flying)
	}
}

func TestStreams(t *testing.T) {
	type read struct {
		obj  uint32
		off  int64
		n    int
		want int // run that is reported, 0 for none
	}
	tests := []struct {
		name  string
		reads []read
	}{
		{"in order", []read{{1, 0, 10, 0}, {1, 10, 10, 1}, {1, 20, 10, 2}}},
		{"large at the beginning", []read{{1, 0, eager, 1}, {1, eager, 10, 2}}},
		{"large elsewhere", []read{{1, 10, eager, 0}}},
		{"overtaken", []read{{1, 0, 10, 0}, {1, 20, 10, 1}, {1, 10, 10, 0}, {1, 30, 10, 2}}},
		{"again", []read{{1, 0, 10, 0}, {1, 0, 10, 0}, {1, 10, 10, 1}}},
		{"far away", []read{{1, 0, 10, 0}, {1, 1000, 10, 0}, {1, 500, 10, 0}}},
		{"backwards", []read{{1, 1000, 10, 0}, {1, 900, 10, 0}, {1, 800, 10, 0}}},
		{"two readers", []read{{1, 0, 10, 0}, {1, 5000, 10, 0}, {1, 10, 10, 1}, {1, 5010, 10, 1}, {1, 20, 10, 2}}},
		{"two files", []read{{1, 0, 10, 0}, {2, 10, 10, 0}, {1, 10, 10, 1}}},
	}
	for _, tt := range tests {
		var s streams
		for i, r := range tt.reads {
			st, ok := s.advance(flist.ObjectID(r.obj), r.off, r.n)
			if got := st.run; ok != (r.want > 0) || ok && got != r.want {
				t.Errorf("%s: read %d: run %d, %v, want %d", tt.name, i, got, ok, r.want)
			}
		}
	}
	var s streams
	s.advance(99, 0, 10)
	for obj := range 40 { // pushes the first one out
		s.advance(flist.ObjectID(obj+1), 0, 10)
	}
	if _, ok := s.advance(99, 10, 10); ok {
		t.Error("a stream is remembered beyond the bound")
	}
}

func TestMemory(t *testing.T) {
	m := newMemory(100)
	put := func(d byte, n int) {
		t.Helper()
		wait, finish := m.Claim(chunk.Digest{d})
		if finish == nil {
			t.Fatalf("Claim(%d) gives no duty", d)
		}
		finish(make([]byte, n), nil)
		if p, err := wait(t.Context()); err != nil || len(p) != n {
			t.Fatalf("wait(%d) = %d bytes, %v, want %d", d, len(p), err, n)
		}
	}
	put(1, 40)
	put(2, 40)
	if !m.Read(chunk.Digest{1}, make([]byte, 10), 30) {
		t.Error("Read of a held chunk = false")
	}
	if m.Read(chunk.Digest{1}, make([]byte, 11), 30) {
		t.Error("Read beyond a chunk = true")
	}
	put(3, 40) // pushes 2 out: 1 was used later
	for d, want := range map[byte]bool{1: true, 2: false, 3: true} {
		if got := m.Has(chunk.Digest{d}); got != want {
			t.Errorf("Has(%d) = %v, want %v", d, got, want)
		}
	}
	put(4, 1000) // more than all of it: delivered, not kept
	if m.size != 0 || len(m.held) != 0 {
		t.Errorf("%d bytes held after a chunk that does not fit, want none", m.size)
	}
	bad := errors.New("bad")
	wait, finish := m.Claim(chunk.Digest{5})
	second, duty := m.Claim(chunk.Digest{5})
	if duty != nil {
		t.Error("two have the duty for one chunk")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := second(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("wait with a done context = %v, want %v", err, context.Canceled)
	}
	finish(nil, bad)
	if _, err := wait(t.Context()); !errors.Is(err, bad) {
		t.Errorf("wait = %v, want %v", err, bad)
	}
	if m.Has(chunk.Digest{5}) {
		t.Error("a failed download is held")
	}
	if _, finish := m.Claim(chunk.Digest{5}); finish == nil {
		t.Error("nobody may try again after a failure")
	}
}

func TestBitmap(t *testing.T) {
	b := newBitmap(100)
	var wg sync.WaitGroup
	for id := range 101 {
		wg.Go(func() { b.set(flist.ChunkID(id)) })
	}
	wg.Wait()
	for _, id := range rand.Perm(101) {
		if !b.has(flist.ChunkID(id)) || !b.take(flist.ChunkID(id)) || b.take(flist.ChunkID(id)) || b.has(flist.ChunkID(id)) {
			t.Errorf("bit %d is not set once", id)
		}
	}
}
