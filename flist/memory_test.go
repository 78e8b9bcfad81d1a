package flist_test

import (
	"path/filepath"
	"runtime"
	"testing"

	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/internal/testenv"
)

// heap returns how many bytes are alive, and how many were ever allocated.
func heap() (live, total uint64) {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc, m.TotalAlloc
}

// TestMemoryOfTables writes trees of very different sizes and checks them: what is kept for
// each entry lies in files, and the heap hardly grows.
func TestMemoryOfTables(t *testing.T) {
	const few, many = 150_000, 450_000
	const perEntry = 4 // bytes; the tables have some 100
	var live, checked [2]uint64
	for i, n := range []int{few, many} {
		dir := testenv.TempDir(t)
		w, err := flist.NewWriter(dir)
		if err != nil {
			t.Fatal(err)
		}
		before, _ := heap()
		big(n)(t, w)
		after, _ := heap()
		live[i] = after - min(before, after)
		path := filepath.Join(dir, "t.flist")
		if _, err := w.Finish(path); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		_, before = heap()
		r, err := flist.Open(path, flist.OpenOptions{TempDir: dir})
		if err != nil {
			t.Fatal(err)
		}
		_, after = heap()
		checked[i] = after - before
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("alive while writing: %d and %d bytes; allocated by opening: %d and %d bytes", live[0], live[1], checked[0], checked[1])
	for what, grown := range map[string]int64{
		"writing": int64(live[1]) - int64(live[0]), "checking": int64(checked[1]) - int64(checked[0]),
	} {
		if most := int64(perEntry * (many - few)); grown > most {
			t.Errorf("%s %d entries takes %d bytes more than %d do, want at most %d", what, many, grown, few, most)
		}
	}
}
