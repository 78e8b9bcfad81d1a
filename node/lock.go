package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/errs"
)

var (
	// ErrRunning says that another node service serves the state directory. It is
	// errs.ErrUnavailable.
	ErrRunning = fmt.Errorf("another node service is running: %w", errs.ErrUnavailable)
	// ErrNotRunning says that no node service serves the state directory. It is
	// errs.ErrUnavailable.
	ErrNotRunning = fmt.Errorf("no node service is running: %w", errs.ErrUnavailable)
)

const (
	// lockPatience is how long a service waits for another to end, or to answer.
	lockPatience = 10 * time.Second
	lockInterval = 20 * time.Millisecond
)

// takeLock takes the lock of the state directory, which the system drops when the process
// ends, however it ends. A service that holds it and answers is ErrRunning at once; one that
// is about to end is waited for.
func takeLock(ctx context.Context, d Dirs) (*os.File, error) {
	ctx, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	tick := time.NewTicker(lockInterval)
	defer tick.Stop()
	for {
		f, pid, err := tryTake(d)
		if err != nil {
			return nil, fmt.Errorf("lock state directory: %w", err)
		}
		if f != nil {
			return f, nil
		}
		if Dial(d).Ping(ctx) == nil {
			return nil, fmt.Errorf("state directory %s: %w (process %s)", d.State, ErrRunning, pid)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("state directory %s: %w (process %s), but it does not answer: %w", d.State, ErrRunning, pid, context.Cause(ctx))
		}
	}
}

// tryTake takes the lock if nobody holds it, or a process that is dying; else f is nil, and pid
// says who has it. Such a process may hold its lock for long: when it is killed while it mounts, a
// thread of it waits for an answer of its own, which only the next service can give.
//
// All of it happens under a lock of the directory: who finds the file locked finds in it who did
// that, not the one before, and only one takes the place of who is dying.
func tryTake(d Dirs) (f *os.File, pid string, err error) {
	dir, err := os.Open(d.State)
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = dir.Close() }() // and unlocks
	if mine, err := tryLock(dir); err != nil || !mine {
		return nil, "unknown", err
	}
	if f, err = os.OpenFile(d.lock(), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, "", err
	}
	free, err := tryLock(f)
	if pid = holder(f); err == nil && !free && isDying(pid) {
		if err = errors.Join(os.Remove(d.lock()), f.Close()); err != nil {
			return nil, "", err
		}
		if f, err = os.OpenFile(d.lock(), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
			return nil, "", err
		}
		free, err = tryLock(f)
	}
	if err == nil && free {
		if err = f.Truncate(0); err == nil {
			_, err = f.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
		}
	}
	if err == nil && free && isAt(f, d.lock()) { // nobody has removed it meanwhile
		return f, "", nil
	}
	return nil, pid, errors.Join(err, f.Close())
}

// isAt reports whether f is still the file at path.
func isAt(f *os.File, path string) bool {
	have, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(path)
	return err == nil && os.SameFile(have, there)
}

// isDying reports whether the process was killed, but has threads that cannot end yet.
func isDying(pid string) bool {
	p, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return false
	}
	_, after, ok := strings.Cut(string(p), ") ") // after the name
	return ok && (after[0] == 'Z' || after[0] == 'X')
}

// tryLock takes the lock if nobody holds it.
func tryLock(f *os.File) (bool, error) {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}

// holder returns the process id in the lock file.
func holder(f *os.File) string {
	p, err := io.ReadAll(io.NewSectionReader(f, 0, 20))
	if pid := strings.TrimSpace(string(p)); err == nil && pid != "" {
		return pid
	}
	return "unknown"
}

// awaitEnd waits until nobody holds the lock of the state directory.
func awaitEnd(ctx context.Context, d Dirs) error {
	f, err := os.OpenFile(d.lock(), os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("lock of the state directory: %w", err)
	}
	defer func() { _ = f.Close() }() // and unlocks
	tick := time.NewTicker(lockInterval)
	defer tick.Stop()
	for {
		free, err := tryLock(f)
		if err != nil || free {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for the end of process %s: %w", holder(f), ctx.Err())
		}
	}
}
