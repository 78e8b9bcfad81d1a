package testenv

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// inTemp calls try with a directory as [TempDir] would make it.
func inTemp(try func(dir string) error) error {
	dir, remove, err := makeTemp()
	if err != nil {
		return err
	}
	return errors.Join(try(dir), remove())
}

func probeRoot() error {
	if uid := os.Geteuid(); uid != 0 {
		return fmt.Errorf("the user id is %d", uid)
	}
	return inTemp(func(dir string) error {
		path := filepath.Join(dir, "null")
		if err := unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))); err != nil {
			return fmt.Errorf("mknod: %w", err)
		}
		if err := os.Lchown(path, 4711, 4712); err != nil {
			return err
		}
		if err := unix.Lsetxattr(path, "trusted.zosfs", []byte("x"), 0); err != nil {
			return fmt.Errorf("set trusted xattr: %w", err)
		}
		return tryMount("none", dir, "tmpfs", 0, "")
	})
}

// tryMount mounts and unmounts.
func tryMount(source, dir, fstype string, flags uintptr, data string) error {
	if err := unix.Mount(source, dir, fstype, flags, data); err != nil {
		return fmt.Errorf("mount %s: %w", fstype, err)
	}
	if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount %s: %w", fstype, err)
	}
	return nil
}

func probeFUSE() error {
	if os.Geteuid() != 0 {
		return inTemp(tryFusermount)
	}
	dev, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	err = inTemp(func(dir string) error {
		data := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", dev.Fd())
		return tryMount("zosfs-probe", dir, "fuse", unix.MS_NOSUID|unix.MS_NODEV, data)
	})
	return errors.Join(err, dev.Close())
}

// tryFusermount mounts at dir as libfuse does: fusermount3 hands the descriptor of
// /dev/fuse back through the socket that _FUSE_COMMFD names. Nobody takes it out here.
func tryFusermount(dir string) error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socketpair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "comm"), os.NewFile(uintptr(pair[1]), "comm")
	defer ours.Close()
	defer theirs.Close()
	mount := exec.CommandContext(context.Background(), "fusermount3", "-o", "ro", "--", dir)
	mount.ExtraFiles = []*os.File{theirs}
	mount.Env = append(os.Environ(), "_FUSE_COMMFD=3")
	if out, err := mount.CombinedOutput(); err != nil {
		return fmt.Errorf("fusermount3: %w: %s", err, out)
	}
	if out, err := exec.CommandContext(context.Background(), "fusermount3", "-u", "-z", "--", dir).CombinedOutput(); err != nil {
		return fmt.Errorf("fusermount3 -u: %w: %s", err, out)
	}
	return nil
}

func probeOverlay() error {
	if err := root(); err != nil {
		return err
	}
	return inTemp(func(dir string) error {
		for _, name := range []string{"lower", "upper", "work", "merged"} {
			if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
				return err
			}
		}
		data := fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", dir)
		return tryMount("overlay", filepath.Join(dir, "merged"), "overlay", 0, data)
	})
}

func probeEROFS() error {
	if err := root(); err != nil {
		return err
	}
	return inTemp(func(dir string) error {
		image, at := filepath.Join(dir, "image"), filepath.Join(dir, "at")
		if err := os.WriteFile(image, emptyEROFS(), 0o600); err != nil {
			return err
		}
		if err := os.Mkdir(at, 0o755); err != nil {
			return err
		}
		// Linux 6.12 takes the file itself, earlier ones a block device.
		if err := tryMount(image, at, "erofs", unix.MS_RDONLY, ""); !errors.Is(err, unix.ENOTBLK) {
			return err
		}
		return tryLoop(image, at)
	})
}

func tryLoop(image, at string) error {
	ctl, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	n, err := unix.IoctlRetInt(int(ctl.Fd()), unix.LOOP_CTL_GET_FREE)
	if err = errors.Join(err, ctl.Close()); err != nil {
		return fmt.Errorf("free loop device: %w", err)
	}
	loop, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", n), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer loop.Close()
	file, err := os.Open(image)
	if err != nil {
		return err
	}
	defer file.Close()
	config := unix.LoopConfig{Fd: uint32(file.Fd())}
	config.Info.Flags = unix.LO_FLAGS_READ_ONLY | unix.LO_FLAGS_AUTOCLEAR
	if err := unix.IoctlLoopConfigure(int(loop.Fd()), &config); err != nil {
		return fmt.Errorf("set up %s: %w", loop.Name(), err)
	}
	return tryMount(loop.Name(), at, "erofs", unix.MS_RDONLY, "")
}

// emptyEROFS returns an EROFS image of one block whose root directory is empty. Offsets
// are those of struct erofs_super_block and erofs_inode_compact of the kernel.
func emptyEROFS() []byte {
	const super, inode, nid = 1024, 1152, 1152 / 32
	p, le := make([]byte, 4096), binary.LittleEndian
	le.PutUint32(p[super:], 0xE0F5E1E2)
	p[super+12] = 12 // log2 of the block size
	le.PutUint16(p[super+14:], nid)
	le.PutUint64(p[super+16:], 1) // inodes
	le.PutUint32(p[super+36:], 1) // blocks
	le.PutUint16(p[inode+4:], unix.S_IFDIR|0o755)
	le.PutUint16(p[inode+6:], 2) // links
	return p
}
