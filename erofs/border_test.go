package erofs_test

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/erofs"
	"github.com/zosfs/zosfs/internal/testenv"
)

// madeUp is a tree that is nowhere but here.
type madeUp struct{ diskTree }

func newMadeUp() *madeUp {
	m := &madeUp{}
	m.dirs, m.parents = map[uint32][]erofs.Entry{}, map[uint32]uint32{1: 1}
	m.inodes = []erofs.Inode{{Mode: unix.S_IFDIR | 0o755, Nlink: 2}}
	return m
}

// add adds an inode to dir; names are to ascend.
func (m *madeUp) add(dir uint32, name string, in erofs.Inode) uint32 {
	m.inodes = append(m.inodes, in)
	n := uint32(len(m.inodes))
	m.dirs[dir] = append(m.dirs[dir], erofs.Entry{Name: name, Inode: n, Mode: in.Mode})
	if in.Mode&unix.S_IFMT == unix.S_IFDIR {
		m.parents[n] = dir
	}
	return n
}

// images writes the image of m beside an empty device.
func (m *madeUp) images(t *testing.T) (image, device string) {
	t.Helper()
	work := testenv.TempDir(t)
	image, device = filepath.Join(work, "image"), filepath.Join(work, "device")
	write(t, image, &m.diskTree)
	if err := os.WriteFile(device, make([]byte, max(m.size, erofs.BlockSize)), 0o600); err != nil {
		t.Fatal(err)
	}
	return image, device
}

// list returns all names in a directory, and looks each one up.
func (m *madeUp) list(t *testing.T, mnt string, number uint32, name string) {
	t.Helper()
	f, err := os.Open(filepath.Join(mnt, name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, err := f.Readdirnames(-1)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, e := range m.dirs[number] {
		want = append(want, e.Name)
		var st unix.Stat_t
		if err := unix.Fstatat(int(f.Fd()), e.Name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil || st.Mode != e.Mode {
			t.Errorf("%s/%s: mode %o, %v, want %o", name, e.Name, st.Mode, err, e.Mode)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q has %d names, want %d, or in another order", name, len(got), len(want))
	}
	for _, missing := range []string{"", " ", "a", "zzz", "name-", "name-9999999"} {
		if err := unix.Fstatat(int(f.Fd()), "x"+missing, new(unix.Stat_t), 0); err != unix.ENOENT {
			t.Errorf("%s/x%s: %v, want %v", name, missing, err, unix.ENOENT)
		}
	}
}

// borders are sizes at and around those where the layout changes: what lies behind an inode is
// at most 1024 bytes, and blocks have 4096.
var borders = []int{1, 31, 32, 33, 1023, 1024, 1025, 2047, 2048, 2049, 4032, 4094, 4095, 4096, 4097, 5119, 5120, 5121, 8191, 8192, 8193, 12288 + 1024, 12288 + 1025}

// TestBorders: directories and targets of every size where the layout changes, with inodes
// that come to lie at all places of a block.
func TestBorders(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedEROFS(t)
	m := newMadeUp()
	dirs := map[string]uint32{}
	for _, size := range borders {
		const dots, entry, nameMax = 12 + 1 + 12 + 2, 12, 255
		if size < dots+entry+1 {
			continue
		}
		name := fmt.Sprintf("dir-%05d", size)
		dir := m.add(erofs.Root, name, erofs.Inode{Mode: unix.S_IFDIR | 0o700, Nlink: 2})
		dirs[name] = dir
		// All blocks before the last are padded, so their waste counts; names of 116 bytes
		// fill a block but for what the dots take.
		for left, i := size-dots, 0; left > entry; i++ {
			n := min(left-entry, 116)
			if rest := left - entry - n; rest > 0 && rest <= entry {
				n -= entry // so that the next has a name
			}
			m.add(dir, fmt.Sprintf("%04d", i)[4-min(4, n):]+strings.Repeat("n", max(0, n-4)), erofs.Inode{Mode: unix.S_IFREG | 0o600, Nlink: 1})
			left -= entry + n
		}
	}
	links := map[string]string{}
	for _, size := range borders {
		if size > 4095 {
			break
		}
		for skew := range 3 {
			name := fmt.Sprintf("link-%05d-%d", size, skew)
			links[name] = strings.Repeat("t", size-1) + "!"
			m.add(erofs.Root, name, erofs.Inode{Mode: unix.S_IFLNK | 0o777, Nlink: 1, Target: links[name]})
		}
	}
	image, device := m.images(t)
	checkReader(t, &m.diskTree, image, device)
	mnt := mount(t, image, device)
	for name, number := range dirs {
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(mnt, name), &st); err != nil || st.Size <= erofs.BlockSize && name != fmt.Sprintf("dir-%05d", st.Size) {
			t.Errorf("%s has %d bytes, %v", name, st.Size, err)
		}
		m.list(t, mnt, number, name)
	}
	for name, want := range links {
		if got, err := os.Readlink(filepath.Join(mnt, name)); got != want || err != nil {
			t.Errorf("%s: target of %d bytes, %v, want %d", name, len(got), err, len(want))
		}
	}
}

// TestTimes: every nanosecond of 64 bits, before 1970 too.
func TestTimes(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedEROFS(t)
	m := newMadeUp()
	times := []int64{0, 1, -1, 999_999_999, 1e9, -999_999_999, -1e9, -1e9 - 1, 1700000000_123456789, -1700000000_123456789,
		math.MaxInt32 * 1e9, (math.MaxInt32 + 1) * 1e9, math.MinInt32*1e9 - 1, math.MaxUint32 * 1e9, math.MaxInt64, math.MinInt64}
	for i, ns := range times {
		m.add(erofs.Root, fmt.Sprintf("%03d", i), erofs.Inode{Mode: unix.S_IFREG | 0o600, Nlink: 1, MTime: ns})
	}
	image, device := m.images(t)
	checkReader(t, &m.diskTree, image, device)
	mnt := mount(t, image, device)
	for i, want := range times {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(mnt, fmt.Sprintf("%03d", i)), &st); err != nil || st.Mtim.Sec*1e9+st.Mtim.Nsec != want || st.Mtim.Nsec < 0 || st.Mtim.Nsec > 999_999_999 {
			t.Errorf("mtime %d is shown as %+v, %v", want, st.Mtim, err)
		}
	}
}

// TestLargeDirectory: 100,000 names are listed in order, and each is found.
func TestLargeDirectory(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedEROFS(t)
	m := newMadeUp()
	for i := range 100_000 {
		m.add(erofs.Root, fmt.Sprintf("name-%06d", i), erofs.Inode{Mode: unix.S_IFREG | 0o644, Nlink: 1})
	}
	image, device := m.images(t)
	m.list(t, mount(t, image, device), erofs.Root, ".")
}
