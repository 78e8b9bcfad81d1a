package fusefs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/image"
)

// Subtype is what follows "fuse." in the type of the file system in the mount table.
const Subtype = "zosfs"

const (
	// busyTime is how long Unmount tries again while the mount is busy: the kernel gives the
	// files of a program that just ended back a moment later.
	busyTime     = 500 * time.Millisecond
	busyInterval = 10 * time.Millisecond
	// maxBackground is how many read-ahead requests the kernel may have under way for the
	// whole mount. Its default of 12 starves many readers of a distant store.
	maxBackground = 64
)

// Options says how to mount.
type Options struct {
	// Source is what the mount table shows as the device, such as the reference of the
	// image; any text but NUL. Empty is "zosfs".
	Source string
	// Errno translates the error of a read for the reader. Nil makes every error EIO but
	// context.Canceled, which is EINTR.
	Errno func(error) syscall.Errno
	// Log receives what the kernel side complains of; nil is nowhere. Reads that fail are in
	// the log of the image.
	Log *slog.Logger
}

func (o Options) withDefaults() Options {
	if o.Source == "" {
		o.Source = Subtype
	}
	if o.Errno == nil {
		o.Errno = defaultErrno
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

func defaultErrno(err error) syscall.Errno {
	if errors.Is(err, context.Canceled) {
		return syscall.EINTR
	}
	return syscall.EIO
}

// A Server serves one mount, from [Mount] until somebody unmounts it.
type Server struct {
	tree *tree
	dir  string
	dev  uint64        // st_dev of the mount
	done chan struct{} // closed when the last request is answered
}

// Mount shows im at the directory dir and serves it until it is unmounted, by [Server.Unmount]
// or from outside. When it returns, the mount is there. The caller keeps im open as long as
// that and closes it afterwards. ctx bounds the mounting, not the mount.
//
// As root it is a system call, else fusermount3 must be installed and dir belong to the user.
// Errors unwrap to the errno of the kernel where it is known.
func Mount(ctx context.Context, im *image.Image, dir string, o Options) (*Server, error) {
	o = o.withDefaults()
	dir, err := resolve(dir)
	if err != nil {
		return nil, err
	}
	s := &Server{tree: newTree(im, o), dir: dir, done: make(chan struct{})}
	s.tree.fd, err = attach(ctx, dir, o)
	if err != nil {
		return nil, err
	}
	if err := s.serve(); err != nil {
		return nil, errors.Join(err, detach(ctx, dir, true))
	}
	if err := s.settle(); err != nil {
		return nil, errors.Join(err, s.UnmountLazy(ctx))
	}
	return s, nil
}

// resolve returns dir as the mount table names it.
func resolve(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("mount point: %w", err)
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return "", fmt.Errorf("mount point: %w", err)
	}
	return dir, nil
}

// serve negotiates with the kernel and begins to answer. The descriptor belongs to the
// protocol server from here on.
func (s *Server) serve() error {
	t := s.tree
	protocol, err := fuse.NewServer(t, fmt.Sprintf("/dev/fd/%d", t.fd), protocolOptions(t.log, t.hasACLs))
	if err != nil {
		return fmt.Errorf("begin to serve %s: %w", s.dir, err)
	}
	go func() {
		defer close(s.done)
		protocol.Serve()
	}()
	return nil
}

// settle does what needs the mount to answer: it learns its device number, raises the
// read-ahead, and makes the kernel stop asking if files can be polled.
func (s *Server) settle() error {
	var st unix.Stat_t
	if err := unix.Stat(s.dir, &st); err != nil {
		return fmt.Errorf("mount at %s does not answer: %w", s.dir, err)
	}
	s.dev = st.Dev
	if err := raiseReadAhead(st.Dev); err != nil {
		s.tree.log.Debug("read-ahead stays as it is", slog.Any("err", err))
	}
	return stopPolling(s.dir)
}

// raiseReadAhead makes the kernel read as far ahead as one READ can carry; it begins with
// 128 KiB and FUSE can only lower that. Root may, outside of locked-down containers.
func raiseReadAhead(dev uint64) error {
	path := fmt.Sprintf("/sys/class/bdi/%d:%d/read_ahead_kb", unix.Major(dev), unix.Minor(dev))
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%d\n", maxRead/1024)
	return errors.Join(err, f.Close())
}

// stopPolling polls a file, which the protocol server declines once for all. The Go runtime
// polls what it opens, in a way that holds a processor; a program that reads its own mount
// could wait for itself.
func stopPolling(dir string) error {
	fd, err := unix.Open(filepath.Join(dir, ".go-fuse-epoll-hack"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("mount at %s does not answer: %w", dir, err)
	}
	_, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	return errors.Join(err, unix.Close(fd))
}

// Dir returns the directory of the mount, absolute and without symlinks.
func (s *Server) Dir() string { return s.dir }

// Stats returns what the kernel asked for so far.
func (s *Server) Stats() Stats { return s.tree.stats() }

// Done returns a channel that is closed when the mount has ended and no request is being
// answered any more.
func (s *Server) Done() <-chan struct{} { return s.done }

// Wait returns when the mount has ended and no request is being answered any more.
func (s *Server) Wait() { <-s.done }

// Unmount ends the mount and waits until the last request is answered. If programs use it,
// it tries again for half a second and fails with unix.EBUSY; the mount is untouched then.
// A mount that has ended already is a success.
func (s *Server) Unmount(ctx context.Context) error { return s.unmount(ctx, false) }

// UnmountLazy takes the mount out of sight at once and returns; programs that use it keep it,
// and it is served until the last of them has gone ([Server.Wait]).
func (s *Server) UnmountLazy(ctx context.Context) error { return s.unmount(ctx, true) }

func (s *Server) unmount(ctx context.Context, lazy bool) error {
	select {
	case <-s.done:
		return nil // and another mount may have the device number by now
	default:
	}
	var st unix.Stat_t
	if err := unix.Stat(s.dir, &st); err == nil && s.dev != 0 && st.Dev != s.dev {
		return s.waitHidden(ctx)
	}
	if err := Unmount(ctx, s.dir, lazy); err != nil {
		return err
	}
	if lazy {
		return nil
	}
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("unmount %s: %w", s.dir, ctx.Err())
	}
}

// waitHidden waits a moment for the end of a mount that is not at its directory any more:
// somebody else unmounted it, or mounted over it, and what is there now is not ours.
func (s *Server) waitHidden(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, busyTime)
	defer cancel()
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("unmount %s: not on top there any more, but still in use: %w", s.dir, unix.EBUSY)
	}
}

// Unmount ends the mount at dir, whoever serves it, as [Server.Unmount] and, if lazy,
// [Server.UnmountLazy] do. It does not look at what is mounted there.
func Unmount(ctx context.Context, dir string, lazy bool) error {
	trying, cancel := context.WithTimeout(ctx, busyTime)
	defer cancel()
	tick := time.NewTicker(busyInterval)
	defer tick.Stop()
	for {
		err := detach(ctx, dir, lazy)
		if !errors.Is(err, unix.EBUSY) {
			return err
		}
		select {
		case <-tick.C:
		case <-trying.Done():
			return fmt.Errorf("%w: programs have files open there or work in it (fuser -vm %s lists them)", err, dir)
		}
	}
}
