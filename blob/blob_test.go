package blob_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/errs"
)

// Sizes and offsets of docs/format.md, section "Blob", written down again.
const (
	headerSize, entrySize, footerSize = 8, 48, 56

	footSum, footOffset, footCount, footFlags, footZero, footMagic = 0, 32, 36, 40, 44, 48

	entryOffset, entryStored, entrySizeField, entryCodec, entryZero = 32, 36, 40, 44, 45
)

func noise(seed byte, size int) []byte {
	p := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(p)
	return p
}

func sealer(t testing.TB) *blob.Sealer {
	t.Helper()
	s, err := blob.NewSealer()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func seal(t testing.TB, p []byte) blob.Sealed {
	t.Helper()
	return sealer(t).Seal(nil, chunk.Sum(p), p)
}

// sample returns a blob of three chunks: stored, compressed, of one byte.
func sample(t testing.TB, flags uint32) ([]byte, blob.Digest, blob.Table) {
	t.Helper()
	w := blob.NewWriter(flags)
	for _, p := range plains() {
		w.Add(seal(t, p))
	}
	return w.Finish()
}

func plains() [][]byte {
	return [][]byte{noise(1, 1000), bytes.Repeat([]byte("compress me "), 500), {42}}
}

// TestReset writes a blob in the memory of a larger one with other flags.
func TestReset(t *testing.T) {
	want, id, table := sample(t, 0)
	w := blob.NewWriter(blob.FlagCopy)
	w.Add(seal(t, noise(7, 100_000)))
	w.Finish()
	w.Reset(0)
	for _, p := range plains() {
		w.Add(seal(t, p))
	}
	got, gotID, gotTable := w.Finish()
	if gotID != id || !bytes.Equal(got, want) || !cmp.Equal(gotTable, table) {
		t.Errorf("after Reset the blob is %v, want %v", gotID, id)
	}
}

// TestGolden fixes the layout of the format to the byte.
func TestGolden(t *testing.T) {
	w := blob.NewWriter(blob.FlagCopy)
	for _, s := range []string{"stored", "as it is"} {
		w.Add(blob.Sealed{Chunk: chunk.Sum([]byte(s)), Size: uint32(len(s)), Codec: blob.CodecStored, Data: []byte(s)})
	}
	got, id, _ := w.Finish()
	first, second := chunk.Sum([]byte("stored")), chunk.Sum([]byte("as it is"))
	table := hex.EncodeToString(first[:]) + "08000000" + "06000000" + "06000000" + "00000000" +
		hex.EncodeToString(second[:]) + "0e000000" + "08000000" + "08000000" + "00000000"
	raw, err := hex.DecodeString(table)
	if err != nil {
		t.Fatal(err)
	}
	sum := chunk.Sum(raw)
	want := "5a4f53424c4f4201" + hex.EncodeToString([]byte("storedas it is")) + table +
		hex.EncodeToString(sum[:]) + "16000000" + "02000000" + "01000000" + "00000000" + "5a4f534254414201"
	if hex.EncodeToString(got) != want {
		t.Errorf("blob\n%x\nwant\n%s", got, want)
	}
	if wantID := "f5d39e3124ea0b74debf847d5868fee89ab20d85365d3ff986832942a4cd3726"; id.String() != wantID {
		t.Errorf("name of the blob = %v, want %s", id, wantID)
	}
}

func TestRoundTrip(t *testing.T) {
	for _, flags := range []uint32{0, blob.FlagCopy} {
		p, id, table := sample(t, flags)
		if err := id.Check(p); err != nil {
			t.Error(err)
		}
		got, err := blob.Verify(p)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(table, got); diff != "" || got.Flags != flags {
			t.Errorf("Verify: the table of the Writer, -, and that read, +:\n%s", diff)
		}
		read, err := blob.ReadTable(int64(len(p)), readerOf(p))
		if diff := cmp.Diff(table, read); err != nil || diff != "" {
			t.Errorf("ReadTable: %v (-want +got):\n%s", err, diff)
		}
		codecs := []blob.Codec{blob.CodecStored, blob.CodecZstd, blob.CodecStored}
		for i, r := range table.Refs {
			plain, err := blob.Open(nil, r, p[r.Offset:][:r.Stored])
			if err != nil || !bytes.Equal(plain, plains()[i]) || r.Codec != codecs[i] {
				t.Errorf("Open(%+v) = %d bytes, %v, want %d with codec %v", r, len(plain), err, len(plains()[i]), codecs[i])
			}
		}
	}
	p, _, _ := blob.NewWriter(0).Finish()
	if table, err := blob.Verify(p); err != nil || len(table.Refs) != 0 {
		t.Errorf("Verify of a blob without chunks = %+v, %v", table, err)
	}
}

func readerOf(p []byte) func([]byte, int64) error {
	return func(q []byte, off int64) error {
		_, err := bytes.NewReader(p).ReadAt(q, off)
		return err
	}
}

func TestReadTableErrors(t *testing.T) {
	p, _, _ := sample(t, 0)
	for _, size := range []int64{-1, 0, headerSize + footerSize - 1, blob.MaxSize + 1, 1 << 62} {
		_, err := blob.ReadTable(size, func([]byte, int64) error { t.Errorf("size %d: it was read", size); return nil })
		if !errors.Is(err, errs.ErrCorrupt) {
			t.Errorf("ReadTable of %d bytes = %v, want %v", size, err, errs.ErrCorrupt)
		}
	}
	for fail := range 2 {
		n := 0
		_, err := blob.ReadTable(int64(len(p)), func(q []byte, off int64) error {
			if n++; n > fail {
				return errs.ErrUnavailable
			}
			return readerOf(p)(q, off)
		})
		if !errors.Is(err, errs.ErrUnavailable) {
			t.Errorf("ReadTable with read %d failing = %v, want its error", fail, err)
		}
	}
}

// damage is a blob that is wrong in one way, with its sums made right where it says so.
type damage struct {
	name string
	blob []byte
	kind error
}

// damages returns a blob for each check of the format.
func damages(t testing.TB) []damage {
	good, _, table := sample(t, 0)
	n := len(good)
	foot := n - footerSize
	start := foot - 3*entrySize
	var out []damage
	add := func(name string, kind error, edit func(p []byte) []byte) {
		out = append(out, damage{name, edit(bytes.Clone(good)), kind})
	}
	// edited is add for a change in place, with the sum of the table made right.
	edited := func(name string, kind error, edit func(p []byte)) {
		add(name, kind, func(p []byte) []byte {
			edit(p)
			sum := chunk.Sum(p[start:foot])
			copy(p[foot:], sum[:])
			return p
		})
	}
	put := func(off int, v uint32) func([]byte) {
		return func(p []byte) { binary.LittleEndian.PutUint32(p[off:], v) }
	}
	corrupt, format := errs.ErrCorrupt, errs.ErrFormat

	add("empty", corrupt, func([]byte) []byte { return nil })
	add("header alone", corrupt, func(p []byte) []byte { return p[:headerSize] })
	add("one byte less", corrupt, func(p []byte) []byte { return p[:n-1] })
	add("one byte more", corrupt, func(p []byte) []byte { return append(p, 0) })
	add("first byte gone", corrupt, func(p []byte) []byte { return p[1:] })
	add("byte in the middle gone", corrupt, func(p []byte) []byte { return append(p[:100], p[101:]...) })
	add("sum of the table", corrupt, func(p []byte) []byte { p[foot+footSum] ^= 1; return p })
	add("table", corrupt, func(p []byte) []byte { p[start] ^= 1; return p })
	edited("header", corrupt, func(p []byte) { p[7] = 2 })
	edited("footer magic", corrupt, func(p []byte) { p[foot+footMagic+7] = 2 })
	edited("table offset small", corrupt, put(foot+footOffset, headerSize-1))
	edited("table offset off by one", corrupt, put(foot+footOffset, uint32(start)+1))
	edited("table offset huge", corrupt, put(foot+footOffset, 1<<32-1))
	edited("count 0", corrupt, put(foot+footCount, 0))
	edited("count one more", corrupt, put(foot+footCount, 4))
	edited("count huge", corrupt, put(foot+footCount, 1<<32-1))
	edited("table before the header", corrupt, func(p []byte) {
		put(foot+footOffset, 0)(p)
		put(foot+footCount, uint32(start)/entrySize+3)(p)
	})
	edited("unknown flag", format, put(foot+footFlags, 2))
	edited("reserved word of the footer", format, put(foot+footZero, 1))
	for i := range 3 {
		e := start + i*entrySize
		r := table.Refs[i]
		edited(fmt.Sprintf("entry %d without digest", i), corrupt, func(p []byte) { clear(p[e : e+32]) })
		edited(fmt.Sprintf("entry %d other digest", i), corrupt, func(p []byte) { p[e] ^= 1 })
		edited(fmt.Sprintf("entry %d offset", i), corrupt, put(e+entryOffset, r.Offset+1))
		edited(fmt.Sprintf("entry %d stored 0", i), corrupt, put(e+entryStored, 0))
		edited(fmt.Sprintf("entry %d stored less", i), corrupt, put(e+entryStored, r.Stored-1))
		edited(fmt.Sprintf("entry %d stored huge", i), corrupt, put(e+entryStored, 1<<32-1))
		edited(fmt.Sprintf("entry %d size 0", i), corrupt, put(e+entrySizeField, 0))
		edited(fmt.Sprintf("entry %d size more", i), corrupt, put(e+entrySizeField, r.Size+1))
		edited(fmt.Sprintf("entry %d size less", i), corrupt, put(e+entrySizeField, r.Size-1))
		edited(fmt.Sprintf("entry %d size beyond the limit", i), corrupt, put(e+entrySizeField, chunk.MaxSize+1))
		edited(fmt.Sprintf("entry %d other codec", i), corrupt, func(p []byte) { p[e+entryCodec] ^= 1 })
		edited(fmt.Sprintf("entry %d codec of later", i), format, func(p []byte) { p[e+entryCodec] = byte(blob.CodecPatch) })
		edited(fmt.Sprintf("entry %d unknown codec", i), format, func(p []byte) { p[e+entryCodec] = 200 })
		edited(fmt.Sprintf("entry %d reserved byte", i), corrupt, func(p []byte) { p[e+entryZero+i] = 1 })
		edited(fmt.Sprintf("chunk %d", i), corrupt, func(p []byte) { p[r.Offset+r.Stored/2] ^= 1 })
	}
	edited("entries swapped", corrupt, func(p []byte) {
		first := bytes.Clone(p[start:][:entrySize])
		copy(p[start:], p[start+entrySize:][:entrySize])
		copy(p[start+entrySize:], first)
	})
	edited("entries overlap", corrupt, func(p []byte) { copy(p[start+entrySize:], p[start:][:entrySize]) })
	return out
}

func TestDamage(t *testing.T) {
	for _, d := range damages(t) {
		if table, err := blob.Verify(d.blob); !errors.Is(err, d.kind) {
			t.Errorf("%s: Verify = %+v, %v, want %v", d.name, table, err, d.kind)
		}
	}
}

// TestFlips flips each bit of a blob: none goes unnoticed.
func TestFlips(t *testing.T) {
	p, id, _ := sample(t, 0)
	for i := range p {
		for bit := range 8 {
			p[i] ^= 1 << bit
			_, err := blob.Verify(p)
			// Where a zstd frame has bits without meaning, the name of the blob tells.
			if err == nil && id.Check(p) == nil {
				t.Errorf("bit %d of byte %d of %d can change", bit, i, len(p))
			}
			if err != nil && !errors.Is(err, errs.ErrCorrupt) && !errors.Is(err, errs.ErrFormat) {
				t.Errorf("bit %d of byte %d: %v, which is of neither kind", bit, i, err)
			}
			p[i] ^= 1 << bit
		}
	}
}

// TestWriterSizes fills blobs with chunks of one size: each closes at about TargetSize, table
// included, and can be read.
func TestWriterSizes(t *testing.T) {
	for _, size := range []int{1, 3, 100, 4 << 10, 128 << 10, 1<<20 + 1, chunk.MaxSize} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			w := blob.NewWriter(0)
			data := make([]byte, size)
			for n := 0; w.Fits(size); n++ {
				w.Add(blob.Sealed{Chunk: chunk.Digest{1, byte(n), byte(n >> 8), byte(n >> 16)}, Size: uint32(size), Codec: blob.CodecStored, Data: data})
			}
			n := w.Len()
			p, _, _ := w.Finish()
			if len(p) > blob.TargetSize || len(p) < blob.TargetSize-size-entrySize {
				t.Errorf("%d chunks make a blob of %d bytes, want nearly %d", n, len(p), blob.TargetSize)
			}
			if table, err := blob.ReadTable(int64(len(p)), readerOf(p)); err != nil || len(table.Refs) != n {
				t.Errorf("ReadTable = %d chunks, %v, want %d", len(table.Refs), err, n)
			}
		})
	}
	if !blob.NewWriter(0).Fits(chunk.MaxSize + 64) {
		t.Error("the largest sealed chunk does not fit an empty blob")
	}
}

func TestDigest(t *testing.T) {
	d := blob.Sum([]byte("abc")) // FIPS 180-2, appendix B.1
	const want = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
	if d.String() != want {
		t.Errorf("Sum(abc) = %v, want %s", d, want)
	}
	p, err := json.Marshal(d)
	var back blob.Digest
	if err = errors.Join(err, json.Unmarshal(p, &back)); err != nil || back != d {
		t.Errorf("as JSON %s and back %v, %v", p, back, err)
	}
	for name, s := range map[string]string{
		"empty": "", "short": want[1:], "long": want + "0", "capital": strings.ToUpper(want), "other digit": "g" + want[1:],
		"zero": strings.Repeat("0", 64), "path": "../../" + want[6:], "NUL": "\x00" + want[1:],
	} {
		if got, err := blob.ParseDigest(s); !errors.Is(err, errs.ErrFormat) || !got.IsZero() {
			t.Errorf("%s: ParseDigest = %v, %v, want %v", name, got, err, errs.ErrFormat)
		}
	}
	if err := d.Check([]byte("abd")); !errors.Is(err, errs.ErrCorrupt) || !strings.Contains(err.Error(), want) {
		t.Errorf("Check of other bytes = %v, want %v", err, errs.ErrCorrupt)
	}
	if c := (blob.Digest{1}).Compare(blob.Digest{0, 9}); c != 1 {
		t.Errorf("Compare = %d, want 1", c)
	}
}

func FuzzVerify(f *testing.F) {
	good, _, _ := sample(f, blob.FlagCopy)
	f.Add(good)
	empty, _, _ := blob.NewWriter(0).Finish()
	f.Add(empty)
	for _, d := range damages(f) {
		f.Add(d.blob)
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		table, err := blob.Verify(p)
		if err != nil {
			if !errors.Is(err, errs.ErrCorrupt) && !errors.Is(err, errs.ErrFormat) {
				t.Errorf("Verify = %v, which is of neither kind", err)
			}
			return
		}
		// What verifies can be laid out again, to the byte.
		w := blob.NewWriter(table.Flags)
		for _, r := range table.Refs {
			w.Add(blob.Sealed{Chunk: r.Chunk, Size: r.Size, Codec: r.Codec, Data: p[r.Offset:][:r.Stored]})
		}
		if again, _, _ := w.Finish(); !bytes.Equal(again, p) {
			t.Error("a Writer makes another blob of the same chunks")
		}
	})
}

// FuzzParseTable is for the structure alone: the sum is made right, so that the rest is reached.
func FuzzParseTable(f *testing.F) {
	for _, d := range append(damages(f), damage{blob: func() []byte { p, _, _ := sample(f, 0); return p }()}) {
		if len(d.blob) > footerSize+3*entrySize {
			f.Add(d.blob[len(d.blob)-footerSize-3*entrySize:], int64(len(d.blob)))
		}
	}
	f.Fuzz(func(t *testing.T, p []byte, size int64) {
		if len(p) < footerSize {
			return
		}
		p, foot := p[:len(p)-footerSize], p[len(p)-footerSize:]
		sum := chunk.Sum(p)
		copy(foot, sum[:])
		footer, err := blob.ParseFooter(foot, size)
		if err != nil {
			footer = blob.Footer{TableSum: sum, TableOffset: uint32(size), Count: uint32(len(p) / entrySize)}
		} else if int64(footer.TableOffset)+int64(footer.Count)*entrySize+footerSize != size || size > blob.MaxSize {
			t.Errorf("ParseFooter of a blob of %d bytes = %+v", size, footer)
		}
		table, err := blob.ParseTable(footer, p)
		if err != nil {
			if !errors.Is(err, errs.ErrCorrupt) {
				t.Errorf("ParseTable = %v, want %v", err, errs.ErrCorrupt)
			}
			return
		}
		at := uint32(headerSize)
		for _, r := range table.Refs {
			if r.Offset != at || r.Check() != nil {
				t.Fatalf("ParseTable lets %+v pass, at %d", r, at)
			}
			at += r.Stored
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	w := blob.NewWriter(0)
	for i := range 50 {
		w.Add(seal(b, noise(byte(i), 64<<10)))
	}
	p, _, _ := w.Finish()
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := blob.Verify(p); err != nil {
			b.Fatal(err)
		}
	}
}
