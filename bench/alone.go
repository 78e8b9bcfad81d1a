package main

import (
	"context"
	"io/fs"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/chunk"
)

// alone returns the time that workers take to read all files below dir and to bring each of
// their chunks through BLAKE3 and zstd once, with the level of the format: what packing
// cannot do without. Nothing is kept; what files there are and where their chunks end is
// found out before.
func alone(ctx context.Context, dir string, workers int) (time.Duration, error) {
	pieces, err := cutTree(ctx, dir)
	if err != nil {
		return 0, err
	}
	var next atomic.Int64
	start := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	for range workers {
		g.Go(func() error {
			sealer, err := blob.NewSealer()
			if err != nil {
				return err
			}
			buf, dst := make([]byte, chunk.DefaultParams().Max), []byte(nil)
			for i := next.Add(1) - 1; i < int64(len(pieces)); i = next.Add(1) - 1 {
				p := buf[:pieces[i].size]
				if err := pieces[i].read(p); err != nil {
					return err
				}
				if sealed := sealer.Seal(dst, chunk.Sum(p), p); sealed.Codec != blob.CodecStored {
					dst = sealed.Data
				}
			}
			return ctx.Err()
		})
	}
	err = g.Wait()
	return time.Since(start), err
}

// piece is a chunk of a file.
type piece struct {
	file *source
	off  int64
	size int
}

// source is a file that is open while it has pieces left.
type source struct {
	path string
	file atomic.Pointer[os.File]
	left atomic.Int64
}

// read fills buf with the piece.
func (p piece) read(buf []byte) error {
	f := p.file.file.Load()
	if f == nil {
		var err error
		if f, err = os.Open(p.file.path); err != nil {
			return err
		}
		if !p.file.file.CompareAndSwap(nil, f) { // another worker was first
			if err := f.Close(); err != nil {
				return err
			}
			f = p.file.file.Load()
		}
	}
	if _, err := f.ReadAt(buf, p.off); err != nil {
		return err
	}
	if p.file.left.Add(-1) > 0 {
		return nil
	}
	return f.Close()
}

// cutTree returns the chunks of all files below dir.
func cutTree(ctx context.Context, dir string) ([]piece, error) {
	params := chunk.DefaultParams()
	cutter, err := chunk.NewCutter(params)
	if err != nil {
		return nil, err
	}
	var pieces []piece
	buf := make([]byte, params.Max)
	err = eachFile(dir, func(path string, fi fs.FileInfo) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		s := &source{path: path}
		for off, n := int64(0), 0; off < fi.Size() && ctx.Err() == nil; off += int64(n) {
			p := buf[:min(int64(len(buf)), fi.Size()-off)]
			if _, err := f.ReadAt(p, off); err != nil {
				return err
			}
			if n = len(p); !params.IsWhole(fi.Size()) {
				n = cutter.Next(p)
			}
			pieces = append(pieces, piece{s, off, n})
			s.left.Add(1)
		}
		return ctx.Err()
	})
	return pieces, err
}
