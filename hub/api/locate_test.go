package api_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/hub/api"
)

func digests(n int) []chunk.Digest {
	out := make([]chunk.Digest, n)
	for i := range out {
		out[i] = chunk.Sum(binary.LittleEndian.AppendUint32(nil, uint32(i)))
	}
	return out
}

// found is an answer to a look-up of digests(5): chunks 0, 2 and 4 in two blobs.
func found() []api.Found {
	d := digests(5)
	at := func(i int, b byte, off uint32) api.Found {
		ref := blob.Ref{Chunk: d[i], Offset: off, Stored: 50, Size: 100, Codec: blob.CodecZstd}
		return api.Found{Index: uint32(i), Location: blob.Location{Blob: blob.Digest{b}, Ref: ref}}
	}
	return []api.Found{at(0, 7, 8), at(2, 9, 58), at(4, 7, 108)}
}

func TestLocateRoundTrip(t *testing.T) {
	for _, n := range []int{0, 1, 5, api.MaxLocate} {
		d := digests(n)
		got, err := api.DecodeLocate(api.EncodeLocate(d))
		if err != nil || !slices.Equal(got, d) {
			t.Errorf("DecodeLocate(%d digests) = %d, %v", n, len(got), err)
		}
	}
	for name, p := range map[string][]byte{
		"not whole": make([]byte, 33), "zero digest": make([]byte, 32), "too many": api.EncodeLocate(digests(api.MaxLocate + 1)),
	} {
		if _, err := api.DecodeLocate(p); !errors.Is(err, errs.ErrFormat) {
			t.Errorf("DecodeLocate(%s) = %v, want %v", name, err, errs.ErrFormat)
		}
	}
}

func TestFoundRoundTrip(t *testing.T) {
	for _, want := range [][]api.Found{nil, found()[:1], found()} {
		got, err := api.DecodeFound(api.EncodeFound(want), digests(5))
		if err != nil || len(got) != len(want) || len(want) > 0 && !cmp.Equal(got, want) {
			t.Errorf("DecodeFound(EncodeFound(%d)) = %v, %v", len(want), got, err)
		}
	}
}

// TestFoundHostile damages each part of a good answer.
func TestFoundHostile(t *testing.T) {
	const blobs, records = 16, 16 + 2*32
	good := api.EncodeFound(found())
	put := func(p []byte, at int, v uint32) { binary.LittleEndian.PutUint32(p[at:], v) }
	for name, damage := range map[string]func(p []byte) []byte{
		"empty":                 func([]byte) []byte { return nil },
		"magic":                 func(p []byte) []byte { p[0] ^= 1; return p },
		"short":                 func(p []byte) []byte { return p[:len(p)-1] },
		"long":                  func(p []byte) []byte { return append(p, 0) },
		"more blobs than fit":   func(p []byte) []byte { put(p, 8, 1<<31); return p },
		"more records than fit": func(p []byte) []byte { put(p, 12, 1<<31); return p },
		"zero blob":             func(p []byte) []byte { clear(p[blobs:][:32]); return p },
		"a blob twice":          func(p []byte) []byte { copy(p[blobs:][:32], p[blobs+32:]); return p },
		"index out of order":    func(p []byte) []byte { put(p, records, 3); return p },
		"index twice":           func(p []byte) []byte { put(p, records+24, 0); return p },
		"index out of bounds":   func(p []byte) []byte { put(p, records+48, 5); return p },
		"blob out of bounds":    func(p []byte) []byte { put(p, records+4, 2); return p },
		"blobs not in order":    func(p []byte) []byte { put(p, records+4, 1); return p },
		"blob not used":         func(p []byte) []byte { put(p, records+24+4, 0); return p },
		"reserved byte":         func(p []byte) []byte { p[records+23] = 1; return p },
		"no stored bytes":       func(p []byte) []byte { put(p, records+12, 0); return p },
		"huge chunk":            func(p []byte) []byte { put(p, records+16, chunk.MaxSize+1); return p },
		"beyond the blob":       func(p []byte) []byte { put(p, records+8, 1<<32-1); return p },
	} {
		if got, err := api.DecodeFound(damage(bytes.Clone(good)), digests(5)); !errors.Is(err, errs.ErrCorrupt) {
			t.Errorf("DecodeFound(%s) = %v, %v, want %v", name, got, err, errs.ErrCorrupt)
		}
	}
	if _, err := api.DecodeFound(good, digests(2)); !errors.Is(err, errs.ErrCorrupt) {
		t.Errorf("DecodeFound(three records for two chunks) = %v, want %v", err, errs.ErrCorrupt)
	}
}

func FuzzDecodeFound(f *testing.F) {
	f.Add(api.EncodeFound(nil))
	f.Add(api.EncodeFound(found()[:1]))
	f.Add(api.EncodeFound(found()))
	f.Add(append(api.EncodeFound(found()), 0))
	f.Fuzz(func(t *testing.T, p []byte) {
		got, err := api.DecodeFound(p, digests(5))
		if err != nil {
			if !errors.Is(err, errs.ErrCorrupt) {
				t.Errorf("DecodeFound = %v, want %v", err, errs.ErrCorrupt)
			}
			return
		}
		if again := api.EncodeFound(got); !bytes.Equal(again, p) {
			t.Errorf("DecodeFound accepted bytes that EncodeFound does not write")
		}
	})
}

func FuzzDecodeLocate(f *testing.F) {
	f.Add([]byte{})
	f.Add(api.EncodeLocate(digests(3)))
	f.Add(make([]byte, 31))
	f.Fuzz(func(t *testing.T, p []byte) {
		if d, err := api.DecodeLocate(p); err == nil && !bytes.Equal(api.EncodeLocate(d), p) {
			t.Errorf("DecodeLocate accepted bytes that EncodeLocate does not write")
		}
	})
}
