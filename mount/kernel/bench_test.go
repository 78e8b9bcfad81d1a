package kernel_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/mount/kernel"
)

// machine writes the tree of a machine: n files with content of their own, eight to a directory.
func machine(n int) func(*flist.Writer) error {
	return func(w *flist.Writer) error {
		m := machineWriter{w: w}
		var dirs []flist.NodeID
		for i := range (n + 7) / 8 {
			dirs = append(dirs, m.node(flist.Root, fmt.Appendf(nil, "dir-%06d", i), flist.Node{Mode: flist.ModeDir | 0o755}))
		}
		for i := range n {
			file := flist.Node{Mode: flist.ModeRegular | 0o644, MTime: 1700000000e9 + int64(i), Size: 5000}
			file.Object = m.object(i, file.Size)
			m.node(dirs[i/8], fmt.Appendf(nil, "some-file-name-%06d.go", i), file)
		}
		return m.err
	}
}

// machineWriter keeps the first error.
type machineWriter struct {
	w    *flist.Writer
	blob flist.BlobID
	at   uint32
	err  error
}

func (m *machineWriter) node(dir flist.NodeID, name []byte, n flist.Node) flist.NodeID {
	id, err := m.w.AddNode(n)
	if err == nil {
		err = m.w.AddEntry(dir, name, id)
	}
	if m.err == nil {
		m.err = err
	}
	return id
}

func (m *machineWriter) object(i int, size int64) flist.ObjectID {
	const stored = 2000
	if m.blob == 0 || m.at > blob.TargetSize-stored {
		m.blob, m.at = m.w.AddBlob(), 8
		m.w.SetBlob(m.blob, flist.Blob{Digest: blob.Sum(fmt.Appendf(nil, "blob %d", m.blob)), Size: blob.TargetSize})
	}
	c := flist.Chunk{Blob: m.blob}
	c.Chunk, c.Offset, c.Stored, c.Size, c.Codec = chunk.Sum(fmt.Appendf(nil, "content %d", i)), m.at, stored, uint32(size), blob.CodecZstd
	m.at += stored
	id, err := m.w.AddChunk(c)
	if err == nil {
		var o flist.ObjectID
		if o, err = m.w.AddObject(flist.Object{Digest: c.Chunk, Size: size}, []flist.Extent{{Chunk: id}}); err == nil {
			return o
		}
	}
	if m.err == nil {
		m.err = err
	}
	return 0
}

// BenchmarkWriteImage makes the image of as many entries as a desktop system has. It reports
// how much more memory the process had at its peak than before; of that, what is mapped of the
// flist can be taken back at any time.
func BenchmarkWriteImage(b *testing.B) {
	const files = 120_900 // 136,000 entries with their directories
	im := build(b, machine(files))
	entries := float64(im.Flist().Counts().Entries)
	path := filepath.Join(testenv.TempDir(b), "image"+kernel.Suffix)
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil { // forgets the peak
		b.Fatal(err)
	}
	before := peak(b)
	b.ReportAllocs()
	for b.Loop() {
		if err := kernel.WriteImage(path, im.Flist(), im.Device()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(entries*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
	b.ReportMetric(float64(peak(b)-before)/(1<<20), "peak-MiB")
}

// BenchmarkCheckImage is what a mount waits for when the image is there already.
func BenchmarkCheckImage(b *testing.B) {
	path := written(b, build(b, machine(120_900)))
	b.SetBytes(int64(len(read(b, path))))
	for b.Loop() {
		if _, err := kernel.CheckImage(path); err != nil {
			b.Fatal(err)
		}
	}
}

// peak returns the most memory that this process has had, in bytes.
func peak(b *testing.B) int64 {
	for line := range bytes.Lines(read(b, "/proc/self/status")) {
		if rest, ok := bytes.CutPrefix(line, []byte("VmHWM:")); ok {
			n, err := strconv.ParseInt(string(bytes.Fields(rest)[0]), 10, 64)
			if err != nil {
				b.Fatal(err)
			}
			return n << 10
		}
	}
	b.Fatal("no VmHWM")
	return 0
}
