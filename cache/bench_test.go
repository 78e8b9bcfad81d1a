package cache_test

import (
	"encoding/binary"
	"testing"

	"github.com/zosfs/zosfs/cache"
	"github.com/zosfs/zosfs/chunk"
)

// BenchmarkReadHit reads 4 KiB of chunks that are verified, from memory or from disk.
func BenchmarkReadHit(b *testing.B) {
	for name, memory := range map[string]int64{"memory": 16 << 20, "disk": -1} {
		b.Run(name, func(b *testing.B) {
			c := open(b, b.TempDir(), cache.Options{Memory: memory})
			var digests []chunk.Digest
			for i := range 64 {
				digests = append(digests, put(c, i, 128<<10))
				check(b, c, i, 128<<10)
			}
			p := make([]byte, 4096)
			b.SetBytes(int64(len(p)))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if !c.Read(digests[i%64], p, i%32*4096) {
					b.Fatal("miss")
				}
			}
		})
	}
}

// BenchmarkReadFirst reads 4 KiB of chunks of 128 KiB that were not used since the start.
func BenchmarkReadFirst(b *testing.B) {
	dir := b.TempDir()
	const n = 512
	o := cache.Options{Memory: -1}
	c := open(b, dir, o)
	var digests []chunk.Digest
	for i := range n {
		digests = append(digests, put(c, i, 128<<10))
	}
	p := make([]byte, 4096)
	b.SetBytes(128 << 10)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i%n == 0 {
			b.StopTimer()
			shut(b, c)
			c = open(b, dir, o)
			b.StartTimer()
		}
		if !c.Read(digests[i%n], p, 8192) {
			b.Fatal("miss")
		}
	}
}

// BenchmarkInsert stores chunks of 128 KiB, evicting old ones all the time.
func BenchmarkInsert(b *testing.B) {
	c := open(b, b.TempDir(), cache.Options{Limit: 64 << 20, SegmentSize: 8 << 20})
	data, _ := text(1, 128<<10)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for i := uint64(0); b.Loop(); i++ {
		// Whether the plaintext is the digest's is not looked at before it is read.
		var d chunk.Digest
		binary.LittleEndian.PutUint64(d[:], i+1)
		_, finish := c.Claim(d)
		finish(data, nil)
	}
}
