package mount_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/cache"
	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/image"
	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/internal/treetest"
	"github.com/zosfs/zosfs/mount"
	"github.com/zosfs/zosfs/mount/mounttest"
	"github.com/zosfs/zosfs/store/dir"
	"github.com/zosfs/zosfs/store/mem"
)

// at mounts im at a new directory for the time of the test.
func at(t *testing.T, im *image.Image, o mount.Options) *mount.Mounted {
	t.Helper()
	testenv.NeedFUSE(t)
	dir := testenv.TempDir(t)
	var m *mount.Mounted
	t.Cleanup(func() {
		if m != nil {
			m.Wait()
		}
	})
	testenv.Mounted(t, dir)
	var err error
	if m, err = mount.Mount(t.Context(), im, dir, o); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestFaults(t *testing.T) {
	mounttest.Faults(t, func(t *testing.T, im *image.Image) string {
		return at(t, im, mount.Options{}).Dir()
	})
}

// small returns the path of a tree with the one file "file".
func small(t *testing.T) string {
	t.Helper()
	dir := testenv.TempDir(t)
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestModes(t *testing.T) {
	im := mounttest.Image(t, small(t))
	for _, mode := range []mount.Mode{"", mount.Auto, mount.FUSE} {
		m := at(t, im, mount.Options{Mode: mode})
		if m.Mode() != mount.FUSE {
			t.Errorf("mode %q takes %q", mode, m.Mode())
		}
		if asked := mode == mount.FUSE; (m.Why() == "") != asked {
			t.Errorf("mode %q gives the reason %q", mode, m.Why())
		}
		got, err := os.ReadFile(filepath.Join(m.Dir(), "file"))
		if err != nil || string(got) != "content" {
			t.Errorf("mode %q: read = %q, %v", mode, got, err)
		}
	}
	_, err := mount.Mount(t.Context(), im, testenv.TempDir(t), mount.Options{Mode: mount.Kernel})
	if !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, fs.ErrPermission) || !strings.Contains(fmt.Sprint(err), "try mode fuse") {
		t.Errorf("mode kernel without a host: %v, want %v and what to try", err, errors.ErrUnsupported)
	}
	if _, err := mount.Mount(t.Context(), im, testenv.TempDir(t), mount.Options{Mode: "fast"}); !errors.Is(err, errs.ErrFormat) {
		t.Errorf("mode fast: %v, want %v", err, errs.ErrFormat)
	}
}

func TestParseMode(t *testing.T) {
	for _, want := range []mount.Mode{mount.Auto, mount.FUSE, mount.Kernel} {
		if got, err := mount.ParseMode(string(want)); got != want || err != nil {
			t.Errorf("ParseMode(%q) = %q, %v", want, got, err)
		}
	}
	if got, err := mount.ParseMode(""); !errors.Is(err, errs.ErrFormat) {
		t.Errorf("ParseMode of nothing = %q, %v, want %v", got, err, errs.ErrFormat)
	}
}

// TestPoint: what a mount cannot go to, and what is said about it.
func TestPoint(t *testing.T) {
	im := mounttest.Image(t, small(t))
	there := at(t, im, mount.Options{Source: "hub/acme/debian:12"})
	dir := testenv.TempDir(t)
	link := filepath.Join(dir, "link")
	err := errors.Join(os.WriteFile(filepath.Join(dir, "file"), nil, 0o644), os.Symlink(there.Dir(), link))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		dir  string
		want error
		text string
	}{
		{filepath.Join(dir, "nothing"), fs.ErrNotExist, "make the directory"},
		{filepath.Join(dir, "file"), unix.ENOTDIR, "file"},
		{there.Dir(), fs.ErrExist, "hub/acme/debian:12"},
		{link, fs.ErrExist, "zosfs umount " + there.Dir()},
		{there.Dir() + "/../" + filepath.Base(there.Dir()) + "/", fs.ErrExist, there.Dir()},
	} {
		m, err := mount.Mount(t.Context(), im, c.dir, mount.Options{})
		if !errors.Is(err, c.want) || !strings.Contains(fmt.Sprint(err), c.text) {
			t.Errorf("mount at %s: %v, want %v and %q", c.dir, err, c.want, c.text)
		}
		if err == nil {
			_ = m.Unmount(context.Background(), true)
		}
	}
}

func TestList(t *testing.T) {
	im := mounttest.Image(t, small(t))
	a := at(t, im, mount.Options{Source: "one"})
	b := at(t, im, mount.Options{Source: `two, with a blank and a \`})
	list := func() []mount.Info {
		all, err := mount.List()
		if err != nil {
			t.Fatal(err)
		}
		var ours []mount.Info // others may be there
		for _, m := range all {
			if m.Dir == a.Dir() || m.Dir == b.Dir() {
				ours = append(ours, m)
			}
		}
		return ours
	}
	infoA := mount.Info{Dir: a.Dir(), Source: "one", Mode: mount.FUSE}
	infoB := mount.Info{Dir: b.Dir(), Source: `two, with a blank and a \`, Mode: mount.FUSE}
	if diff := cmp.Diff([]mount.Info{infoA, infoB}, list()); diff != "" {
		t.Errorf("mounts (-want +got):\n%s", diff)
	}
	if err := mount.Unmount(t.Context(), a.Dir(), false); err != nil {
		t.Errorf("unmount: %v", err)
	}
	a.Wait()
	if diff := cmp.Diff([]mount.Info{infoB}, list()); diff != "" {
		t.Errorf("mounts after an unmount (-want +got):\n%s", diff)
	}
	if err := mount.Unmount(t.Context(), a.Dir(), false); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("unmount of nothing: %v, want %v", err, fs.ErrNotExist)
	}
	if err := b.Unmount(t.Context(), false); err != nil {
		t.Errorf("unmount: %v", err)
	}
}

// serveEnv makes the test binary serve a mount, until it is killed.
const serveEnv = "ZOSFS_TEST_SERVE"

func TestMain(m *testing.M) {
	for env, run := range map[string]func(string) error{
		serveEnv: func(args string) error { return serve(strings.Split(args, ":")) },
		hostEnv:  runHost,
		readEnv:  runReader,
	} {
		if args := os.Getenv(env); args != "" {
			if err := run(args); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Exit(0)
		}
	}
	os.Exit(m.Run())
}

// serve mounts: an flist, a store directory and a cache directory, and where.
func serve(args []string) error {
	ctx := context.Background()
	r, err := flist.Open(args[0], flist.OpenOptions{})
	if err != nil {
		return err
	}
	src, err := dir.New(args[1])
	if err != nil {
		return err
	}
	c, err := cache.Open(args[2], cache.Options{})
	if err != nil {
		return err
	}
	im, err := image.New(r, src, image.Options{Cache: c})
	if err != nil {
		return err
	}
	m, err := mount.Mount(ctx, im, args[3], mount.Options{})
	if err != nil {
		return err
	}
	if _, err := io.WriteString(os.Stdout, "mounted\n"); err != nil {
		return err
	}
	m.Wait()
	return errors.Join(im.Close(), c.Close(), r.Close())
}

// server is a process that serves a mount.
type server struct{ cmd *exec.Cmd }

func start(t *testing.T, args ...string) *server {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), serveEnv+"="+strings.Join(args, ":"))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	s := &server{cmd}
	t.Cleanup(func() { s.kill() })
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "mounted\n" {
		t.Fatalf("the server says %q, %v", line, err)
	}
	return s
}

// kill ends the server as kill -9 does.
func (s *server) kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

// TestKilled: when the serving process is killed nothing hangs, what to do is said and works,
// and the cache that it left is good.
func TestKilled(t *testing.T) {
	testenv.NeedFUSE(t)
	ref, at := testenv.TempDir(t), testenv.TempDir(t)
	treetest.Odd(t, ref, treetest.Options{Seed: 3})
	blobs, cached := testenv.TempDir(t), testenv.TempDir(t)
	put, err := dir.New(blobs)
	if err != nil {
		t.Fatal(err)
	}
	path := mounttest.Pack(t, ref, put, 0)
	testenv.Mounted(t, at)

	s := start(t, path, blobs, cached, at)
	f, err := os.Open(filepath.Join(at, "sizes/large"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Read(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { // has something to read at any time, and ends when the server does
		for {
			if _, err := treetest.Scan(at); err != nil {
				done <- err
				return
			}
			if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
				done <- err
				return
			}
		}
	}()
	s.kill()
	if err := <-done; !isGone(err) {
		t.Errorf("reading fails with %v, want %v", err, unix.ENOTCONN)
	}
	if _, err := f.ReadAt(make([]byte, 4096), 2<<20); err != nil && !isGone(err) {
		t.Errorf("read of an open file: %v", err)
	}
	_ = f.Close() // may be told that nobody is there to flush to
	_, err = mount.Mount(t.Context(), mounttest.Open(t, path, mem.New(), image.Options{}), at, mount.Options{})
	if !errors.Is(err, unix.ENOTCONN) || !strings.Contains(fmt.Sprint(err), "zosfs umount "+at) {
		t.Errorf("mount over what is left: %v, want %v and how to go on", err, unix.ENOTCONN)
	}
	if err := mount.Unmount(t.Context(), at, true); err != nil {
		t.Fatalf("unmount of what is left: %v", err)
	}

	start(t, path, blobs, cached, at)
	treetest.Check(t, ref, at, treetest.CompareOptions{})
}

// isGone reports whether err is what the kernel answers without a server. EIO is the answer to
// a request that the server was just taking, or to a page that it did not deliver.
func isGone(err error) bool {
	return errors.Is(err, unix.ENOTCONN) || errors.Is(err, unix.ECONNABORTED) || errors.Is(err, unix.EIO)
}
