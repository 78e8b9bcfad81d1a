package treetest

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/zeebo/blake3"
	"golang.org/x/sys/unix"
)

// A Snapshot is everything about a tree that [Compare] looks at. It stays as it was when
// the tree changes.
type Snapshot struct {
	entries []*entry // in walk order: a directory, then its children by name, each with what is below
}

// An entry is one name of the tree.
type entry struct {
	path string // below the root, which is "."
	*inode
}

// An inode is what its names have in common.
type inode struct {
	stat   unix.Stat_t
	first  string // path of its first name in walk order
	names  uint64 // in the tree
	target string // of a symlink
	xattrs map[string]string
	holes  []span // of a regular file
	hash   [32]byte
}

// A span is a range [from, to) of bytes.
type span struct{ from, to int64 }

// Scan takes a snapshot of the tree at dir. It fails if any of it cannot be read.
func Scan(dir string) (*Snapshot, error) {
	s := &scanner{seen: map[key]*inode{}, buf: make([]byte, 1<<20)}
	if err := s.visit(unix.AT_FDCWD, dir, "."); err != nil {
		return nil, fmt.Errorf("scan %s: %w", dir, err)
	}
	return &Snapshot{s.entries}, nil
}

type key struct{ dev, ino uint64 }

type scanner struct {
	entries []*entry
	seen    map[key]*inode
	buf     []byte
}

// visit scans name in the directory dirfd, and what is below it.
func (s *scanner) visit(dirfd int, name, path string) error {
	in := &inode{first: path}
	if err := unix.Fstatat(dirfd, name, &in.stat, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("stat %q: %w", path, err)
	}
	k := key{in.stat.Dev, in.stat.Ino}
	known := s.seen[k]
	if known != nil && in.stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		known.names++
		s.entries = append(s.entries, &entry{path, known})
		return nil
	}
	if known != nil {
		return fmt.Errorf("%q is the same directory as %q", path, known.first)
	}
	in.names = 1
	s.seen[k] = in
	s.entries = append(s.entries, &entry{path, in})
	if err := s.read(dirfd, name, in); err != nil {
		return fmt.Errorf("read %q: %w", path, err)
	}
	if in.stat.Mode&unix.S_IFMT == unix.S_IFDIR {
		return s.children(dirfd, name, path)
	}
	return nil
}

func (s *scanner) children(dirfd int, name, path string) error {
	dir, err := openat(dirfd, name, unix.O_DIRECTORY)
	if err != nil {
		return fmt.Errorf("open %q: %w", path, err)
	}
	defer dir.Close()
	names, err := sortedNames(dir)
	if err != nil {
		return fmt.Errorf("list %q: %w", path, err)
	}
	fd := int(dir.Fd())
	for _, child := range names {
		below := child
		if path != "." {
			below = path + "/" + child
		}
		if err := s.visit(fd, child, below); err != nil {
			return err
		}
	}
	return nil
}

// read completes in but for what lies below it.
func (s *scanner) read(dirfd int, name string, in *inode) (err error) {
	if in.xattrs, err = xattrs(dirfd, name); err != nil {
		return err
	}
	switch in.stat.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		n, err := unix.Readlinkat(dirfd, name, s.buf)
		if err != nil {
			return err
		}
		in.target = string(s.buf[:n])
	case unix.S_IFREG:
		f, err := openat(dirfd, name, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		if in.holes, err = holes(f, in.stat.Size); err != nil {
			return err
		}
		return s.content(f, in)
	}
	return nil
}

// content hashes what f gives to plain reads.
func (s *scanner) content(f *os.File, in *inode) error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	h := blake3.New()
	n, err := io.CopyBuffer(h, struct{ io.Reader }{f}, s.buf)
	if err == nil && n != in.stat.Size {
		err = fmt.Errorf("%d bytes can be read of %d", n, in.stat.Size)
	}
	h.Sum(in.hash[:0])
	return err
}

// holes returns the holes of f, as its file system tells them.
func holes(f *os.File, size int64) ([]span, error) {
	var found []span
	for at := int64(0); at < size; {
		data, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) { // no data up to the end
			return append(found, span{at, size}), nil
		}
		if err != nil {
			return nil, fmt.Errorf("seek to data: %w", err)
		}
		if data > at {
			found = append(found, span{at, data})
		}
		if at, err = unix.Seek(int(f.Fd()), data, unix.SEEK_HOLE); err != nil {
			return nil, fmt.Errorf("seek to hole: %w", err)
		}
	}
	return found, nil
}

// xattrs returns the extended attributes of name in dirfd, of all namespaces that this
// process may read.
func xattrs(dirfd int, name string) (map[string]string, error) {
	path := at(dirfd, name)
	list, err := sized(func(p []byte) (int, error) { return unix.Llistxattr(path, p) })
	if errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list xattrs: %w", err)
	}
	set := map[string]string{}
	for attr := range splitNames(list) {
		value, err := sized(func(p []byte) (int, error) { return unix.Lgetxattr(path, attr, p) })
		if errors.Is(err, unix.ENODATA) {
			continue // removed meanwhile, or hidden
		}
		if err != nil {
			return nil, fmt.Errorf("xattr %q: %w", attr, err)
		}
		set[attr] = string(value)
	}
	return set, nil
}

// sized calls get with growing buffers until the answer fits.
func sized(get func([]byte) (int, error)) ([]byte, error) {
	for size := 1 << 10; ; size *= 4 {
		p := make([]byte, size)
		n, err := get(p)
		if errors.Is(err, unix.ERANGE) && size <= 1<<20 {
			continue
		}
		if err != nil {
			return nil, err
		}
		return p[:n], nil
	}
}

// splitNames yields the names in a list where each ends in NUL.
func splitNames(list []byte) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for start, i := 0, 0; i < len(list); i++ {
			if list[i] == 0 {
				if !yield(string(list[start:i])) {
					return
				}
				start = i + 1
			}
		}
	}
}
