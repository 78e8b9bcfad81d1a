package node_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/node"
)

func TestLeft(t *testing.T) {
	d := node.Dirs{State: t.TempDir()}
	if got, err := node.Left(d); err != nil || got != nil {
		t.Errorf("Left of no service = %v, %v", got, err)
	}
	table := func(text string) {
		if err := os.WriteFile(filepath.Join(d.State, "mounts.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	table(`{"version":1,"mounts":[{"request":{"ref":"/x.flist","dir":"/m","mode":"auto"},"dir":"/m","mode":"kernel"}]}`)
	got, err := node.Left(d)
	if diff := cmp.Diff([]node.LeftMount{{Dir: "/m", Ref: "/x.flist", Mode: "kernel"}}, got); err != nil || diff != "" {
		t.Errorf("Left = %v (-want +got):\n%s", err, diff)
	}
	table(`{"version":`)
	if _, err := node.Left(d); !errors.Is(err, errs.ErrCorrupt) {
		t.Errorf("Left of a torn table = %v, want %v", err, errs.ErrCorrupt)
	}
}
