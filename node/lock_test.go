package node

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/internal/testenv"
)

// dying returns the id of a process that has ended, but is there until the test ends.
func dying(t *testing.T) string {
	t.Helper()
	cmd := exec.Command("/bin/true") //nolint:noctx // it ends
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() })
	if err := unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	pid := strconv.Itoa(cmd.Process.Pid)
	if !isDying(pid) {
		t.Fatalf("process %s is not dying; the test is void", pid)
	}
	return pid
}

// locked opens path, made with content, and locks it.
func locked(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	if ok, err := tryLock(f); err != nil || !ok {
		t.Fatalf("lock %s: %t, %v", path, ok, err)
	}
	return f
}

func lockDirs(t *testing.T, pid string) Dirs {
	t.Helper()
	d := Dirs{State: t.TempDir()}
	if err := os.WriteFile(d.lock(), []byte(pid+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return d
}

// TestLockBetween has a service that has locked the file but not yet written who it is: the file
// names the one before, which is dying. Nobody may take its place.
func TestLockBetween(t *testing.T) {
	testenv.NoLeaks(t)
	d := lockDirs(t, dying(t))
	dir, file := locked(t, d.State), locked(t, d.lock())
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	failed := make(chan error, 1)
	go func() {
		f, err := takeLock(ctx, d)
		if f != nil {
			_ = f.Close()
		}
		failed <- err
	}()
	select {
	case err := <-failed:
		if !errors.Is(err, ErrRunning) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("takeLock beside one that takes it = %v, want %v", err, ErrRunning)
		}
	case <-time.After(5 * time.Second):
		_ = dir.Close()
		t.Errorf("takeLock does not end with its context, then = %v", <-failed)
	}
	if !isAt(file, d.lock()) {
		t.Error("the lock was taken from who had it")
	}
}

// TestLockAtOnce has many services that find the lock of a dying process, or one that it has left.
func TestLockAtOnce(t *testing.T) {
	testenv.NoLeaks(t)
	pid := dying(t)
	for round := range 40 {
		d := lockDirs(t, pid)
		if round%2 == 0 {
			locked(t, d.lock())
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		var wg sync.WaitGroup
		begin := make(chan struct{})
		taken := make(chan *os.File, 8)
		for range cap(taken) {
			wg.Go(func() {
				<-begin
				f, err := takeLock(ctx, d)
				if err == nil {
					taken <- f
				} else if !errors.Is(err, ErrRunning) {
					t.Errorf("takeLock = %v, want %v", err, ErrRunning)
				}
			})
		}
		close(begin)
		first := <-taken
		for range 20 { // the others try still
			if f, _, err := tryTake(d); err != nil || f != nil {
				t.Fatalf("a second one takes the lock (%v)", err)
			}
		}
		if p, err := os.ReadFile(d.lock()); err != nil || strings.TrimSpace(string(p)) != strconv.Itoa(os.Getpid()) || !isAt(first, d.lock()) {
			t.Errorf("the lock has %q, %v, want this process", p, err)
		}
		cancel()
		wg.Wait()
		_ = first.Close()
		if n := len(taken); n != 0 {
			t.Fatalf("round %d: %d more have taken the lock", round, n)
		}
	}
}

// TestLockRemoved has somebody who removes the file: the lock is taken anew.
func TestLockRemoved(t *testing.T) {
	d := lockDirs(t, strconv.Itoa(os.Getpid()))
	old := locked(t, d.lock())
	if err := os.Remove(filepath.Join(d.State, "lock")); err != nil {
		t.Fatal(err)
	}
	f, err := takeLock(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if isAt(old, d.lock()) || !isAt(f, d.lock()) {
		t.Error("the lock is not the file of that name")
	}
}
