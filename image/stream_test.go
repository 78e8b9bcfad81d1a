package image_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/image"
	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/store"
)

// wire is a link in virtual time: each request waits for the delay, then its bytes share
// the rate with those of all others.
type wire struct {
	store.Getter
	delay time.Duration
	rate  float64

	mu   sync.Mutex
	free time.Time // when the link has sent what it was given
}

func (w *wire) Link() (time.Duration, float64) { return w.delay, w.rate }

func (w *wire) Get(ctx context.Context, id blob.Digest, off, n int64) (io.ReadCloser, error) {
	time.Sleep(w.delay)
	rc, err := w.Getter.Get(ctx, id, off, n)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{wireReader{w, rc}, rc}, nil
}

type wireReader struct {
	w *wire
	r io.Reader
}

func (r wireReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p[:min(len(p), 4<<10)])
	r.w.mu.Lock()
	now := time.Now()
	if r.w.free.Before(now) {
		r.w.free = now
	}
	r.w.free = r.w.free.Add(time.Duration(float64(n) / r.w.rate * float64(time.Second)))
	wait := r.w.free.Sub(now)
	r.w.mu.Unlock()
	time.Sleep(wait)
	return n, err
}

// TestSequentialFillsTheLink holds the budget of a sequential cold read at 20 Mbit/s and
// 50 ms, and at other links: at least 0.9 of the speed of a plain download.
func TestSequentialFillsTheLink(t *testing.T) {
	testenv.NoLeaks(t)
	const size = 16 << 20
	half := append(noise(1, size/2), prose(2, size/2)...)
	links := []struct {
		name  string
		delay time.Duration
		rate  float64
		steps []int
	}{
		{"20 Mbit/s 50 ms", 50 * time.Millisecond, 2.5e6, []int{16 << 10, 128 << 10, 1 << 20}},
		{"100 Mbit/s 20 ms", 20 * time.Millisecond, 12.5e6, []int{128 << 10}},
		{"3 MB/s 100 ms", 100 * time.Millisecond, 3e6, []int{1 << 20}},
		{"4 Mbit/s 30 ms", 30 * time.Millisecond, 0.5e6, []int{16 << 10}},
	}
	for _, chunk := range []int{32 << 10, 128 << 10} {
		w := build(t, packing{chunk: chunk}, whole("f", half))
		for _, l := range links {
			for _, step := range l.steps {
				inBubble(t, fmt.Sprintf("%s/%d/%d", l.name, chunk, step), func(t *testing.T) {
					im := w.open(t, &wire{Getter: w.store, delay: l.delay, rate: l.rate}, image.Options{})
					begun := time.Now()
					got := make([]byte, size)
					for off := 0; off < size; off += step {
						if _, err := im.ReadAt(t.Context(), find(t, im, "f"), got[off:off+step], int64(off)); err != nil {
							t.Fatal(err)
						}
					}
					took := time.Since(begun)
					if !bytes.Equal(got, half) {
						t.Error("wrong bytes")
					}
					synctest.Wait()
					s := im.Stats()
					plain := l.delay + time.Duration(float64(w.Counts().Stored)/l.rate*float64(time.Second))
					if ratio := plain.Seconds() / took.Seconds(); ratio < 0.9 {
						t.Errorf("%.2f of the speed of a plain download (%v, %v), want at least 0.9; %+v", ratio, took, plain, s)
					}
					if s.BytesFetched > w.Counts().Stored*11/10 || s.ChunksFetched != w.Counts().Chunks {
						t.Errorf("%d bytes and %d chunks fetched of %d, %d", s.BytesFetched, s.ChunksFetched, w.Counts().Stored, w.Counts().Chunks)
					}
				})
			}
		}
	}
}

// TestRandomReadsAreNotFollowed reads here and there: only what a range takes along comes
// besides, and no read-ahead of its own.
func TestRandomReadsAreNotFollowed(t *testing.T) {
	data := noise(1, 8<<20)
	w := build(t, packing{chunk: 64 << 10}, whole("f", data))
	synctest.Test(t, func(t *testing.T) {
		im := w.open(t, &wire{Getter: w.store, delay: 50 * time.Millisecond, rate: 2.5e6}, image.Options{})
		n := int64(0)
		for _, mib := range []int64{7, 2, 5, 0, 3, 6, 1} {
			if _, err := im.ReadAt(t.Context(), find(t, im, "f"), make([]byte, 4096), mib<<20); err != nil {
				t.Fatal(err)
			}
			n++
		}
		synctest.Wait()
		if s := im.Stats(); s.Requests != n {
			t.Errorf("%d requests for %d random reads, want as many", s.Requests, n)
		}
	})
}

// TestDemandBeforePrefetch floods the Image with prefetch and asks for something: the answer
// must not wait for more than what is under way.
func TestDemandBeforePrefetch(t *testing.T) {
	testenv.NoLeaks(t)
	w := build(t, packing{chunk: 128 << 10, perBlob: 8}, whole("a", noise(1, 16<<20)), whole("z", noise(2, 10_000)))
	synctest.Test(t, func(t *testing.T) {
		link := &wire{Getter: w.store, delay: 10 * time.Millisecond, rate: 4 << 20}
		im := w.open(t, link, image.Options{})
		done := make(chan error, 1)
		go func() { done <- im.Prefetch(t.Context(), allNodes(im), nil) }()
		time.Sleep(500 * time.Millisecond)
		begun := time.Now()
		if err := readAll(t, w, im, "z"); err != nil {
			t.Error(err)
		}
		// Three requests of an eighth of a second share the link when the read comes.
		if d := time.Since(begun); d > 400*time.Millisecond {
			t.Errorf("an on-demand read behind prefetch takes %v, want at most 0.4 s", d)
		}
		if err := <-done; err != nil {
			t.Errorf("Prefetch = %v", err)
		}
		if s := im.Stats(); s.BytesFetched-s.BytesWasted != w.Counts().Stored {
			t.Errorf("%d bytes fetched, want each chunk once: %d", s.BytesFetched, w.Counts().Stored)
		}
	})
}
