package treetest

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// GrowOptions say what [Grow] makes.
type GrowOptions struct {
	Files   int    // regular files; there is a directory for about every eight of them
	Seed    uint64 // decides everything
	MaxFile int64  // bytes of the largest file; 0 means 146 MiB, as in the tree that was measured
}

// Totals sum up what [Grow] made.
type Totals struct {
	Files, Dirs, Symlinks int
	Bytes                 int64 // of regular files
}

// quantiles are the sizes of files in a development image of 128,773 files: that share
// of files is at most so large. Between them sizes grow by a constant factor.
var quantiles = []struct {
	share float64
	size  float64 // bytes
}{
	{0, 1}, {0.10, 378}, {0.50, 1981}, {0.665, 4 << 10}, {0.90, 24_074}, {0.959, 64 << 10},
	{0.98, 128 << 10}, {0.99, 256 << 10}, {0.997, 1 << 20}, {0.999, 4 << 20}, {1, 146 << 20},
}

// sizeAt returns the size of the file that a share u of all files is smaller than.
func sizeAt(u float64) int64 {
	i, _ := slices.BinarySearchFunc(quantiles, u, func(q struct{ share, size float64 }, u float64) int {
		return cmp.Compare(q.share, u)
	})
	i = min(max(i, 1), len(quantiles)-1)
	a, b := quantiles[i-1], quantiles[i]
	return int64(a.size * math.Pow(b.size/a.size, (u-a.share)/(b.share-a.share)))
}

// Grow fills the empty directory dir with a tree like that of a machine: sizes, directories,
// symlinks and duplicates in the shares measured on a real one, content that compresses to
// about two fifths. Equal options give equal trees.
func Grow(dir string, o GrowOptions) (Totals, error) {
	g := &grower{dir: dir, o: o, r: rand.New(rand.NewPCG(o.Seed, 0))}
	g.pool = newPool(g.r)
	g.plan()
	if err := g.make(); err != nil {
		return Totals{}, fmt.Errorf("grow %s: %w", dir, err)
	}
	total := Totals{Files: len(g.files), Dirs: len(g.dirs), Symlinks: len(g.links)}
	for _, f := range g.files {
		total.Bytes += f.size
	}
	return total, nil
}

type grower struct {
	dir   string
	o     GrowOptions
	r     *rand.Rand
	pool  []byte
	dirs  []string // each after its parent; the first is "."
	files []plannedFile
	links []plannedLink
}

type plannedFile struct {
	path  string
	size  int64
	seed  uint64 // of the content; duplicates have the same
	noise float64
	mode  os.FileMode
	mtime time.Time
}

type plannedLink struct{ path, target string }

// plan decides about the whole tree.
func (g *grower) plan() {
	const perDir, duplicates, perLink, maxDepth = 7.5, 0.05, 22.5, 9
	depth := []int{0}
	g.dirs = []string{"."}
	for i := range int(float64(g.o.Files) / perDir) {
		parent := g.r.IntN(len(g.dirs))
		if depth[parent] >= maxDepth {
			parent = 0
		}
		g.dirs = append(g.dirs, filepath.Join(g.dirs[parent], fmt.Sprintf("%s%d", g.word(), i)))
		depth = append(depth, depth[parent]+1)
	}
	for i, rank := range g.r.Perm(g.o.Files) {
		g.files = append(g.files, g.file(i, (float64(rank)+0.5)/float64(g.o.Files)))
		if twin := g.files[g.r.IntN(i+1)]; g.r.Float64() < duplicates && twin.size <= 1<<20 {
			f := &g.files[i]
			f.size, f.seed, f.noise = twin.size, twin.seed, twin.noise
		}
	}
	for i := range int(float64(g.o.Files) / perLink) {
		target := g.files[g.r.IntN(len(g.files))].path
		g.links = append(g.links, plannedLink{filepath.Join(filepath.Dir(target), fmt.Sprintf("link%d", i)), filepath.Base(target)})
	}
}

// file plans the i-th file, which a share u of all files is smaller than.
func (g *grower) file(i int, u float64) plannedFile {
	f := plannedFile{
		path:  filepath.Join(g.dirs[g.r.IntN(len(g.dirs))], fmt.Sprintf("%s%d%s", g.word(), i, g.pick("", ".so", ".py", ".h", ".conf", ".txt", ".gz"))),
		size:  min(sizeAt(u), cmp.Or(g.o.MaxFile, 146<<20)),
		seed:  g.r.Uint64(),
		mode:  0o644,
		mtime: time.Unix(1_600_000_000+g.r.Int64N(100_000_000), g.r.Int64N(1_000_000_000)),
	}
	switch kind := g.r.Float64(); {
	case kind < 0.1:
		f.noise = 1 // compressed already
	case kind < 0.4:
		f.noise, f.mode = 0.4, 0o755 // program
	}
	return f
}

func (g *grower) word() string {
	at := g.r.IntN(len(g.pool) - 8)
	w := slices.Clone(g.pool[at : at+2+g.r.IntN(6)])
	for i, c := range w {
		if c < 'a' || c > 'z' {
			w[i] = '-'
		}
	}
	return string(w)
}

func (g *grower) pick(of ...string) string { return of[g.r.IntN(len(of))] }

// make makes what was planned.
func (g *grower) make() error {
	for _, d := range g.dirs[1:] {
		if err := os.Mkdir(filepath.Join(g.dir, d), 0o755); err != nil {
			return err
		}
	}
	var group errgroup.Group
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		group.Go(func() error {
			buf := make([]byte, copySize)
			for i := w; i < len(g.files); i += workers {
				if err := g.write(g.files[i], buf); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for _, l := range g.links {
		if err := os.Symlink(l.target, filepath.Join(g.dir, l.path)); err != nil {
			return err
		}
	}
	return g.stamp()
}

// copySize is a constant since content depends on it.
const copySize = 128 << 10

func (g *grower) write(f plannedFile, buf []byte) error {
	path := filepath.Join(g.dir, f.path)
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, f.mode)
	if err != nil {
		return err
	}
	err = copyContent(file, &contents{rand.New(rand.NewPCG(f.seed, 1)), g.pool, f.noise, f.size}, buf)
	return errors.Join(err, file.Close(), os.Chtimes(path, f.mtime, f.mtime))
}

// copyContent writes what is left of c, in pieces of the size of buf.
func copyContent(w io.Writer, c *contents, buf []byte) error {
	_, err := io.CopyBuffer(struct{ io.Writer }{w}, c, buf)
	return err
}

// stamp sets the times of all that is not a file, last, since making entries changes them.
func (g *grower) stamp() error {
	t := time.Unix(1_700_000_000, 0)
	for _, l := range g.links {
		if err := lutimes(filepath.Join(g.dir, l.path), t); err != nil {
			return err
		}
	}
	for _, d := range g.dirs {
		if err := lutimes(filepath.Join(g.dir, d), t); err != nil {
			return err
		}
	}
	return nil
}
