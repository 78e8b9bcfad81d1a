package mount

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/errs"
)

// checkPoint returns dir as the mount table names it, if a mount can go there.
func checkPoint(dir string) (string, error) {
	info, err := os.Stat(dir)
	if err == nil {
		// The kernel may know a directory well whose server has gone; this it asks for.
		err = unix.Statfs(dir, new(unix.Statfs_t))
	}
	switch {
	case isStale(err):
		return "", fmt.Errorf("mount point %s: the program that served the mount there has gone, take it away first (zosfs umount %[1]s): %[2]w", dir, err)
	case errors.Is(err, fs.ErrNotExist):
		return "", errs.Textf(fs.ErrNotExist, "mount point %s: make the directory first", dir)
	case err != nil:
		return "", fmt.Errorf("mount point: %w", err)
	case !info.IsDir():
		return "", fmt.Errorf("mount point %s: %w", dir, unix.ENOTDIR)
	}
	if dir, err = resolve(dir); err != nil {
		return "", err
	}
	table, err := readTable()
	if err != nil {
		return "", err
	}
	if top, ok := topAt(table, dir); ok {
		if mode, ours := top.mode(); ours {
			shows := top.source
			if mode == Kernel { // its source is a file of ours
				shows = "an image"
			}
			return "", errs.Textf(fs.ErrExist, "mount point %s: shows %s already, take it away first (zosfs umount %[1]s)", dir, shows)
		}
	}
	return dir, nil
}

// isStale reports whether err says that nobody serves the mount any more.
func isStale(err error) bool {
	return errors.Is(err, unix.ENOTCONN) || errors.Is(err, unix.ECONNABORTED)
}

// resolve returns dir, absolute and without symlinks. It does not look at dir itself where
// that cannot be looked at, as with a mount whose server has gone.
func resolve(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("mount point: %w", err)
	}
	plain, err := filepath.EvalSymlinks(dir)
	if err == nil {
		return plain, nil
	}
	if !isStale(err) {
		return "", fmt.Errorf("mount point: %w", err)
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(dir))
	if err != nil {
		return "", fmt.Errorf("mount point: %w", err)
	}
	return filepath.Join(parent, filepath.Base(dir)), nil
}
