package kernel

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/internal/fscontext"
)

// fstype is the type of the file system, in the mount table too.
const fstype = "erofs"

// A Rung is a way to mount the two files.
type Rung string

const (
	// FileBacked mounts the files themselves (Linux 6.12).
	FileBacked Rung = "file"
	// Loop puts a loop device over each.
	Loop Rung = "loop"
)

// rungs are all ways, the best first.
var rungs = []Rung{FileBacked, Loop}

// Source says what is mounted.
type Source struct {
	Image  string // file of the metadata image
	Device string // file of the content device
}

// A Mounted is a file system that [Mount] or [Clone] has put at a directory.
type Mounted struct {
	ID   uint64 // of the mount, as the mount table has it; wherever it is moved
	Dev  uint64 // st_dev of the file system, which all its mounts share
	Rung Rung   // how; "" of a clone
}

// Mount mounts s at the directory dir, read-only. With rung "" it takes the first way that
// works; one that there is not is errs.ErrFormat. The kernel must be given no image but one that
// this process has written, or that [CheckImage] has proved, just before.
func Mount(s Source, dir string, rung Rung) (Mounted, error) {
	try := rungs
	if rung != "" {
		if !slices.Contains(rungs, rung) {
			return Mounted{}, fmt.Errorf("mount erofs at %s: no way %q: %w", dir, rung, errs.ErrFormat)
		}
		try = []Rung{rung}
	}
	var failed []error
	for _, r := range try {
		known := backing()
		fd, err := r.open(s)
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", r, err))
			continue
		}
		raiseReadAhead(known)
		m, err := attach(fd, dir)
		m.Rung = r
		return m, err
	}
	return Mounted{}, fmt.Errorf("mount erofs at %s: %w", dir, errors.Join(failed...))
}

func (r Rung) open(s Source) (int, error) {
	if r == FileBacked {
		return open(s.Image, s.Device)
	}
	image, err := attachLoop(s.Image)
	if err != nil {
		return -1, err
	}
	defer func() { _ = image.Close() }() // the mount holds it
	device, err := attachLoop(s.Device)
	if err != nil {
		return -1, err
	}
	defer func() { _ = device.Close() }()
	return open(image.Name(), device.Name())
}

// open makes the file system and returns a mount of it that is nowhere yet.
func open(source, device string) (int, error) {
	fs, err := unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC)
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOSYS) {
		return -1, fmt.Errorf("this kernel has no EROFS: %w: %w", errors.ErrUnsupported, err)
	}
	if err != nil {
		return -1, fmt.Errorf("fsopen: %w", err)
	}
	defer func() { _ = unix.Close(fs) }()
	for _, step := range []func() error{
		func() error { return unix.FsconfigSetString(fs, "source", source) },
		func() error { return unix.FsconfigSetString(fs, "device", device) },
		func() error { return unix.FsconfigSetFlag(fs, "ro") },
		func() error { return unix.FsconfigCreate(fs) },
	} {
		if err := step(); err != nil {
			return -1, explained(fs, err)
		}
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_RDONLY)
	if err != nil {
		return -1, explained(fs, err)
	}
	return fd, nil
}

// explained adds what the kernel says of an error of a file system in the making.
func explained(fs int, err error) error {
	said := fscontext.Explain(fs, err)
	switch {
	case said != err: //nolint:errorlint // the very same: the kernel said nothing
		return said
	case errors.Is(err, unix.EINVAL):
		return fmt.Errorf("erofs: %w (the kernel log says why)", err)
	}
	return fmt.Errorf("erofs: %w", err)
}

// attach shows the mount fd at dir and closes it.
func attach(fd int, dir string) (Mounted, error) {
	defer func() { _ = unix.Close(fd) }()
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_MNT_ID, &st); err != nil {
		return Mounted{}, fmt.Errorf("mount at %s: %w", dir, err)
	}
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return Mounted{}, fmt.Errorf("mount at %s: %w", dir, err)
	}
	return Mounted{ID: st.Mnt_id, Dev: unix.Mkdev(st.Dev_major, st.Dev_minor)}, nil
}

// Clone shows the file system with st_dev dev, which is mounted at from, at dir as well. If
// something else is at from, it is errors.ErrUnsupported.
func Clone(from string, dev uint64, dir string) (Mounted, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, from, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return Mounted{}, fmt.Errorf("clone mount at %s: %w", from, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Dev != dev {
		return Mounted{}, errors.Join(fmt.Errorf("clone mount at %s: it is another one by now: %w", from, errors.ErrUnsupported), err, unix.Close(fd))
	}
	return attach(fd, dir)
}

// IsImage reports whether source, the device that the mount table shows for a file system of
// the type fs, is a metadata image of ours, and returns the name of the file without its suffix.
func IsImage(fs, source string) (string, bool) {
	name, ok := strings.CutSuffix(filepath.Base(source), Suffix)
	return name, ok && fs == fstype && filepath.IsAbs(source)
}
