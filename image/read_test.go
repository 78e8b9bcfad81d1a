package image_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/image"
	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/store"
	"github.com/zosfs/zosfs/store/storetest"
)

// linked is a Getter with a link that is told.
type linked struct {
	store.Getter
	delay time.Duration
	rate  float64
}

func (l linked) Link() (time.Duration, float64) { return l.delay, l.rate }

// links are sources without and with a window.
func links(g store.Getter) map[string]store.Getter {
	return map[string]store.Getter{
		"unknown":  g,
		"loopback": linked{g, 100 * time.Microsecond, 1e9},
		"near":     linked{g, 3 * time.Millisecond, 5e6},
		"far":      linked{g, 200 * time.Millisecond, 1e8},
	}
}

func shuffled(r *rand.Rand) func(int) []int { return r.Perm }

// randomWorld has files of random runs and holes, some of them with the same content, with
// chunks in random order and foreign ones between.
func randomWorld(t testing.TB, seed uint64) *world {
	r := rand.New(rand.NewPCG(seed, 1))
	p := packing{chunk: 1 + r.IntN(20_000), perBlob: 1 + r.IntN(40)}
	if r.IntN(3) > 0 {
		p.order = shuffled(r)
	}
	if r.IntN(2) > 0 {
		p.foreign = func(i int) []byte { return noise(seed+uint64(i), r.IntN(3)*r.IntN(5000)) }
	}
	var specs []spec
	var shared []byte
	for i := range 12 {
		s := spec{path: fmt.Sprintf("d%d/f%d", i%3, i)}
		off := int64(0)
		for range r.IntN(5) {
			off += int64(r.IntN(2) * r.IntN(100_000))
			n := 1 + r.IntN(60_000)
			data := noise(r.Uint64(), n)
			switch {
			case r.IntN(4) == 0 && shared != nil:
				data = shared
			case r.IntN(2) == 0:
				data = prose(r.Uint64(), n)
			}
			shared = data
			s.runs = append(s.runs, run{off, data})
			off += int64(len(data))
		}
		s.size = off + int64(r.IntN(2)*r.IntN(50_000))
		specs = append(specs, s)
	}
	return build(t, p, specs...)
}

func TestReadsAreTheBytes(t *testing.T) {
	testenv.NoLeaks(t)
	for seed := range uint64(8) {
		w := randomWorld(t, seed)
		for name, src := range links(w.store) {
			t.Run(fmt.Sprintf("%d/%s", seed, name), func(t *testing.T) {
				im := w.open(t, src, image.Options{})
				r := rand.New(rand.NewPCG(seed, 2))
				for range 200 {
					path := w.paths()[r.IntN(len(w.content))]
					want := w.content[path]
					if len(want) == 0 {
						continue
					}
					off := r.IntN(len(want))
					n := 1 + r.IntN(1+r.IntN(len(want)-off))
					got := bytes.Repeat([]byte{0xaa}, n)
					if m, err := im.ReadAt(t.Context(), find(t, im, path), got, int64(off)); m != n || err != nil {
						t.Fatalf("ReadAt(%s, %d bytes at %d) = %d, %v", path, n, off, m, err)
					}
					if !bytes.Equal(got, want[off:off+n]) {
						t.Fatalf("ReadAt(%s, %d bytes at %d) gives other bytes", path, n, off)
					}
				}
				if s := im.Stats(); s.ChunksFetched > w.Counts().Chunks {
					t.Errorf("%d chunks fetched, there are %d", s.ChunksFetched, w.Counts().Chunks)
				}
			})
		}
	}
}

func TestLongRead(t *testing.T) {
	data := noise(3, 20<<20)
	w := build(t, packing{chunk: 512 << 10}, whole("f", data))
	im := w.open(t, nil, image.Options{})
	got := make([]byte, len(data))
	if n, err := im.ReadAt(t.Context(), find(t, im, "f"), got, 0); n != len(data) || err != nil || !bytes.Equal(got, data) {
		t.Errorf("ReadAt of %d bytes = %d, %v, and right: %v", len(data), n, err, bytes.Equal(got, data))
	}
}

func TestData(t *testing.T) {
	w := build(t, packing{chunk: 1000}, spec{path: "f", size: 100_000, runs: []run{
		{0, noise(1, 2500)}, {2500, noise(2, 10)}, {50_000, noise(3, 5000)}, {90_000, noise(4, 1)}}},
		spec{path: "hole", size: 10}, spec{path: "empty"}, whole("full", noise(5, 3000)))
	im := w.open(t, nil, image.Options{})
	want := map[string][][2]int64{
		"f": {{0, 2510}, {50_000, 5000}, {90_000, 1}}, "hole": nil, "empty": nil, "full": {{0, 3000}}, "": nil,
	}
	runs := func(path string, from int64) (got [][2]int64) {
		for off, n := range im.Data(find(t, im, path), from) {
			got = append(got, [2]int64{off, n})
		}
		return got
	}
	for path, all := range want {
		if d := cmp.Diff(all, runs(path, 0)); d != "" {
			t.Errorf("Data(%q) (-want +got):\n%s", path, d)
		}
	}
	f := want["f"]
	for from, rest := range map[int64][][2]int64{
		1: {{1, 2509}, f[1], f[2]}, 2509: {{2509, 1}, f[1], f[2]}, 2510: f[1:], 49_999: f[1:], 50_000: f[1:],
		53_210: {{53_210, 1790}, f[2]}, 55_000: f[2:], 90_000: f[2:], 90_001: nil, 100_000: nil, 1 << 40: nil,
	} {
		if d := cmp.Diff(rest, runs("f", from)); d != "" {
			t.Errorf("Data(f, %d) (-want +got):\n%s", from, d)
		}
	}
	for range im.Data(find(t, im, "f"), 0) {
		break // must not yield again
	}
}

// TestFetchesWhatIsAsked holds the budget: on a near source, no more than 1.1 times the
// sealed size of the chunks touched, and chunks that lie together in one request.
func TestFetchesWhatIsAsked(t *testing.T) {
	var specs []spec
	for i := range 200 {
		specs = append(specs, whole(fmt.Sprintf("f%03d", i), prose(uint64(i), 3000+i*37)))
	}
	w := build(t, packing{}, specs...)
	for name, src := range map[string]store.Getter{"unknown": w.store, "loopback": linked{w.store, 900 * time.Microsecond, 1e9}} {
		t.Run(name, func(t *testing.T) {
			im := w.open(t, src, image.Options{})
			var touched int64
			for i := 0; i < 200; i += 3 {
				path := fmt.Sprintf("f%03d", i)
				if _, err := im.ReadAt(t.Context(), find(t, im, path), make([]byte, 10), 100); err != nil {
					t.Fatal(err)
				}
				touched += int64(w.places[chunk.Sum(w.content[path])].Stored)
			}
			s := im.Stats()
			if s.BytesFetched > touched*11/10 {
				t.Errorf("%d bytes fetched for chunks of %d", s.BytesFetched, touched)
			}
			if s.BytesWasted != 0 || s.AheadChunks != 0 {
				t.Errorf("%d bytes wasted, %d chunks taken along; want none", s.BytesWasted, s.AheadChunks)
			}
		})
	}
}

func TestOneRequestForNeighbours(t *testing.T) {
	data := noise(1, 1<<20)
	w := build(t, packing{chunk: 64 << 10}, whole("f", data))
	im := w.open(t, nil, image.Options{})
	if _, err := im.ReadAt(t.Context(), find(t, im, "f"), make([]byte, 1<<20), 0); err != nil {
		t.Fatal(err)
	}
	if s := im.Stats(); s.Requests != 1 || s.ChunksFetched != 16 || s.BytesFetched != 1<<20 {
		t.Errorf("%d requests, %d chunks, %d bytes; want 1, 16, %d", s.Requests, s.ChunksFetched, s.BytesFetched, 1<<20)
	}
}

// TestWindow reads one small chunk in the middle of a blob of equal ones, 10 KB each, over
// links of several windows.
func TestWindow(t *testing.T) {
	const size = 10_000
	tests := []struct {
		name   string
		delay  time.Duration
		rate   float64
		chunks int64 // fetched
	}{
		{"unknown delay", 0, 1e9, 1},
		{"unknown rate", 50 * time.Millisecond, 0, 1 + (1<<20)/20/size}, // 1 MiB/s is assumed
		{"loopback", time.Millisecond, 1e9, 1},
		{"the same house", 4 * time.Millisecond, 1e9, 1},
		{"less than a chunk", 10 * time.Millisecond, 999_000, 1},
		{"five chunks", 50 * time.Millisecond, 1e6, 6},
		{"bounded", 10 * time.Second, 1e9, 1 + (1<<20)/size},
	}
	data := noise(1, 400*size)
	w := build(t, packing{chunk: size, perBlob: 300}, whole("f", data))
	for _, tt := range tests {
		inBubble(t, tt.name, func(t *testing.T) {
			im := w.open(t, linked{w.store, tt.delay, tt.rate}, image.Options{})
			read := func(chunk int64) {
				t.Helper()
				p := make([]byte, 10)
				if _, err := im.ReadAt(t.Context(), find(t, im, "f"), p, chunk*size); err != nil || !bytes.Equal(p, data[chunk*size:][:10]) {
					t.Fatalf("ReadAt(chunk %d) = %x, %v", chunk, p, err)
				}
				synctest.Wait() // for what came along
			}
			read(100)
			s := im.Stats()
			if s.ChunksFetched != tt.chunks || s.Requests != 1 || s.AheadChunks != tt.chunks-1 || s.BytesFetched != tt.chunks*size {
				t.Errorf("%d chunks in %d requests, %d ahead, %d bytes; want %d, 1, %d, %d",
					s.ChunksFetched, s.Requests, s.AheadChunks, s.BytesFetched, tt.chunks, tt.chunks-1, tt.chunks*size)
			}
			if tt.chunks > 1 {
				read(101)
				if s := im.Stats(); s.Requests != 1 || s.AheadUsed != 1 {
					t.Errorf("after the next chunk: %d requests, %d of read-ahead used; want 1, 1", s.Requests, s.AheadUsed)
				}
			}
			read(299) // the last of its blob: nothing follows
			if s2 := im.Stats(); s2.ChunksFetched != s.ChunksFetched+1 {
				t.Errorf("%d chunks more for the last one of a blob, want 1", s2.ChunksFetched-s.ChunksFetched)
			}
		})
	}
}

// TestGaps reads two chunks with others of the same flist, or foreign ones, between them.
func TestGaps(t *testing.T) {
	const size = 10_000
	data := noise(1, 2*size)
	tests := []struct {
		name     string
		foreign  int // bytes between the two chunks
		rate     float64
		requests int64
		wasted   int64
	}{
		{"adjacent, no window", 0, 1, 1, 0},
		{"gap, no window", 100, 1, 2, 0},
		{"gap within the window", 5000, 1e6, 1, 5000},
		{"gap beyond the window", 11_000, 1e6, 2, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := build(t, packing{chunk: size, foreign: func(i int) []byte { return noise(9, i*tt.foreign) }}, whole("f", data))
			im := w.open(t, linked{w.store, 10 * time.Millisecond, tt.rate}, image.Options{})
			if _, err := im.ReadAt(t.Context(), find(t, im, "f"), make([]byte, 2*size), 0); err != nil {
				t.Fatal(err)
			}
			if s := im.Stats(); s.Requests != tt.requests || s.BytesWasted != tt.wasted || s.BytesFetched != 2*size+tt.wasted {
				t.Errorf("%d requests, %d bytes, %d wasted; want %d, %d, %d",
					s.Requests, s.BytesFetched, s.BytesWasted, tt.requests, 2*size+tt.wasted, tt.wasted)
			}
		})
	}
	t.Run("gap of our own chunks is kept", func(t *testing.T) {
		three := noise(1, 3*size)
		w := build(t, packing{chunk: size, order: func(int) []int { return []int{0, 2, 1} }}, whole("f", three))
		im := w.open(t, linked{w.store, 12 * time.Millisecond, 1e6}, image.Options{})
		if _, err := im.ReadAt(t.Context(), find(t, im, "f"), make([]byte, 2*size), 0); err != nil {
			t.Fatal(err)
		}
		if s := im.Stats(); s.Requests != 1 || s.BytesWasted != 0 || s.ChunksFetched != 3 {
			t.Errorf("%d requests, %d bytes wasted, %d chunks; want 1, 0, 3", s.Requests, s.BytesWasted, s.ChunksFetched)
		}
	})
}

// TestOverlappingChunks has an flist that says, rightly, that one chunk lies inside another.
func TestOverlappingChunks(t *testing.T) {
	outer := noise(1, 30_000)
	inner, tail := outer[5000:9000], outer[20_000:]
	w := build(t, packing{moved: func(m map[chunk.Digest]flist.Chunk) {
		for p, off := range map[*[]byte]uint32{&inner: 5000, &tail: 20_000} {
			d := chunk.Sum(*p)
			c := m[d]
			c.Offset = m[chunk.Sum(outer)].Offset + off
			m[d] = c
		}
	}}, whole("a", tail), whole("b", inner), whole("c", outer), spec{path: "d", runs: []run{{0, inner}, {4000, tail}}})
	for name, src := range links(w.store) {
		for _, order := range []string{"abcd", "cabd", "dcba", "bc", "ac"} {
			inBubble(t, name+"/"+order, func(t *testing.T) {
				im := w.open(t, src, image.Options{})
				for _, path := range order {
					if err := readAll(t, w, im, string(path)); err != nil {
						t.Errorf("ReadAt(%c) = %v", path, err)
					}
				}
				if rep, err := im.VerifyContent(t.Context(), nil); err != nil || len(rep.Damage) != 0 {
					t.Errorf("VerifyContent = %+v, %v", rep, err)
				}
			})
		}
	}
}

func TestPrefetch(t *testing.T) {
	testenv.NoLeaks(t)
	for seed := range uint64(4) {
		w := randomWorld(t, seed)
		im := w.open(t, nil, image.Options{})
		var last image.Progress
		if err := im.Prefetch(t.Context(), allNodes(im), func(p image.Progress) { last = p }); err != nil {
			t.Fatal(err)
		}
		if n := w.Counts(); last != (image.Progress{Chunks: n.Chunks, TotalChunks: n.Chunks, Bytes: n.Stored, TotalBytes: n.Stored}) {
			t.Errorf("last progress %+v, want %d chunks of %d bytes", last, n.Chunks, n.Stored)
		}
		before := im.Stats()
		for path, want := range w.content {
			got := make([]byte, len(want))
			if _, err := im.ReadAt(t.Context(), find(t, im, path), got, 0); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("ReadAt(%s) after Prefetch = %v", path, err)
			}
		}
		if s := im.Stats(); s.Requests != before.Requests {
			t.Errorf("%d requests after Prefetch, want none", s.Requests-before.Requests)
		}
	}
}

func TestPrefetchSome(t *testing.T) {
	w := build(t, packing{}, whole("a", noise(1, 100_000)), whole("b", noise(2, 100_000)), whole("c", noise(3, 100_000)))
	im := w.open(t, nil, image.Options{})
	if err := im.Prefetch(t.Context(), slices.Values([]flist.NodeID{find(t, im, "a"), find(t, im, "c"), 1}), nil); err != nil {
		t.Fatal(err)
	}
	if s := im.Stats(); s.BytesFetched-s.BytesWasted != 200_000 || s.Reads != 0 {
		t.Errorf("%d bytes fetched, %d wasted; want 200000 besides the waste", s.BytesFetched, s.BytesWasted)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := im.Prefetch(ctx, slices.Values([]flist.NodeID{find(t, im, "b")}), nil); err == nil {
		t.Error("Prefetch with a cancelled context succeeds")
	}
}

func BenchmarkReadHit(b *testing.B) {
	for _, n := range []int{4 << 10, 128 << 10} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			data := noise(1, 8<<20)
			w := build(b, packing{chunk: 128 << 10}, whole("f", data))
			im := w.open(b, nil, image.Options{})
			id := find(b, im, "f")
			p := make([]byte, 8<<20)
			if _, err := im.ReadAt(b.Context(), id, p, 0); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(n))
			b.ReportAllocs()
			off := int64(0)
			for b.Loop() {
				if _, err := im.ReadAt(b.Context(), id, p[:n], off); err != nil {
					b.Fatal(err)
				}
				off = (off + int64(n)) % (8 << 20)
			}
		})
	}
}

func TestPrefetchGoesOnAfterErrors(t *testing.T) {
	w := build(t, packing{perBlob: 2}, whole("a", noise(1, 60_000)), whole("b", noise(2, 60_000)), whole("c", noise(3, 60_000)))
	for _, kind := range []error{errs.ErrNotFound, errs.ErrUnavailable} {
		inBubble(t, kind.Error(), func(t *testing.T) {
			src := storetest.NewFault(w.store, func(c storetest.Call) storetest.Effect {
				if c.Blob == w.blobs[1] {
					return fails(kind)
				}
				return fine
			})
			im := w.open(t, src, image.Options{Deadline: 2 * time.Second})
			err := im.Prefetch(t.Context(), allNodes(im), nil)
			if e, ok := errors.AsType[*image.ReadError](err); !ok || !errors.Is(err, kind) || e.Blob != w.blobs[1] {
				t.Errorf("Prefetch = %v, want a ReadError of %v about %v", err, kind, w.blobs[1])
			}
			src.SetHook(script(fails(errs.ErrNotFound)))
			for _, path := range []string{"a", "c"} {
				if err := readAll(t, w, im, path); err != nil {
					t.Errorf("ReadAt(%s) after Prefetch = %v, want it in the cache", path, err)
				}
			}
		})
	}
}
