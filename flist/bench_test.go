package flist_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/flist"
)

// big adds a tree of n files in directories of 30, each with an object of one chunk.
func big(n int) func(testing.TB, *flist.Writer) {
	return func(t testing.TB, w *flist.Writer) {
		t.Helper()
		p := &packer{t: t, w: w}
		check := func(err error) {
			if err != nil {
				t.Fatal(err)
			}
		}
		root, err := w.AddNode(flist.Node{Mode: flist.ModeDir | 0o755})
		check(err)
		var dirs []flist.NodeID
		for i := range (n + 29) / 30 {
			d, err := w.AddNode(flist.Node{Mode: flist.ModeDir | 0o755, MTime: int64(i) * 1e9})
			check(err)
			check(w.AddEntry(root, fmt.Appendf(nil, "dir-%06d", i), d))
			dirs = append(dirs, d)
		}
		for i := range n {
			d := chunk.Sum(fmt.Appendf(nil, "content %d", i))
			if p.blob == 0 || p.at > 7<<20 {
				p.blob, p.at = w.AddBlob(), 8
				w.SetBlob(p.blob, flist.Blob{Digest: [32]byte(chunk.Sum(fmt.Appendf(nil, "blob %d", p.blob))), Size: 8 << 20})
			}
			c := flist.Chunk{Blob: p.blob}
			c.Chunk, c.Offset, c.Stored, c.Size, c.Codec = d, p.at, 1000, 2000, 1
			p.at += 1000
			id, err := w.AddChunk(c)
			check(err)
			o, err := w.AddObject(flist.Object{Digest: d, Size: 2000}, []flist.Extent{{Chunk: id}})
			check(err)
			f, err := w.AddNode(flist.Node{Mode: flist.ModeRegular | 0o644, MTime: 1700000000e9 + int64(i), Size: 2000, Object: o})
			check(err)
			check(w.AddEntry(dirs[i/30], fmt.Appendf(nil, "some-file-name-%06d.go", i), f))
		}
	}
}

func BenchmarkWrite100k(b *testing.B) {
	for b.Loop() {
		write(b, big(100000))
	}
}

func BenchmarkOpen100k(b *testing.B) {
	path, s := write(b, big(100000))
	b.ReportMetric(float64(s.Size), "shipped-bytes")
	b.ReportAllocs()
	for b.Loop() {
		r, err := flist.Open(path, flist.OpenOptions{})
		if err != nil {
			b.Fatal(err)
		}
		if err := r.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkExtentsAt(b *testing.B) {
	path, _ := write(b, big(100000))
	r := open(b, path)
	i := 0
	for b.Loop() {
		for e := range r.ExtentsAt(flist.ObjectID(i%100000+1), 100) {
			_ = r.Chunk(e.Chunk)
		}
		i += 7919
	}
}

// BenchmarkReopen opens an flist of as many entries as an image of a desktop system has, by the
// whole check and from its checked copy.
func BenchmarkReopen136k(b *testing.B) { benchmarkReopen(b, 136_000) }

// BenchmarkReopen1M is that for the largest images.
func BenchmarkReopen1M(b *testing.B) { benchmarkReopen(b, 1_000_000) }

func benchmarkReopen(b *testing.B, entries int) {
	path, _ := write(b, big(entries))
	kept := filepath.Join(b.TempDir(), "kept")
	first := ok[*flist.Reader](b)(flist.Open(path, flist.OpenOptions{}))
	if err := errors.Join(first.Keep(kept), first.Close()); err != nil {
		b.Fatal(err)
	}
	size := ok[os.FileInfo](b)(os.Stat(kept)).Size()
	again := filepath.Join(b.TempDir(), "again")
	bench := func(name string, open func() (*flist.Reader, error)) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				r, err := open()
				if err != nil {
					b.Fatal(err)
				}
				if err := r.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	bench("open", func() (*flist.Reader, error) { return flist.Open(path, flist.OpenOptions{}) })
	bench("kept", func() (*flist.Reader, error) { return flist.OpenKept(kept) })
	bench("keep", func() (*flist.Reader, error) {
		r, err := flist.OpenKept(kept)
		if err != nil {
			return nil, err
		}
		return r, r.Keep(again)
	})
}
