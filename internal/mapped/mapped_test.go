package mapped

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/internal/testenv"
)

type pair struct {
	a uint32
	b uint64
}

// small makes slices leave the heap after a few items.
func small(t *testing.T) {
	old := heapLimit
	heapLimit = 2000
	t.Cleanup(func() { heapLimit = old })
}

func TestSlice(t *testing.T) {
	small(t)
	dir := t.TempDir()
	before, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	s := Slice[pair]{Dir: dir}
	var want []pair
	for i := range 100_000 {
		v := pair{uint32(i), uint64(i) << 33}
		want = append(want, v)
		if err := s.Append(v); err != nil {
			t.Fatal(err)
		}
		if i == 10 && s.f != nil {
			t.Error("a file for 11 items")
		}
	}
	if s.f == nil || !slices.Equal(s.Items, want) {
		t.Errorf("%d items, want %d in a file and equal", len(s.Items), len(want))
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("the file has a name: %v, %v", left, err)
	}
	if after, err := os.Stat(dir); err != nil || !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("the directory was touched: %v", err)
	}
	s.Release()
	if !slices.Equal(s.Items, want) {
		t.Error("Release has lost items")
	}
	for _, n := range []int{200_000, 50, 300_000} {
		kept := slices.Clone(s.Items[:min(n, len(s.Items))])
		if err := s.Resize(n); err != nil {
			t.Fatal(err)
		}
		if len(s.Items) != n || !slices.Equal(s.Items[:len(kept)], kept) {
			t.Fatalf("Resize(%d): %d items, or others", n, len(s.Items))
		}
		if i := slices.IndexFunc(s.Items[len(kept):], func(p pair) bool { return p != pair{} }); i >= 0 {
			t.Errorf("Resize(%d): new item %d is not zero", n, len(kept)+i)
		}
	}
	for range 2 {
		if err := s.Close(); err != nil || s.Items != nil {
			t.Errorf("Close() = %v with %d items left", err, len(s.Items))
		}
	}
}

func TestFullDisk(t *testing.T) {
	testenv.NeedRoot(t)
	small(t)
	dir := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	testenv.Mounted(t, dir)
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	s := Slice[uint64]{Dir: dir}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	var err error
	n := 0
	for ; err == nil && n < 100_000; n++ {
		err = s.Append(uint64(n))
	}
	if !errors.Is(err, errs.ErrFull) {
		t.Fatalf("Append to a full disk = %v after %d items, want %v", err, n, errs.ErrFull)
	}
	for i, v := range s.Items {
		if v != uint64(i) {
			t.Fatalf("item %d is %d after an append that failed", i, v)
		}
	}
	if len(s.Items) != n-1 {
		t.Errorf("%d items after %d appends and one that failed", len(s.Items), n-1)
	}
}

func TestNoFallocate(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, size := range []int64{5000, 3 << 20, 3<<20 + 1} {
		if err := fill(f, size); err != nil {
			t.Fatal(err)
		}
		if st, err := f.Stat(); err != nil || st.Size() != size || st.Sys().(*syscall.Stat_t).Blocks*512 < size {
			t.Errorf("fill(%d): %v, %v, or holes", size, st.Size(), err)
		}
	}
}
