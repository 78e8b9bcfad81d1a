package image_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zosfs/zosfs/image"
	"github.com/zosfs/zosfs/internal/testenv"
)

// shelf is a world of many small files in several blobs, and their paths in walk order.
func shelf(t *testing.T, n int) (*world, []string) {
	specs := make([]spec, n)
	paths := make([]string, n)
	for i := range specs {
		paths[i] = fmt.Sprintf("f%05d", i)
		specs[i] = whole(paths[i], noise(uint64(i), 2000+i%4096))
	}
	return build(t, packing{perBlob: n / 4}, specs...), paths
}

// readFiles reads whole files one after another.
func readFiles(t *testing.T, w *world, im *image.Image, paths ...string) (sealed int64) {
	t.Helper()
	for _, path := range paths {
		got := make([]byte, len(w.content[path]))
		if _, err := im.ReadAt(t.Context(), find(t, im, path), got, 0); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, w.content[path]) {
			t.Fatalf("%s has wrong bytes", path)
		}
		for e := range im.Flist().ExtentsAt(im.Tree().Attr(find(t, im, path)).Object, 0) {
			sealed += int64(im.Flist().Chunk(e.Chunk).Stored)
		}
	}
	return sealed
}

// without returns all but each nth.
func without(paths []string, n int) (rest []string) {
	for i, p := range paths {
		if i%n != n-1 {
			rest = append(rest, p)
		}
	}
	return rest
}

// TestRuns reads small files in the order of the tree from a source without delay: few
// requests, and next to nothing that nobody reads.
func TestRuns(t *testing.T) {
	testenv.NoLeaks(t)
	w, paths := shelf(t, 4000)
	var everySecond []string
	for i := 0; i < len(paths); i += 2 {
		everySecond = append(everySecond, paths[i])
	}
	backwards := slices.Clone(paths)
	slices.Reverse(backwards)
	zipped := make([]string, 0, len(paths)) // two readers
	for i := range len(paths) / 2 {
		zipped = append(zipped, paths[i], paths[len(paths)/2+i])
	}
	for _, tt := range []struct {
		name     string
		read     []string
		requests float64 // at most so many, of one a file
		excess   float64 // fetched beyond what was touched, at most
	}{
		{"all", paths, 0.03, 0},
		{"half", paths[:len(paths)/2], 0.06, 0.1},
		{"few", paths[100:116], 1, 0.1},
		{"two readers", zipped, 0.08, 0},
		{"all but each 10th", without(paths, 10), 1, 0.1},
		{"all but each 12th", without(paths, 12), 1, 0.1},
		{"all but each 25th", without(paths, 25), 1, 0.1},
		{"every second", everySecond, 1, 0},
		{"backwards", backwards, 1, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			im := w.open(t, nil, image.Options{})
			touched := readFiles(t, w, im, tt.read...)
			s := im.Stats()
			if most := int64(tt.requests * float64(len(tt.read))); s.Requests > most {
				t.Errorf("%d requests for %d files, want at most %d", s.Requests, len(tt.read), most)
			}
			if most := int64((1 + tt.excess) * float64(touched)); s.BytesFetched > most {
				t.Errorf("%d bytes fetched, %d touched, want at most %d", s.BytesFetched, touched, most)
			}
		})
	}
}

// TestRunsOverLink reads small files in the order of the tree over a link with a delay.
func TestRunsOverLink(t *testing.T) {
	testenv.NoLeaks(t)
	w, paths := shelf(t, 4000)
	synctest.Test(t, func(t *testing.T) {
		const delay, rate = 50 * time.Millisecond, 2.5e6
		im := w.open(t, &wire{Getter: w.store, delay: delay, rate: rate}, image.Options{})
		begun := time.Now()
		touched := readFiles(t, w, im, paths...)
		took := time.Since(begun).Seconds()
		if plain := delay.Seconds() + float64(touched)/rate; plain/took < 0.7 {
			t.Errorf("%.2f of the speed of a plain download, want 0.7; %+v", plain/took, im.Stats())
		}
	})
}

// TestRunsTurnAway reads in order, then only the first of every few files: what was taken
// along and not read ends the run.
func TestRunsTurnAway(t *testing.T) {
	w, paths := shelf(t, 4000)
	im := w.open(t, nil, image.Options{})
	touched := readFiles(t, w, im, paths[:1000]...)
	before := im.Stats().BytesFetched
	for i := 1100; i < len(paths); i += 5 {
		touched += readFiles(t, w, im, paths[i])
	}
	s := im.Stats()
	if before > touched*11/10 || s.BytesFetched-before > touched {
		t.Errorf("%d bytes fetched in order, then %d, touched %d", before, s.BytesFetched-before, touched)
	}
	if s.BytesFetched > touched*11/10 {
		t.Errorf("%d bytes fetched, %d touched", s.BytesFetched, touched)
	}
}
