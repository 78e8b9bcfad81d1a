package mount_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/image"
	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/mount"
	"github.com/zosfs/zosfs/mount/fusefs"
	"github.com/zosfs/zosfs/mount/kernel"
	"github.com/zosfs/zosfs/mount/mounttest"
)

// newHost returns a Host for the time of the test.
func newHost(t *testing.T, rung kernel.Rung) *mount.Host {
	t.Helper()
	dir := testenv.TempDir(t)
	return hostWith(t, mount.HostOptions{Content: filepath.Join(dir, "content"), Images: filepath.Join(dir, "images"), Rung: rung})
}

// hostWith is that with directories of its own.
func hostWith(t *testing.T, o mount.HostOptions) *mount.Host {
	t.Helper()
	testenv.NeedRoot(t)
	testenv.NeedFUSE(t)
	testenv.NeedEROFS(t)
	if err := os.Mkdir(o.Content, 0o700); err != nil {
		t.Fatal(err)
	}
	var h *mount.Host
	t.Cleanup(func() {
		if h != nil {
			if err := h.Close(context.Background()); err != nil {
				t.Errorf("Close: %v", err)
			}
		}
	})
	testenv.Mounted(t, o.Content)
	o.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	var err error
	if h, err = mount.NewHost(o); err != nil {
		t.Fatal(err)
	}
	return h
}

// kernelAt mounts im in mode kernel at a new directory for the time of the test.
func kernelAt(t *testing.T, h *mount.Host, im *image.Image) *mount.Mounted {
	t.Helper()
	return at(t, im, mount.Options{Mode: mount.Kernel, Host: func() (*mount.Host, error) { return h, nil }})
}

// TestKernelSuite runs the conformance suite in mode kernel, on each rung.
func TestKernelSuite(t *testing.T) {
	for _, rung := range []kernel.Rung{kernel.FileBacked, kernel.Loop} {
		t.Run(string(rung), func(t *testing.T) {
			mounttest.Test(t, mounttest.Options{Big: rung == kernel.FileBacked, Kernel: true}, func(t *testing.T, im *image.Image) string {
				return kernelAt(t, newHost(t, rung), im).Dir()
			})
		})
	}
}

func TestKernelFaults(t *testing.T) {
	mounttest.Faults(t, func(t *testing.T, im *image.Image) string {
		return kernelAt(t, newHost(t, ""), im).Dir()
	})
}

// TestReal shows what people have, in both modes.
func TestReal(t *testing.T) {
	for mode, mounted := range modes {
		t.Run(string(mode), func(t *testing.T) {
			mounttest.Real(t, func(t *testing.T, im *image.Image) string { return mounted(t, im).Dir() })
		})
	}
}

// TestHostNotes: a kernel that cannot send requests again is told of.
func TestHostNotes(t *testing.T) {
	work := testenv.TempDir(t)
	o := mount.HostOptions{Content: filepath.Join(work, "content"), Images: filepath.Join(work, "images")}
	testenv.NeedRoot(t)
	testenv.NeedFUSE(t)
	testenv.Mounted(t, o.Content)
	h, err := mount.NewHost(o)
	if err != nil {
		t.Fatal(err)
	}
	conn := h.Connection()
	fd, err := unix.FcntlInt(uintptr(conn.FD), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	h.Abandon(t.Context())
	if err := unix.Close(conn.FD); err != nil { // as its process would by its end
		t.Fatal(err)
	}
	old := fusefs.Connection{FD: fd, Init: slices.Clone(conn.Init), Reply: conn.Reply}
	const flags2 = 40 + 16 // of the kernel's first message
	clear(old.Init[flags2 : flags2+4])
	// The mark of a process that has answered everything.
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFL, unix.O_RDWR|unix.O_NOATIME); err != nil {
		t.Fatal(err)
	}
	second, err := mount.ResumeHost(o, old)
	if err != nil {
		t.Fatal(err)
	}
	second.Serve()
	if notes := second.Notes(); len(notes) != 1 || !strings.Contains(notes[0], "Linux 6.9") {
		t.Errorf("Notes = %q, want one that names Linux 6.9", notes)
	}
	if err := second.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
