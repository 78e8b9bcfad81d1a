package fusefs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"

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
	reply, err := c.negotiate()
	if err != nil {
		return err
	}
	c.conn.Reply = reply
	if _, err := unix.Write(c.conn.FD, reply); err != nil {
		return errors.Join(fmt.Errorf("begin to serve %s: %w", c.dir, err), c.Abandon())
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
	var msg [16]byte
	binary.NativeEndian.PutUint32(msg[:], uint32(len(msg)))
	binary.NativeEndian.PutUint32(msg[4:], notifyResend)
	if _, err := unix.Write(c.conn.FD, msg[:]); err != nil {
		// A descriptor left open would keep the connection, and all who wait for an answer.
		return errors.Join(fmt.Errorf("resume %s: ask for open requests: %w", c.dir, err), c.Abandon())
	}
	return nil
}

// negotiate has the protocol server read the kernel's first message from a socket, and then lets
// the real descriptor take the place of that. It returns the server's answer.
func (c *Content) negotiate() ([]byte, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	defer func() { _ = unix.Close(pair[0]) }()
	fail := func(err error) ([]byte, error) { return nil, fmt.Errorf("begin to serve %s: %w", c.dir, err) }
	if _, err := unix.Write(pair[0], c.conn.Init); err != nil {
		return fail(errors.Join(err, unix.Close(pair[1])))
	}
	// From here on pair[1] belongs to the server, which closes it, or its finalizer does.
	if c.serv, err = fuse.NewServer(c.fs, fmt.Sprintf("/dev/fd/%d", pair[1]), contentOptions(c.log)); err != nil {
		return fail(err)
	}
	reply := make([]byte, minBuffer)
	n, err := unix.Read(pair[0], reply)
	if err != nil {
		return fail(err)
	}
	if err := unix.Dup3(c.conn.FD, pair[1], unix.O_CLOEXEC); err != nil {
		return fail(err)
	}
	c.fs.fd = pair[1]
	return reply[:n], nil
}
