package overlay

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/internal/fscontext"
)

// Mount shows the tree that is mounted at lower, with the changes in u, at the directory at.
// lower and at may be the same. It returns the st_dev of the overlay. Whoever may not mount
// gets EPERM; a directory that overlayfs cannot write to is explained.
func (u *Upper) Mount(lower, at string) (dev uint64, err error) {
	if err := u.prepare(lower); err != nil {
		return 0, err
	}
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOSYS) {
		return 0, fmt.Errorf("this kernel has no overlayfs: %w: %w", errors.ErrUnsupported, err)
	}
	if err != nil {
		return 0, fmt.Errorf("fsopen: %w", err)
	}
	defer func() { _ = unix.Close(fs) }()
	for _, o := range [][2]string{
		{"source", "zosfs"},
		{"lowerdir", escaped(lower)}, {"upperdir", u.Dir()}, {"workdir", u.work()},
		{"metacopy", "on"}, {"redirect_dir", "on"}, {"index", "on"}, {"xino", "on"},
	} {
		if err := unix.FsconfigSetString(fs, o[0], o[1]); err != nil {
			return 0, fmt.Errorf("overlay over %s with %s=%s: %w", lower, o[0], o[1], fscontext.Explain(fs, err))
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return 0, fmt.Errorf("overlay over %s with changes in %s: %w", lower, u.dir, fscontext.Explain(fs, err))
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("overlay over %s: %w", lower, fscontext.Explain(fs, err))
	}
	mount := os.NewFile(uintptr(fd), "overlay")
	defer func() { _ = mount.Close() }()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, err
	}
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return 0, fmt.Errorf("mount at %s: %w", at, err)
	}
	return st.Dev, nil
}

// escaped writes a path as lowerdir takes it: a colon would begin the next layer.
func escaped(path string) string {
	return strings.NewReplacer(`\`, `\\`, `:`, `\:`).Replace(path)
}
