package main

import (
	"context"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/chunk"
)

const (
	batchSize = 64 << 20  // of content that is in memory at once
	pieceSize = 128 << 10 // the mean size of chunks
)

// alone brings the content of all files below dir through BLAKE3 and zstd, with the level of
// the format, and returns the time that this took without reading the files: what packing
// cannot do without.
func alone(ctx context.Context, dir string, workers int) (time.Duration, error) {
	c := &compressors{}
	for range workers {
		s, err := blob.NewSealer()
		if err != nil {
			return 0, err
		}
		c.sealers = append(c.sealers, s)
	}
	err := eachFile(dir, func(path string, fi fs.FileInfo) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return c.read(path, fi.Size())
	})
	c.flush()
	return c.took, err
}

// compressors work on one batch after another.
type compressors struct {
	sealers []*blob.Sealer // one a worker
	batch   [][]byte
	size    int
	took    time.Duration
}

// read adds a file to the batch, piece by piece. Content is taken as it comes, holes too.
func (c *compressors) read(path string, size int64) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for off := int64(0); off < size; off += pieceSize {
		p := make([]byte, min(pieceSize, size-off))
		if _, err := f.ReadAt(p, off); err != nil {
			return err
		}
		c.batch = append(c.batch, p)
		if c.size += len(p); c.size >= batchSize {
			c.flush()
		}
	}
	return nil
}

// flush works on the batch and counts the time.
func (c *compressors) flush() {
	start := time.Now()
	pieces := make(chan []byte, len(c.batch))
	for _, p := range c.batch {
		pieces <- p
	}
	close(pieces)
	var wg sync.WaitGroup
	for _, s := range c.sealers {
		wg.Go(func() {
			var dst []byte
			for p := range pieces {
				if sealed := s.Seal(dst, chunk.Sum(p), p); sealed.Codec != blob.CodecStored {
					dst = sealed.Data
				}
			}
		})
	}
	wg.Wait()
	c.took += time.Since(start)
	clear(c.batch)
	c.batch, c.size = c.batch[:0], 0
}
