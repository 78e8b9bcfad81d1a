package db_test

import (
	"encoding/binary"
	"testing"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/hub/db"
)

// fill adds blobs with 100 chunks each and returns all chunks.
func fill(t testing.TB, d *db.DB, c db.Caller, blobs int) []chunk.Digest {
	t.Helper()
	var all []chunk.Digest
	for i := range blobs {
		var tab blob.Table
		off := uint32(8)
		for j := range 100 {
			d := chunk.Sum(binary.LittleEndian.AppendUint32(nil, uint32(i*100+j)))
			all = append(all, d)
			tab.Refs = append(tab.Refs, blob.Ref{Chunk: d, Offset: off, Stored: 10, Size: 10})
			off += 10
		}
		if err := d.AddBlob(t.Context(), c, blob.Sum(binary.LittleEndian.AppendUint32(nil, uint32(i))), 8000, tab, now); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// TestLocateMany looks up many chunks of many blobs, in the order of the index and by it
// alone: BenchmarkLocate says how long 10,000 take.
func TestLocateMany(t *testing.T) {
	d := open(t)
	c := token(t, d, "acme", "write", "")
	chunks := fill(t, d, c, 20)
	found, err := d.Locate(t.Context(), c, chunks)
	if err != nil || len(found) != len(chunks) {
		t.Fatalf("Locate(%d chunks) = %d, %v", len(chunks), len(found), err)
	}
	for i, f := range found {
		if f.Index != i || f.Chunk != chunks[i] {
			t.Fatalf("Found[%d] is about chunk %d, %v", i, f.Index, f.Chunk)
		}
	}
	if got, want := d.LocatePlan(t), "SEARCH chunk USING PRIMARY KEY (digest=?)"; got != want {
		t.Errorf("plan of a look-up = %q, want %q", got, want)
	}
}

func BenchmarkLocate(b *testing.B) {
	d := open(b)
	c := token(b, d, "acme", "write", "")
	chunks := fill(b, d, c, 300)[:10_000]
	b.ReportAllocs()
	for b.Loop() {
		if found, err := d.Locate(b.Context(), c, chunks); err != nil || len(found) != len(chunks) {
			b.Fatal(len(found), err)
		}
	}
}
