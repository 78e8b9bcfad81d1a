package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/errs"
)

// sampleIndex returns the bytes of a file with three blobs and some records, two of them of
// one chunk.
func sampleIndex(t testing.TB) []byte {
	t.Helper()
	path, s := filepath.Join(t.TempDir(), "index"), newSorter(2)
	defer s.close()
	blobs := []indexBlob{{blob.Digest{1}, indexed}, {blob.Digest{2}, skipped}, {blob.Digest{3}, indexed}}
	for _, n := range []uint32{2, 0} {
		refs := []blob.Ref{{Chunk: chunk.Digest{9}, Offset: 8, Stored: 5, Size: 5}, {Chunk: chunk.Digest{byte(n + 1)}, Offset: 13, Stored: 7, Size: 9, Codec: blob.CodecZstd}}
		if err := s.add(n, refs); err != nil {
			t.Fatal(err)
		}
	}
	if err := writeIndexFile(path, blobs, &indexFile{}, s); err != nil {
		t.Fatal(err)
	}
	p, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// FuzzIndexFile decodes files whose sum is made right, so that what is behind it is reached:
// whatever they hold, look-ups and a merge end, and give locations that a blob may have.
func FuzzIndexFile(f *testing.F) {
	good := sampleIndex(f)
	f.Add(good)
	f.Add([]byte{})
	f.Add(good[:indexHeaderSize])
	for _, i := range []int{0, 8, 12, 16, 23, indexHeaderSize, indexHeaderSize + 32, len(good) - recordSize + 32, len(good) - 1} {
		bad := append([]byte(nil), good...)
		bad[i] ^= 0xff
		f.Add(bad)
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		if _, err := parseIndex(p, nil); err != nil && !errors.Is(err, errs.ErrCorrupt) && !errors.Is(err, errs.ErrFormat) {
			t.Errorf("parseIndex: %v, which is none of the kinds", err)
		}
		if len(p) >= indexHeaderSize {
			copy(p, indexMagic)
			sum := indexSum(p[:indexSumOffset], p[indexHeaderSize:], nil)
			copy(p[indexSumOffset:], sum[:])
		}
		x, err := parseIndex(p, nil)
		if err != nil {
			return
		}
		for i := range x.count() {
			if l, ok := x.locate(x.record(i).chunk, nil); ok && (l.Check() != nil || l.Chunk != x.record(i).chunk) {
				t.Errorf("locate = %v: %v", l, l.Check())
			}
		}
		blobs := []indexBlob{{blob.Digest{2}, indexed}, {blob.Digest{3}, indexed}}
		next := renumber(x, blobs)
		for {
			var r record
			ok, err := next(&r)
			if err != nil || !ok {
				break
			}
			if int(r.blob) >= len(blobs) {
				t.Errorf("record of blob %d of %d", r.blob, len(blobs))
			}
		}
	})
}

func TestIndexFileMerge(t *testing.T) {
	x, err := parseIndex(sampleIndex(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		gone map[blob.Digest]bool
		want blob.Digest
	}{
		"smallest":      {nil, blob.Digest{1}},
		"smallest gone": {map[blob.Digest]bool{{1}: true}, blob.Digest{3}},
		"both gone":     {map[blob.Digest]bool{{1}: true, {3}: true}, blob.Digest{}},
	} {
		if l, ok := x.locate(chunk.Digest{9}, tt.gone); l.Blob != tt.want || ok != !tt.want.IsZero() {
			t.Errorf("%s: locate = %v, %v, want blob %v", name, l, ok, tt.want)
		}
	}
	for id, want := range map[blob.Digest]blobState{{1}: indexed, {2}: skipped, {3}: indexed, {4}: unknown, {}: unknown} {
		if got := x.state(id); got != want {
			t.Errorf("state(%v) = %d, want %d", id, got, want)
		}
	}
}
