package fusefs_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/mount/fusefs"
)

// content mounts a Content for the time of the test.
func content(t *testing.T) *fusefs.Content {
	t.Helper()
	testenv.NeedRoot(t)
	testenv.NeedFUSE(t)
	dir := testenv.TempDir(t)
	var c *fusefs.Content
	t.Cleanup(func() {
		if c != nil {
			<-c.Done()
		}
	})
	testenv.Mounted(t, dir)
	var err error
	if c, err = fusefs.MountContent(dir, fusefs.Options{}); err != nil {
		t.Fatal(err)
	}
	return c
}

// bytesDevice is a device of the bytes p; released is told its last close.
func bytesDevice(name string, id uint64, p []byte, released chan<- string) fusefs.ContentDevice {
	return fusefs.ContentDevice{
		Name: name, ID: id, Size: int64(len(p)),
		ReadAt:   func(_ context.Context, b []byte, off int64) (int, error) { return bytes.NewReader(p).ReadAt(b, off) },
		Released: func() { released <- name },
	}
}

// TestContent: devices are files that can be read, anywhere and past the end, and nothing else.
func TestContent(t *testing.T) {
	c := content(t)
	p := bytes.Repeat([]byte("0123456789abcde\n"), 200_001) // no whole number of pages
	released := make(chan string, 10)
	for _, d := range []fusefs.ContentDevice{bytesDevice("b", 2, p, released), bytesDevice("a", 1<<62, []byte("x"), released)} {
		if err := c.Add(d); err != nil {
			t.Fatal(err)
		}
	}
	for _, bad := range []struct {
		name string
		id   uint64
		want error
	}{{"a", 3, fs.ErrExist}, {"c", 2, fs.ErrExist}, {"", 3, fs.ErrInvalid}, {"x/y", 3, fs.ErrInvalid}, {"c", 1, fs.ErrInvalid}, {"c", 0, fs.ErrInvalid}} {
		if err := c.Add(bytesDevice(bad.name, bad.id, p, released)); !errors.Is(err, bad.want) {
			t.Errorf("Add of %q with inode %d: %v, want %v", bad.name, bad.id, err, bad.want)
		}
	}
	entries, err := os.ReadDir(c.Dir())
	if err != nil || len(entries) != 2 || entries[0].Name() != "a" || entries[1].Name() != "b" {
		t.Errorf("ReadDir = %v, %v, want a and b", entries, err)
	}
	path := filepath.Join(c.Dir(), "b")
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(f)
	if err != nil || !bytes.Equal(got, p) {
		t.Errorf("read of %d bytes, %v, want %d", len(got), err, len(p))
	}
	for _, off := range []int64{0, 1, 4095, int64(len(p)) - 5, int64(len(p)), 1 << 40} {
		b := make([]byte, 10)
		n, err := f.ReadAt(b, off)
		want := p[min(off, int64(len(p))):]
		want = want[:min(len(want), 10)]
		if !bytes.Equal(b[:n], want) || (len(want) < 10) != errors.Is(err, io.EOF) {
			t.Errorf("ReadAt(%d) = %q, %v, want %q", off, b[:n], err, want)
		}
	}
	if n := c.Opens("b"); n != 1 {
		t.Errorf("%d opens, want 1", n)
	}
	if reads, n, failed := c.DeviceStats("b"); reads == 0 || n < uint64(len(p)) || failed != 0 {
		t.Errorf("DeviceStats = %d, %d, %d", reads, n, failed)
	}
	if a, b, c := c.DeviceStats("nothing"); a+b+c != 0 {
		t.Errorf("DeviceStats of nothing = %d, %d, %d", a, b, c)
	}
	if err := c.Unmount(t.Context(), false); !errors.Is(err, unix.EBUSY) {
		t.Errorf("unmount with a device open: %v, want %v", err, unix.EBUSY)
	}
	if err := os.WriteFile(path, []byte("x"), 0); !errors.Is(err, unix.EROFS) {
		t.Errorf("write: %v, want %v", err, unix.EROFS)
	}
	c.Remove("b")
	if _, err := f.ReadAt(make([]byte, 1), 0); !errors.Is(err, unix.EIO) {
		t.Errorf("read of what was removed: %v, want %v", err, unix.EIO)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("stat of what was removed: %v, want %v", err, fs.ErrNotExist)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if a, err := os.ReadFile(filepath.Join(c.Dir(), "a")); err != nil || string(a) != "x" {
		t.Errorf("the other device has %q, %v", a, err)
	}
	select {
	case name := <-released:
		if name != "a" {
			t.Errorf("released %q, want a alone", name)
		}
	case <-time.After(30 * time.Second):
		t.Error("nothing was released")
	}
	if err := c.Unmount(t.Context(), false); err != nil {
		t.Errorf("unmount: %v", err)
	}
}

// TestContentNotCached: what is read of a device is asked for again: the pages of the file system
// above are the cache, and there is no other.
func TestContentNotCached(t *testing.T) {
	c := content(t)
	const size = 1 << 20
	if err := c.Add(bytesDevice("a", 2, make([]byte, size), make(chan string, 1))); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(filepath.Join(c.Dir(), "a"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for round := range uint64(3) {
		if _, err := f.ReadAt(make([]byte, size), 0); err != nil {
			t.Fatal(err)
		}
		if _, n, _ := c.DeviceStats("a"); n != (round+1)*size {
			t.Errorf("reading %d bytes %d times asks for %d, want each anew and nothing ahead", size, round+1, n)
		}
	}
}

// TestContentErrors: what cannot be read whole is an error, never less and never zeros.
func TestContentErrors(t *testing.T) {
	c := content(t)
	for i, d := range []struct {
		name string
		read func(p []byte) (int, error)
		want error
	}{
		{"short", func(p []byte) (int, error) { return len(p) - 1, nil }, unix.EIO},
		{"ends early", func(p []byte) (int, error) { return len(p) / 2, io.EOF }, unix.EIO},
		{"fails", func([]byte) (int, error) { return 0, errors.New("injected") }, unix.EIO},
		{"fails after all", func(p []byte) (int, error) { return len(p), errors.New("injected") }, unix.EIO},
		{"not there", func([]byte) (int, error) { return 0, fs.ErrNotExist }, unix.EIO},
		{"panics", func([]byte) (int, error) { panic("injected") }, unix.EIO},
		{"whole at the end", func(p []byte) (int, error) { return len(p), io.EOF }, nil},
	} {
		err := c.Add(fusefs.ContentDevice{Name: d.name, ID: uint64(i + 2), Size: 8192,
			ReadAt: func(_ context.Context, p []byte, _ int64) (int, error) { return d.read(p) }})
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(c.Dir(), d.name))
		if d.want == nil && (err != nil || len(got) != 8192) || d.want != nil && (!errors.Is(err, d.want) || len(got) > 0) {
			t.Errorf("%s: %d bytes, %v, want %v", d.name, len(got), err, d.want)
		}
		if _, n, failed := c.DeviceStats(d.name); (d.want == nil) != (failed == 0) || d.want != nil && n != 0 {
			t.Errorf("%s: %d bytes and %d errors are counted", d.name, n, failed)
		}
	}
	// A reader who is killed does not wait for who reads for it.
	gone := make(chan error, 1)
	err := c.Add(fusefs.ContentDevice{Name: "stalls", ID: 100, Size: 8192, ReadAt: func(ctx context.Context, _ []byte, _ int64) (int, error) {
		<-ctx.Done()
		gone <- ctx.Err()
		return 0, ctx.Err()
	}})
	if err != nil {
		t.Fatal(err)
	}
	testenv.NeedTool(t, "timeout", "cat")
	out, err := exec.CommandContext(t.Context(), "timeout", "-s", "KILL", "0.2", "cat", filepath.Join(c.Dir(), "stalls")).Output()
	if err == nil || len(out) > 0 {
		t.Errorf("cat of what stalls gives %d bytes, %v", len(out), err)
	}
	select {
	case err := <-gone:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("the read ends with %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Error("the read does not end")
	}
}

// openFUSE returns how many descriptors of /dev/fuse this process has.
func openFUSE(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		if to, err := os.Readlink(filepath.Join("/proc/self/fd", e.Name())); err == nil && to == "/dev/fuse" {
			n++
		}
	}
	return n
}

// TestContentDescriptors: what has ended leaves no descriptor, and what could not be taken over
// leaves that of the caller.
func TestContentDescriptors(t *testing.T) {
	before := openFUSE(t)
	for range 3 {
		if err := content(t).Unmount(t.Context(), false); err != nil {
			t.Fatal(err)
		}
	}
	c := content(t)
	conn := c.Connection()
	conn.Init = conn.Init[:8]
	if _, err := fusefs.ResumeContent(c.Dir(), conn, fusefs.Options{}); err == nil {
		t.Error("eight bytes of the kernel's message are enough to take over")
	}
	if _, err := os.ReadDir(c.Dir()); err != nil {
		t.Errorf("a take-over that fails ends what is there: %v", err)
	}
	if err := c.Unmount(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if after := openFUSE(t); after != before {
		t.Errorf("%d descriptors are left", after-before)
	}
}
