package kernel

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestAside sees that what runs aside holds no file of the process, and leaves no thread.
func TestAside(t *testing.T) {
	f, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for range 20 {
		tid, inside := 0, error(nil)
		aside(func() {
			tid = unix.Gettid()
			_, inside = unix.FcntlInt(f.Fd(), unix.F_GETFD, 0)
			p, err := os.ReadFile("/proc/self/stat") // the runtime works as ever
			if err != nil || len(p) == 0 {
				t.Errorf("read aside: %d bytes, %v", len(p), err)
			}
		})
		if !errors.Is(inside, unix.EBADF) {
			t.Fatalf("aside a file of the process: %v, want %v", inside, unix.EBADF)
		}
		for { // the thread ends after aside has returned
			if _, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", tid)); errors.Is(err, os.ErrNotExist) {
				break
			}
		}
	}
	if _, err := f.Stat(); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}
