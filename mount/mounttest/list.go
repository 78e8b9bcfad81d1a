package mounttest

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A dirent is an entry of a listing as getdents64(2) gives it.
type dirent struct {
	ino  uint64
	off  int64 // where the listing goes on after this entry
	typ  uint8
	name string
}

// list reads entries of f from where it stands, with calls of the given size, in bytes. It
// stops after limit entries or more; 0 is no limit.
func list(t *testing.T, f *os.File, size, limit int) []dirent {
	t.Helper()
	var all []dirent
	buf := make([]byte, size)
	for limit == 0 || len(all) < limit {
		n, err := unix.Getdents(int(f.Fd()), buf)
		if err != nil {
			t.Fatalf("getdents %s: %v", f.Name(), err)
		}
		if n == 0 {
			break
		}
		for p := buf[:n]; len(p) > 0; {
			length := binary.NativeEndian.Uint16(p[16:])
			name, _, _ := strings.Cut(string(p[19:length]), "\x00")
			all = append(all, dirent{
				ino:  binary.NativeEndian.Uint64(p),
				off:  int64(binary.NativeEndian.Uint64(p[8:])),
				typ:  p[18],
				name: name,
			})
			p = p[length:]
		}
	}
	return all
}

// listOrder: a listing begins with "." and "..", goes on in the order of bytes, and tells
// numbers and types as stat does. EROFS has those two in their places.
func (s *suite) listOrder(t *testing.T) {
	for _, dir := range []string{plain, "odd/special", "odd/names", "odd/hardlinks/a", "odd/empty/directory"} {
		path := filepath.Join(s.dir, dir)
		got := list(t, open(t, path), 32<<10, 0)
		var names []string
		for _, e := range got {
			st := stat(t, path+"/"+e.name)
			if e.ino != st.Ino || uint32(e.typ)<<12 != st.Mode&unix.S_IFMT {
				t.Errorf("%s/%q is listed as inode %d of type %d, want %d, %d", dir, e.name, e.ino, e.typ, st.Ino, st.Mode>>12)
			}
			names = append(names, e.name)
		}
		want, err := open(t, s.ref, dir).Readdirnames(-1)
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(want)
		want = append([]string{".", ".."}, want...)
		if s.kernel {
			slices.Sort(want)
		}
		if !slices.Equal(names, want) {
			t.Errorf("list %s = %q, want %q", dir, names, want)
		}
	}
}

// listSeek: any place of a listing can be gone back to, with any size of calls, on this
// descriptor or another.
func (s *suite) listSeek(t *testing.T) {
	path := filepath.Join(s.dir, "odd/names")
	f, other := open(t, path), open(t, path)
	all := list(t, f, 256<<10, 0)
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		i := rng.IntN(len(all))
		if _, err := f.Seek(all[i].off, io.SeekStart); err != nil {
			t.Fatalf("seek to %d: %v", all[i].off, err)
		}
		got := list(t, f, 300+rng.IntN(4096), 3)
		if want := all[i+1:]; !slices.Equal(got, want[:min(len(got), len(want))]) {
			t.Fatalf("after %q come %v, want %v", all[i].name, got, want)
		}
		f, other = other, f
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if got := list(t, f, 64<<10, 0); !slices.Equal(got, all) {
		t.Errorf("list after rewind has %d entries, want the same %d as before", len(got), len(all))
	}
}

// listHuge: each entry of a huge directory comes once, also in small calls.
func (s *suite) listHuge(t *testing.T) {
	for _, size := range []int{1 << 20, 4096} {
		seen := make(map[string]bool)
		for _, e := range list(t, open(t, s.dir, many), size, 0) {
			if seen[e.name] {
				t.Fatalf("%q is listed twice", e.name)
			}
			seen[e.name] = true
		}
		if want := s.entries + 2; len(seen) != want || !seen["entry-0"] || !seen[fmt.Sprintf("entry-%d", s.entries-1)] {
			t.Errorf("listing in calls of %d bytes has %d entries, want %d", size, len(seen), want)
		}
	}
}
