package mount

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/mount/kernel"
)

// TestTrim: images used least recently go first, those of mounts and files of others never, and
// one that is larger than all that may be kept is kept until the next.
func TestTrim(t *testing.T) {
	digest := func(n byte) flist.Digest { return flist.Digest{n} }
	for _, c := range []struct {
		limit   int64
		mounted string // of the images a to e, each of 100 bytes, a used last
		want    string
	}{
		{500, "", "abcde"},
		{499, "", "abcd"},
		{250, "", "ab"},
		{0, "", "a"},
		{100, "de", "ade"},
		{0, "abcde", "abcde"},
	} {
		t.Run(fmt.Sprintf("%d with %q mounted", c.limit, c.mounted), func(t *testing.T) {
			h := &Host{o: HostOptions{Images: t.TempDir(), Log: slog.New(slog.NewTextHandler(t.Output(), nil))}, devices: map[flist.Digest]*device{}}
			path := func(letter byte) string {
				return filepath.Join(h.o.Images, digest(letter).String()+kernel.Suffix)
			}
			long := time.Now().Add(-time.Hour)
			for i, letter := range []byte("edcba") { // all are old
				if err := os.WriteFile(path(letter), make([]byte, 100), 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.Chtimes(path(letter), long, long.Add(time.Duration(i)*time.Minute)); err != nil {
					t.Fatal(err)
				}
			}
			foreign := []string{"notes", "notes" + kernel.Suffix, digest('x').String()}
			for _, name := range foreign {
				if err := os.WriteFile(filepath.Join(h.o.Images, name), make([]byte, 1000), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for _, letter := range []byte(c.mounted) {
				h.devices[digest(letter)] = &device{}
			}
			h.trim(c.limit)
			var left strings.Builder
			for _, letter := range []byte("abcde") {
				if _, err := os.Stat(path(letter)); err == nil {
					left.WriteByte(letter)
				}
			}
			if left.String() != c.want {
				t.Errorf("images %q are left, want %q", left.String(), c.want)
			}
			for _, name := range foreign {
				if _, err := os.Stat(filepath.Join(h.o.Images, name)); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			touch(path('e')) // in use now, so it is the last to go
			h.trim(0)
			if _, err := os.Stat(path('e')); c.want == "abcde" && err != nil {
				t.Errorf("the image used last: %v", err)
			}
		})
	}
}
