package keeper_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/internal/keeper"
	"github.com/zosfs/zosfs/internal/testenv"
)

func TestModes(t *testing.T) {
	path := start(t, nil)
	for p, want := range map[string]fs.FileMode{filepath.Dir(path): 0o700, path: 0o600, path + ".lock": 0o600} {
		if info, err := os.Stat(p); err != nil || info.Mode().Perm() != want {
			t.Errorf("Stat(%s) = %v, %v, want mode %o", p, info, err, want)
		}
	}
}

func TestSecondKeeper(t *testing.T) {
	path := start(t, nil)
	put(t, dial(t, path), plain("x", "1"))
	err := keeper.Run(t.Context(), path, keeper.Options{Ready: func() { t.Error("a second keeper is ready") }})
	if !errors.Is(err, keeper.ErrRunning) || !errors.Is(err, errs.ErrUnavailable) {
		t.Errorf("Run of a second keeper = %v, want %v, %v", err, keeper.ErrRunning, errs.ErrUnavailable)
	}
	if diff := cmp.Diff([]string{"x=1"}, text(get(t, dial(t, path)))); diff != "" {
		t.Errorf("held by the first (-want +got):\n%s", diff)
	}
}

func TestNotRunning(t *testing.T) {
	dir := t.TempDir()
	for name, path := range map[string]string{
		"no socket": filepath.Join(dir, "none"), "stale socket": stale(t, dir),
	} {
		_, err := keeper.Dial(t.Context(), path)
		if !errors.Is(err, keeper.ErrNotRunning) || !errors.Is(err, errs.ErrUnavailable) {
			t.Errorf("%s: Dial = %v, want %v, %v", name, err, keeper.ErrNotRunning, errs.ErrUnavailable)
		}
	}
}

// TestEndsAsWeCome has a keeper end between a connection and its first request.
func TestEndsAsWeCome(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sock")
	ln, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		conn, err := ln.Accept()
		if err == nil {
			err = conn.Close()
		}
		done <- errors.Join(err, ln.Close())
	}()
	if _, err := keeper.Dial(t.Context(), path); !errors.Is(err, keeper.ErrNotRunning) {
		t.Errorf("Dial = %v, want %v", err, keeper.ErrNotRunning)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// stale returns a socket that nobody listens at.
func stale(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "stale")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestStaleSocket(t *testing.T) {
	path := stale(t, t.TempDir())
	ctx, stop := context.WithCancel(t.Context())
	err := keeper.Run(ctx, path, keeper.Options{Ready: func() {
		put(t, dial(t, path), plain("x", ""))
		stop()
	}})
	if err != nil {
		t.Errorf("Run = %v", err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after the end Lstat of the socket = %v, want %v", err, fs.ErrNotExist)
	}
}

func TestBadPath(t *testing.T) {
	dir := t.TempDir()
	open := filepath.Join(dir, "open")
	if err := os.Mkdir(open, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o777); err != nil { // whatever the umask
		t.Fatal(err)
	}
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, path string
		want       error
	}{
		{"directory for all", filepath.Join(open, "sock"), fs.ErrPermission},
		{"no directory", filepath.Join(plain, "sock"), unix.ENOTDIR},
		{"a file", plain, fs.ErrExist},
		{"long", filepath.Join(dir, strings.Repeat("l", 100)), fs.ErrInvalid},
	}
	if testenv.Root() {
		foreign := filepath.Join(dir, "foreign")
		if err := errors.Join(os.Mkdir(foreign, 0o700), os.Chown(foreign, nobody, nobody)); err != nil {
			t.Fatal(err)
		}
		tests = append(tests, struct {
			name, path string
			want       error
		}{"directory of another", filepath.Join(foreign, "sock"), fs.ErrPermission})
	}
	for _, tt := range tests {
		err := keeper.Run(t.Context(), tt.path, keeper.Options{Ready: func() { t.Errorf("%s: is ready", tt.name) }})
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: Run = %v, want %v", tt.name, err, tt.want)
		}
	}
	if p, err := os.ReadFile(plain); err != nil || string(p) != "precious" {
		t.Errorf("the file that was in the way = %q, %v", p, err)
	}
}

// TestIdle ends keepers that nobody needs; how long that takes is TestIdleTime's.
func TestIdle(t *testing.T) {
	testenv.NoLeaks(t)
	noOpenFiles(t)
	path := filepath.Join(t.TempDir(), "sock")
	if err := keeper.Run(t.Context(), path, keeper.Options{Idle: time.Nanosecond}); err != nil {
		t.Errorf("Run with nobody there = %v", err)
	}
	err := keeper.Run(t.Context(), path, keeper.Options{Idle: time.Nanosecond, Ready: func() {
		c := dial(t, path)
		put(t, c, keeper.Item{Name: "x", FD: 0})
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		c = dial(t, path) // it held x in the meantime, so it has not ended
		if err := c.Delete(t.Context(), "x"); err != nil {
			t.Error(err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}})
	if err != nil {
		t.Errorf("Run = %v", err)
	}
}

// TestManyClients has one client more than are served at once: it is served when another has gone.
func TestManyClients(t *testing.T) {
	path := start(t, nil)
	first := dial(t, path)
	for range keeper.MaxConns - 1 {
		dial(t, path)
	}
	expired, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := keeper.Dial(expired, path); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Dial of one more = %v, want %v", err, context.DeadlineExceeded)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	put(t, dial(t, path), plain("x", ""))
}

// nobody is a user who is neither root nor this one.
const nobody = 65534

// asNobody calls f on a thread that has the rights of another user.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	testenv.NeedRoot(t)
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and the thread ends with the goroutine
		_, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), nobody, ^uintptr(0))
		if errno != 0 {
			done <- fmt.Errorf("set user: %w", errno)
			return
		}
		f()
		done <- nil
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// TestWrongClient has the keeper refuse another user, also where the file system lets him in.
func TestWrongClient(t *testing.T) {
	logged := make(lines, 10)
	path := start(t, logged.logger())
	put(t, dial(t, path), plain("x", ""))
	letIn(t, path)
	asNobody(t, func() {
		if _, err := keeper.Dial(t.Context(), path); !errors.Is(err, errs.ErrDenied) {
			t.Errorf("Dial of another user = %v, want %v", err, errs.ErrDenied)
		}
	})
	logged.await(t, "user 65534")
}

// letIn opens the socket, and the directories above it that are the test's, to all.
func letIn(t *testing.T, path string) {
	t.Helper()
	run := filepath.Dir(path)
	for p, mode := range map[string]fs.FileMode{path: 0o666, run: 0o755, filepath.Dir(run): 0o755, filepath.Dir(filepath.Dir(run)): 0o755} {
		if err := os.Chmod(p, mode); err != nil {
			t.Fatal(err)
		}
	}
}

// TestWrongKeeper has the client refuse what another user listens at.
func TestWrongKeeper(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "sock")
	letInDir := filepath.Dir(dir)
	if err := errors.Join(os.Chmod(dir, 0o777), os.Chmod(letInDir, 0o755)); err != nil {
		t.Fatal(err)
	}
	var ln net.Listener
	asNobody(t, func() {
		var err error
		if ln, err = new(net.ListenConfig).Listen(t.Context(), "unix", path); err != nil {
			t.Errorf("listen: %v", err)
		}
	})
	defer ln.Close()
	if _, err := keeper.Dial(t.Context(), path); !errors.Is(err, errs.ErrDenied) {
		t.Errorf("Dial = %v, want %v", err, errs.ErrDenied)
	}
}

// run starts the test binary as another program, and returns the lines that it says.
func run(t *testing.T, name, path string) (cmd *exec.Cmd, said *bufio.Scanner) {
	t.Helper()
	cmd = child(context.Background(), name, path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kill(t, cmd) })
	return cmd, bufio.NewScanner(out)
}

// kill kills the program if it runs still, and waits for its end.
func kill(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if cmd.ProcessState != nil {
		return
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Errorf("kill: %v", err)
	}
	_ = cmd.Wait() // it was killed
}

// TestKilledInPut kills a client that has sent half of a put.
func TestKilledInPut(t *testing.T) {
	logged := make(lines, 10)
	path := start(t, logged.logger())
	c := dial(t, path)
	put(t, c, plain("item", "old"))
	half, said := run(t, "half", path)
	if !said.Scan() {
		t.Fatal("the child says nothing")
	}
	kill(t, half)
	logged.await(t, "in the middle of a message")
	if diff := cmp.Diff([]string{"item=old"}, text(get(t, c))); diff != "" {
		t.Errorf("held (-want +got):\n%s", diff)
	}
}

// TestKilledAgain kills clients at any moment of their puts: each put was done or was not.
func TestKilledAgain(t *testing.T) {
	path := start(t, nil)
	c := dial(t, path)
	for n := range 10 {
		loop, said := run(t, "loop", path)
		for range n + 1 {
			if !said.Scan() {
				t.Fatal("the child says nothing")
			}
		}
		kill(t, loop)
		if err := checkWhole(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSurvivesStarter kills who started the keeper and reads what it logs.
func TestSurvivesStarter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sock")
	starter := child(context.Background(), "starter", path)
	out, err := starter.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := starter.StderrPipe(); err != nil { // nobody reads it once the starter is dead
		t.Fatal(err)
	}
	if err := starter.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	kill(t, starter)
	if err != nil {
		t.Fatalf("the starter said %q, %v", line, err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	defer endOrphan(t, pid, path)

	put(t, dial(t, path), plain("x", "1"))
	conn := raw(t, path)
	sendParts(t, conn, part{request(2, 0, "", nil), nil}) // is logged
	if _, kind, _ := answer(t, conn); kind != 130 {
		t.Errorf("answer = kind %d, want 130", kind)
	}
	if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("Read = %d, %v, want the end", n, err)
	}
	if diff := cmp.Diff([]string{"x=1"}, text(get(t, dial(t, path)))); diff != "" {
		t.Errorf("held (-want +got):\n%s", diff)
	}
}

// endOrphan ends a keeper that is no child of this process: its lock tells when it has ended.
func endOrphan(t *testing.T, pid int, path string) {
	t.Helper()
	if err := unix.Kill(pid, unix.SIGTERM); err != nil {
		t.Errorf("end the keeper: %v", err)
	}
	lock, err := os.OpenFile(path+".lock", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after SIGTERM Lstat of the socket = %v, want %v: it has not ended well", err, fs.ErrNotExist)
	}
}
