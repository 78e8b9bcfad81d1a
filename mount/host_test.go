package mount_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/zosfs/zosfs/image"
	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/mount"
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
