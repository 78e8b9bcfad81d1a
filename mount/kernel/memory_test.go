package kernel_test

import (
	"runtime"
	"testing"

	"github.com/zosfs/zosfs/erofs"
	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/mount/kernel"
)

// heap returns how much memory is in use, in bytes, garbage apart.
func heap() int64 {
	runtime.GC()
	runtime.GC() // the first one leaves what pools have
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// gauge finds the most memory that is in use while something is written to it.
type gauge struct {
	step, n, next int64 // in bytes of output
	peak          int64
}

func (g *gauge) Write(p []byte) (int, error) {
	if g.n += int64(len(p)); g.n >= g.next {
		g.peak = max(g.peak, heap())
		g.next = g.n + g.step
	}
	return len(p), nil
}

// TestWriteImageMemory holds the memory that making an image takes against the number of entries:
// that of the writer by itself, and with the tree that it writes.
func TestWriteImageMemory(t *testing.T) {
	files := 200_000
	if testenv.Race { // where it takes ten times as long
		files = 50_000
	}
	const (
		fixed  = 1 << 20 // bytes, for buffers
		writer = 8       // bytes an entry: twice what docs/architecture.md says of an inode
		tree   = 128     // bytes an entry, where names have 24
	)
	im := build(t, machine(files))
	entries := im.Flist().Counts().Entries
	size, err := im.Device().Size()
	if err != nil {
		t.Fatal(err)
	}
	start, g := heap(), &gauge{step: 4 << 20}
	nodes := kernel.NewTree(im.Flist(), im.Device())
	made := heap()
	if _, err := erofs.Write(g, nodes, erofs.Options{DeviceBlocks: uint32(size / erofs.BlockSize)}); err != nil {
		t.Fatal(err)
	}
	if g.n < 32*entries || g.peak == 0 {
		t.Fatalf("an image of %d bytes for %d entries", g.n, entries)
	}
	t.Logf("%d entries: %d bytes, %d of them for the tree", entries, g.peak-start, made-start)
	if took, most := g.peak-made, fixed+writer*entries; took > most {
		t.Errorf("the writer takes %d bytes of memory for %d entries, want at most %d", took, entries, most)
	}
	if took, most := g.peak-start, fixed+tree*entries; took > most {
		t.Errorf("writer and tree take %d bytes of memory for %d entries, want at most %d", took, entries, most)
	}
}
