package node_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/node"
)

// managed says how a service is started in the way of a service manager.
type managed struct {
	dirs   node.Dirs
	files  []*os.File // handed over
	env    []string
	limits string // shell commands before the service
}

// command returns the process: a shell that becomes the service, so that both have one id.
func (m managed) command(t *testing.T) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", m.limits+`LISTEN_PID=$$ exec "$0" 0s`, exe)
	cmd.ExtraFiles = m.files
	cmd.Env = append(os.Environ(), envChild+"=serve", node.EnvCache+"="+m.dirs.Cache, node.EnvState+"="+m.dirs.State,
		"LISTEN_FDS="+strconv.Itoa(len(m.files)))
	cmd.Env = append(cmd.Env, m.env...)
	return cmd
}

// managedChild is a service that a manager started.
type managedChild struct {
	*node.Client
	ended chan struct{}
	err   error // of the process, when ended is closed
}

// startManaged starts a service and waits until it answers; it ends with the test.
func startManaged(t *testing.T, m managed) *managedChild {
	t.Helper()
	cmd := m.command(t)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &managedChild{Client: node.Dial(m.dirs), ended: make(chan struct{})}
	go func() {
		defer close(c.ended)
		c.err = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // if it has not ended
		<-c.ended
	})
	until(t, "the service answers", func() bool {
		select {
		case <-c.ended:
			t.Fatalf("the service has ended: %v\n%s", c.err, &out)
		default:
		}
		return c.Ping(t.Context()) == nil
	})
	return c
}

// socketUnit is what a service manager makes of a socket unit.
func socketUnit(t *testing.T, path string) *net.UnixListener {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln
}

func fileOf(t *testing.T, c interface{ File() (*os.File, error) }) *os.File {
	t.Helper()
	f, err := c.File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// hears reads messages of the service until one is want; those in between may be others.
func hears(t *testing.T, conn *net.UnixConn, want string, others ...string) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for p := make([]byte, 4096); ; {
		n, err := conn.Read(p)
		if err != nil {
			t.Fatalf("waited for %q: %v", want, err)
		}
		text := string(p[:n])
		if text == want {
			return
		}
		if !strings.Contains("\n"+strings.Join(others, "\n")+"\n", "\n"+text+"\n") {
			t.Errorf("the service says %q, want %q", text, want)
		}
	}
}

// TestActivation starts a service twice on one socket, which it neither makes nor takes away,
// and hears what it says of itself.
func TestActivation(t *testing.T) {
	testenv.NoLeaks(t)
	testenv.NeedFUSE(t)
	w := newWorld(t)
	ref := w.publish(grow(t, 40), "activated")
	dirs := newDirs(t)
	path := filepath.Join(dirs.State, "node.sock")
	ln := socketUnit(t, path)
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("@zosfs-test-%d-%d", os.Getpid(), time.Now().UnixNano())
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = notify.Close() }()
	unit := managed{dirs: dirs, files: []*os.File{fileOf(t, ln)}, env: []string{
		"NOTIFY_SOCKET=" + name, "WATCHDOG_USEC=200000", "LISTEN_FDNAMES=zosfs-node.socket",
	}}
	early := make(chan error, 1) // a caller before the service is there
	go func() { early <- node.Dial(dirs).Ping(t.Context()) }()
	for round := range 2 {
		c := startManaged(t, unit)
		hears(t, notify, "READY=1")
		hears(t, notify, "STATUS=no mounts", "WATCHDOG=1")
		hears(t, notify, "WATCHDOG=1")
		if round == 0 {
			if err := <-early; err != nil {
				t.Errorf("a call that waited for the service = %v", err)
			}
		}
		dir := point(t)
		if _, err := c.Mount(t.Context(), node.MountRequest{Ref: ref, Dir: dir, Token: w.token}); err != nil {
			t.Fatal(err)
		}
		hears(t, notify, "STATUS=1 mount", "WATCHDOG=1")
		if err := c.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		hears(t, notify, "STOPPING=1", "WATCHDOG=1")
		if <-c.ended; c.err != nil {
			t.Errorf("the service ended with %v", c.err)
		}
		after, err := os.Stat(path)
		if err != nil || !os.SameFile(before, after) {
			t.Fatalf("the socket is not as it was before: %v", err)
		}
		mark(t, name)
		hears(t, notify, "MARK", "STATUS=1 mount", "STATUS=no mounts", "WATCHDOG=1")
	}
}

// mark sends a message of the test.
func mark(t *testing.T, socket string) {
	t.Helper()
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "unixgram", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write([]byte("MARK")); err != nil {
		t.Fatal(err)
	}
}

// TestActivationRefuses hands over what is of no use.
func TestActivationRefuses(t *testing.T) {
	testenv.NoLeaks(t)
	for _, tt := range []struct {
		name  string
		files func(t *testing.T, d node.Dirs) []*os.File
		text  string
	}{
		{"another path", func(t *testing.T, d node.Dirs) []*os.File {
			return []*os.File{fileOf(t, socketUnit(t, filepath.Join(filepath.Dir(d.State), "other.sock")))}
		}, "ListenStream"},
		{"two sockets", func(t *testing.T, d node.Dirs) []*os.File {
			f := fileOf(t, socketUnit(t, filepath.Join(d.State, "node.sock")))
			return []*os.File{f, f}
		}, "2 descriptors"},
		{"datagrams", func(t *testing.T, _ node.Dirs) []*os.File {
			conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unixgram"})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close() })
			return []*os.File{fileOf(t, conn)}
		}, "descriptor 3 (some-name) is no unix stream socket that listens"},
		{"no socket", func(t *testing.T, _ node.Dirs) []*os.File {
			f, err := os.Create(filepath.Join(t.TempDir(), "file"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = f.Close() })
			return []*os.File{f}
		}, "no unix stream socket"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dirs := newDirs(t)
			unit := managed{dirs: dirs, files: tt.files(t, dirs), env: []string{"LISTEN_FDNAMES=some-name"}}
			out, err := unit.command(t).CombinedOutput()
			if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(string(out), tt.text) {
				t.Errorf("the service ended with %v and says %q, want %q", err, out, tt.text)
			}
		})
	}
}

// TestActivationOfAnother makes a socket of its own where the variables are not for it.
func TestActivationOfAnother(t *testing.T) {
	testenv.NoLeaks(t)
	notify := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: notify, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	t.Setenv("LISTEN_PID", "1")
	t.Setenv("LISTEN_FDS", "1")
	t.Setenv("NOTIFY_SOCKET", notify)
	s := serve(t, node.Options{})
	if err := s.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	hears(t, conn, "READY=1")
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "NOTIFY_SOCKET"} {
		if v, ok := os.LookupEnv(name); ok {
			t.Errorf("%s=%q is still in the environment", name, v)
		}
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	hears(t, conn, "STOPPING=1", "STATUS=no mounts")
	if _, err := os.Stat(filepath.Join(s.dirs.State, "node.sock")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket that the service made is still there: %v", err)
	}
}

// TestStartDetachedUnmanaged starts a service from a program that has a service manager, which
// must not take the service for that program.
func TestStartDetachedUnmanaged(t *testing.T) {
	testenv.NoLeaks(t)
	t.Setenv("NOTIFY_SOCKET", "/nobody")
	t.Setenv("WATCHDOG_USEC", "1000000")
	c := startChild(t, newDirs(t))
	p, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(c.pid), "environ"))
	if err != nil || bytes.Contains(p, []byte("NOTIFY_SOCKET")) || bytes.Contains(p, []byte("WATCHDOG_USEC")) {
		t.Errorf("the service has the manager of its starter: %v", err)
	}
}
