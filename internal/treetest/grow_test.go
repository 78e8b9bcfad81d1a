package treetest_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/internal/treetest"
)

func grow(t *testing.T, o treetest.GrowOptions) (string, treetest.Totals) {
	t.Helper()
	dir := testenv.TempDir(t)
	total, err := treetest.Grow(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return dir, total
}

func TestGrowAndMutateAreDeterministic(t *testing.T) {
	o := treetest.GrowOptions{Files: 300, Seed: 7, MaxFile: 1 << 20}
	a, _ := grow(t, o)
	b, _ := grow(t, o)
	treetest.Check(t, a, b, treetest.CompareOptions{})
	for _, dir := range []string{a, b} {
		if _, err := treetest.Mutate(dir, 10, 8); err != nil {
			t.Fatal(err)
		}
	}
	treetest.Check(t, a, b, treetest.CompareOptions{})
}

// TestGrowShares holds what comes out against the figures that it is made after.
func TestGrowShares(t *testing.T) {
	dir, total := grow(t, treetest.GrowOptions{Files: 2000, MaxFile: 4 << 20})
	var files, links, dirs, upTo4K, upTo64K int
	var bytes int64
	var all []byte
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			dirs++
			return nil
		case !d.Type().IsRegular():
			links++
			_, err := os.Stat(path) // none dangles
			return err
		}
		p, err := os.ReadFile(path)
		files++
		bytes += int64(len(p))
		all = append(all, p[:min(len(p), 16<<10)]...)
		if len(p) <= 4<<10 {
			upTo4K++
		}
		if len(p) <= 64<<10 {
			upTo64K++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	got := treetest.Totals{Files: files, Dirs: dirs, Symlinks: links, Bytes: bytes}
	if diff := cmp.Diff(total, got); diff != "" {
		t.Errorf("Totals (-said +found):\n%s", diff)
	}
	within := func(what string, got, want, tolerance float64) {
		t.Helper()
		if got < want-tolerance || got > want+tolerance {
			t.Errorf("%s = %.3f, want %.3f +- %.3f", what, got, want, tolerance)
		}
	}
	within("files a directory", float64(files)/float64(dirs), 7.5, 0.5)
	within("symlinks a file", float64(links)/float64(files), 0.044, 0.005)
	within("share of files up to 4 KiB", float64(upTo4K)/float64(files), 0.665, 0.03)
	within("share of files up to 64 KiB", float64(upTo64K)/float64(files), 0.959, 0.02)
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	within("compressed share", float64(len(enc.EncodeAll(all, nil)))/float64(len(all)), 0.4, 0.1)
}

func TestMutateShare(t *testing.T) {
	dir, _ := grow(t, treetest.GrowOptions{Files: 1000, MaxFile: 64 << 10})
	before, err := treetest.Scan(dir)
	if err != nil {
		t.Fatal(err)
	}
	changes, err := treetest.Mutate(dir, 5, 1)
	if err != nil {
		t.Fatal(err)
	}
	want := treetest.Changes{Edited: 20, Rewritten: 10, Removed: 10, Added: 10}
	sum := changes
	sum.Bytes = 0
	if diff := cmp.Diff(want, sum); diff != "" {
		t.Errorf("Changes (-want +got):\n%s", diff)
	}
	after, err := treetest.Scan(dir)
	if err != nil {
		t.Fatal(err)
	}
	var found treetest.Changes
	for _, d := range before.Diff(after, treetest.CompareOptions{}) {
		switch {
		case d.Field == "content":
			found.Edited++ // or rewritten
		case d.Field == "entry" && d.B == "none":
			found.Removed++
		case d.Field == "entry":
			found.Added++
		}
	}
	want.Edited, want.Rewritten = want.Edited+want.Rewritten, 0
	if diff := cmp.Diff(want, found); diff != "" {
		t.Errorf("changes found (-want +got):\n%s", diff)
	}
}
