package fusefs_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/image"
	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/mount/fusefs"
	"github.com/zosfs/zosfs/mount/mounttest"
	"github.com/zosfs/zosfs/store/mem"
	"github.com/zosfs/zosfs/store/storetest"
)

// oneFile returns the image of a tree with the one file "file".
func oneFile(t *testing.T) *image.Image {
	t.Helper()
	return mounttest.Image(t, oneFileTree(t))
}

func oneFileTree(t *testing.T) string {
	t.Helper()
	dir := testenv.TempDir(t)
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestTable: the mount table names the image, whatever its name is.
func TestTable(t *testing.T) {
	for _, source := range []string{"https://hub/acme/debian:12", `a,b c\d,ro=1`, ""} {
		s := mount(t, oneFile(t), fusefs.Options{Source: source})
		out, err := exec.CommandContext(t.Context(), "findmnt", "-n", "-r", "-o", "FSTYPE,OPTIONS,SOURCE", s.Dir()).Output()
		if err != nil {
			t.Fatal(err)
		}
		fields := strings.SplitN(strings.TrimSuffix(string(out), "\n"), " ", 3)
		if source == "" {
			source = "zosfs"
		}
		shown := strings.NewReplacer(`\x20`, " ", `\x5c`, `\`).Replace(fields[2])
		if fields[0] != "fuse.zosfs" || !strings.HasPrefix(fields[1], "ro,") || shown != source {
			t.Errorf("mount table has %q, want type fuse.zosfs, ro, %q", fields, source)
		}
	}
}

// TestUnmount: a mount in use stays and the error says what to do; a free one goes, and
// takes the server with it.
func TestUnmount(t *testing.T) {
	testenv.NoLeaks(t)
	s := mount(t, oneFile(t), fusefs.Options{})
	f, err := os.Open(filepath.Join(s.Dir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	err = s.Unmount(t.Context())
	if !errors.Is(err, unix.EBUSY) || !strings.Contains(fmt.Sprint(err), s.Dir()) {
		t.Errorf("unmount with a file open: %v, want %v and the directory", err, unix.EBUSY)
	}
	if _, err := f.Read(make([]byte, 1)); err != nil {
		t.Errorf("read after a refused unmount: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Unmount(t.Context()); err != nil {
		t.Errorf("unmount: %v", err)
	}
	s.Wait()
	if err := s.Unmount(t.Context()); err != nil {
		t.Errorf("unmount again: %v", err)
	}
}

// TestUnmountLazy: the mount is gone at once, and served until its last file is closed.
func TestUnmountLazy(t *testing.T) {
	s := mount(t, oneFile(t), fusefs.Options{})
	f, err := os.Open(filepath.Join(s.Dir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.UnmountLazy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(s.Dir(), "file")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("stat after a lazy unmount: %v", err)
	}
	p := make([]byte, 100)
	if n, err := f.Read(p); string(p[:n]) != "content" {
		t.Errorf("read after a lazy unmount = %q, %v", p[:n], err)
	}
	if err := s.Unmount(t.Context()); !errors.Is(err, unix.EBUSY) {
		t.Errorf("unmount of what is out of sight and in use: %v, want %v", err, unix.EBUSY)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	s.Wait()
}

// TestUnmountOutside: the server ends with a mount that somebody else unmounted, and does not
// touch what is mounted there then.
func TestUnmountOutside(t *testing.T) {
	testenv.NeedRoot(t)
	s := mount(t, oneFile(t), fusefs.Options{})
	if err := unix.Unmount(s.Dir(), 0); err != nil {
		t.Fatal(err)
	}
	s.Wait()
	if err := unix.Mount("none", s.Dir(), "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	if err := s.Unmount(t.Context()); err != nil {
		t.Errorf("unmount of what has ended: %v", err)
	}
	if err := unix.Unmount(s.Dir(), 0); err != nil {
		t.Errorf("the other mount: %v", err)
	}
}

// TestAbort: when the kernel gives the connection up, a read that would wait for ever ends.
func TestAbort(t *testing.T) {
	testenv.NeedRoot(t)
	blobs := mem.New()
	reached, gate := make(chan struct{}, 10), make(chan struct{})
	defer close(gate)
	src := storetest.NewFault(blobs, func(storetest.Call) storetest.Effect {
		reached <- struct{}{}
		return storetest.Effect{Stall: gate}
	})
	path := mounttest.Pack(t, oneFileTree(t), blobs, 0)
	s := mount(t, mounttest.Open(t, path, src, image.Options{Deadline: -1}), fusefs.Options{})
	done := make(chan error, 1)
	go func() {
		_, err := os.ReadFile(filepath.Join(s.Dir(), "file"))
		done <- err
	}()
	<-reached
	if err := unix.Unmount(s.Dir(), unix.MNT_FORCE); err != nil && !errors.Is(err, unix.EBUSY) {
		t.Fatal(err)
	}
	if err := <-done; err == nil {
		t.Error("the read ended well")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	select {
	case <-s.Done():
	case <-ctx.Done():
		t.Error("the server is still there")
	}
}

// TestDescriptor: programs that the server starts do not hold the mount.
func TestDescriptor(t *testing.T) {
	mount(t, oneFile(t), fusefs.Options{})
	out, err := exec.CommandContext(t.Context(), "ls", "-l", "/proc/self/fd").CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(out), "/dev/fuse") {
		t.Errorf("a child has the descriptor:\n%s", out)
	}
}

// TestHandle: a file handle leads back to its file, as NFS and overlayfs need.
func TestHandle(t *testing.T) {
	testenv.NeedRoot(t)
	s := mount(t, oneFile(t), fusefs.Options{})
	handle, _, err := unix.NameToHandleAt(unix.AT_FDCWD, filepath.Join(s.Dir(), "file"), 0)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.Open(s.Dir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dir.Close() }()
	fd, err := unix.OpenByHandleAt(int(dir.Fd()), handle, unix.O_RDONLY|unix.O_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 100)
	n, err := unix.Read(fd, p)
	if string(p[:max(n, 0)]) != "content" {
		t.Errorf("read through a handle = %q, %v", p[:max(n, 0)], err)
	}
	if err := unix.Close(fd); err != nil {
		t.Error(err)
	}
}

// TestMountErrors: what the kernel says is in the error.
func TestMountErrors(t *testing.T) {
	testenv.NeedFUSE(t)
	im := oneFile(t)
	dir := testenv.TempDir(t)
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := fusefs.Mount(t.Context(), im, filepath.Join(dir, "nothing"), fusefs.Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("mount at nothing: %v, want %v", err, fs.ErrNotExist)
	}
	if s, err := fusefs.Mount(t.Context(), im, filepath.Join(dir, "file"), fusefs.Options{}); err == nil {
		t.Errorf("mount at a file succeeds")
		_ = s.UnmountLazy(t.Context())
	}
}
