package kernel

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/internal/testenv"
)

// TestExplained: what the kernel has to say of an error is in it.
func TestExplained(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedEROFS(t)
	fs, err := unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fs) }()
	err = unix.FsconfigSetFlag(fs, "no-such-option")
	if err == nil {
		t.Fatal("the kernel takes an unknown option")
	}
	if got := explained(fs, err); !errors.Is(got, err) || !strings.Contains(got.Error(), "Unknown parameter 'no-such-option'") {
		t.Errorf("explained(%v) = %v, want the words of the kernel", err, got)
	}
	if got := explained(fs, unix.EINVAL); !errors.Is(got, unix.EINVAL) || !strings.Contains(got.Error(), "kernel log") {
		t.Errorf("explained with nothing said = %v, want where to look", got)
	}
}
