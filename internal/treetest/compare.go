package treetest

import (
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// CompareOptions say what may differ. Access and change times, inode numbers and the sizes
// of directories always may.
type CompareOptions struct {
	IgnoreHoles bool                   // where the holes of files are; content counts all the same
	IgnoreOwner bool                   // uid and gid
	IgnoreMTime bool                   // modification times
	IgnoreXattr func(name string) bool // extended attributes for which it is true; nil ignores none
}

// A Diff is one difference of two trees.
type Diff struct {
	Path  string // below the roots, as it is in the tree; the root is "."
	Field string // such as "mode" or "xattr user.x"
	A, B  string // what either tree has, printable
}

// String returns d in one line without control characters.
func (d Diff) String() string {
	return fmt.Sprintf("%s: %s: %s, %s", quote(d.Path), d.Field, d.A, d.B)
}

// Compare returns the differences of the trees a and b, in walk order. It fails if either
// cannot be read.
//
// Link counts: those names count that are in the tree. What stat says of b must be the same
// as for a, unless a has names outside of its tree, or one of two directories says 1, which
// means that its file system does not count.
func Compare(a, b string, o CompareOptions) ([]Diff, error) {
	var sa, sb *Snapshot
	var g errgroup.Group
	g.Go(func() (err error) { sa, err = Scan(a); return err })
	g.Go(func() (err error) { sb, err = Scan(b); return err })
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return sa.Diff(sb, o), nil
}

// Check fails the test if the trees a and b differ.
func Check(t testing.TB, a, b string, o CompareOptions) {
	t.Helper()
	diffs, err := Compare(a, b, o)
	if err != nil {
		t.Fatal(err)
	}
	Report(t, diffs)
}

// Report fails the test if there are differences, and shows the first of them.
func Report(t testing.TB, diffs []Diff) {
	t.Helper()
	const most = 20
	for i, d := range diffs {
		if i == most {
			t.Errorf("and %d more", len(diffs)-most)
			return
		}
		t.Error(d)
	}
}

// Diff is [Compare] of two snapshots.
func (s *Snapshot) Diff(b *Snapshot, o CompareOptions) []Diff {
	rest := make(map[string]*entry, len(b.entries))
	for _, e := range b.entries {
		rest[e.path] = e
	}
	c := comparer{o: o}
	for _, ea := range s.entries {
		eb := rest[ea.path]
		delete(rest, ea.path)
		if c.path = ea.path; eb == nil {
			c.add("entry", kind(ea.stat.Mode), "none")
			continue
		}
		c.compare(ea, eb)
	}
	for _, e := range b.entries {
		if rest[e.path] != nil {
			c.path = e.path
			c.add("entry", "none", kind(e.stat.Mode))
		}
	}
	return c.diffs
}

type comparer struct {
	o     CompareOptions
	path  string
	diffs []Diff
}

func (c *comparer) add(field, a, b string) {
	c.diffs = append(c.diffs, Diff{c.path, field, a, b})
}

// field notes a difference of two values.
func field[T comparable](c *comparer, name string, a, b T, show func(T) string) {
	if a != b {
		c.add(name, show(a), show(b))
	}
}

func (c *comparer) compare(a, b *entry) {
	typ := a.stat.Mode & unix.S_IFMT
	if typ != b.stat.Mode&unix.S_IFMT {
		c.add("type", kind(a.stat.Mode), kind(b.stat.Mode))
		return
	}
	field(c, "mode", a.stat.Mode&^unix.S_IFMT, b.stat.Mode&^unix.S_IFMT, octal)
	if !c.o.IgnoreOwner {
		field(c, "uid", a.stat.Uid, b.stat.Uid, decimal)
		field(c, "gid", a.stat.Gid, b.stat.Gid, decimal)
	}
	if !c.o.IgnoreMTime {
		field(c, "mtime", a.stat.Mtim, b.stat.Mtim, moment)
	}
	field(c, "hard link of", a.first, b.first, quote)
	c.links(a, b)
	c.xattrs(a.xattrs, b.xattrs)
	switch typ {
	case unix.S_IFREG:
		c.content(a, b)
	case unix.S_IFLNK:
		field(c, "target", a.target, b.target, quote)
		field(c, "size", a.stat.Size, b.stat.Size, decimal)
	case unix.S_IFCHR, unix.S_IFBLK:
		field(c, "rdev", a.stat.Rdev, b.stat.Rdev, device)
	}
}

func (c *comparer) links(a, b *entry) {
	field(c, "names", a.names, b.names, decimal)
	na, nb := uint64(a.stat.Nlink), uint64(b.stat.Nlink) // its type differs among machines
	if a.stat.Mode&unix.S_IFMT == unix.S_IFDIR {
		if na == 1 || nb == 1 {
			return
		}
	} else if na != a.names {
		return
	}
	field(c, "nlink", na, nb, decimal)
}

func (c *comparer) content(a, b *entry) {
	field(c, "size", a.stat.Size, b.stat.Size, decimal)
	field(c, "content", a.hash, b.hash, func(h [32]byte) string { return hex.EncodeToString(h[:8]) })
	if !c.o.IgnoreHoles && !slices.Equal(a.holes, b.holes) {
		c.add("holes", spans(a.holes), spans(b.holes))
	}
}

func (c *comparer) xattrs(a, b map[string]string) {
	names := slices.Collect(maps.Keys(a))
	for name := range b {
		if _, ok := a[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		if c.o.IgnoreXattr != nil && c.o.IgnoreXattr(name) {
			continue
		}
		va, oka := a[name]
		vb, okb := b[name]
		if va != vb || oka != okb {
			c.add("xattr "+printable(name), attr(va, oka), attr(vb, okb))
		}
	}
}

func attr(v string, ok bool) string {
	if !ok {
		return "none"
	}
	return quote(v)
}

func kind(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return "file"
	case unix.S_IFDIR:
		return "directory"
	case unix.S_IFLNK:
		return "symlink"
	case unix.S_IFCHR:
		return "character device"
	case unix.S_IFBLK:
		return "block device"
	case unix.S_IFIFO:
		return "fifo"
	case unix.S_IFSOCK:
		return "socket"
	}
	return octal(mode)
}

// quote shows s without what a terminal would obey; long strings lose their middle.
func quote(s string) string {
	const most = 300
	if len(s) > most {
		return strconv.QuoteToASCII(s[:most/2]) + "..." + strconv.QuoteToASCII(s[len(s)-most/2:])
	}
	return strconv.QuoteToASCII(s)
}

func printable(s string) string {
	q := quote(s)
	if q == `"`+s+`"` {
		return s
	}
	return q
}

func octal(v uint32) string { return fmt.Sprintf("%#o", v) }

func decimal[T int64 | uint32 | uint64](v T) string { return fmt.Sprint(v) }

func moment(v unix.Timespec) string {
	return fmt.Sprintf("%d.%09d (%s)", v.Sec, v.Nsec, time.Unix(v.Unix()).UTC().Format(time.RFC3339Nano))
}

func device(v uint64) string { return fmt.Sprintf("%d:%d", unix.Major(v), unix.Minor(v)) }

func spans(s []span) string {
	const most = 5
	out := fmt.Sprint(len(s))
	for i, h := range s {
		if i == most {
			return out + " ..."
		}
		out += fmt.Sprintf(" [%d,%d)", h.from, h.to)
	}
	return out
}
