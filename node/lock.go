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
	f, err := os.OpenFile(d.lock(), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock state directory: %w", err)
	}
	if err := awaitLock(ctx, d, f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	pid := fmt.Appendf(nil, "%d\n", os.Getpid())
	if err := f.Truncate(0); err != nil {
		return nil, errors.Join(fmt.Errorf("lock state directory: %w", err), f.Close())
	}
	if _, err := f.WriteAt(pid, 0); err != nil {
		return nil, errors.Join(fmt.Errorf("lock state directory: %w", err), f.Close())
	}
	return f, nil
}

func awaitLock(ctx context.Context, d Dirs, f *os.File) error {
	ctx, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	tick := time.NewTicker(lockInterval)
	defer tick.Stop()
	for {
		free, err := tryLock(f)
		if err != nil {
			return fmt.Errorf("lock state directory: %w", err)
		}
		if free {
			return nil
		}
		if Dial(d).Ping(ctx) == nil {
			return fmt.Errorf("state directory %s: %w (process %s)", d.State, ErrRunning, holder(f))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("state directory %s: %w (process %s), but it does not answer: %w", d.State, ErrRunning, holder(f), context.Cause(ctx))
		}
	}
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
