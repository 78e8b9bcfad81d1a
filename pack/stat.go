package pack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/flist"
)

// inode names an inode of the machine while it exists.
type inode struct{ dev, ino uint64 }

func inodeOf(st *unix.Stat_t) inode { return inode{uint64(st.Dev), st.Ino} }

// ident is what does not change about a file while nobody changes the file. Times are in
// nanoseconds since 1970.
type ident struct {
	inode
	size, mtime, ctime int64
}

func identOf(st *unix.Stat_t) ident {
	return ident{inodeOf(st), st.Size, st.Mtim.Nano(), st.Ctim.Nano()}
}

// nanos returns t in nanoseconds since 1970, or the nearest that 64 bits have: years from
// 1677 to 2262. File systems know later ones.
func nanos(t unix.Timespec) int64 {
	switch {
	case t.Sec >= math.MaxInt64/1_000_000_000:
		return math.MaxInt64
	case t.Sec < math.MinInt64/1_000_000_000:
		return math.MinInt64
	}
	return t.Nano()
}

// nodeOf returns what st says of a node, for any type of file. The size of what is neither
// a regular file nor a symlink has no meaning outside of its file system and is left out.
func nodeOf(st *unix.Stat_t) flist.Node {
	n := flist.Node{Mode: st.Mode, UID: st.Uid, GID: st.Gid, MTime: nanos(st.Mtim)}
	switch n.Type() {
	case flist.ModeRegular:
		n.Size = st.Size
	case flist.ModeBlock, flist.ModeChar:
		n.Rdev = unix.Mkdev(unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev)))
	}
	return n
}

// isSparse reports whether fewer blocks are allocated than a file without holes has.
func isSparse(st *unix.Stat_t) bool { return st.Blocks*512 < st.Size }

// verdictOf tells what an error of a system call on an entry means for the pack. Errors that
// are not about the entry have the verdict verdictOK.
func verdictOf(err error) verdict {
	for _, e := range []error{unix.ENOENT, unix.ESTALE, errReplaced,
		unix.ENOTDIR, unix.ELOOP, unix.ENXIO} { // these: something else has the name now
		if errors.Is(err, e) {
			return verdictVanished
		}
	}
	for _, e := range []error{unix.EMFILE, unix.ENFILE, unix.ENOMEM, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, e) {
			return verdictOK
		}
	}
	return verdictUnreadable
}

func fstatat(fd int, name string) (st unix.Stat_t, err error) {
	_, err = retry(func() (int, error) { return 0, unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	return st, err
}

// listDir returns the names in the directory fd, which was not listed before, in ascending
// order of bytes.
func listDir(fd int, buf []byte) ([]string, error) {
	var names []string
	for {
		n, err := retry(func() (int, error) { return unix.ReadDirent(fd, buf) })
		if err != nil {
			return nil, err
		}
		if n <= 0 {
			slices.Sort(names)
			return names, nil
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
}

func readlinkat(fd int, name string) ([]byte, error) {
	buf := make([]byte, flist.MaxTarget+1)
	n, err := retry(func() (int, error) { return unix.Readlinkat(fd, name, buf) })
	if err != nil {
		return nil, err
	}
	if n > flist.MaxTarget {
		return nil, fmt.Errorf("symlink target of more than %d bytes: %w", flist.MaxTarget, unix.ENAMETOOLONG)
	}
	return bytes.Clone(buf[:n]), nil
}

// procPath names an entry of the directory fd for the system calls that want a path. It is
// short whatever the depth, and nothing but the last element can be a symlink of the tree.
func procPath(fd int, name string) string {
	return "/proc/self/fd/" + strconv.Itoa(fd) + "/" + name
}

// grown calls get with *buf, which it enlarges until the answer fits. The answer is a part
// of *buf.
func grown(buf *[]byte, get func([]byte) (int, error)) ([]byte, error) {
	for {
		n, err := retry(func() (int, error) { return get(*buf) })
		switch {
		case err == nil:
			return (*buf)[:n], nil
		case !errors.Is(err, unix.ERANGE) || len(*buf) > 1<<20:
			return nil, err
		}
		*buf = make([]byte, 2*len(*buf)+4096)
	}
}
