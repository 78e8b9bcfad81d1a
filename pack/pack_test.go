package pack_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/internal/treetest"
	"github.com/zosfs/zosfs/pack"
)

func grow(t *testing.T, files int, max int64) string {
	t.Helper()
	dir := filepath.Join(testenv.TempDir(t), "tree")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := treetest.Grow(dir, treetest.GrowOptions{Files: files, Seed: 1, MaxFile: max}); err != nil {
		t.Fatal(err)
	}
	return dir
}

func oddTree(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(testenv.TempDir(t), "odd")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	treetest.Odd(t, dir, treetest.Options{Seed: 1})
	return dir
}

func TestSameBytes(t *testing.T) {
	for name, dir := range map[string]string{"odd": oddTree(t), "machine": grow(t, 1500, 8<<20)} {
		t.Run(name, func(t *testing.T) {
			empty := newDest()
			first, want := mustPack(t, dir, empty, pack.Options{Workers: 1})
			open(t, want)
			check := func(name, dir string, d *dest, o pack.Options) pack.Result {
				t.Helper()
				res, got := mustPack(t, dir, d, o)
				if !bytes.Equal(got, want) {
					t.Errorf("%s: other bytes; result %+v, want %+v", name, res, first)
				}
				return res
			}
			check("2 workers", dir, newDest(), pack.Options{Workers: 2})
			check("8 workers", dir, newDest(), pack.Options{Workers: 8})
			if res := check("again", dir, empty, pack.Options{}); res.BlobsSent != 0 || res.ChunksNew != 0 {
				t.Errorf("again: %d blobs and %d chunks were sent, want none", res.BlobsSent, res.ChunksNew)
			}
			elsewhere := filepath.Join(testenv.TempDir(t), "copy")
			if out, err := exec.Command("cp", "-a", dir, elsewhere).CombinedOutput(); err != nil {
				t.Skipf("cp cannot copy this tree: %v, %s", err, out)
			}
			if diffs, err := treetest.Compare(dir, elsewhere, treetest.CompareOptions{}); err != nil || len(diffs) > 0 {
				t.Logf("the copy differs: %v %v", err, diffs)
				return
			}
			check("another directory", elsewhere, newDest(), pack.Options{})
			check("another directory, again", elsewhere, empty, pack.Options{})
		})
	}
}
