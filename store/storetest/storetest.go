package storetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/store"
)

// Test runs a subtest for each clause of the contract of [store.Store], and of
// [store.Locator] where the store is one, each with a new and empty store of open.
func Test(t *testing.T, open func(*testing.T) store.Store) {
	clauses := []struct {
		name string
		test func(*testing.T, store.Store)
	}{
		{"get returns what was put", testRoundTrip},
		{"get of ranges", testRanges},
		{"get outside of the blob", testOutside},
		{"get closed early", testCloseEarly},
		{"absent is not found", testAbsent},
		{"put refuses a wrong digest and keeps nothing", testWrongDigest},
		{"put is idempotent", testPutTwice},
		{"put of what was summed", testPutSummed},
		{"put keeps none of the caller's memory", testReuse},
		{"list is in ascending order and complete", testList},
		{"list ends with the error of its function", testListError},
		{"delete", testDelete},
		{"cancelled context", testCancelled},
		{"concurrent use", testConcurrent},
	}
	for _, c := range clauses {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
	t.Run("locator", func(t *testing.T) { testLocator(t, open) })
}

func testRoundTrip(t *testing.T, s store.Store) {
	for _, b := range Blobs(3) {
		put(t, s, b)
		if got := get(t, s, b.Digest, 0, -1); !bytes.Equal(got, b.Data) {
			t.Errorf("Get(%v, 0, -1) = %d bytes, which are not the %d that were put", b.Digest, len(got), len(b.Data))
		}
		if size, err := s.Stat(t.Context(), b.Digest); err != nil || size != b.Size() {
			t.Errorf("Stat(%v) = %d, %v, want %d", b.Digest, size, err, b.Size())
		}
	}
}

func testRanges(t *testing.T, s store.Store) {
	b := Blobs(1)[0]
	put(t, s, b)
	size := b.Size()
	for _, r := range []struct{ off, n, want int64 }{
		{0, size, size}, {0, 1, 1}, {1, 100, 100}, {size - 1, 1, 1}, {size - 56, 56, 56},
		{1, -1, size - 1}, {size, -1, 0}, {0, 0, 0}, {17, 0, 0}, {size, 0, 0},
	} {
		got := get(t, s, b.Digest, r.off, r.n)
		if want := b.Data[r.off:][:r.want]; !bytes.Equal(got, want) {
			t.Errorf("Get(off %d, n %d) = %d bytes, want %d, or other bytes", r.off, r.n, len(got), len(want))
		}
	}
	p := make([]byte, 300)
	if err := store.ReadRange(t.Context(), s, b.Digest, 10, p); err != nil || !bytes.Equal(p, b.Data[10:310]) {
		t.Errorf("ReadRange(10, 300): %v, or other bytes", err)
	}
}

func testOutside(t *testing.T, s store.Store) {
	b := Blobs(1)[0]
	put(t, s, b)
	size := b.Size()
	for _, r := range []struct{ off, n int64 }{
		{0, size + 1}, {size, 1}, {size + 1, -1}, {size + 1, 1}, {1, size}, {-1, 1}, {-1, -1},
		{size - 1, 1<<63 - 1},
	} {
		rc, err := s.Get(t.Context(), b.Digest, r.off, r.n)
		if err == nil {
			_ = rc.Close()
			t.Errorf("Get(off %d, n %d) of a blob of %d bytes: no error", r.off, r.n, size)
			continue
		}
		if k := kinds(err); len(k) > 0 {
			t.Errorf("Get(off %d, n %d) = %v, which is %v; want none of the kinds", r.off, r.n, err, k)
		}
	}
}

func testCloseEarly(t *testing.T, s store.Store) {
	b := Blobs(1)[0]
	put(t, s, b)
	rc, err := s.Get(t.Context(), b.Digest, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(rc, make([]byte, 7)); err != nil {
		t.Errorf("Read: %v", err)
	}
	if err := rc.Close(); err != nil {
		t.Errorf("Close of a reader that was not read to its end: %v", err)
	}
	get(t, s, b.Digest, 0, -1)
}

func testAbsent(t *testing.T, s store.Store) {
	blobs := Blobs(2)
	put(t, s, blobs[0])
	id := blobs[1].Digest
	for _, r := range []struct{ off, n int64 }{{0, -1}, {0, 1}, {0, 0}, {1000, 10}} {
		if rc, err := s.Get(t.Context(), id, r.off, r.n); !errors.Is(err, errs.ErrNotFound) {
			t.Errorf("Get(absent, %d, %d) = %v, %v, want %v", r.off, r.n, rc, err, errs.ErrNotFound)
		}
	}
	if size, err := s.Stat(t.Context(), id); !errors.Is(err, errs.ErrNotFound) {
		t.Errorf("Stat(absent) = %d, %v, want %v", size, err, errs.ErrNotFound)
	}
	if err := store.ReadRange(t.Context(), s, id, 0, make([]byte, 1)); !errors.Is(err, errs.ErrNotFound) {
		t.Errorf("ReadRange(absent) = %v, want %v", err, errs.ErrNotFound)
	}
}

func testWrongDigest(t *testing.T, s store.Store) {
	blobs := Blobs(2)
	for name, data := range map[string][]byte{
		"other blob": blobs[1].Data, "one byte less": blobs[0].Data[:blobs[0].Size()-1], "nothing": nil,
	} {
		if err := s.Put(t.Context(), blobs[0].Digest, data); !errors.Is(err, errs.ErrCorrupt) {
			t.Errorf("Put(%s) = %v, want %v", name, err, errs.ErrCorrupt)
		}
	}
	for _, b := range blobs {
		if size, err := s.Stat(t.Context(), b.Digest); !errors.Is(err, errs.ErrNotFound) {
			t.Errorf("Stat after refused Puts = %d, %v, want %v", size, err, errs.ErrNotFound)
		}
	}
	if got := list(t, s); len(got) > 0 {
		t.Errorf("List after refused Puts = %v, want nothing", got)
	}
	put(t, s, blobs[0])
}

func testPutTwice(t *testing.T, s store.Store) {
	b := Blobs(1)[0]
	for range 3 {
		put(t, s, b)
	}
	if got, want := list(t, s), infos([]Blob{b}); !cmp.Equal(got, want) {
		t.Errorf("List after three Puts of one blob = %v, want %v", got, want)
	}
}

func testPutSummed(t *testing.T, s store.Store) {
	for _, b := range Blobs(2) {
		for range 2 { // idempotent as well
			if err := store.PutSummed(t.Context(), s, b.Digest, b.Data); err != nil {
				t.Fatal(err)
			}
		}
		if got := get(t, s, b.Digest, 0, -1); !bytes.Equal(got, b.Data) {
			t.Errorf("Get(%v) = %d bytes, which are not the %d that were put", b.Digest, len(got), len(b.Data))
		}
	}
	if got, want := list(t, s), infos(Blobs(2)); !cmp.Equal(got, want) {
		t.Errorf("List = %v, want %v", got, want)
	}
}

func testReuse(t *testing.T, s store.Store) {
	b := Blobs(1)[0]
	data := bytes.Clone(b.Data)
	if err := s.Put(t.Context(), b.Digest, data); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(data, b.Data) {
		t.Error("Put changed the data")
	}
	clear(data)
	if got := get(t, s, b.Digest, 0, -1); !bytes.Equal(got, b.Data) {
		t.Error("Get returns other bytes once the caller has reused the memory it gave to Put")
	}
	clear(get(t, s, b.Digest, 0, -1))
	if got := get(t, s, b.Digest, 0, -1); !bytes.Equal(got, b.Data) {
		t.Error("Get returns other bytes once a caller has changed what it read")
	}
}

func testList(t *testing.T, s store.Store) {
	if got := list(t, s); len(got) > 0 {
		t.Errorf("List of an empty store = %v", got)
	}
	blobs := Blobs(40)
	for _, b := range blobs {
		put(t, s, b)
	}
	if diff := cmp.Diff(infos(blobs), list(t, s)); diff != "" {
		t.Errorf("List (-want +got):\n%s", diff)
	}
}

func testListError(t *testing.T, s store.Store) {
	for _, b := range Blobs(3) {
		put(t, s, b)
	}
	calls, enough := 0, errors.New("enough")
	err := s.List(t.Context(), func(store.Info) error {
		if calls++; calls == 2 {
			return enough
		}
		return nil
	})
	if calls != 2 || err != enough { //nolint:errorlint // the contract says: as it is
		t.Errorf("List = %v after %d calls, want %v itself after 2", err, calls, enough)
	}
}

func testDelete(t *testing.T, s store.Store) {
	blobs := Blobs(2)
	for _, b := range blobs {
		put(t, s, b)
	}
	for range 2 { // the second time it is not there
		if err := s.Delete(t.Context(), blobs[0].Digest); err != nil {
			t.Errorf("Delete: %v", err)
		}
	}
	if _, err := s.Get(t.Context(), blobs[0].Digest, 0, -1); !errors.Is(err, errs.ErrNotFound) {
		t.Errorf("Get after Delete = %v, want %v", err, errs.ErrNotFound)
	}
	if got, want := list(t, s), infos(blobs[1:]); !cmp.Equal(got, want) {
		t.Errorf("List after Delete = %v, want %v", got, want)
	}
	put(t, s, blobs[0])
	get(t, s, blobs[0].Digest, 0, -1)
}

func testCancelled(t *testing.T, s store.Store) {
	blobs := Blobs(2)
	put(t, s, blobs[0])
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, getErr := s.Get(ctx, blobs[0].Digest, 0, -1)
	_, statErr := s.Stat(ctx, blobs[0].Digest)
	for call, err := range map[string]error{
		"Get": getErr, "Stat": statErr,
		"Put":    s.Put(ctx, blobs[1].Digest, blobs[1].Data),
		"List":   s.List(ctx, func(store.Info) error { return nil }),
		"Delete": s.Delete(ctx, blobs[0].Digest),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s with a cancelled context = %v, want %v", call, err, context.Canceled)
		}
	}
	if got, want := list(t, s), infos(blobs[:1]); !cmp.Equal(got, want) {
		t.Errorf("List after cancelled calls = %v, want %v", got, want)
	}
}

func testConcurrent(t *testing.T, s store.Store) {
	const workers = 8
	blobs := Blobs(10)
	g, ctx := errgroup.WithContext(t.Context())
	for i := range workers {
		g.Go(func() error {
			for j := range blobs { // each worker begins elsewhere, so equal Puts meet
				b := blobs[(i+j)%len(blobs)]
				if err := s.Put(ctx, b.Digest, b.Data); err != nil {
					return err
				}
				p := make([]byte, b.Size())
				if err := store.ReadRange(ctx, s, b.Digest, 0, p); err != nil {
					return err
				}
				if err := b.Digest.Check(p); err != nil {
					return err
				}
				if err := s.List(ctx, func(store.Info) error { return nil }); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(infos(blobs), list(t, s)); diff != "" {
		t.Errorf("List (-want +got):\n%s", diff)
	}
}

func put(t testing.TB, s store.Store, b Blob) {
	t.Helper()
	if err := s.Put(t.Context(), b.Digest, b.Data); err != nil {
		t.Fatalf("Put(%v): %v", b.Digest, err)
	}
}

// get reads a range through Get, to its end.
func get(t testing.TB, s store.Store, id blob.Digest, off, n int64) []byte {
	t.Helper()
	rc, err := s.Get(t.Context(), id, off, n)
	if err != nil {
		t.Fatalf("Get(%v, %d, %d): %v", id, off, n, err)
	}
	p, err := io.ReadAll(rc)
	if err = errors.Join(err, rc.Close()); err != nil {
		t.Fatalf("Get(%v, %d, %d): read: %v", id, off, n, err)
	}
	return p
}

func list(t testing.TB, s store.Store) []store.Info {
	t.Helper()
	var out []store.Info
	err := s.List(t.Context(), func(i store.Info) error {
		out = append(out, i)
		return nil
	})
	if err != nil {
		t.Fatalf("List: %v", err)
	}
	return out
}

// infos returns what List gives for the blobs.
func infos(blobs []Blob) []store.Info {
	out := make([]store.Info, len(blobs))
	for i, b := range blobs {
		out[i] = store.Info{Digest: b.Digest, Size: b.Size()}
	}
	slices.SortFunc(out, func(a, b store.Info) int { return a.Digest.Compare(b.Digest) })
	return out
}

// kinds returns the kinds of failure that err is.
func kinds(err error) []error {
	var out []error
	for _, k := range errs.All() {
		if errors.Is(err, k) {
			out = append(out, k)
		}
	}
	return out
}
