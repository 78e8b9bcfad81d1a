package keeper

import (
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/errs"
)

// Limits of the protocol.
const (
	MaxName  = 255     // bytes of a name; there is at least one
	MaxData  = 1 << 20 // bytes of data of one item
	MaxItems = 4096
)

// An Item is what the keeper holds under one name.
type Item struct {
	Name string // 1 to MaxName bytes of any value
	Data []byte // at most MaxData bytes; nil from Get if empty
	FD   int    // -1: none. The zero value is standard input, not none.
}

// check fails where the item breaks a limit or its descriptor is not open.
func (i Item) check() error {
	if err := checkName(i.Name); err != nil {
		return err
	}
	if len(i.Data) > MaxData {
		return fmt.Errorf("%d bytes of data, the limit is %d: %w", len(i.Data), MaxData, errs.ErrFull)
	}
	if i.FD < 0 {
		return nil
	}
	if _, err := unix.FcntlInt(uintptr(i.FD), unix.F_GETFD, 0); err != nil {
		return fmt.Errorf("descriptor %d: %w", i.FD, err)
	}
	return nil
}

func checkName(name string) error {
	if len(name) == 0 || len(name) > MaxName {
		return fmt.Errorf("a name of %d bytes, it must have 1 to %d: %w", len(name), MaxName, fs.ErrInvalid)
	}
	return nil
}
