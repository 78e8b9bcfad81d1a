package erofs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/erofs"
	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/internal/treetest"
)

// diskTree is the tree of a directory, with the content of its files in one device file.
type diskTree struct {
	inodes  []erofs.Inode
	dirs    map[uint32][]erofs.Entry
	parents map[uint32]uint32
	sets    [][]erofs.Xattr
	size    int64 // of the device
}

func (d *diskTree) Len() int                             { return len(d.inodes) }
func (d *diskTree) Parent(dir uint32) uint32             { return d.parents[dir] }
func (d *diskTree) Dir(dir uint32) iter.Seq[erofs.Entry] { return slices.Values(d.dirs[dir]) }

func (d *diskTree) Inodes() iter.Seq2[uint32, erofs.Inode] {
	return func(yield func(uint32, erofs.Inode) bool) {
		for i, in := range d.inodes {
			if !yield(uint32(i+1), in) {
				return
			}
		}
	}
}

func (d *diskTree) Xattrs() iter.Seq2[uint32, []erofs.Xattr] {
	return func(yield func(uint32, []erofs.Xattr) bool) {
		for i, set := range d.sets {
			if !yield(uint32(i+1), set) {
				return
			}
		}
	}
}

// scan reads dir and copies content to device.
func scan(t *testing.T, dir, device string) *diskTree {
	t.Helper()
	out, err := os.Create(device)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	s := &scanner{t: t, out: out, seen: map[uint64]uint32{}, sets: map[string]uint32{}}
	s.dirs, s.parents = map[uint32][]erofs.Entry{}, map[uint32]uint32{1: 1}
	s.add(dir)
	s.dir(dir, 1)
	if err := out.Truncate(s.size); err != nil {
		t.Fatal(err)
	}
	return &s.diskTree
}

type scanner struct {
	t *testing.T
	diskTree
	out  *os.File
	seen map[uint64]uint32
	sets map[string]uint32
}

func (s *scanner) check(err error) {
	if err != nil {
		s.t.Helper()
		s.t.Fatal(err)
	}
}

// dir adds what is in a directory. Deep paths are reached step by step.
func (s *scanner) dir(path string, number uint32) {
	f, err := os.Open(path)
	s.check(err)
	defer f.Close()
	names, err := f.Readdirnames(-1)
	s.check(err)
	slices.Sort(names)
	at := fmt.Sprintf("/proc/self/fd/%d/", f.Fd())
	for _, name := range names {
		child, mode := s.add(at + name)
		s.dirs[number] = append(s.dirs[number], erofs.Entry{Name: name, Inode: child, Mode: mode})
		if mode&unix.S_IFMT == unix.S_IFDIR {
			s.parents[child] = number
			s.dir(at+name, child)
		}
	}
}

func (s *scanner) add(path string) (uint32, uint32) {
	var st unix.Stat_t
	s.check(unix.Lstat(path, &st))
	if n, ok := s.seen[st.Ino]; ok {
		return n, st.Mode
	}
	in := erofs.Inode{Mode: st.Mode, UID: st.Uid, GID: st.Gid, Nlink: uint32(st.Nlink), MTime: st.Mtim.Nano(), Xattrs: s.xattrs(path)}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		var err error
		in.Target, err = os.Readlink(path)
		s.check(err)
	case unix.S_IFCHR, unix.S_IFBLK:
		in.Rdev = st.Rdev
	case unix.S_IFREG:
		in.Size, in.Addr = st.Size, s.size
		s.content(path, &in)
		s.size += (st.Size + erofs.BlockSize - 1) / erofs.BlockSize * erofs.BlockSize
	}
	s.inodes = append(s.inodes, in)
	n := uint32(len(s.inodes))
	s.seen[st.Ino] = n
	return n, st.Mode
}

func (s *scanner) content(path string, in *erofs.Inode) {
	f, err := os.Open(path)
	s.check(err)
	defer f.Close()
	in.Data = []erofs.Run{}
	for off := int64(0); off < in.Size; {
		begin, err := f.Seek(off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break
		}
		s.check(err)
		end, err := f.Seek(begin, unix.SEEK_HOLE)
		s.check(err)
		in.Data = append(in.Data, erofs.Run{Off: begin, Len: end - begin})
		_, err = io.Copy(io.NewOffsetWriter(s.out, in.Addr+begin), io.NewSectionReader(f, begin, end-begin))
		s.check(err)
		off = end
	}
}

func (s *scanner) xattrs(path string) uint32 {
	list := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, list)
	s.check(err)
	var set []erofs.Xattr
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00") {
		if name == "" {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(path, name, value)
		s.check(err)
		set = append(set, erofs.Xattr{Name: name, Value: value[:n]})
	}
	if len(set) == 0 {
		return 0
	}
	key := fmt.Sprintf("%q", set)
	if id, ok := s.sets[key]; ok {
		return id
	}
	s.diskTree.sets = append(s.diskTree.sets, set)
	s.sets[key] = uint32(len(s.diskTree.sets))
	return s.sets[key]
}

func write(t *testing.T, path string, tree *diskTree) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n, err := erofs.Write(f, tree, erofs.Options{UUID: [16]byte{1, 2, 3}, DeviceBlocks: uint32(tree.size / erofs.BlockSize)})
	if err != nil {
		t.Fatal(err)
	}
	if st, err := f.Stat(); err != nil || st.Size() != n || n%erofs.BlockSize != 0 {
		t.Fatalf("image of %d bytes, Write said %d: %v", st.Size(), n, err)
	}
}

// mount has the kernel mount an image, from its file.
func mount(t *testing.T, image, device string) string {
	t.Helper()
	dir := filepath.Join(filepath.Dir(image), "mnt")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	testenv.Mounted(t, dir)
	if err := unix.Mount(image, dir, "erofs", unix.MS_RDONLY, "device="+device); err != nil {
		t.Fatalf("mount: %v", err)
	}
	return dir
}

// TestKernel has the kernel read images, and compares every field, attribute, hole and byte.
func TestKernel(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedEROFS(t)
	testenv.NeedTool(t, "fsck.erofs")
	for name, fill := range map[string]func(t *testing.T, dir string){
		"empty": func(*testing.T, string) {},
		"odd":   func(t *testing.T, dir string) { treetest.Odd(t, dir, treetest.Options{}) },
		"real": func(t *testing.T, dir string) {
			if _, err := treetest.Grow(dir, treetest.GrowOptions{Files: 3000, Seed: 1, MaxFile: 1 << 20}); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			work := testenv.TempDir(t)
			src := filepath.Join(work, "src")
			if err := os.Mkdir(src, 0o755); err != nil {
				t.Fatal(err)
			}
			fill(t, src)
			image, device := filepath.Join(work, "image"), filepath.Join(work, "device")
			tree := scan(t, src, device)
			write(t, image, tree)
			again := filepath.Join(work, "again")
			write(t, again, tree)
			a, errA := os.ReadFile(image)
			b, errB := os.ReadFile(again)
			if errA != nil || errB != nil || !bytes.Equal(a, b) {
				t.Errorf("the same tree gave two images: %v %v", errA, errB)
			}
			if out, err := exec.CommandContext(t.Context(), "fsck.erofs", "--device="+device, image).CombinedOutput(); err != nil {
				t.Errorf("fsck.erofs: %v\n%s", err, out)
			}
			treetest.Check(t, src, mount(t, image, device), treetest.CompareOptions{})
		})
	}
}

// TestRefuses gives Write trees that the format cannot hold, or that are none.
func TestRefuses(t *testing.T) {
	dir := erofs.Inode{Mode: unix.S_IFDIR | 0o755, Nlink: 2}
	file := func(in erofs.Inode) *diskTree {
		in.Mode |= unix.S_IFREG
		return &diskTree{
			inodes: []erofs.Inode{dir, in}, parents: map[uint32]uint32{1: 1},
			dirs: map[uint32][]erofs.Entry{1: {{Name: "f", Inode: 2, Mode: in.Mode}}},
		}
	}
	withSet := func(x erofs.Xattr) *diskTree {
		tree := file(erofs.Inode{Xattrs: 1})
		tree.sets = [][]erofs.Xattr{{x}}
		return tree
	}
	order := file(erofs.Inode{})
	order.dirs[1] = []erofs.Entry{{Name: "b", Inode: 2}, {Name: "a", Inode: 2}}
	device := file(erofs.Inode{})
	device.inodes[1] = erofs.Inode{Mode: unix.S_IFCHR, Rdev: unix.Mkdev(5000, 1)}
	target := file(erofs.Inode{})
	target.inodes[1] = erofs.Inode{Mode: unix.S_IFLNK | 0o777, Target: strings.Repeat("t", erofs.BlockSize)}
	for name, c := range map[string]struct {
		tree *diskTree
		want error // nil: any
	}{
		"namespace": {withSet(erofs.Xattr{Name: "btrfs.compression"}), erofs.ErrUnsupported},
		"value":     {withSet(erofs.Xattr{Name: "user.x", Value: make([]byte, 1<<16)}), erofs.ErrUnsupported},
		"address":   {file(erofs.Inode{Size: 1, Addr: 1}), erofs.ErrUnsupported},
		"far":       {file(erofs.Inode{Size: 1, Addr: 1 << 44}), erofs.ErrUnsupported},
		"major":     {device, erofs.ErrUnsupported},
		"target":    {target, erofs.ErrUnsupported},
		"order":     {order, nil},
		"no set":    {file(erofs.Inode{Xattrs: 7}), nil},
		"no inodes": {&diskTree{}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := erofs.Write(io.Discard, c.tree, erofs.Options{})
			if err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("Write = %v, want %v", err, c.want)
			}
		})
	}
}

// wide is a made-up tree of n files in directories of 100.
func wide(n int) *diskTree {
	d := &diskTree{parents: map[uint32]uint32{1: 1}, dirs: map[uint32][]erofs.Entry{}}
	dir := erofs.Inode{Mode: unix.S_IFDIR | 0o755}
	d.inodes = append(d.inodes, dir)
	for i := range n {
		if i%100 == 0 {
			d.inodes = append(d.inodes, dir)
			number := uint32(len(d.inodes))
			d.parents[number] = 1
			d.dirs[1] = append(d.dirs[1], erofs.Entry{Name: fmt.Sprintf("d%07d", i), Inode: number, Mode: dir.Mode})
		}
		f := erofs.Inode{Mode: unix.S_IFREG | 0o644, Nlink: 1, MTime: int64(i) * 1e9, Size: 5000, Addr: d.size}
		d.size += 2 * erofs.BlockSize
		d.inodes = append(d.inodes, f)
		parent := d.dirs[1][len(d.dirs[1])-1].Inode
		d.dirs[parent] = append(d.dirs[parent], erofs.Entry{Name: fmt.Sprintf("some-file-name-%07d", i), Inode: uint32(len(d.inodes)), Mode: f.Mode})
	}
	return d
}

func BenchmarkWrite(b *testing.B) {
	tree := wide(200000)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := erofs.Write(io.Discard, tree, erofs.Options{DeviceBlocks: uint32(tree.size / erofs.BlockSize)}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*float64(tree.Len())/b.Elapsed().Seconds(), "inodes/s")
}
