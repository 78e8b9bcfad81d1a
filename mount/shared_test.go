package mount_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/image"
	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/internal/treetest"
	"github.com/zosfs/zosfs/mount"
	"github.com/zosfs/zosfs/mount/mounttest"
	"github.com/zosfs/zosfs/store/dir"
)

// ended reports whether the image of m is not needed any more.
func ended(m *mount.Mounted) bool {
	select {
	case <-m.Done():
		return true
	default:
		return false
	}
}

// waitDone waits for the end of m, which is to come without further ado.
func waitDone(t *testing.T, what string, m *mount.Mounted) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	select {
	case <-m.Done():
	case <-ctx.Done():
		t.Fatalf("%s has not ended", what)
	}
}

func statDev(t *testing.T, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Dev
}

// TestShared: mounts of one flist are one file system, which is there as long as one of them,
// and what one has read the other need not. Each image can go when its mount has.
func TestShared(t *testing.T) {
	ref, store, path := noise(t, 4, 1<<20)
	blobs := must(dir.New(store))
	h := newHost(t, "")
	open := func() *image.Image { return mounttest.Open(t, path, blobs, image.Options{}) }
	a, b := kernelAt(t, h, open()), kernelAt(t, h, open())
	if da, db := statDev(t, a.Dir()), statDev(t, b.Dir()); da != db {
		t.Errorf("st_dev is %d and %d, want one", da, db)
	}
	aDev, aRung, aSize := a.Kernel()
	bDev, bRung, bSize := b.Kernel()
	if aDev != bDev || aRung != bRung || aSize != bSize || aSize == 0 {
		t.Errorf("Kernel() = %d, %q, %d and %d, %q, %d", aDev, aRung, aSize, bDev, bRung, bSize)
	}
	treetest.Check(t, ref, a.Dir(), treetest.CompareOptions{})
	before := b.Stats()
	treetest.Check(t, ref, b.Dir(), treetest.CompareOptions{})
	if after := b.Stats(); after.ReadBytes != before.ReadBytes || before.ReadBytes == 0 {
		t.Errorf("the second mount asked for %d bytes after the first had asked for %d", after.ReadBytes-before.ReadBytes, before.ReadBytes)
	}
	other := kernelAt(t, h, mounttest.Image(t, small(t)))
	if statDev(t, other.Dir()) == aDev {
		t.Error("another flist has the same st_dev")
	}

	if err := a.Unmount(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	waitDone(t, "the first mount", a)
	if ended(b) || b.Detached() {
		t.Error("the second mount has ended with the first")
	}
	if err := compareFile(filepath.Join(ref, "0"), filepath.Join(b.Dir(), "0"), false); err != nil {
		t.Errorf("read by the image of the second mount: %v", err)
	}
	c := kernelAt(t, h, open())
	if got := statDev(t, c.Dir()); got != aDev {
		t.Errorf("a third mount has st_dev %d, want %d", got, aDev)
	}
	for _, m := range []*mount.Mounted{b, c, other} {
		if err := m.Unmount(t.Context(), false); err != nil || !ended(m) {
			t.Errorf("unmount: %v, ended: %v", err, ended(m))
		}
	}
	again := kernelAt(t, h, open()) // a device that has gone comes back
	treetest.Check(t, ref, again.Dir(), treetest.CompareOptions{})
}

// TestHidden: a mount that something else is mounted over is not what the next one shares, and is
// not unmounted in its place.
func TestHidden(t *testing.T) {
	ref := small(t)
	h, im := newHost(t, ""), mounttest.Image(t, ref)
	a := kernelAt(t, h, im)
	if err := unix.Mount("none", a.Dir(), "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	b := kernelAt(t, h, im)
	treetest.Check(t, ref, b.Dir(), treetest.CompareOptions{})
	if dev, _, _ := a.Kernel(); statDev(t, b.Dir()) == dev {
		t.Errorf("both have st_dev %d", dev)
	}
	if err := a.Unmount(t.Context(), false); !errors.Is(err, unix.EBUSY) || a.Detached() {
		t.Errorf("unmount below another: %v, want %v", err, unix.EBUSY)
	}
	if err := unix.Unmount(a.Dir(), 0); err != nil {
		t.Fatal(err)
	}
	treetest.Check(t, ref, a.Dir(), treetest.CompareOptions{})
	for _, m := range []*mount.Mounted{a, b} {
		if err := m.Unmount(t.Context(), false); err != nil || !ended(m) {
			t.Errorf("unmount: %v, ended: %v", err, ended(m))
		}
	}
}

// TestUnmountOutside: whoever unmounts, however, the Host notices by itself.
func TestUnmountOutside(t *testing.T) {
	h := newHost(t, "")
	im := mounttest.Image(t, small(t))
	for name, unmount := range map[string]func(dir string) error{
		"plain": func(dir string) error { return unix.Unmount(dir, 0) },
		"lazy":  func(dir string) error { return unix.Unmount(dir, unix.MNT_DETACH) },
		"ours":  func(dir string) error { return mount.Unmount(context.Background(), dir, false) },
	} {
		m := kernelAt(t, h, im)
		if err := unmount(m.Dir()); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		waitDone(t, name, m)
		if !m.Detached() {
			t.Errorf("%s: it has ended, yet it is in sight", name)
		}
	}

	// A file that is open keeps it alive, out of sight.
	m := kernelAt(t, h, im)
	f, err := os.Open(filepath.Join(m.Dir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Unmount(m.Dir(), 0); !errors.Is(err, unix.EBUSY) {
		t.Errorf("unmount in use: %v, want %v", err, unix.EBUSY)
	}
	if err := m.Unmount(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if !m.Detached() || ended(m) {
		t.Errorf("after a lazy unmount in use detached is %v, ended %v", m.Detached(), ended(m))
	}
	p := make([]byte, 7)
	if n, err := f.ReadAt(p, 0); n != 7 || err != nil || string(p) != "content" {
		t.Errorf("read of an open file = %q, %v", p[:n], err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	waitDone(t, "the mount that a file kept", m)
}

// TestManyMounts has one Host show 100 images, each another one.
func TestManyMounts(t *testing.T) {
	const count = 100
	h := newHost(t, "")
	var images []*image.Image
	for i := range count {
		dir := testenv.TempDir(t)
		if err := os.WriteFile(filepath.Join(dir, "file"), fmt.Appendf(nil, "content of %d", i), 0o644); err != nil {
			t.Fatal(err)
		}
		images = append(images, mounttest.Image(t, dir))
	}
	fdsBefore, memBefore := descriptors(t), residentMemory(t)
	devs := map[uint64]int{}
	var mounts []*mount.Mounted
	for i, im := range images {
		m := kernelAt(t, h, im)
		mounts = append(mounts, m)
		dev := statDev(t, m.Dir())
		if other, ok := devs[dev]; ok {
			t.Errorf("mounts %d and %d have st_dev %d", other, i, dev)
		}
		devs[dev] = i
	}
	for i, m := range mounts {
		got, err := os.ReadFile(filepath.Join(m.Dir(), "file"))
		if want := fmt.Sprintf("content of %d", i); err != nil || string(got) != want {
			t.Errorf("mount %d: read = %q, %v, want %q", i, got, err, want)
		}
	}
	t.Logf("%d mounts take %d descriptors and %.1f MiB", count, descriptors(t)-fdsBefore, float64(residentMemory(t)-memBefore)/(1<<20))
	for i, m := range mounts {
		if err := m.Unmount(t.Context(), false); err != nil || !ended(m) {
			t.Errorf("unmount %d: %v, ended: %v", i, err, ended(m))
		}
	}
	for end := time.Now().Add(10 * time.Second); descriptors(t) > fdsBefore; { // the Host may be reading the mount table
		if time.Now().After(end) {
			t.Errorf("%d descriptors after the unmounts, %d before the mounts", descriptors(t), fdsBefore)
			break
		}
	}
	if list, err := mount.List(); err != nil || len(list) > 0 && strings.Contains(fmt.Sprint(list), filepath.Dir(mounts[0].Dir())) {
		t.Errorf("mounts left: %v, %v", list, err)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// residentMemory returns the memory of this process, in bytes, garbage apart.
func residentMemory(t *testing.T) int64 {
	t.Helper()
	debug.FreeOSMemory()
	p, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	var size, resident int64
	if _, err := fmt.Sscan(string(p), &size, &resident); err != nil {
		t.Fatal(err)
	}
	return resident * int64(os.Getpagesize())
}
