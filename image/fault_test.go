package image_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/image"
	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/store"
	"github.com/zosfs/zosfs/store/storetest"
)

// script is a hook that does what effects say to the first calls, and last to all others.
func script(last storetest.Effect, effects ...storetest.Effect) func(storetest.Call) storetest.Effect {
	return func(c storetest.Call) storetest.Effect {
		if c.Count <= len(effects) {
			return effects[c.Count-1]
		}
		return last
	}
}

func fails(err error) storetest.Effect { return storetest.Effect{Err: fmt.Errorf("injected: %w", err)} }

var (
	fine  storetest.Effect
	never = storetest.Effect{Delay: 1000 * time.Hour} // a stall, as long as nobody gives up
)

// readAll reads a whole file and reports bytes that are wrong.
func readAll(t *testing.T, w *world, im *image.Image, path string) error {
	t.Helper()
	want := w.content[path]
	got := make([]byte, len(want))
	n, err := im.ReadAt(t.Context(), find(t, im, path), got, 0)
	if !bytes.Equal(got[:n], want[:n]) || err == nil && n != len(want) {
		t.Errorf("ReadAt(%s) delivers wrong bytes", path)
	}
	return err
}

func TestFaultsThatPass(t *testing.T) {
	testenv.NoLeaks(t)
	w := build(t, packing{chunk: 50_000}, whole("f", prose(1, 200_000)))
	many := slices.Repeat([]storetest.Effect{fails(errs.ErrUnavailable)}, 12)
	tests := []struct {
		name    string
		effects []storetest.Effect
		within  time.Duration
	}{
		{"none", nil, 0},
		{"short", []storetest.Effect{{End: storetest.Short, After: 100}}, time.Second},
		{"cut", []storetest.Effect{{End: storetest.Cut, After: 100}}, time.Second},
		{"wrong byte", []storetest.Effect{{Flip: storetest.FlipAt(70)}}, time.Second},
		{"all wrong", []storetest.Effect{{Flip: storetest.FlipAll}}, time.Second},
		{"busy", []storetest.Effect{{Err: storetest.Busy(0)}, {Err: storetest.Busy(time.Second)}}, time.Second},
		{"down for a while", many, 12 * time.Second},
		{"stall before the answer", []storetest.Effect{never}, 25 * time.Second},
		{"stall in the answer", []storetest.Effect{{End: storetest.Hang, After: 100}}, 25 * time.Second},
		{"error without a kind", []storetest.Effect{fails(errors.New("odd"))}, time.Second},
	}
	for _, tt := range tests {
		inBubble(t, tt.name, func(t *testing.T) {
			src := storetest.NewFault(w.store, script(fine, tt.effects...))
			im := w.open(t, src, image.Options{})
			begun := time.Now()
			if err := readAll(t, w, im, "f"); err != nil {
				t.Errorf("ReadAt = %v, want success in the end", err)
			}
			if d := time.Since(begun); d > tt.within {
				t.Errorf("ReadAt takes %v, want at most %v", d, tt.within)
			}
			if s := im.Stats(); s.Errors != 0 {
				t.Errorf("Stats().Errors = %d, want 0", s.Errors)
			}
		})
	}
}

func TestFaultsThatStay(t *testing.T) {
	testenv.NoLeaks(t)
	w := build(t, packing{chunk: 50_000}, whole("d/f", prose(1, 200_000)))
	const deadline = 7 * time.Second
	tests := []struct {
		name   string
		effect storetest.Effect
		kind   error
		min    time.Duration
		max    time.Duration
	}{
		{"missing", fails(errs.ErrNotFound), errs.ErrNotFound, 0, 0},
		{"denied", fails(errs.ErrDenied), errs.ErrDenied, 0, 0},
		{"range", storetest.Effect{Err: &store.RangeError{}}, nil, 0, 0},
		{"wrong bytes", storetest.Effect{Flip: storetest.FlipAll}, errs.ErrCorrupt, 0, time.Second},
		{"no kind", fails(errors.New("odd")), nil, 0, time.Second},
		{"unavailable", fails(errs.ErrUnavailable), errs.ErrUnavailable, deadline, deadline},
		{"short", storetest.Effect{End: storetest.Short}, errs.ErrUnavailable, deadline, deadline},
		{"stall", never, errs.ErrUnavailable, deadline, deadline},
	}
	for _, tt := range tests {
		inBubble(t, tt.name, func(t *testing.T) {
			var log bytes.Buffer
			src := storetest.NewFault(w.store, script(tt.effect))
			im := w.open(t, src, image.Options{Deadline: deadline, Log: slog.New(slog.NewTextHandler(&log, nil))})
			begun := time.Now()
			err := readAll(t, w, im, "d/f")
			d := time.Since(begun)
			e, ok := errors.AsType[*image.ReadError](err)
			if !ok || tt.kind != nil && !errors.Is(err, tt.kind) || errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("ReadAt = %v, want a ReadError of %v", err, tt.kind)
			}
			if first := w.Chunk(1); e.Path != "d/f" || e.Node != find(t, im, "d/f") || e.Chunk != first.Chunk || e.Blob != w.blobs[0] {
				t.Errorf("ReadError = %+v, want the first chunk of d/f", e)
			}
			if d < tt.min || d > tt.max {
				t.Errorf("ReadAt fails after %v, want %v to %v", d, tt.min, tt.max)
			}
			if !strings.Contains(log.String(), e.Chunk.String()) || !strings.Contains(log.String(), e.Blob.String()) {
				t.Errorf("log %q names neither chunk nor blob", log.String())
			}
			if s := im.Stats(); s.Errors != 1 || len(s.LastErrors) != 1 || s.LastErrors[0].Path != "d/f" || s.LastErrors[0].Chunk != e.Chunk {
				t.Errorf("Stats() = %+v, want one error", s)
			}
			// The source is back: within a second, so is the content.
			src.SetHook(nil)
			time.Sleep(time.Second)
			begun = time.Now()
			if err := readAll(t, w, im, "d/f"); err != nil {
				t.Errorf("ReadAt with the source back = %v", err)
			}
			if d := time.Since(begun); d > deadline/3+time.Second {
				t.Errorf("ReadAt with the source back takes %v", d)
			}
		})
	}
}

// TestErrorIsRememberedShortly asks again and again for what is missing.
func TestErrorIsRememberedShortly(t *testing.T) {
	w := build(t, packing{}, whole("f", prose(1, 20_000)))
	synctest.Test(t, func(t *testing.T) {
		src := storetest.NewFault(w.store, script(fails(errs.ErrNotFound)))
		im := w.open(t, src, image.Options{})
		begun := time.Now()
		for time.Since(begun) < 10*time.Second {
			if err := readAll(t, w, im, "f"); !errors.Is(err, errs.ErrNotFound) {
				t.Fatalf("ReadAt = %v, want %v", err, errs.ErrNotFound)
			}
			time.Sleep(time.Millisecond)
		}
		if n := src.Count(storetest.Get); n < 10 || n > 30 {
			t.Errorf("10,000 reads in 10 s ask the source %d times, want about once a second", n)
		}
	})
}

func TestWaitForEver(t *testing.T) {
	w := build(t, packing{}, whole("f", prose(1, 20_000)))
	synctest.Test(t, func(t *testing.T) {
		src := storetest.NewFault(w.store, script(fails(errs.ErrUnavailable)))
		im := w.open(t, src, image.Options{Deadline: -1})
		back := time.Now().Add(time.Hour)
		time.AfterFunc(time.Hour, func() { src.SetHook(nil) })
		if err := readAll(t, w, im, "f"); err != nil {
			t.Errorf("ReadAt = %v", err)
		}
		if d := time.Since(back); d > time.Second {
			t.Errorf("ReadAt returns %v after the source is back, want at most 1 s", d)
		}
	})
}

// TestSlowIsNotStalled reads at 4 KB/s: it takes longer than the deadline, but chunks come.
func TestSlowIsNotStalled(t *testing.T) {
	w := build(t, packing{chunk: 50_000, foreign: func(int) []byte { return noise(5, 100) }}, whole("f", noise(1, 200_000)))
	synctest.Test(t, func(t *testing.T) {
		im := w.open(t, storetest.NewFault(w.store, script(storetest.Effect{Rate: 4000})), image.Options{})
		for off := int64(0); off < 200_000; off += 50_000 {
			if _, err := im.ReadAt(t.Context(), find(t, im, "f"), make([]byte, 50_000), off); err != nil {
				t.Errorf("ReadAt(%d) = %v", off, err)
			}
		}
	})
}

func TestOneDownload(t *testing.T) {
	testenv.NoLeaks(t)
	w := build(t, packing{}, whole("f", prose(1, 20_000)))
	synctest.Test(t, func(t *testing.T) {
		src := storetest.NewFault(w.store, script(storetest.Effect{Delay: time.Second}))
		im := w.open(t, src, image.Options{})
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if err := readAll(t, w, im, "f"); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := src.Count(storetest.Get); n != 1 {
			t.Errorf("50 readers of a chunk make %d requests, want 1", n)
		}
	})
}

func TestCancelledReaderHurtsNobody(t *testing.T) {
	testenv.NoLeaks(t)
	w := build(t, packing{}, whole("f", prose(1, 20_000)))
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		src := storetest.NewFault(w.store, script(storetest.Effect{Stall: release}))
		im := w.open(t, src, image.Options{})
		ctx, cancel := context.WithCancelCause(t.Context())
		first, second := make(chan error, 1), make(chan error, 1)
		go func() {
			_, err := im.ReadAt(ctx, find(t, im, "f"), make([]byte, 100), 0)
			first <- err
		}()
		synctest.Wait()
		go func() { second <- readAll(t, w, im, "f") }()
		synctest.Wait()
		gone := errors.New("gone")
		cancel(gone)
		synctest.Wait()
		select {
		case err := <-first:
			if !errors.Is(err, gone) {
				t.Errorf("cancelled ReadAt = %v, want %v", err, gone)
			}
		default:
			t.Error("cancelled ReadAt still waits")
		}
		close(release)
		if err := <-second; err != nil {
			t.Errorf("ReadAt of the other = %v", err)
		}
		if n, s := src.Count(storetest.Get), im.Stats(); n != 1 || s.Errors != 0 {
			t.Errorf("%d requests, %d errors; want 1, 0", n, s.Errors)
		}
	})
}

func TestCloseEndsReads(t *testing.T) {
	testenv.NoLeaks(t)
	w := build(t, packing{}, whole("f", prose(1, 20_000)))
	synctest.Test(t, func(t *testing.T) {
		src := storetest.NewFault(w.store, script(never))
		im := w.open(t, src, image.Options{Deadline: -1})
		done := make(chan error, 1)
		go func() { done <- readAll(t, w, im, "f") }()
		synctest.Wait()
		if err := im.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; !errors.Is(err, fs.ErrClosed) {
			t.Errorf("ReadAt of a closed Image = %v, want %v", err, fs.ErrClosed)
		}
		if err := readAll(t, w, im, "f"); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("ReadAt after Close = %v, want %v", err, fs.ErrClosed)
		}
		if err := im.Prefetch(t.Context(), slices.Values([]flist.NodeID{find(t, im, "f")}), nil); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("Prefetch after Close = %v, want %v", err, fs.ErrClosed)
		}
	})
}

// TestNeighbourFailsAlone damages one chunk of a range in the store.
func TestNeighbourFailsAlone(t *testing.T) {
	data := noise(1, 30_000)
	w := build(t, packing{chunk: 10_000}, whole("f", data))
	bad := w.places[chunk.Sum(data[10_000:20_000])]
	synctest.Test(t, func(t *testing.T) {
		src := storetest.NewFault(w.store, func(c storetest.Call) storetest.Effect {
			return storetest.Effect{Flip: storetest.FlipAt(int64(bad.Offset) + 5 - c.Off)}
		})
		im := w.open(t, linked{src, time.Second, 1e6}, image.Options{})
		read := func(off int64, n int) error {
			p := make([]byte, n)
			n, err := im.ReadAt(t.Context(), find(t, im, "f"), p, off)
			if !bytes.Equal(p[:n], data[off:][:n]) {
				t.Errorf("ReadAt(%d) gives wrong bytes", off)
			}
			synctest.Wait()
			return err
		}
		if err := read(0, 10); err != nil {
			t.Errorf("ReadAt beside a damaged chunk = %v", err)
		}
		if err := read(20_000, 10_000); err != nil {
			t.Errorf("ReadAt behind a damaged chunk = %v", err)
		}
		if n := src.Count(storetest.Get); n != 1 {
			t.Errorf("%d requests, want 1: the good neighbours came with the first", n)
		}
		err := read(0, 30_000)
		if e, ok := errors.AsType[*image.ReadError](err); !ok || e.Chunk != bad.Chunk || !errors.Is(err, errs.ErrCorrupt) {
			t.Errorf("ReadAt over the damaged chunk = %v, want a ReadError about %v", err, bad.Chunk)
		}
	})
}

// pair is a Checker of two sources.
type pair [2]store.Getter

func (p pair) Get(context.Context, blob.Digest, int64, int64) (io.ReadCloser, error) {
	return nil, errors.ErrUnsupported
}

func (p pair) GetChecked(ctx context.Context, id blob.Digest, off int64, b []byte, check func([]byte) error) error {
	var all []error
	for _, g := range p {
		if err := store.ReadChecked(ctx, g, id, off, b, check); err != nil {
			all = append(all, err)
			continue
		}
		return nil
	}
	return errors.Join(all...)
}

// TestLyingSource has two sources that are wrong about different chunks: each right chunk is
// taken from whoever has it right.
func TestLyingSource(t *testing.T) {
	data := noise(1, 30_000)
	w := build(t, packing{chunk: 10_000}, whole("f", data))
	lie := func(i int) *storetest.Fault {
		at := int64(w.places[chunk.Sum(data[i*10_000:][:10_000])].Offset)
		return storetest.NewFault(w.store, func(c storetest.Call) storetest.Effect {
			return storetest.Effect{Flip: storetest.FlipAt(at - c.Off)}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		a, b := lie(0), lie(2)
		im := w.open(t, pair{a, b}, image.Options{})
		if err := readAll(t, w, im, "f"); err != nil {
			t.Errorf("ReadAt = %v", err)
		}
		if a.Count(storetest.Get) != 1 || b.Count(storetest.Get) != 1 {
			t.Errorf("%d and %d requests, want 1 of each", a.Count(storetest.Get), b.Count(storetest.Get))
		}
	})
}

// TestOtherImageFails has two images with one cache; the one that has the duty is refused.
func TestOtherImageFails(t *testing.T) {
	testenv.NoLeaks(t)
	w := build(t, packing{}, whole("f", prose(1, 20_000)))
	for name, e := range map[string]storetest.Effect{
		"denied": {Delay: time.Second, Err: errs.ErrDenied},
		"closed": never,
	} {
		inBubble(t, name, func(t *testing.T) {
			cache := image.NewMemory(1 << 20)
			a := w.open(t, storetest.NewFault(w.store, script(e)), image.Options{Cache: cache})
			b := w.open(t, nil, image.Options{Cache: cache})
			begun := time.Now()
			refused, served := make(chan error, 1), make(chan error, 1)
			go func() { refused <- readAll(t, w, a, "f") }()
			synctest.Wait()
			go func() { served <- readAll(t, w, b, "f") }()
			synctest.Wait()
			if name == "closed" {
				time.Sleep(time.Second)
				_ = a.Close()
			}
			if err := <-refused; err == nil {
				t.Error("the image without a source is served")
			}
			if err := <-served; err != nil {
				t.Errorf("the other image = %v", err)
			}
			if d := time.Since(begun); d > time.Second {
				t.Errorf("it takes over after %v, want 1 s", d)
			}
		})
	}
}

func TestErrorRing(t *testing.T) {
	var specs []spec
	for i := range 40 {
		specs = append(specs, whole(fmt.Sprintf("f%02d", i), noise(uint64(i), 1000)))
	}
	w := build(t, packing{}, specs...)
	im := w.open(t, storetest.NewFault(w.store, script(fails(errs.ErrNotFound))), image.Options{})
	for _, s := range specs {
		if err := readAll(t, w, im, s.path); err == nil {
			t.Errorf("ReadAt(%s) succeeds", s.path)
		}
	}
	s := im.Stats()
	var got []string
	for _, e := range s.LastErrors {
		got = append(got, e.Path)
	}
	if s.Errors != 40 || len(got) != 16 || got[0] != "f24" || got[15] != "f39" || !slices.IsSorted(got) {
		t.Errorf("%d errors, last %v; want 40, f24 to f39", s.Errors, got)
	}
}

// TestOneDeadlineForTheKernel: when read-ahead has waited a whole deadline for nothing, the
// kernel asks again for the page that somebody reads; that must fail at once. Readers who wait
// already have their own deadline, and a second later the source is asked again.
func TestOneDeadlineForTheKernel(t *testing.T) {
	testenv.NoLeaks(t)
	w := build(t, packing{chunk: 50_000}, whole("f", prose(1, 200_000)))
	const deadline = 7 * time.Second
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		src := storetest.NewFault(w.store, script(fails(errs.ErrUnavailable)))
		im := w.open(t, src, image.Options{Deadline: deadline, Log: slog.New(slog.NewTextHandler(&log, nil))})
		page := func(off int64) (time.Duration, error) {
			begun := time.Now()
			_, err := im.ReadAt(t.Context(), find(t, im, "f"), make([]byte, 4096), off)
			return time.Since(begun), err
		}
		var wg sync.WaitGroup
		time.AfterFunc(deadline/2, func() {
			wg.Go(func() {
				if d, err := page(150_000); d < deadline/2 || err != nil {
					t.Errorf("ReadAt of who waits already = %v after %v, want success once the source is back", err, d)
				}
			})
		})
		if err := readAll(t, w, im, "f"); !errors.Is(err, errs.ErrUnavailable) {
			t.Fatalf("ReadAt = %v, want %v", err, errs.ErrUnavailable)
		}
		for end := time.Now().Add(900 * time.Millisecond); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
			for off := int64(0); off < 200_000; off += 50_000 { // each chunk
				d, err := page(off)
				if _, ok := errors.AsType[*image.ReadError](err); !ok || !errors.Is(err, errs.ErrUnavailable) || d != 0 {
					t.Fatalf("the same again fails after %v with %v, want at once and with %v", d, err, errs.ErrUnavailable)
				}
			}
		}
		if n := strings.Count(log.String(), "read failed"); n != 4 {
			t.Errorf("%d failures logged, want one a chunk:\n%s", n, log.String())
		}
		// To fail at once does not prolong it.
		src.SetHook(nil)
		time.Sleep(150 * time.Millisecond)
		if d, err := page(0); err != nil || d > time.Second {
			t.Errorf("ReadAt with the source back = %v after %v", err, d)
		}
		wg.Wait()
	})
}
