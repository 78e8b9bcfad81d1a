package keeper

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxSocketPath is the longest path of a socket, in bytes (sun_path of unix(7), with its NUL).
const maxSocketPath = 107

// checkDir makes the directory of the socket where it is not there. Nobody else may write to
// it: whoever can, could put a socket of his own there.
func checkDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("directory of the socket: %w", err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case ok && int(st.Uid) != os.Geteuid():
		return fmt.Errorf("directory %s: belongs to user %d, not to %d: %w", dir, st.Uid, os.Geteuid(), fs.ErrPermission)
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("directory %s: others may write to it (mode %04o): chmod 700 it: %w", dir, info.Mode().Perm(), fs.ErrPermission)
	}
	return nil
}

// lock takes the lock, which the system drops when the process ends, however it ends.
func lock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, errors.Join(fmt.Errorf("%w (lock %s)", ErrRunning, path), f.Close())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	return f, nil
}

// listen makes the socket. The caller holds the lock, so a socket that is there is that of a
// dead keeper.
func listen(ctx context.Context, path string) (*net.UnixListener, error) {
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("socket %s: the path has %d bytes, the system takes %d: %w", path, len(path), maxSocketPath, fs.ErrInvalid)
	}
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() != fs.ModeSocket {
		return nil, fmt.Errorf("socket %s: something else has that name: %w", path, fs.ErrExist)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("stale socket: %w", err)
	}
	var config net.ListenConfig
	ln, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("socket: %w", err), ln.Close())
	}
	return ln.(*net.UnixListener), nil //nolint:forcetypeassert // what net returns for "unix"
}
