package mount

import (
	"context"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/internal/testenv"
)

// TestWatchTable: a change of the mount table is told, and after the close nothing is.
func TestWatchTable(t *testing.T) {
	testenv.NoLeaks(t)
	testenv.NeedRoot(t)
	dir := testenv.TempDir(t)
	testenv.Mounted(t, dir)
	seen := make(chan bool) // whether something is mounted at dir
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	w, err := watchTable(func() {
		table, err := readTable()
		if err != nil {
			t.Error(err)
		}
		_, there := topAt(table, dir)
		select {
		case seen <- there:
		case <-ctx.Done():
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	expect := func(want bool) {
		t.Helper()
		for { // others may mount as well
			select {
			case got := <-seen:
				if got == want {
					return
				}
			case <-ctx.Done():
				t.Fatalf("a change to %v is not told", want)
			}
		}
	}
	for range 3 {
		if err := unix.Mount("none", dir, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		expect(true)
		if err := unix.Unmount(dir, 0); err != nil {
			t.Fatal(err)
		}
		expect(false)
	}
	cancel()
	w.close()
	if err := unix.Mount("none", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
}
