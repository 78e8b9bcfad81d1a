package overlay

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/errs"
)

// minDisk is the least size of a disk image, in bytes: less holds no journal.
const minDisk = 8 << 20

// makeDisk makes an ext4 image of size bytes, which takes no space before it is written to.
func makeDisk(path string, size int64) (err error) {
	if size < minDisk {
		return fmt.Errorf("changes bounded to %d bytes: at least %d are needed: %w", size, minDisk, errs.ErrFull)
	}
	mkfs, err := exec.LookPath("mkfs.ext4")
	if err != nil {
		return fmt.Errorf("bounding the size of changes needs mkfs.ext4 (package e2fsprogs): %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	err = errors.Join(f.Truncate(size), f.Close())
	if err == nil {
		var out []byte
		out, err = exec.Command(mkfs, "-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0", path).CombinedOutput() //nolint:noctx // takes no time
		if err != nil {
			err = fmt.Errorf("%s: %w: %s", mkfs, err, strings.TrimSpace(string(out)))
		}
	}
	if err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// mountDisk mounts the disk image, if the Upper has one, unless it is mounted still.
func (u *Upper) mountDisk() error {
	image := filepath.Join(u.dir, diskFile)
	if _, err := os.Lstat(image); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	u.disk = true
	if err := os.Mkdir(u.root(), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	var dir, above unix.Stat_t
	if err := errors.Join(unix.Stat(u.root(), &dir), unix.Stat(u.dir, &above)); err != nil {
		return err
	}
	if dir.Dev != above.Dev {
		return nil
	}
	mount, err := exec.LookPath("mount")
	if err != nil {
		return err
	}
	if out, err := exec.Command(mount, "-t", "ext4", "-o", "loop", image, u.root()).CombinedOutput(); err != nil { //nolint:noctx // must not be left half done
		return fmt.Errorf("mount %s: %w: %s", image, err, strings.TrimSpace(string(out)))
	}
	return nil
}
