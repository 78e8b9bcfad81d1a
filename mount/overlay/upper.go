package overlay

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/internal/atomicfile"
)

// Upper is where the changes of one tree are kept. It is not safe for concurrent use, and
// locked against other processes while it is open.
type Upper struct {
	dir  string
	lock *os.File
	disk bool // upper and work are in a disk image
}

const (
	baseFile = "base"
	diskFile = "disk"
	diskDir  = "mnt"
)

// Options say how an Upper is made.
type Options struct {
	// Size bounds what can be written, in bytes, with all that a file system needs beside it;
	// 0 is as much as there is space. An Upper keeps the bound with which it was made.
	Size int64
}

// Open opens the Upper at dir, or makes it where there is none, for the tree that base names.
// One with changes of another tree is errs.ErrFormat, one that is in use fs.ErrExist. The
// caller closes it.
func Open(dir, base string, o Options) (_ *Upper, err error) {
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	u := &Upper{dir: dir}
	if u.lock, err = os.Open(dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, u.lock.Close())
		}
	}()
	if err := unix.Flock(int(u.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = fmt.Errorf("it is in use by another mount: %w", fs.ErrExist)
		}
		return nil, fmt.Errorf("changes in %s: %w", dir, err)
	}
	have, err := os.ReadFile(filepath.Join(dir, baseFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = u.make(base, o)
	case err == nil && string(bytes.TrimSpace(have)) != base:
		return nil, fmt.Errorf("changes in %s are of the image %.80s, not of %s: mount that one, or take another directory: %w", dir, bytes.TrimSpace(have), base, errs.ErrFormat)
	}
	if err != nil {
		return nil, err
	}
	return u, u.mountDisk()
}

// make makes what an Upper consists of. The base comes last: without it the rest is nothing.
func (u *Upper) make(base string, o Options) error {
	entries, err := os.ReadDir(u.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		switch e.Name() {
		case "upper", "work", diskFile, diskDir: // of a making that was ended
		default:
			if !atomicfile.IsTemp(e.Name()) {
				return fmt.Errorf("%s is not empty, and holds no changes of an image: take an empty directory, or one that is not there: %w", u.dir, fs.ErrExist)
			}
		}
	}
	if err := u.clear(); err != nil {
		return err
	}
	if o.Size > 0 {
		if err := makeDisk(filepath.Join(u.dir, diskFile), o.Size); err != nil {
			return err
		}
	}
	return atomicfile.WriteFile(filepath.Join(u.dir, baseFile), []byte(base+"\n"), 0o600)
}

// clear removes upper and work, where they are now.
func (u *Upper) clear() error {
	return errors.Join(os.RemoveAll(u.Dir()), os.RemoveAll(u.work()))
}

func (u *Upper) root() string {
	if u.disk {
		return filepath.Join(u.dir, diskDir)
	}
	return u.dir
}

// Dir returns the directory that overlayfs writes to. It may be read while it is mounted.
func (u *Upper) Dir() string { return filepath.Join(u.root(), "upper") }

func (u *Upper) work() string { return filepath.Join(u.root(), "work") }

// Reset throws all changes away. It must not be mounted.
func (u *Upper) Reset() error { return u.clear() }

// Close gives the Upper free for others. What is mounted stays mounted, with its disk.
func (u *Upper) Close() error {
	var err error
	if u.disk {
		err = unix.Unmount(u.root(), 0)
		if errors.Is(err, unix.EBUSY) {
			err = nil // of an overlay that stays
		}
	}
	return errors.Join(err, u.lock.Close())
}

// Remove removes the Upper with all changes, and closes it. It must not be mounted.
func (u *Upper) Remove() error {
	if u.disk {
		if err := unix.Unmount(u.root(), unix.UMOUNT_NOFOLLOW); err != nil {
			return errors.Join(fmt.Errorf("unmount %s: %w", u.root(), err), u.lock.Close())
		}
	}
	return errors.Join(os.RemoveAll(u.dir), u.lock.Close())
}

// Find returns the directory that overlayfs writes to, of the Upper at dir, which may be
// mounted.
func Find(dir string) (string, error) {
	for _, root := range []string{filepath.Join(dir, diskDir), dir} {
		upper := filepath.Join(root, "upper")
		if fi, err := os.Lstat(upper); err == nil && fi.IsDir() {
			return upper, nil
		}
	}
	return "", fmt.Errorf("changes in %s: nothing was ever mounted with them: %w", dir, errs.ErrNotFound)
}

// prepare makes upper and work. A new upper directory gets the attributes of the root of the
// tree, which overlayfs shows in place of those.
func (u *Upper) prepare(lower string) error {
	if err := os.MkdirAll(u.work(), 0o700); err != nil {
		return err
	}
	_, err := os.Lstat(u.Dir())
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	made := u.Dir() + ".new"
	if err := os.RemoveAll(made); err != nil {
		return err
	}
	if err := os.Mkdir(made, 0o700); err != nil {
		return err
	}
	if err := copyAttributes(lower, made); err != nil {
		return fmt.Errorf("give %s the attributes of the image's root: %w", made, err)
	}
	return os.Rename(made, u.Dir())
}

// copyAttributes gives the directory to what the directory from has: owner, extended
// attributes, mode and time.
func copyAttributes(from, to string) error {
	var st unix.Stat_t
	if err := unix.Stat(from, &st); err != nil {
		return err
	}
	if err := unix.Lchown(to, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	names := make([]byte, 64<<10)
	n, err := unix.Llistxattr(from, names)
	if err != nil && !errors.Is(err, unix.ENOTSUP) {
		return err
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names[:max(n, 0)]), "\x00"), "\x00") {
		if name == "" || strings.HasPrefix(name, "trusted.overlay.") {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(from, name, value)
		if err == nil {
			err = unix.Lsetxattr(to, name, value[:n], 0)
		}
		if err != nil {
			return fmt.Errorf("attribute %s: %w", name, err)
		}
	}
	if err := unix.Chmod(to, st.Mode&0o7777); err != nil {
		return err
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, to, []unix.Timespec{st.Mtim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}
