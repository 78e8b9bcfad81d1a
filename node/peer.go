package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/errs"
)

// maxSocketPath is the longest path of a socket, in bytes (sun_path of unix(7), with its NUL).
const maxSocketPath = 107

// listen makes the socket. Whoever holds the lock of the state directory may call it: a
// socket that is there is that of a dead service.
func listen(ctx context.Context, d Dirs) (*net.UnixListener, error) {
	path := d.socket()
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("socket %s: the path has %d bytes, the system takes %d: choose a shorter %s: %w",
			path, len(path), maxSocketPath, EnvState, fs.ErrInvalid)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("stale socket: %w", err)
	}
	var config net.ListenConfig
	ln, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("socket: %w", err), ln.Close())
	}
	return ln.(*net.UnixListener), nil //nolint:forcetypeassert // what net returns for "unix"
}

// dial connects to the socket of a service of this user or of root. Root may use anybody's.
func dial(ctx context.Context, d Dirs) (net.Conn, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", d.socket())
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.EINVAL) {
		return nil, fmt.Errorf("%w (state directory %s)", ErrNotRunning, d.State)
	}
	if err != nil {
		return nil, err
	}
	uid, err := peerUID(conn)
	if err == nil && uid != os.Geteuid() && uid != 0 && os.Geteuid() != 0 {
		err = fmt.Errorf("socket %s: served by user %d, not by %d or root: %w", d.socket(), uid, os.Geteuid(), errs.ErrDenied)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// peerUID returns the user at the other end of a unix socket, as the kernel has it.
func peerUID(conn net.Conn) (int, error) {
	uc, ok := conn.(*net.UnixConn)
	if !ok {
		return -1, fmt.Errorf("peer of a %T: %w", conn, errors.ErrUnsupported)
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return -1, err
	}
	var cred *unix.Ucred
	var gerr error
	err = raw.Control(func(fd uintptr) {
		cred, gerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err := errors.Join(err, gerr); err != nil {
		return -1, fmt.Errorf("peer of the socket: %w", err)
	}
	return int(cred.Uid), nil
}

// peerKey is where the context of a connection has the user at its other end.
type peerKey struct{}

// withPeer notes who is at the other end; an unknown one is nobody.
func withPeer(ctx context.Context, conn net.Conn) context.Context {
	uid, err := peerUID(conn)
	if err != nil {
		uid = -1
	}
	return context.WithValue(ctx, peerKey{}, uid)
}

// checkPeer fails unless the request is from the user of the service, or from root.
func checkPeer(ctx context.Context) error {
	uid, ok := ctx.Value(peerKey{}).(int)
	if ok && (uid == 0 || uid == os.Geteuid()) {
		return nil
	}
	return fmt.Errorf("user %d may not use the node service of user %d: %w", uid, os.Geteuid(), errs.ErrDenied)
}
