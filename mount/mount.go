package mount

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/image"
	"github.com/zosfs/zosfs/mount/fusefs"
	"github.com/zosfs/zosfs/mount/kernel"
)

// Mode is a way to serve a mount.
type Mode string

const (
	// Auto is the best mode that works here. The empty Mode means the same.
	Auto Mode = "auto"
	// FUSE works on any Linux with FUSE, with and without root.
	FUSE Mode = "fuse"
	// Kernel has the kernel serve names and attributes from a metadata image, and ask for
	// content at its first touch alone. It needs root, EROFS, and a [Host].
	Kernel Mode = "kernel"
)

// ParseMode reads the name of a mode. Any other text is errs.ErrFormat.
func ParseMode(s string) (Mode, error) {
	switch m := Mode(s); m {
	case Auto, FUSE, Kernel:
		return m, nil
	}
	return "", fmt.Errorf("mount mode %q: want auto, fuse or kernel: %w", s, errs.ErrFormat)
}

// Options says how to mount.
type Options struct {
	Mode Mode
	// Host returns what mode Kernel needs; nil is no such thing. It is called only when the
	// mode may be taken.
	Host func() (*Host, error)
	// Source is what the mount table shows as the device in mode FUSE: the reference of the
	// image, without credentials.
	Source string
	// Log receives what goes wrong between the kernel and the image; nil is nowhere. Reads that
	// fail are in the log of the image.
	Log *slog.Logger
}

// served is a mount in one of the modes.
type served interface {
	Dir() string
	Stats() fusefs.Stats
	Done() <-chan struct{}
	Wait()
	Unmount(ctx context.Context) error
	UnmountLazy(ctx context.Context) error
}

// Mounted is a mount that this process serves.
type Mounted struct {
	served served
	mode   Mode
	why    string
}

// Mount shows im, read-only, at the directory dir, which must be there, until it is unmounted
// here or from outside. The caller keeps im open until [Mounted.Done] and closes it afterwards.
// ctx bounds the mounting alone.
//
// It fails with fs.ErrNotExist or unix.ENOTDIR where dir is no directory, fs.ErrExist where
// zosfs has mounted something there, unix.ENOTCONN where it has and nobody serves it any more;
// in mode Kernel with errors.ErrUnsupported or fs.ErrPermission where that does not work here.
func Mount(ctx context.Context, im *image.Image, dir string, o Options) (*Mounted, error) {
	switch o.Mode {
	case FUSE, Auto, Kernel, "":
	default:
		_, err := ParseMode(string(o.Mode))
		return nil, err
	}
	dir, err := checkPoint(dir)
	if err != nil {
		return nil, err
	}
	m := &Mounted{mode: FUSE}
	if o.Mode != FUSE {
		k, err := mountKernel(im, dir, o)
		if err == nil {
			return &Mounted{served: k, mode: Kernel}, nil
		}
		if o.Mode == Kernel {
			return nil, fmt.Errorf("mode kernel does not work here, try mode fuse: %w", err)
		}
		m.why = err.Error()
	}
	m.served, err = fusefs.Mount(ctx, im, dir, fusefs.Options{Source: o.Source, Errno: Errno, Log: o.Log})
	if err != nil {
		return nil, err
	}
	return m, nil
}

func mountKernel(im *image.Image, dir string, o Options) (*kernelMount, error) {
	switch {
	case os.Geteuid() != 0:
		return nil, fmt.Errorf("mode kernel needs root: %w", fs.ErrPermission)
	case o.Host == nil:
		return nil, fmt.Errorf("no host for mode kernel: %w", errors.ErrUnsupported)
	}
	h, err := o.Host()
	if err != nil {
		return nil, err
	}
	return h.mount(im, dir)
}

// Unmount ends the mount that zosfs made at dir, whichever process serves it and if any does.
// While programs use it that fails with unix.EBUSY, after half a second; with lazy it is out of
// sight at once and ends with the last of them. If no mount of zosfs is on top at dir, that
// is fs.ErrNotExist.
func Unmount(ctx context.Context, dir string, lazy bool) error {
	dir, err := resolve(dir)
	if err != nil {
		return err
	}
	table, err := readTable()
	if err != nil {
		return err
	}
	top, ok := topAt(table, dir)
	if ok {
		_, ok = top.mode()
	}
	if !ok {
		return errs.Textf(fs.ErrNotExist, "unmount %s: no mount of zosfs there", dir)
	}
	return fusefs.Unmount(ctx, dir, lazy)
}

// Dir returns the directory of the mount, absolute and without symlinks; in mode Kernel also where
// it was moved, as far as the Host knows ([Host.Refresh]).
func (m *Mounted) Dir() string { return m.served.Dir() }

// Mode returns the mode that was taken, never Auto.
func (m *Mounted) Mode() Mode { return m.mode }

// Why returns, for people, why Auto did not take the best mode; empty if it did, or if the
// mode was asked for.
func (m *Mounted) Why() string { return m.why }

// Kernel returns what [Host.Adopt] needs to know of a mount in mode Kernel, the st_dev of its file
// system, how it was mounted and the size of its content device in bytes; else zeros.
func (m *Mounted) Kernel() (dev uint64, rung kernel.Rung, deviceSize int64) {
	if k, ok := m.served.(*kernelMount); ok {
		_, fs, _ := k.place()
		return fs.Dev, fs.Rung, k.device.size
	}
	return 0, "", 0
}

// ID returns the number of a mount in mode Kernel for [Where]; else 0.
func (m *Mounted) ID() uint64 {
	if k, ok := m.served.(*kernelMount); ok {
		_, fs, _ := k.place()
		return fs.ID
	}
	return 0
}

// Detached reports whether the mount is out of sight, by whomever, but has not ended. In mode
// FUSE that is not known.
func (m *Mounted) Detached() bool {
	k, ok := m.served.(*kernelMount)
	return ok && k.Detached()
}

// Stats returns what the kernel asked for so far; mounts of one flist in mode Kernel share it.
func (m *Mounted) Stats() fusefs.Stats { return m.served.Stats() }

// Done returns a channel that is closed when the mount has ended and nothing reads from the
// image any more.
func (m *Mounted) Done() <-chan struct{} { return m.served.Done() }

// Wait returns when Done is closed.
func (m *Mounted) Wait() { m.served.Wait() }

// Unmount ends the mount, as [Unmount] does, and waits for the last read. A mount that has
// ended already is a success; so is one in mode Kernel that is kept alive out of our sight, by
// another mount namespace for one ([Mounted.Detached]).
func (m *Mounted) Unmount(ctx context.Context, lazy bool) error {
	if lazy {
		return m.served.UnmountLazy(ctx)
	}
	return m.served.Unmount(ctx)
}
