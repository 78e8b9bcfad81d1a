package errs_test

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"github.com/zosfs/zosfs/errs"
)

func TestTextf(t *testing.T) {
	err := fmt.Errorf("ls: %w", errs.Textf(fs.ErrNotExist, "no image at %s", "/mnt"))
	if got, want := err.Error(), "ls: no image at /mnt"; got != want {
		t.Errorf("Textf reads %q, want %q", got, want)
	}
	if !errors.Is(err, fs.ErrNotExist) || errors.Is(err, errs.ErrNotFound) {
		t.Errorf("Textf(fs.ErrNotExist) is of another kind: %v", err)
	}
}
