package kernel_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/mount/kernel"
)

// readAhead returns the setting of the backing device name, in KiB.
func readAhead(t *testing.T, name string) string {
	t.Helper()
	kb, err := os.ReadFile(filepath.Join("/sys/class/bdi", name, "read_ahead_kb"))
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(kb))
}

// TestReadAhead: a mount reads ahead as far as docs/performance.md has found best.
func TestReadAhead(t *testing.T) {
	need(t)
	const want = "1024"
	s := source(t, build(t, flat(5)))
	t.Run("loop", func(t *testing.T) {
		_, m := mounted(t, s, kernel.Loop)
		if got := readAhead(t, fmt.Sprintf("%d:%d", unix.Major(m.Dev), unix.Minor(m.Dev))); got != want {
			t.Errorf("read_ahead_kb = %s, want %s", got, want)
		}
	})
	t.Run("file", func(t *testing.T) {
		backing := func() []string {
			names, err := filepath.Glob("/sys/class/bdi/erofs-*")
			if err != nil {
				t.Fatal(err)
			}
			return names
		}
		// Which is whose nobody tells, so neither we nor what is tested know where another process
		// mounts at the same moment. That does not go on for ever.
		var got []string
		for range 20 {
			before := backing()
			mounted(t, s, kernel.FileBacked)
			got = nil
			for _, name := range slices.DeleteFunc(backing(), func(name string) bool { return slices.Contains(before, name) }) {
				got = append(got, readAhead(t, filepath.Base(name)))
			}
			if slices.Equal(got, []string{want}) {
				return
			}
		}
		t.Errorf("read_ahead_kb of what was mounted = %v, want %s", got, want)
	})
}
