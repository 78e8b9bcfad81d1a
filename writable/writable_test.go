package writable_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/writable"
)

func TestTable(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "rw")
	table := writable.New(dir)
	if all, err := table.All(); err != nil || len(all) > 0 {
		t.Errorf("an empty table has %v, %v", all, err)
	}
	kept := filepath.Join(t.TempDir(), "kept")
	one, err := table.Begin("/one", "")
	if err != nil {
		t.Fatal(err)
	}
	two, err := table.Begin("/two", kept)
	if err != nil {
		t.Fatal(err)
	}
	two.Ref, two.Digest = "acme/x:1", flist.Digest{1}
	if err := two.Save(); err != nil {
		t.Fatal(err)
	}
	if !one.Scratch || two.Scratch || two.Changes != kept || one.Lower() == two.Lower() {
		t.Errorf("records %+v, %+v", one, two)
	}
	got, err := writable.New(dir).Find("/two")
	if err != nil || !cmp.Equal(got, two, cmpopts.IgnoreUnexported(writable.Record{})) || got.Lower() != two.Lower() {
		t.Errorf("Find = %+v, %v, want %+v", got, err, two)
	}
	if _, err := table.Find("/three"); !errors.Is(err, errs.ErrNotFound) {
		t.Errorf("Find of nothing = %v, want %v", err, errs.ErrNotFound)
	}
	if got.Mounted() {
		t.Error("a directory that is not there is a mount")
	}
}

// TestDamage leaves out what cannot be read, and what another program wrote.
func TestDamage(t *testing.T) {
	dir := t.TempDir()
	table := writable.New(dir)
	if _, err := table.Begin("/good", ""); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"empty": "", "torn": `{"dir":"/x"`, "relative": `{"dir":"x","changes":"/y"}`, "number": "7"} {
		if err := errors.Join(os.Mkdir(filepath.Join(dir, name), 0o700), os.WriteFile(filepath.Join(dir, name, "mount.json"), []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if all, err := table.All(); err != nil || len(all) != 1 || all[0].Dir != "/good" {
		t.Errorf("All = %v, %v", all, err)
	}
}

// TestEnd removes scratch changes and leaves kept ones.
func TestEnd(t *testing.T) {
	testenv.NeedRoot(t)
	dir := testenv.TempDir(t)
	table := writable.New(filepath.Join(dir, "rw"))
	for _, changes := range []string{"", filepath.Join(dir, "kept")} {
		r, err := table.Begin("/x", changes)
		if err != nil {
			t.Fatal(err)
		}
		u, err := r.Upper()
		if err == nil {
			err = u.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := r.End(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(r.Lower()); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("after End: %v", err)
		}
		if _, err := os.Stat(r.Changes); (err == nil) != (changes != "") {
			t.Errorf("the changes after End: %v, kept %v", err, changes != "")
		}
	}
	if all, err := table.All(); err != nil || len(all) > 0 {
		t.Errorf("All after End = %v, %v", all, err)
	}
}
