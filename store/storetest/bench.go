package storetest

import (
	"fmt"
	"testing"

	"github.com/zosfs/zosfs/store"
)

// Benchmark measures a store: Put and Get of whole blobs, Get of ranges one after another
// and from several goroutines, Stat and List. open returns a new and empty store.
func Benchmark(b *testing.B, open func(*testing.B) store.Store) {
	big := NewBlob(0, Chunk(1, 1<<20), Chunk(2, 1<<20), Chunk(3, 1<<20), Chunk(4, 1<<20))
	b.Run("Put/4MiB", func(b *testing.B) {
		s := open(b)
		b.SetBytes(big.Size())
		b.ReportAllocs()
		for b.Loop() {
			put(b, s, big)
			b.StopTimer()
			if err := s.Delete(b.Context(), big.Digest); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
	})
	for _, size := range []int{4 << 10, 128 << 10, 1 << 20, len(big.Data)} {
		b.Run(fmt.Sprintf("Get/%dKiB", size>>10), func(b *testing.B) {
			s := open(b)
			put(b, s, big)
			p := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if err := store.ReadRange(b.Context(), s, big.Digest, 0, p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("Get/parallel/128KiB", func(b *testing.B) {
		s := open(b)
		put(b, s, big)
		b.SetBytes(128 << 10)
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			p := make([]byte, 128<<10)
			for pb.Next() {
				if err := store.ReadRange(b.Context(), s, big.Digest, 0, p); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
	benchNames(b, open)
}

func benchNames(b *testing.B, open func(*testing.B) store.Store) {
	s, blobs := open(b), Blobs(200)
	for _, x := range blobs {
		put(b, s, x)
	}
	b.Run("Stat", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := s.Stat(b.Context(), blobs[0].Digest); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("List/200", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			list(b, s)
		}
	})
}
