package chunk_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	cdc "github.com/PlakarKorp/go-cdc-chunkers"
	"github.com/google/go-cmp/cmp"

	"github.com/zosfs/zosfs/chunk"
)

// stream returns size bytes that depend on seed alone: ChaCha8, which the Go specification
// of math/rand/v2 fixes, so that the golden cut points can be computed elsewhere.
func stream(seed byte, size int) []byte {
	p := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(p)
	return p
}

func newCutter(t testing.TB, p chunk.Params) *chunk.Cutter {
	t.Helper()
	c, err := chunk.NewCutter(p)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// cuts returns the sizes of the chunks of p.
func cuts(c *chunk.Cutter, params chunk.Params, p []byte) []int {
	var sizes []int
	if len(p) > 0 && params.IsWhole(int64(len(p))) {
		return []int{len(p)}
	}
	for len(p) > 0 {
		n := c.Next(p)
		sizes = append(sizes, n)
		p = p[n:]
	}
	return sizes
}

// reference returns the sizes that the library's own chunker gives.
func reference(t testing.TB, params chunk.Params, p []byte) []int {
	t.Helper()
	if params.IsWhole(int64(len(p))) {
		return cuts(nil, params, p)
	}
	opts := &cdc.ChunkerOpts{MinSize: params.Min, NormalSize: params.Avg, MaxSize: params.Max}
	c, err := cdc.NewChunker(params.ID, bytes.NewReader(p), opts)
	if err != nil {
		t.Fatal(err)
	}
	var sizes []int
	for {
		data, err := c.Next()
		if len(data) > 0 {
			sizes = append(sizes, len(data))
		}
		if errors.Is(err, io.EOF) {
			return sizes
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// small are sizes that make many chunks of little data.
var small = chunk.Params{ID: chunk.FastCDC, Whole: 256, Min: 128, Avg: 512, Max: 2048}

var (
	goldenDefault = []int{
		168889, 167047, 208764, 211347, 145061, 176689, 245687, 136766, 137072, 149834, 142026, 161004, 46966,
	}
	goldenSmall = []int{
		819, 367, 577, 569, 162, 550, 147, 440, 709, 891, 535, 538, 635, 554, 567, 759, 597, 629, 1079, 547, 1313, 552,
		919, 614, 722, 241, 352,
	}
)

// TestGoldenCuts fixes the cut points of the format: whoever changes them makes every chunk
// of every store unknown, and must give the chunker a new id.
func TestGoldenCuts(t *testing.T) {
	patterned := stream(3, 4096)
	tests := []struct {
		name   string
		params chunk.Params
		data   []byte
		want   []int
	}{
		{"default sizes, noise", chunk.DefaultParams(), stream(1, 2<<20), goldenDefault},
		{"default sizes, repeated 4 KiB", chunk.DefaultParams(), bytes.Repeat(patterned, 256), []int{512 << 10, 512 << 10}},
		{"default sizes, zeros", chunk.DefaultParams(), make([]byte, 1<<20+7), []int{512 << 10, 512 << 10, 7}},
		{"small sizes, noise", small, stream(2, 16<<10), goldenSmall},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, cuts(newCutter(t, tt.params), tt.params, tt.data)); diff != "" {
				t.Errorf("sizes of the chunks (-want +got):\n%s", diff)
			}
		})
	}
}

// TestReference cuts as the library does whose version the chunker's id names.
func TestReference(t *testing.T) {
	for _, params := range []chunk.Params{
		chunk.DefaultParams(), small,
		{ID: chunk.FastCDC, Min: 64, Avg: 128, Max: 256},
		{ID: chunk.FastCDC, Min: 2 << 10, Avg: 8 << 10, Max: 64 << 10},
		{ID: chunk.FastCDC, Min: 1000, Avg: 1 << 20, Max: chunk.MaxSize},
	} {
		c := newCutter(t, params)
		for seed := range byte(4) {
			for _, size := range []int{1, params.Min, params.Min + 1, params.Avg, params.Avg + 1, params.Max, params.Max + 1, 5 * params.Max} {
				p := stream(seed, size)
				clear(p[size/3 : size/2]) // a stretch that the hash does not cut
				if diff := cmp.Diff(reference(t, params, p), cuts(c, params, p)); diff != "" {
					t.Errorf("%v, %d bytes: sizes of the chunks (-library +got):\n%s", params, size, diff)
				}
			}
		}
	}
}

// TestWindow gives Next no more than it must have: the cut is the same.
func TestWindow(t *testing.T) {
	c, p := newCutter(t, small), stream(4, 100_000)
	for len(p) > 0 {
		all, window := c.Next(p), c.Next(p[:min(len(p), small.Max)])
		if all != window {
			t.Fatalf("Next of %d bytes = %d, of the first %d of them %d", len(p), all, small.Max, window)
		}
		p = p[all:]
	}
}

// TestCutsResume changes bytes in the middle: the chunks far from them stay.
func TestCutsResume(t *testing.T) {
	p := stream(6, 200_000)
	digests := func(p []byte) map[chunk.Digest]bool {
		out := make(map[chunk.Digest]bool)
		for _, n := range cuts(newCutter(t, small), small, p) {
			out[chunk.Sum(p[:n])] = true
			p = p[n:]
		}
		return out
	}
	before := digests(p)
	for name, changed := range map[string][]byte{
		"inserted": append(append(bytes.Clone(p[:100_000]), "some bytes"...), p[100_000:]...),
		"deleted":  append(bytes.Clone(p[:100_000]), p[100_010:]...),
		"in front": append([]byte("x"), p...),
	} {
		lost := 0
		after := digests(changed)
		for d := range before {
			if !after[d] {
				lost++
			}
		}
		if lost > 5 {
			t.Errorf("%s: %d of %d chunks are lost, want at most 5", name, lost, len(before))
		}
	}
}

func TestSizes(t *testing.T) {
	def := chunk.DefaultParams()
	for _, params := range []chunk.Params{def, small, {ID: chunk.FastCDC, Min: 64, Avg: 128, Max: 256}} {
		p := stream(7, 3*params.Max)
		c := newCutter(t, params)
		for _, n := range []int{0, 1, params.Min - 1, params.Min, params.Min + 1, params.Whole, params.Whole + 1, params.Avg, params.Max, params.Max + 1, len(p)} {
			sizes := cuts(c, params, p[:n])
			sum := 0
			for _, size := range sizes {
				sum += size
			}
			if sum != n {
				t.Errorf("%+v: the chunks of a run of %d bytes have %d", params, n, sum)
			}
			if n > 0 && n <= params.Whole && len(sizes) != 1 {
				t.Errorf("%+v: a run of %d bytes is %d chunks, want 1", params, n, len(sizes))
			}
			for i, size := range sizes {
				if size > params.Max || size == 0 || size < params.Min && i < len(sizes)-1 {
					t.Errorf("%+v: chunk %d of a run of %d bytes has %d", params, i, n, size)
				}
			}
		}
	}
}

func TestValidate(t *testing.T) {
	def := chunk.DefaultParams()
	edit := func(f func(*chunk.Params)) chunk.Params { p := def; f(&p); return p }
	tests := []struct {
		name string
		p    chunk.Params
		ok   bool
	}{
		{"default", def, true},
		{"small", small, true},
		{"largest", edit(func(p *chunk.Params) { p.Max = chunk.MaxSize }), true},
		{"no whole runs", edit(func(p *chunk.Params) { p.Whole = 0 }), true},
		{"zero", chunk.Params{}, false},
		{"other chunker", edit(func(p *chunk.Params) { p.ID = "fastcdc" }), false},
		{"min too small", edit(func(p *chunk.Params) { p.Min = 63 }), false},
		{"min not below mean", edit(func(p *chunk.Params) { p.Min = p.Avg }), false},
		{"mean not below max", edit(func(p *chunk.Params) { p.Max = p.Avg }), false},
		{"max too large", edit(func(p *chunk.Params) { p.Max = chunk.MaxSize + 1 }), false},
		{"mean not a power of two", edit(func(p *chunk.Params) { p.Avg++ }), false},
		{"whole above max", edit(func(p *chunk.Params) { p.Whole = p.Max + 1 }), false},
		{"whole negative", edit(func(p *chunk.Params) { p.Whole = -1 }), false},
	}
	for _, tt := range tests {
		if err := tt.p.Validate(); (err == nil) != tt.ok {
			t.Errorf("%s: Validate() = %v, want ok %v", tt.name, err, tt.ok)
		}
		if _, err := chunk.NewCutter(tt.p); (err == nil) != tt.ok {
			t.Errorf("%s: NewCutter = %v, want ok %v", tt.name, err, tt.ok)
		}
	}
}

func TestParamsText(t *testing.T) {
	def := chunk.DefaultParams()
	const want = "fastcdc-v1.0.0 131072 32768 131072 524288"
	if got := def.String(); got != want {
		t.Errorf("String() = %q, want %q", got, want)
	}
	if got, err := chunk.ParseParams(want); err != nil || got != def {
		t.Errorf("ParseParams(%q) = %+v, %v, want %+v", want, got, err, def)
	}
	for _, s := range []string{
		"", "fastcdc-v1.0.0", "fastcdc-v1.0.0 1 2 3", want + " ", want + " 1", " " + want, "other 131072 32768 131072 524288",
		"fastcdc-v1.0.0 +131072 32768 131072 524288", "fastcdc-v1.0.0 131072 32768 131072 0x80000", "fastcdc-v1.0.0 131072 32768 131072 99999999999999999999",
	} {
		if got, err := chunk.ParseParams(s); err == nil {
			t.Errorf("ParseParams(%q) = %+v, want an error", s, got)
		}
	}
}

// FuzzCut cuts what it is given and compares with the library.
func FuzzCut(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(make([]byte, 5000))
	f.Add(stream(9, 5000))
	c := newCutter(f, small)
	f.Fuzz(func(t *testing.T, p []byte) {
		if diff := cmp.Diff(reference(t, small, p), cuts(c, small, p)); diff != "" {
			t.Errorf("sizes of the chunks (-library +got):\n%s", diff)
		}
	})
}

func BenchmarkNext(b *testing.B) {
	for name, p := range map[string][]byte{"noise": stream(1, 16<<20), "zeros": make([]byte, 16<<20)} {
		b.Run(name, func(b *testing.B) {
			c := newCutter(b, chunk.DefaultParams())
			b.SetBytes(int64(len(p)))
			b.ReportAllocs()
			for b.Loop() {
				for rest := p; len(rest) > 0; {
					rest = rest[c.Next(rest):]
				}
			}
		})
	}
}

func ExampleCutter_Next() {
	c, err := chunk.NewCutter(chunk.Params{ID: chunk.FastCDC, Min: 64, Avg: 128, Max: 256})
	if err != nil {
		fmt.Println(err)
		return
	}
	for p := []byte(strings.Repeat("a run of data, ", 30)); len(p) > 0; {
		n := c.Next(p)
		fmt.Println(n, chunk.Sum(p[:n]))
		p = p[n:]
	}
	// Output:
	// 256 a2841d65da17e5a65c30cc23a8d9c0e4e4bb01922f777dc4c102eb1f593f7359
	// 194 3f80d2742f3e739708cca8026f9d49ea32ae088a12293fd611dffbd643aebb26
}
