package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/internal/treetest"
)

// versions is section versions: one tree, ten times, a little changed each time.
func (b *bench) versions(ctx context.Context) error {
	const total = 10
	t := b.rep.table("Versions: a generated tree of which 2-5 % of the files change each time, in one directory store")
	dir, err := b.lab.mkdir("trees", "versions")
	if err != nil {
		return err
	}
	if err := grow(dir, b.files/4, 8<<20, 6); err != nil {
		return err
	}
	store, err := b.lab.mkdir("versions-store")
	if err != nil {
		return err
	}
	var first, sent, news int64
	for v := range total {
		b.lab.say("version %d of %d", v+1, total)
		var changed float64
		var fresh int64
		if v > 0 {
			changed = float64(2 + v%4)
			if fresh, err = mutate(dir, changed, uint64(100+v)); err != nil {
				return err
			}
		}
		r, err := b.product.pack(ctx, "--store", "file://"+store, dir, b.lab.path("versions.flist"))
		if err != nil {
			return err
		}
		if v == 0 {
			first = r.BytesSent
		}
		sent += r.BytesSent
		news += fresh
		t.add(fmt.Sprint(v+1), figure("files changed", changed, percent, nil), figure("time", r.wall.Seconds(), seconds, nil),
			figure("sent", r.BytesSent, byteSize, nil), figure("truly new", fresh, byteSize, nil))
	}
	t.add("all", figure("sent", sent, byteSize, nil), figure("truly new", news, byteSize, nil),
		figure("(sent - truly new) / first", over(sent-news, first), ratio, atMost(1.15)))
	return nil
}

// mutate makes the next version of a tree and returns how many bytes of it are truly new: of
// files that are new or written anew their sealed size, of others what was inserted.
func mutate(dir string, changed float64, seed uint64) (int64, error) {
	before, err := stamps(dir)
	if err != nil {
		return 0, err
	}
	if _, err := treetest.Mutate(dir, changed, seed); err != nil {
		return 0, err
	}
	sealer, err := blob.NewSealer()
	if err != nil {
		return 0, err
	}
	var news int64
	err = eachFile(dir, func(path string, fi fs.FileInfo) error {
		old, ok := before[path]
		switch {
		case ok && old.mtime.Equal(fi.ModTime()):
			return nil
		case ok && old.size != fi.Size():
			news += max(fi.Size()-old.size, 0)
			return nil
		}
		n, err := sealedSize(sealer, path)
		news += n
		return err
	})
	return news, err
}

type stamp struct {
	size  int64
	mtime time.Time
}

func stamps(dir string) (map[string]stamp, error) {
	all := make(map[string]stamp)
	err := eachFile(dir, func(path string, fi fs.FileInfo) error {
		all[path] = stamp{fi.Size(), fi.ModTime()}
		return nil
	})
	return all, err
}

// pieceSize is the mean size of chunks, in bytes.
const pieceSize = 128 << 10

// sealedSize returns what the content of a file takes when it is sealed piece by piece.
func sealedSize(s *blob.Sealer, path string) (n int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for buf := make([]byte, pieceSize); ; {
		got, err := io.ReadFull(f, buf)
		if got > 0 {
			n += int64(len(s.Seal(nil, chunk.Sum(buf[:got]), buf[:got]).Data))
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return n, nil
		}
		if err != nil {
			return 0, err
		}
	}
}
