package mount

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/mount/fusefs"
)

// ClearContent takes away the content devices that processes which have ended left at dir, the
// Content of their [HostOptions]. It is for who knows that nobody will take them over: who still
// reads from them gets errors at once. It asks nobody for anything, so it does not hang.
func ClearContent(dir string) error {
	parent, err := filepath.EvalSymlinks(filepath.Dir(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("content devices of before: %w", err)
	}
	dir = filepath.Join(parent, filepath.Base(dir))
	for {
		table, err := readTable()
		if err != nil {
			return err
		}
		if top, ok := topAt(table, dir); !ok || top.fstype != "fuse."+fusefs.ContentSubtype {
			return nil
		}
		// MNT_FORCE ends the connection, whoever holds its descriptor.
		if err := unix.Unmount(dir, unix.MNT_FORCE|unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return fmt.Errorf("take away content devices of before at %s: %w", dir, err)
		}
	}
}
