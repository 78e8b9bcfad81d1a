package cache

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zosfs/zosfs/chunk"
)

// segmentOf returns the bytes of segment 7 with these records, without and with its table.
func segmentOf(texts ...string) (bare, sealed []byte) {
	b := appendSegmentHeader(nil, 7)
	var entries []entry
	for _, s := range texts {
		d := chunk.Sum([]byte(s))
		entries = append(entries, entry{fingerprint(d), uint32(len(b) / align)})
		b = appendRecord(b, d, []byte(s))
	}
	return b, appendTable(bytes.Clone(b), 7, int64(len(b)), entries)
}

// TestLayout freezes the layout of the package comment: a cache outlives upgrades.
func TestLayout(t *testing.T) {
	_, got := segmentOf("zosfs", "")
	le := binary.LittleEndian
	if len(got) != 32+64+48+2*12+56 {
		t.Fatalf("segment of %d bytes", len(got))
	}
	for _, f := range []struct {
		name      string
		got, want any
	}{
		{"segment magic", string(got[:8]), "zosfsseg"},
		{"version", le.Uint32(got[8:]), uint32(1)},
		{"number", le.Uint32(got[12:]), uint32(7)},
		{"record magic", string(got[32:36]), "ZCR1"},
		{"size", le.Uint32(got[36:]), uint32(5)},
		{"digest", chunk.Digest(got[40:72]), chunk.Sum([]byte("zosfs"))},
		{"header CRC", le.Uint32(got[76:]), uint32(layoutCRC)},
		{"plaintext", string(got[80:96]), "zosfs\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"},
		{"second record", string(got[96:100]), "ZCR1"},
		{"first entry", le.Uint32(got[144+8:]), uint32(2)},
		{"second entry", le.Uint32(got[156+8:]), uint32(6)},
		{"table magic", string(got[168:176]), "zosfstab"},
		{"records", le.Uint32(got[176:]), uint32(2)},
		{"number in table", le.Uint32(got[180:]), uint32(7)},
		{"table offset", le.Uint64(got[184:]), uint64(144)},
		{"table sum", chunk.Digest(got[192:]), chunk.Sum(got[144:192])},
	} {
		if f.got != f.want {
			t.Errorf("%s = %v, want %v", f.name, f.got, f.want)
		}
	}
}

// layoutCRC is CRC-32C of the first 44 bytes of the record of "zosfs".
const layoutCRC = 0xcddc7ae8

func TestTableRefuses(t *testing.T) {
	bare, sealed := segmentOf("a", "bb", "ccc")
	want, end := scan(bytes.NewReader(bare), segmentHeaderSize, int64(len(bare)))
	if len(want) != 3 || end != int64(len(bare)) {
		t.Fatalf("scan = %v, %d", want, end)
	}
	read := func(b []byte, number uint32) ([]entry, bool) {
		got, _, ok := readTable(bytes.NewReader(b), int64(len(b)), number)
		return got, ok
	}
	if got, ok := read(sealed, 7); !ok || !cmp.Equal(got, want, cmp.AllowUnexported(entry{})) {
		t.Fatalf("readTable = %v, %v, want %v", got, ok, want)
	}
	forge := func(end int64, entries ...entry) []byte {
		return appendTable(bytes.Clone(bare), 7, end, entries)
	}
	n := int64(len(bare))
	for name, b := range map[string][]byte{
		"none":               bare,
		"cut":                sealed[:len(sealed)-1],
		"longer":             append(bytes.Clone(sealed), 0),
		"of other records":   append(bytes.Clone(bare[:len(bare)-16]), sealed[len(bare):]...),
		"wrong end":          forge(n-16, want...),
		"first not at start": forge(n, want[1:]...),
		"overlapping":        forge(n, want[0], entry{1, want[0].unit + 2}),
		"descending":         forge(n, want[0], want[2], want[1]),
		"beyond the end":     forge(n, append(want[:3:3], entry{1, uint32(n/align) - 2})...),
	} {
		if got, ok := read(b, 7); ok {
			t.Errorf("%s: readTable = %v, want none", name, got)
		}
	}
	if _, ok := read(sealed, 8); ok {
		t.Error("the table of another segment was taken")
	}
	for i := len(bare); i < len(sealed); i++ {
		b := bytes.Clone(sealed)
		b[i] ^= 0x10
		if _, ok := read(b, 7); ok {
			t.Errorf("a table with byte %d changed was taken", i-len(bare))
		}
	}
}

func TestSegmentNames(t *testing.T) {
	for _, n := range []uint32{0, 1, 0xabcdef, 1<<32 - 1} {
		if got, ok := parseSegmentName(segmentName(n)); !ok || got != n {
			t.Errorf("parseSegmentName(%q) = %d, %v, want %d", segmentName(n), got, ok, n)
		}
	}
	for _, s := range []string{"", ".seg", "1.seg", "0000000g.seg", "0000000A.seg", "000000001.seg", "00000001", "00000001.seg~", "+0000001.seg"} {
		if n, ok := parseSegmentName(s); ok {
			t.Errorf("parseSegmentName(%q) = %d, want no number", s, n)
		}
	}
}

// FuzzSegment reads arbitrary bytes as a segment. What is found must lie in it, and be
// found again when it is written anew.
func FuzzSegment(f *testing.F) {
	bare, sealed := segmentOf("a", "", "some more text than fits into 32 bytes")
	empty, emptySealed := segmentOf()
	for _, b := range [][]byte{bare, sealed, empty, emptySealed, bare[:len(bare)-20], sealed[:len(sealed)-1], bare[:40], {},
		append(bytes.Clone(sealed), bare...), appendTable(bytes.Clone(bare), 8, int64(len(bare)), nil)} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, size := bytes.NewReader(b), int64(len(b))
		if entries, end, ok := readTable(r, size, 7); ok {
			if end+tableSize(len(entries)) != size {
				t.Errorf("%d entries and end %d in %d bytes", len(entries), end, size)
			}
			if again := appendTable(b[:end:end], 7, end, entries); !bytes.Equal(again, b) {
				t.Error("a table written anew is another one")
			}
		}
		if readSegmentHeader(r, 7) != nil {
			return
		}
		entries, end := scan(r, segmentHeaderSize, size)
		again := appendSegmentHeader(nil, 7)
		for _, e := range entries {
			h, err := readRecordHeader(r, e.off())
			if err != nil || e.off()+recordSpan(h.size) > end || fingerprint(h.digest) != e.fp {
				t.Fatalf("entry %v is no record: %v", e, err)
			}
			again = appendRecord(again, h.digest, b[e.off()+recordHeaderSize:][:h.size])
		}
		if end > size || int64(len(again)) != end {
			t.Fatalf("records end at %d of %d, written anew at %d", end, size, len(again))
		}
		if second, e := scan(bytes.NewReader(again), segmentHeaderSize, end); e != end || !cmp.Equal(second, entries, cmp.AllowUnexported(entry{})) {
			t.Error("records written anew are others")
		}
	})
}

// FuzzPin reads arbitrary bytes as a pin file.
func FuzzPin(f *testing.F) {
	for _, n := range []int{0, 1, 127, 128, 129, 300} {
		b, _ := pinBytes(f, n)
		f.Add(b)
		f.Add(b[:len(b)-1])
		b[len(b)/2] ^= 1
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := readPin(bytes.NewReader(b)); err == nil && p.bytes() != int64(len(b)) {
			t.Errorf("%d digests in %d bytes", p.n, len(b))
		}
	})
}

// pinBytes returns a pin file of n digests, many of which agree in their first 8 bytes.
func pinBytes(t testing.TB, n int) ([]byte, []chunk.Digest) {
	t.Helper()
	var digests []chunk.Digest
	for i := range n {
		var d chunk.Digest
		d[0] = byte(i / 500)
		binary.BigEndian.PutUint32(d[28:], uint32(2*i+1))
		digests = append(digests, d)
	}
	var b bytes.Buffer
	if err := writePin(&b, digests); err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), digests
}

func TestPinContains(t *testing.T) {
	for _, n := range []int{0, 1, 127, 128, 129, 256, 3000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			b, digests := pinBytes(t, n)
			path := filepath.Join(t.TempDir(), "a.pin")
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			p, err := openPin(path)
			if err != nil {
				t.Fatal(err)
			}
			defer p.file.Close()
			if p.n != n {
				t.Errorf("%d digests, want %d", p.n, n)
			}
			for _, d := range digests {
				if !p.contains(d) {
					t.Fatalf("contains(%v) = false", d)
				}
				d[31]++ // all in the set are odd
				if p.contains(d) {
					t.Fatalf("contains(%v) = true", d)
				}
			}
			if p.contains(chunk.Digest{}) || p.contains(chunk.Digest{0: 255}) {
				t.Error("contains what is before the first or after the last")
			}
		})
	}
}
