package treetest

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// eachName calls fn for each name below dir, what is in a directory before the directory,
// names in ascending order.
func eachName(dir string, fn func(dirfd int, name, path string) error) error {
	f, err := openat(unix.AT_FDCWD, dir, unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	return eachIn(f, "", fn)
}

func eachIn(dir *os.File, prefix string, fn func(dirfd int, name, path string) error) (err error) {
	defer func() { err = errors.Join(err, dir.Close()) }()
	fd := int(dir.Fd())
	entries, err := dir.ReadDir(-1)
	if err != nil {
		return err
	}
	slices.SortFunc(entries, func(a, b os.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	for _, e := range entries {
		name := e.Name()
		if e.IsDir() {
			sub, err := openat(fd, name, unix.O_DIRECTORY)
			if err == nil {
				err = eachIn(sub, prefix+name+"/", fn)
			}
			if err != nil {
				return err
			}
		}
		if err := fn(fd, name, prefix+name); err != nil {
			return fmt.Errorf("%q: %w", prefix+name, err)
		}
	}
	return nil
}

// openat opens name in dirfd for reading, not following a symlink.
func openat(dirfd int, name string, flags int) (*os.File, error) {
	fd, err := unix.Openat(dirfd, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|flags, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// sortedNames returns the names in dir in ascending order.
func sortedNames(dir *os.File) ([]string, error) {
	names, err := dir.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

// at returns a short path of name in dirfd, for system calls that know no directory
// descriptors.
func at(dirfd int, name string) string {
	if dirfd == unix.AT_FDCWD {
		return name
	}
	return "/proc/self/fd/" + strconv.Itoa(dirfd) + "/" + name
}
