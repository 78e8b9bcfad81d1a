package blob_test

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/errs"
)

// text returns size bytes that compress.
func text(size int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, "line %d of a text that compresses\n", i)
	}
	return b.Bytes()[:size]
}

func TestSeal(t *testing.T) {
	tests := []struct {
		name  string
		plain []byte
		codec blob.Codec
		most  int // bytes stored
	}{
		{"one byte", []byte{1}, blob.CodecStored, 1},
		{"noise", noise(1, 100_000), blob.CodecStored, 100_000},
		{"largest of noise", noise(2, chunk.MaxSize), blob.CodecStored, chunk.MaxSize},
		{"text", text(100_000), blob.CodecZstd, 20_000},
		{"zeros", make([]byte, 128<<10), blob.CodecZstd, 100},
		{"largest of zeros", make([]byte, chunk.MaxSize), blob.CodecZstd, 2000},
		{"saves 2 %", append(noise(3, 98_000), make([]byte, 2000)...), blob.CodecStored, 100_000},
		{"saves 5 %", append(noise(3, 95_000), make([]byte, 5000)...), blob.CodecZstd, 96_000},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := seal(t, tt.plain)
			if s.Codec != tt.codec || len(s.Data) > tt.most || int(s.Size) != len(tt.plain) || s.Chunk != chunk.Sum(tt.plain) {
				t.Errorf("Seal of %d bytes = %d bytes with codec %v, want at most %d with %v", len(tt.plain), len(s.Data), s.Codec, tt.most, tt.codec)
			}
			got, err := blob.Open(nil, ref(s), s.Data)
			if err != nil || !bytes.Equal(got, tt.plain) {
				t.Errorf("Open of it = %d bytes, %v", len(got), err)
			}
		})
	}
}

func ref(s blob.Sealed) blob.Ref {
	return blob.Ref{Chunk: s.Chunk, Offset: 8, Stored: uint32(len(s.Data)), Size: s.Size, Codec: s.Codec}
}

// TestSealDependsOnInput seals with one Sealer in many orders, into buffers that were used:
// what comes out is what a new Sealer makes.
func TestSealDependsOnInput(t *testing.T) {
	inputs := [][]byte{text(100), text(5000), text(200_000), make([]byte, 512<<10), noise(1, 3000), append(text(60_000), noise(2, 60_000)...)}
	var want [][]byte
	for _, p := range inputs {
		want = append(want, seal(t, p).Data)
	}
	used, dst := sealer(t), bytes.Repeat([]byte{0xaa}, 1<<20)
	for round := range 20 {
		for i := range inputs {
			i = (i*5 + round) % len(inputs)
			got := used.Seal(dst, chunk.Sum(inputs[i]), inputs[i])
			if !bytes.Equal(got.Data, want[i]) {
				t.Fatalf("round %d: input %d is sealed to %d other bytes than by a new Sealer, %d", round, i, len(got.Data), len(want[i]))
			}
		}
	}
}

// frame compresses p as another program might, with the sizes in the frame left out.
func frame(t testing.TB, p []byte, o ...zstd.EOption) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b, o...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(p); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestOpenBomb opens frames that are larger than they say: no byte beyond the size of the
// chunk is written or allocated.
func TestOpenBomb(t *testing.T) {
	const bomb = 64 << 20
	zeros := make([]byte, bomb)
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, sealed := range map[string][]byte{
		"sizes in the frame": enc.EncodeAll(zeros, nil),
		"no sizes":           frame(t, zeros),
		"many frames":        bytes.Repeat(enc.EncodeAll(make([]byte, 60_000), nil), 500),
		"large window":       frame(t, zeros, zstd.WithWindowSize(1<<29)),
	} {
		t.Run(name, func(t *testing.T) {
			const size = 64 << 10
			r := blob.Ref{Chunk: chunk.Sum(zeros[:size]), Offset: 8, Stored: uint32(len(sealed)), Size: size, Codec: blob.CodecZstd}
			dst := bytes.Repeat([]byte{0xaa}, 2*size)
			if got, err := blob.Open(dst, r, sealed); !errors.Is(err, errs.ErrCorrupt) {
				t.Errorf("Open = %d bytes, %v, want %v", len(got), err, errs.ErrCorrupt)
			}
			if !bytes.Equal(dst[size:], bytes.Repeat([]byte{0xaa}, size)) {
				t.Error("Open writes beyond the size of the chunk")
			}
			if n := allocated(func() { _, _ = blob.Open(dst, r, sealed) }); n > size {
				t.Errorf("Open allocates %d bytes", n)
			}
		})
	}
}

// allocated returns how many bytes f allocates, on average of some calls.
func allocated(f func()) uint64 {
	const runs = 10
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range runs {
		f()
	}
	runtime.ReadMemStats(&after)
	return (after.TotalAlloc - before.TotalAlloc) / runs
}

func TestOpenErrors(t *testing.T) {
	plain := text(10_000)
	s := seal(t, plain)
	good := ref(s)
	edit := func(f func(*blob.Ref)) blob.Ref { r := good; f(&r); return r }
	flipped := bytes.Clone(s.Data)
	flipped[len(flipped)/2] ^= 1
	tests := []struct {
		name   string
		ref    blob.Ref
		sealed []byte
		want   error
	}{
		{"good", good, s.Data, nil},
		{"nothing", good, nil, errs.ErrCorrupt},
		{"short", good, s.Data[:len(s.Data)-1], errs.ErrCorrupt},
		{"long", good, append(bytes.Clone(s.Data), 0), errs.ErrCorrupt},
		{"short and says so", edit(func(r *blob.Ref) { r.Stored-- }), s.Data[:len(s.Data)-1], errs.ErrCorrupt},
		{"long and says so", edit(func(r *blob.Ref) { r.Stored++ }), append(bytes.Clone(s.Data), 0), errs.ErrCorrupt},
		{"flipped", good, flipped, errs.ErrCorrupt},
		{"zeros", good, make([]byte, len(s.Data)), errs.ErrCorrupt},
		{"other digest", edit(func(r *blob.Ref) { r.Chunk[0] ^= 1 }), s.Data, errs.ErrCorrupt},
		{"no digest", edit(func(r *blob.Ref) { r.Chunk = chunk.Digest{} }), s.Data, errs.ErrCorrupt},
		{"larger size", edit(func(r *blob.Ref) { r.Size++ }), s.Data, errs.ErrCorrupt},
		{"smaller size", edit(func(r *blob.Ref) { r.Size-- }), s.Data, errs.ErrCorrupt},
		{"no size", edit(func(r *blob.Ref) { r.Size = 0 }), s.Data, errs.ErrCorrupt},
		{"size beyond the limit", edit(func(r *blob.Ref) { r.Size = chunk.MaxSize + 1 }), s.Data, errs.ErrCorrupt},
		{"end beyond the limit", edit(func(r *blob.Ref) { r.Offset = blob.MaxSize - r.Stored + 1 }), s.Data, errs.ErrCorrupt},
		{"end wraps around", edit(func(r *blob.Ref) { r.Offset = 1<<32 - 1 }), s.Data, errs.ErrCorrupt},
		{"stored", edit(func(r *blob.Ref) { r.Codec = blob.CodecStored }), s.Data, errs.ErrCorrupt},
		{"stored, sizes fit", edit(func(r *blob.Ref) { r.Codec, r.Size = blob.CodecStored, r.Stored }), s.Data, errs.ErrCorrupt},
		{"encrypted", edit(func(r *blob.Ref) { r.Codec = blob.CodecZstdAES }), s.Data, errs.ErrFormat},
		{"older family", edit(func(r *blob.Ref) { r.Codec = blob.CodecOldFL }), s.Data, errs.ErrFormat},
		{"patch", edit(func(r *blob.Ref) { r.Codec = blob.CodecPatch }), s.Data, errs.ErrFormat},
		{"unknown codec", edit(func(r *blob.Ref) { r.Codec = 99 }), s.Data, errs.ErrFormat},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := blob.Open(nil, tt.ref, tt.sealed)
			if !errors.Is(err, tt.want) || err == nil && !bytes.Equal(got, plain) || err != nil && got != nil {
				t.Errorf("Open = %d bytes, %v, want %v and no bytes with an error", len(got), err, tt.want)
			}
		})
	}
}

func TestOpenReuses(t *testing.T) {
	plain := text(1 << 20)
	s := seal(t, plain)
	dst := make([]byte, 2<<20)
	got, err := blob.Open(dst, ref(s), s.Data)
	if err != nil || &got[0] != &dst[0] || cap(got) != len(plain) {
		t.Errorf("Open into a large buffer: %v, capacity %d; want that buffer, cut to %d", err, cap(got), len(plain))
	}
	if n := allocated(func() { _, _ = blob.Open(dst, ref(s), s.Data) }); n >= uint64(len(plain))/2 {
		t.Errorf("Open into a large buffer allocates %d bytes", n)
	}
}

func TestOpenConcurrent(t *testing.T) {
	var wg sync.WaitGroup
	for i := range 8 {
		plain := text(1000 * (i + 1))
		s := seal(t, plain)
		wg.Go(func() {
			for range 50 {
				if got, err := blob.Open(nil, ref(s), s.Data); err != nil || !bytes.Equal(got, plain) {
					t.Errorf("Open = %d bytes, %v, want %d", len(got), err, len(plain))
				}
			}
		})
	}
	wg.Wait()
}

func TestCodecString(t *testing.T) {
	for c, want := range map[blob.Codec]string{
		blob.CodecStored: "stored", blob.CodecZstd: "zstd", blob.CodecZstdAES: "zstd+aes-256-gcm", blob.CodecOldFL: "old-fl", blob.CodecPatch: "zstd-patch", 99: "codec 99",
	} {
		if got := c.String(); got != want {
			t.Errorf("Codec(%d).String() = %q, want %q", c, got, want)
		}
	}
}

// FuzzOpen opens sealed bytes of all kinds: what comes out is what the digest names.
func FuzzOpen(f *testing.F) {
	plain := text(3000)
	for _, s := range []blob.Sealed{seal(f, plain), seal(f, noise(1, 500)), seal(f, make([]byte, 4000))} {
		f.Add(s.Data, s.Chunk[:], s.Size, byte(s.Codec))
		f.Add(s.Data, s.Chunk[:], s.Size+1, byte(s.Codec))
		f.Add(s.Data[:len(s.Data)/2], s.Chunk[:], s.Size, byte(s.Codec))
		f.Add(s.Data, s.Chunk[:], s.Size, byte(blob.CodecPatch))
	}
	sum := chunk.Sum(plain)
	f.Add(frame(f, plain), sum[:], uint32(len(plain)), byte(1))
	f.Add(append(frame(f, plain[:1000]), frame(f, plain[1000:])...), sum[:], uint32(len(plain)), byte(1))
	f.Add(frame(f, make([]byte, 1<<20)), sum[:], uint32(100), byte(1))
	f.Fuzz(func(t *testing.T, sealed, digest []byte, size uint32, codec byte) {
		r := blob.Ref{Offset: 8, Stored: uint32(len(sealed)), Size: size, Codec: blob.Codec(codec)}
		copy(r.Chunk[:], digest)
		got, err := blob.Open(nil, r, sealed)
		switch {
		case err == nil && (chunk.Sum(got) != r.Chunk || len(got) != int(size)):
			t.Errorf("Open(%+v) = %d bytes that are not the chunk", r, len(got))
		case err != nil && !errors.Is(err, errs.ErrCorrupt) && !errors.Is(err, errs.ErrFormat):
			t.Errorf("Open = %v, which is of neither kind", err)
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	for name, p := range map[string][]byte{"text": text(128 << 10), "noise": noise(1, 128<<10)} {
		b.Run(name, func(b *testing.B) {
			s, d, dst := sealer(b), chunk.Sum(p), []byte(nil)
			b.SetBytes(int64(len(p)))
			b.ReportAllocs()
			for b.Loop() {
				if out := s.Seal(dst, d, p); out.Codec == blob.CodecZstd {
					dst = out.Data
				}
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	for name, p := range map[string][]byte{"text": text(128 << 10), "noise": noise(1, 128<<10)} {
		b.Run(name, func(b *testing.B) {
			s, dst := seal(b, p), []byte(nil)
			b.SetBytes(int64(len(p)))
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if dst, err = blob.Open(dst, ref(s), s.Data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
