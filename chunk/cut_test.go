package chunk_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

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

// cuts returns the sizes of the chunks of p, and fails the test if they are not p again.
func cuts(t testing.TB, c *chunk.Cutter, r io.Reader, p []byte) []int {
	t.Helper()
	var sizes []int
	var all []byte
	err := c.Cut(r, int64(len(p)), func(chunk []byte) error {
		sizes = append(sizes, len(chunk))
		all = append(all, chunk...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(all, p) {
		t.Fatalf("the chunks put together are not the %d bytes that were cut", len(p))
	}
	return sizes
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
			if diff := cmp.Diff(tt.want, cuts(t, newCutter(t, tt.params), bytes.NewReader(tt.data), tt.data)); diff != "" {
				t.Errorf("sizes of the chunks (-want +got):\n%s", diff)
			}
		})
	}
}

// TestCutsDependOnBytes cuts the same bytes in many ways: readers that give pieces of any
// size, a Cutter used before, and after another run was given up.
func TestCutsDependOnBytes(t *testing.T) {
	p := stream(4, 100_000)
	want := cuts(t, newCutter(t, small), bytes.NewReader(p), p)
	used := newCutter(t, small)
	for name, wrap := range map[string]func(io.Reader) io.Reader{
		"one byte":      iotest.OneByteReader,
		"half":          iotest.HalfReader,
		"error at once": iotest.DataErrReader,
		"random":        func(r io.Reader) io.Reader { return &randomReader{r, rand.New(rand.NewPCG(1, 2))} },
		"endless":       func(r io.Reader) io.Reader { return io.MultiReader(r, strings.NewReader("and more")) },
	} {
		t.Run(name, func(t *testing.T) {
			stop := errors.New("stop")
			if err := used.Cut(bytes.NewReader(stream(5, 10_000)), 10_000, func([]byte) error { return stop }); !errors.Is(err, stop) {
				t.Fatalf("Cut = %v, want the error of emit", err)
			}
			if diff := cmp.Diff(want, cuts(t, used, wrap(bytes.NewReader(p)), p)); diff != "" {
				t.Errorf("sizes of the chunks (-want +got):\n%s", diff)
			}
		})
	}
}

type randomReader struct {
	r    io.Reader
	rand *rand.Rand
}

func (r *randomReader) Read(p []byte) (int, error) {
	return r.r.Read(p[:r.rand.IntN(min(len(p), 5000)+1)])
}

// TestCutsResume changes bytes in the middle: the chunks far from them stay.
func TestCutsResume(t *testing.T) {
	p := stream(6, 200_000)
	digests := func(p []byte) map[chunk.Digest]bool {
		out := make(map[chunk.Digest]bool)
		err := newCutter(t, small).Cut(bytes.NewReader(p), int64(len(p)), func(c []byte) error {
			out[chunk.Sum(c)] = true
			return nil
		})
		if err != nil {
			t.Fatal(err)
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
			sizes := cuts(t, c, bytes.NewReader(p), p[:n])
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

func TestCutErrors(t *testing.T) {
	c, p := newCutter(t, small), stream(8, 5000)
	broken := errors.New("broken")
	tests := []struct {
		name string
		r    io.Reader
		n    int64
		want error
		got  int // least number of bytes that come before the error
	}{
		{"short whole run", bytes.NewReader(p[:100]), 200, io.ErrUnexpectedEOF, 100},
		{"empty whole run", bytes.NewReader(nil), 200, io.ErrUnexpectedEOF, 0},
		{"short run", bytes.NewReader(p), 6000, io.ErrUnexpectedEOF, 5000},
		{"empty run", bytes.NewReader(nil), 6000, io.ErrUnexpectedEOF, 0},
		{"broken whole run", io.MultiReader(bytes.NewReader(p[:100]), iotest.ErrReader(broken)), 200, broken, 0},
		{"broken run", io.MultiReader(bytes.NewReader(p), iotest.ErrReader(broken)), 6000, broken, 0},
		{"stuck reader", stuck{}, 6000, io.ErrNoProgress, 0},
		{"negative run", iotest.ErrReader(broken), -1, nil, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var all []byte
			err := c.Cut(tt.r, tt.n, func(c []byte) error { all = append(all, c...); return nil })
			if !errors.Is(err, tt.want) || len(all) < tt.got || !bytes.HasPrefix(p, all) {
				t.Errorf("Cut = %v after %d bytes, want %v after %d at least", err, len(all), tt.want, tt.got)
			}
		})
	}
	cuts(t, c, bytes.NewReader(p), p) // still in order
}

type stuck struct{}

func (stuck) Read([]byte) (int, error) { return 0, nil }

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

// FuzzCut cuts what it is given, as one run and through a reader of small pieces.
func FuzzCut(f *testing.F) {
	f.Add([]byte(nil), byte(1))
	f.Add(make([]byte, 5000), byte(3))
	f.Add(stream(9, 5000), byte(200))
	c := newCutter(f, small)
	f.Fuzz(func(t *testing.T, p []byte, piece byte) {
		want := cuts(t, c, bytes.NewReader(p), p)
		r := &randomReader{bytes.NewReader(p), rand.New(rand.NewPCG(uint64(piece), 0))}
		if diff := cmp.Diff(want, cuts(t, c, r, p)); diff != "" {
			t.Errorf("sizes of the chunks by another reader (-want +got):\n%s", diff)
		}
	})
}

func BenchmarkCut(b *testing.B) {
	for name, p := range map[string][]byte{"noise": stream(1, 16<<20), "zeros": make([]byte, 16<<20)} {
		b.Run(name, func(b *testing.B) {
			c, r := newCutter(b, chunk.DefaultParams()), bytes.NewReader(p)
			b.SetBytes(int64(len(p)))
			b.ReportAllocs()
			for b.Loop() {
				r.Reset(p)
				if err := c.Cut(r, int64(len(p)), func([]byte) error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func ExampleCutter_Cut() {
	c, err := chunk.NewCutter(chunk.DefaultParams())
	if err != nil {
		fmt.Println(err)
		return
	}
	text := "a small file is one chunk"
	err = c.Cut(strings.NewReader(text), int64(len(text)), func(p []byte) error {
		fmt.Println(len(p), chunk.Sum(p))
		return nil
	})
	if err != nil {
		fmt.Println(err)
	}
	// Output: 25 52ff9fa4bd8ebf7c55c8eb1b15834b227f895b87d583f4d210040cb5fd56abd9
}
