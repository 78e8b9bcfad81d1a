package storetest

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/store"
)

// testLocator runs the clauses of store.Locator where the store that open returns, or what
// it decorates, is one.
func testLocator(t *testing.T, open func(*testing.T) store.Store) {
	if _, err := store.Locate(t.Context(), open(t), nil); errors.Is(err, errors.ErrUnsupported) {
		return // the clauses speak of locators
	}
	clauses := []struct {
		name string
		test func(*testing.T, store.Store)
	}{
		{"finds what was put and nothing else", testLocate},
		{"always the blob with the smallest digest", testLocateSmallest},
		{"passes over copies", testLocateCopies},
		{"forgets what was deleted", testLocateDeleted},
		{"cancelled context", testLocateCancelled},
	}
	for _, c := range clauses {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

func testLocate(t *testing.T, s store.Store) {
	blobs := Blobs(5)
	for _, b := range blobs {
		put(t, s, b)
	}
	want, ask := map[chunk.Digest]blob.Location{}, []chunk.Digest{chunk.Sum([]byte("absent"))}
	for _, b := range blobs {
		for _, r := range b.Table.Refs {
			want[r.Chunk] = blob.Location{Blob: b.Digest, Ref: r}
			ask = append(ask, r.Chunk, r.Chunk) // twice does no harm
		}
	}
	if diff := cmp.Diff(want, locate(t, s, ask...)); diff != "" {
		t.Errorf("Locate (-want +got):\n%s", diff)
	}
	if got := locate(t, s); len(got) > 0 {
		t.Errorf("Locate of no chunks = %v", got)
	}
}

func testLocateSmallest(t *testing.T, s store.Store) {
	p := Chunk(1, 2000)
	blobs := []Blob{NewBlob(0, p), NewBlob(0, Chunk(2, 500), p), NewBlob(0, Chunk(3, 700), p)}
	want := smallest(blobs, chunk.Sum(p))
	for _, b := range blobs {
		put(t, s, b)
	}
	if got := locate(t, s, chunk.Sum(p))[chunk.Sum(p)]; got != want {
		t.Errorf("Locate(chunk of three blobs) = %v, want the smallest %v", got, want)
	}
}

// smallest returns where the blob with the smallest digest has the chunk d.
func smallest(blobs []Blob, d chunk.Digest) blob.Location {
	var out blob.Location
	for _, b := range blobs {
		for _, r := range b.Table.Refs {
			if r.Chunk == d && (out.Blob.IsZero() || b.Digest.Compare(out.Blob) < 0) {
				out = blob.Location{Blob: b.Digest, Ref: r}
			}
		}
	}
	return out
}

func testLocateCopies(t *testing.T, s store.Store) {
	p, q := Chunk(1, 2000), Chunk(2, 2000)
	original, copied := NewBlob(0, p), NewBlob(blob.FlagCopy, p, q)
	put(t, s, copied)
	put(t, s, original)
	want := map[chunk.Digest]blob.Location{chunk.Sum(p): {Blob: original.Digest, Ref: original.Table.Refs[0]}}
	if diff := cmp.Diff(want, locate(t, s, chunk.Sum(p), chunk.Sum(q))); diff != "" {
		t.Errorf("Locate (-want +got):\n%s", diff)
	}
}

func testLocateDeleted(t *testing.T, s store.Store) {
	p := Chunk(1, 2000)
	blobs := []Blob{NewBlob(0, p), NewBlob(0, Chunk(2, 500), p)}
	for _, b := range blobs {
		put(t, s, b)
	}
	for len(blobs) > 0 {
		at := smallest(blobs, chunk.Sum(p))
		if got := locate(t, s, chunk.Sum(p))[chunk.Sum(p)]; got != at {
			t.Errorf("Locate with %d blobs left = %v, want %v", len(blobs), got, at)
		}
		if err := s.Delete(t.Context(), at.Blob); err != nil {
			t.Fatal(err)
		}
		if blobs[0].Digest == at.Blob {
			blobs = blobs[1:]
		} else {
			blobs = blobs[:1]
		}
	}
	if got := locate(t, s, chunk.Sum(p)); len(got) > 0 {
		t.Errorf("Locate with no blobs left = %v", got)
	}
}

func testLocateCancelled(t *testing.T, s store.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := store.Locate(ctx, s, []chunk.Digest{{1}}); !errors.Is(err, context.Canceled) {
		t.Errorf("Locate with a cancelled context = %v, want %v", err, context.Canceled)
	}
}

func locate(t testing.TB, s store.Store, chunks ...chunk.Digest) map[chunk.Digest]blob.Location {
	t.Helper()
	got, err := store.Locate(t.Context(), s, chunks)
	if err != nil {
		t.Fatalf("Locate: %v", err)
	}
	return got
}
