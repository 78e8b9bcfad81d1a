package treetest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/internal/testenv"
)

// Options say what [Odd] makes.
type Options struct {
	Big  bool   // also a directory of 100,000 entries and files of more than 4 GiB (sparse)
	Seed uint64 // of the content of files
}

// Odd makes a tree with every oddity in dir, an empty directory on a file system as
// testenv.TempDir gives. Each directory below dir is one theme. What only root can make
// (devices, owners, trusted xattrs, files without any permission) is there if
// testenv.Root says so. Equal options give trees that [Compare] finds equal.
func Odd(t testing.TB, dir string, o Options) {
	t.Helper()
	b := &odd{t: t, dir: dir, root: testenv.Root(), seed: o.Seed, times: map[string]unix.Timespec{}}
	b.empty()
	b.modes()
	b.names()
	b.symlinks()
	b.hardlinks()
	b.xattrs()
	b.special()
	b.clocks()
	b.sparse()
	b.sizes()
	b.deep()
	b.many(2_000)
	if o.Big {
		b.many(100_000)
		b.big()
	}
	if b.root {
		b.owners()
	}
	b.setTimes()
}

// odd builds the tree. Its methods fail the test.
type odd struct {
	t     testing.TB
	dir   string
	root  bool
	seed  uint64
	times map[string]unix.Timespec // mtime of names with one of their own
}

func (b *odd) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatalf("make odd tree: %v", err)
	}
}

// path returns where name, below the root of the tree, lies.
func (b *odd) path(name string) string { return filepath.Join(b.dir, name) }

func (b *odd) mkdir(name string) string {
	b.t.Helper()
	b.must(os.MkdirAll(b.path(name), 0o755))
	return name + "/"
}

func (b *odd) file(name string, data []byte) {
	b.t.Helper()
	b.must(os.WriteFile(b.path(name), data, 0o644))
}

func (b *odd) text(name, data string) {
	b.t.Helper()
	b.file(name, []byte(data))
}

func (b *odd) symlink(name, target string) {
	b.t.Helper()
	b.must(os.Symlink(target, b.path(name)))
}

func (b *odd) link(name, old string) {
	b.t.Helper()
	b.must(os.Link(b.path(old), b.path(name)))
}

func (b *odd) mknod(name string, mode uint32, dev uint64) {
	b.t.Helper()
	if err := unix.Mknod(b.path(name), mode, int(dev)); err != nil {
		b.t.Fatalf("mknod %q: %v", name, err)
	}
}

func (b *odd) chmod(name string, mode uint32) {
	b.t.Helper()
	b.must(unix.Chmod(b.path(name), mode))
}

func (b *odd) setxattr(name, attr, value string) {
	b.t.Helper()
	if err := unix.Lsetxattr(b.path(name), attr, []byte(value), 0); err != nil {
		b.t.Fatalf("set xattr %s of %q: %v", attr, name, err)
	}
}

// noise returns n bytes that do not compress, others for each salt.
func (b *odd) noise(n int, salt uint64) []byte {
	p := make([]byte, n)
	r := rand.New(rand.NewPCG(b.seed, salt))
	fill(p, r, nil, 1)
	return p
}

func (b *odd) empty() {
	d := b.mkdir("empty")
	b.text(d+"file", "")
	b.mkdir(d + "directory")
	b.mkdir(d + "nested/nested/nested")
}

func (b *odd) modes() {
	d := b.mkdir("modes")
	for _, mode := range []uint32{0o400, 0o644, 0o755, 0o777, 0o4755, 0o2755, 0o6711, 0o7777, 0o1644} {
		name := fmt.Sprintf("%sfile-%04o", d, mode)
		b.text(name, name)
		b.chmod(name, mode)
	}
	for _, mode := range []uint32{0o700, 0o1777, 0o2775, 0o3777, 0o7777} {
		name := fmt.Sprintf("%sdir-%04o", d, mode)
		b.mkdir(name)
		b.text(name+"/file", name)
		b.chmod(name, mode)
	}
	if !b.root {
		return // could not read them
	}
	b.text(d+"file-0000", "nobody reads this")
	b.chmod(d+"file-0000", 0)
	b.text(d+"file-4111", "set and not readable")
	b.chmod(d+"file-4111", 0o4111)
	b.mkdir(d + "dir-0000")
	b.text(d+"dir-0000/file", "hidden")
	b.chmod(d+"dir-0000", 0)
}

func (b *odd) special() {
	d := b.mkdir("special")
	b.mknod(d+"fifo", unix.S_IFIFO|0o640, 0)
	b.mknod(d+"socket", unix.S_IFSOCK|0o755, 0)
	if !b.root {
		return
	}
	for _, dev := range [][2]uint32{{1, 3}, {8, 0}, {255, 255}, {256, 256}, {259, 300_000}, {4095, 1<<20 - 1}} {
		b.mknod(fmt.Sprintf("%schar-%d-%d", d, dev[0], dev[1]), unix.S_IFCHR|0o600, unix.Mkdev(dev[0], dev[1]))
		b.mknod(fmt.Sprintf("%sblock-%d-%d", d, dev[0], dev[1]), unix.S_IFBLK|0o660, unix.Mkdev(dev[0], dev[1]))
	}
}

func (b *odd) hardlinks() {
	d, e := b.mkdir("hardlinks/a"), b.mkdir("hardlinks/b")
	b.text(d+"one", "two names in one directory")
	b.link(d+"two", d+"one")
	b.link(e+"one", d+"one")
	b.text(e+"zero", "first name in the last directory")
	b.link(d+"zero", e+"zero")
	b.text(d+"empty", "")
	b.link(e+"empty", d+"empty")
	b.symlink(d+"symlink", "../b/one")
	b.link(e+"symlink", d+"symlink")
	b.mknod(d+"fifo", unix.S_IFIFO|0o600, 0)
	b.link(e+"fifo", d+"fifo")
	b.text(d+"many", "a thousand names")
	m := b.mkdir("hardlinks/many")
	for i := range 1000 {
		b.link(fmt.Sprintf("%s%03d", m, i), d+"many")
	}
	// Equal in all but being linked.
	b.text(d+"same", "same")
	b.text(e+"same", "same")
	if b.root {
		b.mknod(d+"device", unix.S_IFCHR|0o600, unix.Mkdev(1, 5))
		b.link(e+"device", d+"device")
	}
}

func (b *odd) owners() {
	d := b.mkdir("owners")
	const most = 1<<32 - 2 // the largest id; 2^32-1 means "unchanged" to chown
	for _, id := range [][2]int{{0, 1}, {1000, 1000}, {65534, 65534}, {65536, 70000}, {1 << 31, 1<<31 + 1}, {most, most}, {most, 0}} {
		name := fmt.Sprintf("%sfile-%d-%d", d, id[0], id[1])
		b.text(name, name)
		b.must(os.Lchown(b.path(name), id[0], id[1]))
	}
	b.mkdir(d + "dir")
	b.must(os.Lchown(b.path(d+"dir"), most, most))
	b.symlink(d+"symlink", "dir")
	b.must(os.Lchown(b.path(d+"symlink"), 4711, 4712))
	b.text(d+"setuid", "#!/bin/sh\n")
	b.must(os.Lchown(b.path(d+"setuid"), 1000, 1001))
	b.chmod(d+"setuid", 0o6755) // after chown, which clears the bits
}
