package atomicfile_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/zosfs/zosfs/internal/atomicfile"
)

func TestMove(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	for path, text := range map[string]string{from: "new", to: "old"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	was, err := os.Stat(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := atomicfile.Move(from, filepath.Join(dir, "absent", "to"), 0o644); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Move to a directory that is not there = %v, want %v", err, fs.ErrNotExist)
	}
	if err := atomicfile.Move(from, to, 0o644); err != nil {
		t.Fatal(err)
	}
	is, err := os.Stat(to)
	if err != nil || !os.SameFile(was, is) || is.Mode() != 0o644 {
		t.Errorf("after Move: %v, %v; want the file itself with mode 0644", is, err)
	}
	if err := atomicfile.Move(from, to, 0o644); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Move of what is not there = %v, want %v", err, fs.ErrNotExist)
	}
	if p, err := os.ReadFile(to); err != nil || string(p) != "new" {
		t.Errorf("the file holds %q, %v, want %q", p, err, "new")
	}
}
