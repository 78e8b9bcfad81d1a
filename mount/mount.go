package mount

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/image"
	"github.com/zosfs/zosfs/mount/fusefs"
)

// Mode is a way to serve a mount.
type Mode string

const (
	// Auto is the best mode that works here. The empty Mode means the same.
	Auto Mode = "auto"
	// FUSE works on any Linux with FUSE, with and without root.
	FUSE Mode = "fuse"
	// Kernel serves names and attributes from a metadata image in the kernel. This version
	// does not have it: asking for it is errors.ErrUnsupported.
	Kernel Mode = "kernel"
)

// noKernel is why Auto does not take Kernel.
const noKernel = "kernel mode is not in this version"

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
	// Source is what the mount table shows as the device: the reference of the image,
	// without credentials.
	Source string
	// Log receives what goes wrong between the kernel and the image; nil is nowhere. Reads that
	// fail are in the log of the image.
	Log *slog.Logger
}

// Mounted is a mount that this process serves.
type Mounted struct {
	server *fusefs.Server
	why    string
}

// Mount shows im, read-only, at the directory dir, which must be there, until it is unmounted
// here or from outside. The caller keeps im open until then and closes it afterwards. ctx
// bounds the mounting alone.
//
// It fails with fs.ErrNotExist or unix.ENOTDIR where dir is no directory, fs.ErrExist where
// zosfs has mounted something there, unix.ENOTCONN where it has and nobody serves it any more.
func Mount(ctx context.Context, im *image.Image, dir string, o Options) (*Mounted, error) {
	m := &Mounted{}
	switch o.Mode {
	case FUSE:
	case Auto, "":
		m.why = noKernel
	case Kernel:
		return nil, fmt.Errorf("%s, mode fuse works: %w", noKernel, errors.ErrUnsupported)
	default:
		_, err := ParseMode(string(o.Mode))
		return nil, err
	}
	dir, err := checkPoint(dir)
	if err != nil {
		return nil, err
	}
	m.server, err = fusefs.Mount(ctx, im, dir, fusefs.Options{Source: o.Source, Errno: Errno, Log: o.Log})
	if err != nil {
		return nil, err
	}
	return m, nil
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
		return fmt.Errorf("unmount %s: no mount of zosfs there: %w", dir, fs.ErrNotExist)
	}
	return fusefs.Unmount(ctx, dir, lazy)
}

// Dir returns the directory of the mount, absolute and without symlinks.
func (m *Mounted) Dir() string { return m.server.Dir() }

// Mode returns the mode that was taken, never Auto.
func (m *Mounted) Mode() Mode { return FUSE }

// Why returns, for people, why Auto did not take the best mode; empty if it did, or if the
// mode was asked for.
func (m *Mounted) Why() string { return m.why }

// Stats returns what the kernel asked for so far.
func (m *Mounted) Stats() fusefs.Stats { return m.server.Stats() }

// Done returns a channel that is closed when the mount has ended.
func (m *Mounted) Done() <-chan struct{} { return m.server.Done() }

// Wait returns when the mount has ended and nothing reads from the image any more.
func (m *Mounted) Wait() { m.server.Wait() }

// Unmount ends the mount, as [Unmount] does, and waits for the last read. A mount that has
// ended already is a success.
func (m *Mounted) Unmount(ctx context.Context, lazy bool) error {
	if lazy {
		return m.server.UnmountLazy(ctx)
	}
	return m.server.Unmount(ctx)
}
