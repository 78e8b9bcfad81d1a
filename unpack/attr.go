package unpack

import (
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/image"
)

// A handle names an inode for system calls: by a descriptor that may be O_PATH.
type handle int

// path leads to the inode, whatever its type, also to a symlink.
func (h handle) path() string { return "/proc/self/fd/" + strconv.Itoa(int(h)) }

// restore gives the inode h of type other than symlink what a says.
func (u *unpacker) restore(h handle, id flist.NodeID, a *image.Attr) error {
	mode := a.Mode & 0o7777
	if u.owners {
		if err := unix.Fchownat(int(h), "", int(a.UID), int(a.GID), unix.AT_EMPTY_PATH); err != nil {
			return fmt.Errorf("owner: %w", err)
		}
	} else if mode&(unix.S_ISUID|unix.S_ISGID) != 0 {
		var err error
		if mode, err = u.tame(h, id, a); err != nil {
			return err
		}
	}
	if err := u.xattrs(id, func(name string, value []byte) error {
		return unix.Setxattr(h.path(), name, value, 0)
	}); err != nil {
		return err
	}
	if err := unix.Chmod(h.path(), mode); err != nil {
		return fmt.Errorf("mode: %w", err)
	}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, h.path(), stamps(a), 0); err != nil {
		return fmt.Errorf("time: %w", err)
	}
	return nil
}

// tame returns the mode for an inode that keeps the owner it was made with: without setuid
// and setgid where that owner is another than the image says. Directories keep setgid, which
// gives no rights.
func (u *unpacker) tame(h handle, id flist.NodeID, a *image.Attr) (uint32, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(int(h), "", &st, unix.AT_EMPTY_PATH); err != nil {
		return 0, err
	}
	mode := a.Mode & 0o7777
	if a.Type() != flist.ModeDir {
		if st.Uid != a.UID {
			mode &^= unix.S_ISUID
		}
		if st.Gid != a.GID {
			mode &^= unix.S_ISGID
		}
	}
	if mode != a.Mode&0o7777 {
		u.lists.add(&u.lists.modes, func() string { return u.tree.Path(id) })
	}
	return mode, nil
}

// restoreLink gives the symlink name in the directory fd what a says.
func (u *unpacker) restoreLink(fd int, name string, id flist.NodeID, a *image.Attr) error {
	if u.owners {
		if err := unix.Fchownat(fd, name, int(a.UID), int(a.GID), unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return fmt.Errorf("owner: %w", err)
		}
	}
	path := handle(fd).path() + "/" + name
	if err := u.xattrs(id, func(key string, value []byte) error {
		return unix.Lsetxattr(path, key, value, 0)
	}); err != nil {
		return err
	}
	if err := unix.UtimesNanoAt(fd, name, stamps(a), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("time: %w", err)
	}
	return nil
}

// xattrs sets the attributes of a node. Those that are refused are listed.
func (u *unpacker) xattrs(id flist.NodeID, set func(name string, value []byte) error) error {
	var refused bool
	for _, x := range u.tree.Xattrs(id) {
		err := set(x.Name, x.Value)
		switch {
		case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES), errors.Is(err, unix.EOPNOTSUPP):
			refused = true
		case err != nil:
			return fmt.Errorf("attribute %q: %w", x.Name, err)
		}
	}
	if refused {
		u.lists.add(&u.lists.xattrs, func() string { return u.tree.Path(id) })
	}
	return nil
}

// stamps returns the times of a for utimensat. The access time stays.
func stamps(a *image.Attr) []unix.Timespec {
	sec, nsec := a.MTime/1e9, a.MTime%1e9
	if nsec < 0 {
		sec, nsec = sec-1, nsec+1e9
	}
	return []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: sec, Nsec: nsec}}
}
