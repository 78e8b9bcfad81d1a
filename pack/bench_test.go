package pack_test

import (
	"context"
	"errors"
	"fmt"
	"go/build"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/internal/treetest"
	"github.com/zosfs/zosfs/pack"
)

// childTree is the variable that makes this test a pack of the directory in it.
const childTree = "PACK_TEST_CHILD"

// nowhere is a destination that keeps nothing, so that only the pack is measured.
type nowhere struct{}

func (nowhere) Put(context.Context, blob.Digest, []byte) error       { return nil }
func (nowhere) Stat(_ context.Context, _ blob.Digest) (int64, error) { return 0, fs.ErrNotExist }
func (nowhere) Locate(context.Context, []chunk.Digest) (map[chunk.Digest]blob.Location, error) {
	return nil, nil
}

// childFiles is how many descriptors the child may have, if it is set.
const childFiles = "PACK_TEST_NOFILE"

// packChild packs dir and prints the most memory that the process ever had, in KiB.
func packChild(dir string) int {
	tmp, err := os.MkdirTemp(filepath.Dir(dir), "child")
	if n, e := strconv.ParseUint(os.Getenv(childFiles), 10, 64); e == nil && err == nil {
		err = unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: n})
	}
	if err == nil {
		_, err = pack.Tree(context.Background(), dir, nowhere{}, filepath.Join(tmp, "out"), pack.Options{})
	}
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		return 1
	}
	status, _ := os.ReadFile("/proc/self/status")
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	_, _ = fmt.Println(strings.Fields(rest)[0])
	return 0
}

func TestMemory(t *testing.T) {
	for name, o := range map[string]treetest.GrowOptions{
		"small files": {Files: 20_000, Seed: 1, MaxFile: 64 << 10},
		"large files": {Files: 6_000, Seed: 2, MaxFile: 60 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(testenv.TempDir(t), "tree")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			total, err := treetest.Grow(dir, o)
			if err != nil {
				t.Fatal(err)
			}
			out, err := child(t, childTree+"="+dir)
			if err != nil {
				t.Fatal(err)
			}
			kib, err := strconv.Atoi(strings.TrimSpace(out))
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d files, %d MiB: %d MiB of memory", total.Files, total.Bytes>>20, kib>>10)
			limit := 256
			if testenv.Race {
				limit *= 4 // what the detector notes beside the data
			}
			if kib > limit<<10 {
				t.Errorf("%d MiB of memory, want at most %d", kib>>10, limit)
			}
		})
	}
}

// TestFewDescriptors packs a tree that is far deeper than there are descriptors.
func TestFewDescriptors(t *testing.T) {
	if _, err := child(t, childTree+"="+oddTree(t), childFiles+"=128"); err != nil {
		t.Error(err)
	}
}

// BenchmarkTree packs a tree and prints how much longer that takes than zstd and BLAKE3 over
// the same bytes with as many goroutines.
func BenchmarkTree(b *testing.B) {
	dir := filepath.Join(testenv.TempDir(b), "tree")
	if err := os.Mkdir(dir, 0o755); err != nil {
		b.Fatal(err)
	}
	total, err := treetest.Grow(dir, treetest.GrowOptions{Files: 6_000, Seed: 1, MaxFile: 24 << 20})
	if err != nil {
		b.Fatal(err)
	}
	measure(b, dir, total.Bytes)
}

// BenchmarkToolchain packs the tree of the Go toolchain: 15,000 files with a median of 4 KiB.
func BenchmarkToolchain(b *testing.B) {
	dir := build.Default.GOROOT
	var size int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		fi, err := d.Info()
		if err == nil {
			size += fi.Size()
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	measure(b, dir, size)
}

func BenchmarkOneFile(b *testing.B) {
	dir := filepath.Join(testenv.TempDir(b), "tree")
	if err := os.Mkdir(dir, 0o755); err != nil {
		b.Fatal(err)
	}
	one := filepath.Join(testenv.TempDir(b), "src")
	if err := os.Mkdir(one, 0o755); err != nil {
		b.Fatal(err)
	}
	if _, err := treetest.Grow(one, treetest.GrowOptions{Files: 5_000, Seed: 1, MaxFile: 24 << 20}); err != nil {
		b.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, "one"))
	if err != nil {
		b.Fatal(err)
	}
	var size int64
	err = filepath.WalkDir(one, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		p, err := os.ReadFile(path)
		if err == nil {
			_, err = f.Write(p)
		}
		size += int64(len(p))
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	measure(b, dir, size)
}

func measure(b *testing.B, dir string, size int64) {
	if err := alone(b.Context(), dir); err != nil { // fills the page cache
		b.Fatal(err)
	}
	out := filepath.Join(b.TempDir(), "out")
	b.SetBytes(size)
	b.ReportAllocs()
	var whole, part, wholeCPU, partCPU float64
	for b.Loop() {
		start, startCPU := b.Elapsed(), cpu(b)
		if _, err := pack.Tree(b.Context(), dir, nowhere{}, out, pack.Options{}); err != nil {
			b.Fatal(err)
		}
		middle, middleCPU := b.Elapsed(), cpu(b)
		if err := alone(b.Context(), dir); err != nil {
			b.Fatal(err)
		}
		whole += (middle - start).Seconds()
		part += (b.Elapsed() - middle).Seconds()
		wholeCPU, partCPU = wholeCPU+middleCPU-startCPU, partCPU+cpu(b)-middleCPU
	}
	b.ReportMetric(wholeCPU/partCPU, "cpu-ratio")
	b.ReportMetric(whole/part, "ratio")
	b.ReportMetric(float64(b.N)*float64(size)/1e6/whole, "pack-MB/s")
}

// cpu returns the processor time of this process in seconds. On a machine that does other
// things as well its ratio is the one to look at.
func cpu(b *testing.B) float64 {
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return float64(r.Utime.Nano()+r.Stime.Nano()) / 1e9
}

// alone reads every file and does to its bytes what a pack cannot do without, BLAKE3 and
// zstd as blobs have it, in pieces of the mean size of chunks.
func alone(ctx context.Context, dir string) error {
	const piece = 128 << 10
	g, _ := errgroup.WithContext(ctx)
	work, free := make(chan []byte, 64), make(chan []byte, 64)
	for range cap(free) {
		free <- make([]byte, piece)
	}
	for range runtime.GOMAXPROCS(0) {
		s, err := blob.NewSealer()
		if err != nil {
			return err
		}
		g.Go(func() error {
			dst := make([]byte, 0, piece)
			for p := range work {
				s.Seal(dst, chunk.Sum(p), p)
				free <- p[:piece]
			}
			return nil
		})
	}
	g.Go(func() error {
		defer close(work)
		return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			defer func() { _ = f.Close() }()
			for {
				p := <-free
				n, err := io.ReadFull(f, p)
				if n == 0 {
					free <- p
					if errors.Is(err, io.EOF) {
						return nil
					}
					return err
				}
				work <- p[:n]
			}
		})
	})
	return g.Wait()
}
