package pack

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/internal/testenv"
)

// TestXattrReader reads attributes in the way of new kernels, if this is one, and of old ones.
func TestXattrReader(t *testing.T) {
	dir := testenv.TempDir(t)
	path := filepath.Join(dir, "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	want := []flist.Xattr{{Name: "user.a", Value: []byte("one")}, {Name: "user.b", Value: make([]byte, 3000)}}
	for _, x := range want {
		if err := unix.Setxattr(path, x.Name, x.Value, 0); err != nil {
			t.Fatal(err)
		}
	}
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	for _, byPath := range []bool{false, true} {
		r := xattrReader{buf: make([]byte, 8), byPath: byPath}
		got, err := r.read(int(d.Fd()), "file")
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("by path %v: %v, attributes (-want +got):\n%s", byPath, err, diff)
		}
		if got, err := r.read(int(d.Fd()), "."); err != nil || len(got) > 0 {
			t.Errorf("by path %v: attributes of the directory = %v, %v, want none", byPath, got, err)
		}
		if _, err := r.read(int(d.Fd()), "none"); err == nil {
			t.Errorf("by path %v: no error for a name that is not there", byPath)
		}
	}
}
