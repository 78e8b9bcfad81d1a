package fusefs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

const (
	// minBuffer is what the kernel wants to have room for when it is read from, in bytes.
	minBuffer = 64 << 10
	// notifyResend asks the kernel to send requests again that were read and not answered
	// (FUSE_NOTIFY_RESEND, Linux 6.9).
	notifyResend = 7
)

// protocolOptions are those of every server here. The kernel's reply depends on them alone, so a
// process that takes over comes to the same.
func protocolOptions(log *slog.Logger, acl bool) *fuse.MountOptions {
	return &fuse.MountOptions{
		Name:                     Subtype,
		MaxWrite:                 maxRead, // bounds READ as well
		MaxBackground:            maxBackground,
		EnableSymlinkCaching:     true,
		ExplicitDataCacheControl: true,
		DisableSplice:            true, // answers come from memory
		// ACLs need the kernel's help, which asks for them at each first access check.
		EnableAcl: acl,
		// File handles survive the kernel's caches, so that overlayfs can index hard links
		// and NFS can export the mount.
		ExtraCapabilities: fuse.CAP_NO_OPENDIR_SUPPORT | fuse.CAP_EXPORT_SUPPORT,
		// Not used, and it counts as a level of overlays, of which there can be two.
		DisabledCapabilities: fuse.CAP_PASSTHROUGH,
		Logger:               slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		PanicHandler: func(v any) fuse.Status {
			log.Error("request panicked", slog.Any("panic", v))
			return fuse.EIO
		},
	}
}

// contentOptions are those of a Content. EROFS reads ahead in requests of 64 KiB where a file is
// mapped; without CAP_ASYNC_DIO it would wait for each before it sends the next.
func contentOptions(log *slog.Logger) *fuse.MountOptions {
	o := protocolOptions(log, false)
	o.ExtraCapabilities |= fuse.CAP_ASYNC_DIO
	o.DisableReadDirPlus = true // which it does not answer
	return o
}

// begin negotiates with the kernel, and keeps what was said.
func (c *Content) begin() error {
	buf := make([]byte, minBuffer)
	n, err := unix.Read(c.conn.FD, buf)
	if err != nil {
		return fmt.Errorf("begin to serve %s: %w", c.dir, err)
	}
	c.conn.Init = buf[:n:n]
	if c.conn.Reply, err = c.negotiate(); err != nil {
		return err
	}
	if _, err := unix.Write(c.conn.FD, c.conn.Reply); err != nil {
		c.loop.close()
		return fmt.Errorf("begin to serve %s: %w", c.dir, err)
	}
	return nil
}

// resume negotiates with what the kernel once said, and has it repeat what was not answered.
func (c *Content) resume() error {
	reply, err := c.negotiate()
	if err != nil {
		return err
	}
	if string(reply) != string(c.conn.Reply) {
		c.log.Warn("this version would have answered the kernel otherwise than the one before; it goes on with what was agreed")
	}
	switch {
	case c.Resends():
	case drained(c.conn.FD):
		return nil
	default:
		c.loop.close()
		return fmt.Errorf("resume %s: what was under way is lost, for the process before was killed and this kernel does not send it again, as Linux 6.9 does: %w", c.dir, errors.ErrUnsupported)
	}
	var msg [outHeader]byte
	binary.NativeEndian.PutUint32(msg[:], uint32(len(msg)))
	binary.NativeEndian.PutUint32(msg[outError:], notifyResend)
	if _, err := unix.Write(c.conn.FD, msg[:]); err != nil {
		// A descriptor left open would keep the connection, and all who wait for an answer.
		c.loop.close()
		return fmt.Errorf("resume %s: ask for open requests: %w", c.dir, err)
	}
	return nil
}

// negotiate has the protocol server read the kernel's first message. It returns the answer.
func (c *Content) negotiate() ([]byte, error) {
	fail := func(err error) ([]byte, error) { return nil, fmt.Errorf("begin to serve %s: %w", c.dir, err) }
	l, err := newLoop(c.fs, c.log, c.conn.FD)
	if err != nil {
		return fail(err)
	}
	reply := make([]byte, minBuffer)
	n, status := l.protocol.HandleRequest([][]byte{c.conn.Init}, [][]byte{reply})
	if n >= outHeader {
		status = fuse.Status(-int32(binary.NativeEndian.Uint32(reply[outError:])))
	}
	if n < outHeader || status != fuse.OK {
		l.close()
		return fail(fmt.Errorf("the kernel's message of %d bytes is not understood: %w", len(c.conn.Init), syscall.Errno(status)))
	}
	c.loop, c.fs.fd = l, c.conn.FD
	return reply[:n:n], nil
}

// Offsets in the kernel's first message (struct fuse_init_in).
const (
	initFlags  = inHeader + 12
	initFlags2 = inHeader + 16
)

// Resends reports whether this kernel sends requests again that were taken and not answered, so
// that another process can take over from one that was killed. Else it can only do so from one
// that has ended with [Content.Abandon].
func (c *Content) Resends() bool {
	if len(c.conn.Init) < initFlags2+4 {
		return false
	}
	flags := uint64(binary.NativeEndian.Uint32(c.conn.Init[initFlags:]))
	if flags&fuse.CAP_INIT_EXT == 0 {
		return false
	}
	flags |= uint64(binary.NativeEndian.Uint32(c.conn.Init[initFlags2:])) << 32
	return flags&fuse.CAP_HAS_RESEND != 0
}

// drainedFlag on the open file says that all requests that were taken from it are answered. The
// open file is what is handed over; to a device the flag means nothing else.
const drainedFlag = unix.O_NOATIME

func drained(fd int) bool {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	return err == nil && flags&drainedFlag != 0
}

func setDrained(fd int, on bool) error {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return err
	}
	flags &^= drainedFlag
	if on {
		flags |= drainedFlag
	}
	_, err = unix.FcntlInt(uintptr(fd), unix.F_SETFL, flags)
	return err
}
