// Package atomicfile makes files appear whole or not at all.
//
// What is written goes to a temporary file in the directory of the destination, which is
// synced, then renamed over the destination; at last the directory is synced. A reader,
// and whoever looks after a crash at any moment, finds the old file or the new one and
// never a part. After a success the new one survives a crash.
//
// A crash may leave the temporary file behind: [IsTemp] knows it by its name, and whoever
// owns the directory calls [Sweep], or removes what is [Stale]. Several writers of one path do not disturb each other;
// the last to commit wins.
package atomicfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/zosfs/zosfs/errs"
)

// tempPrefix begins the names of temporary files. They do not contain the name of the
// destination, which may have all the 255 bytes that a name can have.
const tempPrefix = ".zosfs-tmp-"

// IsTemp reports whether name, the last element of a path, is that of a temporary file of
// this package.
func IsTemp(name string) bool { return strings.HasPrefix(name, tempPrefix) }

// staleAge is how old a temporary file must be before anybody but its writer removes it.
// No writer is at one file for so long.
const staleAge = 24 * time.Hour

// Stale reports whether e is a temporary file that its writer must have left behind: it was
// not written to for a day.
func Stale(e fs.DirEntry) bool {
	if !IsTemp(e.Name()) {
		return false
	}
	fi, err := e.Info()
	return err == nil && fi.Mode().IsRegular() && time.Since(fi.ModTime()) > staleAge
}

// Sweep removes the temporary files in the directory dir that are [Stale]. It does what it
// can: whoever may only read the directory leaves it to others.
func Sweep(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if Stale(e) {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

// Write makes the file path with what write writes. If write fails, its error is in the one
// returned, and what was at path before is still there. perm is as in [os.OpenFile]. A full
// disk is errs.ErrFull.
func Write(path string, perm fs.FileMode, write func(io.Writer) error) error {
	return writeFile(path, perm, func(f *os.File) error { return write(f) }, nil)
}

// WriteFile is [Write] of data.
func WriteFile(path string, data []byte, perm fs.FileMode) error {
	return writeFile(path, perm, func(f *os.File) error { return writeAll(f, data) }, nil)
}

func writeFile(path string, perm fs.FileMode, write func(*os.File) error, before func(string) error) (err error) {
	f, err := create(path, perm, before)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Abort()) }() // also when write panics
	if err := write(f.File); err != nil {
		return fmt.Errorf("write %s: %w", path, kind(err))
	}
	return f.Commit()
}

// A File is a file in the making. Write to it in any way that suits, then call Commit, or
// Abort to give it up. It is not safe for concurrent use, apart from what os.File allows.
type File struct {
	*os.File // the temporary file; do not close it
	path     string
	done     bool
	before   func(step string) error // told each step before it is taken; nil outside of tests
}

// Create begins the file path; nothing is seen at path until Commit. perm is as in
// [os.OpenFile].
func Create(path string, perm fs.FileMode) (*File, error) {
	return create(path, perm, nil)
}

func create(path string, perm fs.FileMode, before func(string) error) (*File, error) {
	f := &File{path: path, before: before}
	err := f.step("create temp", func() (err error) {
		f.File, err = createTemp(filepath.Dir(path), perm)
		return err
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

func createTemp(dir string, perm fs.FileMode) (*os.File, error) {
	for {
		path := filepath.Join(dir, tempPrefix+strconv.FormatUint(rand.Uint64(), 36))
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, perm)
		if !errors.Is(err, fs.ErrExist) {
			return f, err
		}
	}
}

// CommitUnsynced is Commit without waiting for the disk: a crash may leave a file with other
// bytes, or none. It is for what can be made again and proves itself when it is read.
func (f *File) CommitUnsynced() error {
	if f.done {
		return fmt.Errorf("commit %s: %w", f.path, os.ErrClosed)
	}
	if err := f.step("close temp", f.Close); err != nil {
		return errors.Join(err, f.Abort())
	}
	if err := f.step("rename", func() error { return os.Rename(f.Name(), f.path) }); err != nil {
		return errors.Join(err, f.Abort())
	}
	f.done = true
	return nil
}

// Commit makes the file appear at its path and survive a crash, and closes it. After an
// error what is at path is the old or the new file, whole. After Commit or Abort, Commit is
// os.ErrClosed.
func (f *File) Commit() error {
	if f.done {
		return fmt.Errorf("commit %s: %w", f.path, os.ErrClosed)
	}
	if err := f.step("sync temp", f.Sync); err != nil {
		return errors.Join(err, f.Abort())
	}
	if err := f.step("close temp", f.Close); err != nil {
		return errors.Join(err, f.Abort())
	}
	if err := f.step("rename", func() error { return os.Rename(f.Name(), f.path) }); err != nil {
		return errors.Join(err, f.Abort())
	}
	f.done = true
	return f.step("sync directory", func() error { return SyncDir(filepath.Dir(f.path)) })
}

// Abort closes and removes the temporary file. After Commit or Abort it does nothing, so it
// can be deferred.
func (f *File) Abort() error {
	if f.done {
		return nil
	}
	f.done = true
	if err := f.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return f.step("remove temp", func() error { return os.Remove(f.Name()) })
}

// step tells what comes, then does it.
func (f *File) step(name string, do func() error) error {
	if f.before != nil {
		if err := f.before(name); err != nil {
			return kind(err)
		}
	}
	return kind(do())
}

// SyncDir makes what was made, renamed or removed in the directory path survive a crash, on
// file systems that know of that.
func SyncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	err = dir.Sync()
	if errors.Is(err, syscall.EINVAL) {
		err = nil // a file system that does not know the syncing of directories
	}
	return errors.Join(err, dir.Close())
}

// kind adds errs.ErrFull to what means that.
func kind(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", errs.ErrFull, err)
	}
	return err
}
