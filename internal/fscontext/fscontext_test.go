package fscontext_test

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/internal/fscontext"
	"github.com/zosfs/zosfs/internal/testenv"
)

func TestExplain(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedOverlay(t)
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fs) }()
	err = unix.FsconfigSetFlag(fs, "no-such-option")
	if err == nil {
		t.Fatal("the kernel takes an unknown option")
	}
	got := fscontext.Explain(fs, err)
	if !errors.Is(got, err) || !strings.Contains(got.Error(), "Unknown parameter 'no-such-option'") || strings.HasPrefix(got.Error(), "e ") {
		t.Errorf("Explain = %v, want the words of the kernel and %v", got, err)
	}
	if got := fscontext.Explain(fs, unix.EINVAL); !errors.Is(got, unix.EINVAL) || got.Error() != unix.EINVAL.Error() {
		t.Errorf("Explain with nothing said = %v, want %v alone", got, unix.EINVAL)
	}
}
