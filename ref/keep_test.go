package ref

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
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
	k, err := newKeep(t.TempDir(), true, slog.New(slog.DiscardHandler))
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
	k, err := newKeep(t.TempDir(), true, slog.New(slog.DiscardHandler))
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

// TestTrimCopies gives checked copies what flists leave, and no less than half.
func TestTrimCopies(t *testing.T) {
	type file struct {
		name string
		age  int // hours
		size int
	}
	tests := []struct {
		name  string
		limit int64
		have  []file
		want  []string
	}{
		{"room", 600, []file{{"a.flist", 1, 100}, {"a.checked", 1, 300}, {"b.flist", 2, 100}, {"c.checked", 3, 100}}, []string{"a.checked", "a.flist", "b.flist", "c.checked"}},
		{"copies go first", 500, []file{{"a.flist", 1, 100}, {"a.checked", 1, 200}, {"b.flist", 2, 100}, {"b.checked", 2, 200}}, []string{"a.checked", "a.flist", "b.flist"}},
		{"of the flists used least recently", 500, []file{{"a.flist", 9, 100}, {"a.checked", 9, 200}, {"b.flist", 2, 100}, {"b.checked", 2, 200}}, []string{"a.flist", "b.checked", "b.flist"}},
		{"flists leave half to them", 400, []file{{"a.flist", 1, 100}, {"a.checked", 1, 200}, {"b.flist", 2, 100}, {"c.flist", 3, 100}, {"d.flist", 4, 100}}, []string{"a.checked", "a.flist", "b.flist"}},
		{"no more than they take", 400, []file{{"a.flist", 1, 100}, {"a.checked", 1, 50}, {"b.flist", 2, 100}, {"c.flist", 3, 100}, {"d.flist", 4, 100}}, []string{"a.checked", "a.flist", "b.flist", "c.flist"}},
		{"with the flist", 400, []file{{"a.flist", 1, 200}, {"a.checked", 1, 50}, {"b.flist", 2, 200}, {"b.checked", 2, 50}}, []string{"a.checked", "a.flist"}},
		{"the most recent of both stay", 1, []file{{"a.flist", 1, 100}, {"a.checked", 1, 300}, {"b.flist", 2, 100}, {"b.checked", 2, 1}}, []string{"a.checked", "a.flist"}},
		{"copies alone", 500, []file{{"a.checked", 1, 300}, {"b.checked", 2, 300}, {"c.checked", 3, 1}}, []string{"a.checked"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k, err := newKeep(t.TempDir(), true, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			now := time.Now()
			for _, f := range tt.have {
				path := filepath.Join(k.flists(), f.name)
				when := now.Add(-time.Duration(f.age) * time.Hour)
				if err := errors.Join(os.WriteFile(path, make([]byte, f.size), 0o600), os.Chtimes(path, when, when)); err != nil {
					t.Fatal(err)
				}
			}
			if err := k.trim(tt.limit); err != nil {
				t.Fatal(err)
			}
			entries, err := os.ReadDir(k.flists())
			if err != nil {
				t.Fatal(err)
			}
			var left []string
			for _, e := range entries {
				left = append(left, e.Name())
			}
			if diff := cmp.Diff(tt.want, left); diff != "" {
				t.Errorf("after trim(%d) (-want +got):\n%s", tt.limit, diff)
			}
		})
	}
}

// TestUsed has copies and flists that were opened be the last to go.
func TestUsed(t *testing.T) {
	k, err := newKeep(t.TempDir(), true, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	w, err := flist.NewWriter(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	if _, err := w.AddNode(flist.Node{Mode: flist.ModeDir | 0o755}); err != nil {
		t.Fatal(err)
	}
	sum, err := w.Finish(filepath.Join(k.flists(), "made"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(k.flists(), "made"), k.flistFile(sum.Digest)); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	for range 2 { // by the whole check, then from the copy
		if err := os.Chtimes(k.flistFile(sum.Digest), old, old); err != nil {
			t.Fatal(err)
		}
		r, err := k.open(sum.Digest)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		for _, path := range []string{k.flistFile(sum.Digest), k.checkedFile(sum.Digest)} {
			info, err := os.Stat(path)
			if err != nil || info.ModTime().Equal(old) {
				t.Errorf("%s after it was opened: %v, %v", path, info, err)
			}
		}
		if err := os.Chtimes(k.checkedFile(sum.Digest), old, old); err != nil {
			t.Fatal(err)
		}
	}
}
