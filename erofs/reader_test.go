package erofs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	reader "github.com/erofs/go-erofs"
	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/erofs"
	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/internal/treetest"
)

// readMax is how much content of a file is compared; treetest compares all of it elsewhere.
const readMax = 1 << 20

// TestReader has github.com/erofs/go-erofs read an image, without a kernel, and compares every
// entry: names, all of stat, hard links, targets, attributes, the places of data and holes on the
// device, and content.
//
// What that reader cannot do is left to [TestKernel]: attributes that with their names are
// larger than a block, and the order of names, which it sorts. It reads whole blocks, also
// behind the end of the image, and has a dot too many behind the names of ACLs.
func TestReader(t *testing.T) {
	work := testenv.TempDir(t)
	src := filepath.Join(work, "src")
	if err := os.Mkdir(src, 0o755); err != nil {
		t.Fatal(err)
	}
	treetest.Odd(t, src, treetest.Options{Seed: 5})
	image, device := filepath.Join(work, "image"), filepath.Join(work, "device")
	tree := scan(t, src, device)
	write(t, image, tree)
	checkReader(t, tree, image, device)
}

func checkReader(t *testing.T, tree *diskTree, image, device string) {
	t.Helper()
	img, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	dev, err := os.Open(device)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	opened, err := reader.Open(padded{img}, reader.WithExtraDevices(padded{dev}))
	if err != nil {
		t.Fatal(err)
	}
	c := &readerCheck{t: t, tree: tree, dev: dev, fs: opened.(readerFS), inodes: map[int64]uint32{}}
	c.inode(".", erofs.Root)
	c.dir(".", erofs.Root)
	if len(c.inodes) != tree.Len() {
		t.Errorf("%d inodes seen, want %d", len(c.inodes), tree.Len())
	}
}

// padded gives zeros behind the end.
type padded struct{ io.ReaderAt }

func (p padded) ReadAt(b []byte, off int64) (int, error) {
	n, err := p.ReaderAt.ReadAt(b, off)
	if errors.Is(err, io.EOF) {
		clear(b[n:])
		return len(b), nil
	}
	return n, err
}

type readerFS interface {
	fs.ReadDirFS
	fs.ReadLinkFS
}

type readerCheck struct {
	t      *testing.T
	tree   *diskTree
	dev    io.ReaderAt
	fs     readerFS
	inodes map[int64]uint32 // by number of the reader
}

// dir compares what is in a directory and below.
func (c *readerCheck) dir(name string, number uint32) {
	entries, err := c.fs.ReadDir(name)
	if err != nil {
		c.t.Errorf("%q: %v", name, err)
		return
	}
	want := c.tree.dirs[number]
	if len(entries) != len(want) {
		c.t.Errorf("%q has %d entries, want %d", name, len(entries), len(want))
		return
	}
	for i, e := range entries {
		child := path.Join(name, want[i].Name)
		if e.Name() != want[i].Name || e.Type() != fileMode(want[i].Mode).Type() {
			c.t.Errorf("entry %d of %q is %q, %v, want %q, %v", i, name, e.Name(), e.Type(), want[i].Name, fileMode(want[i].Mode))
		}
		c.inode(child, want[i].Inode)
		if e.IsDir() {
			c.dir(child, want[i].Inode)
		}
	}
}

func (c *readerCheck) inode(name string, number uint32) {
	in := c.tree.inodes[number-1]
	info, err := c.fs.Lstat(name)
	if err != nil {
		if !c.hugeXattr(in.Xattrs) {
			c.t.Errorf("%q: %v", name, err)
		}
		c.inodes[-int64(number)] = number
		return
	}
	st := info.Sys().(*reader.Stat)
	if known, ok := c.inodes[st.Ino]; ok && known != number {
		c.t.Errorf("%q is the same file as inode %d, want %d", name, known, number)
	}
	c.inodes[st.Ino] = number
	nsec := int64(st.Mtime)*1e9 + int64(st.MtimeNs)
	got := fmt.Sprint(st.Mode, st.UID, st.GID, st.Nlink, nsec)
	if want := fmt.Sprint(fileMode(in.Mode), in.UID, in.GID, in.Nlink, in.MTime); got != want {
		c.t.Errorf("%q: %v, want %v", name, got, want)
	}
	if got, want := st.Xattrs, c.xattrs(in.Xattrs); !maps.Equal(got, want) {
		c.t.Errorf("%q: attributes %q, want %q", name, got, want)
	}
	switch in.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		if got, err := c.fs.ReadLink(name); got != in.Target || err != nil {
			c.t.Errorf("%q: target %q, %v, want %q", name, got, err, in.Target)
		}
	case unix.S_IFCHR, unix.S_IFBLK:
		// The kernel's new_encode_dev: 12 bits of major amid 20 of minor.
		major, minor := unix.Major(in.Rdev), unix.Minor(in.Rdev)
		if want := minor&0xff | major<<8 | minor&^0xff<<12; st.Rdev != want {
			c.t.Errorf("%q: device %#x, want %#x", name, st.Rdev, want)
		}
	case unix.S_IFREG:
		c.ranges(name, in, info)
		c.content(name, in)
	}
}

// hugeXattr reports whether the reader cannot take an attribute of the set.
func (c *readerCheck) hugeXattr(set uint32) bool {
	return set > 0 && slices.ContainsFunc(c.tree.sets[set-1], func(x erofs.Xattr) bool {
		return len(x.Name)+len(x.Value) > erofs.BlockSize-16
	})
}

func (c *readerCheck) xattrs(set uint32) map[string]string {
	if set == 0 {
		return nil
	}
	all := map[string]string{}
	for _, x := range c.tree.sets[set-1] {
		name := x.Name
		if strings.HasPrefix(name, "system.posix_acl_") {
			name += "."
		}
		all[name] = string(x.Value)
	}
	return all
}

// ranges compares where data lies: runs, widened to the blocks of the format.
func (c *readerCheck) ranges(name string, in erofs.Inode, info fs.FileInfo) {
	if in.Size == 0 {
		return
	}
	off := int64(0)
	for _, r := range info.(interface{ DataRange() []reader.DataRange }).DataRange() {
		if r.Offset >= 0 && r.Offset != in.Addr+off {
			c.t.Errorf("%q: byte %d lies at %d, want %d", name, off, r.Offset, in.Addr+off)
		}
		for _, run := range in.Data {
			if r.Offset < 0 && run.Off < off+r.Size && off < run.Off+run.Len {
				c.t.Errorf("%q: a hole [%d, +%d) in the data [%d, +%d)", name, off, r.Size, run.Off, run.Len)
			}
		}
		off += r.Size
	}
	if off != in.Size {
		c.t.Errorf("%q: ranges of %d bytes, want %d", name, off, in.Size)
	}
}

func (c *readerCheck) content(name string, in erofs.Inode) {
	f, err := c.fs.Open(name)
	if err != nil {
		c.t.Errorf("%q: %v", name, err)
		return
	}
	defer f.Close()
	n := min(in.Size, readMax)
	got, want := make([]byte, n), make([]byte, n)
	_, err = io.ReadFull(f, got)
	_, werr := c.dev.ReadAt(want, in.Addr) // holes are zeros there
	if err != nil || werr != nil && !errors.Is(werr, io.EOF) || !bytes.Equal(got, want) {
		c.t.Errorf("%q: other content: %v, %v", name, err, werr)
	}
}

// fileMode returns a st_mode in the words of package fs.
func fileMode(mode uint32) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	m |= map[uint32]fs.FileMode{
		unix.S_IFDIR: fs.ModeDir, unix.S_IFLNK: fs.ModeSymlink, unix.S_IFIFO: fs.ModeNamedPipe, unix.S_IFSOCK: fs.ModeSocket,
		unix.S_IFBLK: fs.ModeDevice, unix.S_IFCHR: fs.ModeDevice | fs.ModeCharDevice,
	}[mode&unix.S_IFMT]
	for bit, set := range map[uint32]fs.FileMode{unix.S_ISUID: fs.ModeSetuid, unix.S_ISGID: fs.ModeSetgid, unix.S_ISVTX: fs.ModeSticky} {
		if mode&bit != 0 {
			m |= set
		}
	}
	return m
}

// TestDump has dump.erofs say what is in an image.
func TestDump(t *testing.T) {
	testenv.NeedTool(t, "dump.erofs", "fsck.erofs")
	work := testenv.TempDir(t)
	src := filepath.Join(work, "src")
	if err := os.Mkdir(src, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := treetest.Grow(src, treetest.GrowOptions{Files: 500, Seed: 2, MaxFile: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	image, device := filepath.Join(work, "image"), filepath.Join(work, "device")
	tree := scan(t, src, device)
	write(t, image, tree)
	run := func(name string, args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), name, append(args, "--device="+device, image)...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s %q: %v\n%s", name, args, err, out)
		}
		return string(out)
	}
	run("fsck.erofs", "--extract") // reads every byte
	super := strings.Join(strings.Fields(run("dump.erofs", "-s")), " ")
	for _, want := range []string{fmt.Sprintf("Filesystem inode count: %d", tree.Len()), "sb_csum chunked_file device_table", "01020300-0000-0000-0000-000000000000"} {
		if !strings.Contains(super, want) {
			t.Errorf("dump.erofs -s says %q, want %q", super, want)
		}
	}
	for _, e := range tree.dirs[erofs.Root] {
		in := tree.inodes[e.Inode-1]
		said := run("dump.erofs", "--path=/"+e.Name)
		want := fmt.Sprintf("Links: %d", in.Nlink)
		if !strings.Contains(said, want) || !strings.Contains(said, fmt.Sprintf("(%04o/", in.Mode&0o7777)) && !strings.Contains(said, fmt.Sprintf("%04o", in.Mode&0o7777)) {
			t.Errorf("dump.erofs says of %q:\n%s\nwant %q and mode %o", e.Name, said, want, in.Mode)
		}
	}
}
