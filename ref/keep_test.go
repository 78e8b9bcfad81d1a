package ref

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/flist"
)

// TestPutEndless has a hub that sends without end and did not say how much.
func TestPutEndless(t *testing.T) {
	k, err := newKeep(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	k.limit = 1 << 20
	p := make([]byte, k.limit)
	d := flist.Digest(chunk.Sum(p))
	if err := k.put(t.Context(), d, io.NopCloser(zeros{}), -1); !errors.Is(err, errs.ErrFull) {
		t.Errorf("put of an endless body = %v, want %v", err, errs.ErrFull)
	}
	if left, err := os.ReadDir(k.flists()); err != nil || len(left) != 0 {
		t.Errorf("put left %v, %v", left, err)
	}
	if err := k.put(t.Context(), d, io.NopCloser(bytes.NewReader(p)), -1); err != nil {
		t.Errorf("put of as much as is allowed = %v", err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestTrim(t *testing.T) {
	k, err := newKeep(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for _, f := range []struct {
		name string
		age  time.Duration
		size int
	}{
		{"new" + flistSuffix, 0, 100}, {"older" + flistSuffix, time.Hour, 100}, {"oldest" + flistSuffix, 2 * time.Hour, 100},
		{".zosfs-tmp-young", time.Hour, 1}, {".zosfs-tmp-old", 25 * time.Hour, 1}, {"zosfs-flist-old", 25 * time.Hour, 1}, {"stranger", 25 * time.Hour, 1},
	} {
		path := filepath.Join(k.flists(), f.name)
		if err := errors.Join(os.WriteFile(path, make([]byte, f.size), 0o600), os.Chtimes(path, now, now.Add(-f.age))); err != nil {
			t.Fatal(err)
		}
	}
	left := func() (names []string) {
		entries, err := os.ReadDir(k.flists())
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
	if err := k.trim(200); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{".zosfs-tmp-young", "new.flist", "older.flist", "stranger"}, left()); diff != "" {
		t.Errorf("after trim(200) (-want +got):\n%s", diff)
	}
	if err := k.trim(1); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{".zosfs-tmp-young", "new.flist", "stranger"}, left()); diff != "" {
		t.Errorf("the most recent flist stays (-want +got):\n%s", diff)
	}
}
