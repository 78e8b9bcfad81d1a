package keeper

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/errs"
)

// checkPeer fails unless the other end of conn belongs to root or to this user, as the kernel
// has it: for a client who listens, for a keeper who connected.
func checkPeer(conn *net.UnixConn) error {
	var cred *unix.Ucred
	err := control(conn, func(fd int) (err error) {
		cred, err = unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
		return err
	})
	if err != nil {
		return fmt.Errorf("peer of the socket: %w", err)
	}
	if uid := int(cred.Uid); uid != 0 && uid != os.Geteuid() {
		return fmt.Errorf("user %d is at the other end of the keeper's socket, not %d or root: %w", uid, os.Geteuid(), errs.ErrDenied)
	}
	return nil
}

// hungUp reports whether the other end of conn is closed, or shut down for writing.
func hungUp(conn *net.UnixConn) bool {
	var n int
	err := control(conn, func(fd int) (err error) {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		for {
			if n, err = unix.Poll(p, 0); !errors.Is(err, unix.EINTR) {
				return err
			}
		}
	})
	return err != nil || n > 0
}

// control calls f with the descriptor of conn.
func control(conn *net.UnixConn, f func(fd int) error) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var ferr error
	return errors.Join(raw.Control(func(fd uintptr) { ferr = f(int(fd)) }), ferr)
}
