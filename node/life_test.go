package node_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/internal/credentials"
	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/mount"
	"github.com/zosfs/zosfs/node"
)

func TestStaleSocket(t *testing.T) {
	testenv.NoLeaks(t)
	dirs := newDirs(t)
	if err := os.MkdirAll(dirs.State, 0o700); err != nil {
		t.Fatal(err)
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dirs.State, "node.sock"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	if err := node.Dial(dirs).Ping(t.Context()); !errors.Is(err, node.ErrNotRunning) || !errors.Is(err, errs.ErrUnavailable) {
		t.Errorf("Ping of a stale socket = %v, want %v", err, node.ErrNotRunning)
	}
	s := serve(t, node.Options{Dirs: dirs})
	if err := s.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestTwoServices(t *testing.T) {
	testenv.NoLeaks(t)
	s := serve(t, node.Options{})
	err := node.Run(t.Context(), node.Options{Dirs: s.dirs})
	if !errors.Is(err, node.ErrRunning) || !strings.Contains(err.Error(), s.dirs.State) {
		t.Errorf("the second Run = %v, want %v and the directory", err, node.ErrRunning)
	}
	if err := s.Ping(t.Context()); err != nil {
		t.Errorf("the first service after that: %v", err)
	}
}

// TestSilentService has a process that holds the lock and does not answer.
func TestSilentService(t *testing.T) {
	testenv.NoLeaks(t)
	dirs := newDirs(t)
	if err := os.MkdirAll(dirs.State, 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dirs.State, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if _, err := f.WriteString("4711\n"); err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err = node.Run(ctx, node.Options{Dirs: dirs})
	if !errors.Is(err, node.ErrRunning) || !strings.Contains(err.Error(), "4711") || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("Run = %v, want %v with the process", err, node.ErrRunning)
	}
}

// TestCacheTaken has two services that share a cache directory.
func TestCacheTaken(t *testing.T) {
	testenv.NoLeaks(t)
	w := newWorld(t)
	tree := grow(t, 20)
	ref := w.publish(tree, "taken")
	one := serve(t, node.Options{})
	check(t, tree, one.mount(w, ref).Dir)
	dirs := newDirs(t)
	dirs.Cache = one.dirs.Cache
	two := serve(t, node.Options{Dirs: dirs})
	check(t, tree, two.mount(w, ref).Dir)
	st := two.status()
	if !st.Cache.ReadOnly || len(st.Notes) == 0 || !strings.Contains(st.Notes[0], dirs.Cache) {
		t.Errorf("status beside the writer = %+v, want it to say so", st)
	}
	if m := st.Mounts[0]; m.Image.ChunksFetched != 0 {
		t.Errorf("beside the writer %d chunks were fetched again", m.Image.ChunksFetched)
	}
	if p, err := os.ReadFile(filepath.Join(dirs.State, "node.log")); err != nil || !strings.Contains(string(p), "another process writes the cache") {
		t.Errorf("the log does not say so: %v\n%s", err, p)
	}
}

// TestIdle has a service that nobody wants; what a mount does to it is in TestTableIdle.
func TestIdle(t *testing.T) {
	testenv.NoLeaks(t)
	s := serve(t, node.Options{Idle: time.Millisecond})
	s.wait()
}

func TestRunRefuses(t *testing.T) {
	testenv.NoLeaks(t)
	tests := []struct {
		name    string
		prepare func(t *testing.T, d *node.Dirs) error
		want    error
		text    string
	}{
		{"state that others may write", func(_ *testing.T, d *node.Dirs) error {
			return errors.Join(os.MkdirAll(d.State, 0o700), os.Chmod(d.State, 0o770))
		}, os.ErrPermission, "chmod 700"},
		{"state of somebody else", func(t *testing.T, d *node.Dirs) error {
			testenv.NeedRoot(t)
			return errors.Join(os.MkdirAll(d.State, 0o700), os.Chown(d.State, 4711, 4711))
		}, os.ErrPermission, "user 4711"},
		{"state is a file", func(_ *testing.T, d *node.Dirs) error { return os.WriteFile(d.State, nil, 0o600) }, unix.ENOTDIR, "state"},
		{"cache is a file", func(_ *testing.T, d *node.Dirs) error { return os.WriteFile(d.Cache, nil, 0o600) }, unix.ENOTDIR, "cache"},
		{"path of the socket is too long", func(_ *testing.T, d *node.Dirs) error {
			d.State = filepath.Join(d.State, strings.Repeat("x", 100))
			return nil
		}, os.ErrInvalid, node.EnvState},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dirs := newDirs(t)
			if err := tt.prepare(t, &dirs); err != nil {
				t.Fatal(err)
			}
			err := node.Run(t.Context(), node.Options{Dirs: dirs})
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("Run = %v, want %v with %q", err, tt.want, tt.text)
			}
		})
	}
}

// child is a service in a process of its own.
type child struct {
	*node.Client
	t     *testing.T
	pid   int
	ended bool
}

// startChild starts the test binary as a service, which is killed when the test ends.
func startChild(t *testing.T, dirs node.Dirs) *child {
	t.Helper()
	return startChildAs(t, dirs, "serve", "0s")
}

// startChildAs is startChild in another mode of TestMain.
func startChildAs(t *testing.T, dirs node.Dirs, mode string, args ...string) *child {
	t.Helper()
	testenv.Mounted(t, filepath.Join(dirs.State, "content")) // which a killed service leaves
	t.Setenv(envChild, mode)
	t.Setenv(credentials.EnvToken, "for-the-starter-alone")
	if err := node.StartDetached(t.Context(), dirs, args); err != nil {
		t.Fatal(err)
	}
	c := &child{Client: node.Dial(dirs), t: t}
	st, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if st.PID == os.Getpid() {
		t.Fatal("the service runs in this process")
	}
	c.pid = st.PID
	t.Cleanup(func() {
		if !c.ended {
			c.kill()
		}
	})
	p, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(c.pid), "environ"))
	if err != nil || strings.Contains(string(p), "for-the-starter-alone") {
		t.Errorf("the environment of the service has the token of its starter (%v)", err)
	}
	return c
}

func (c *child) kill() {
	c.t.Helper()
	if err := unix.Kill(c.pid, unix.SIGKILL); err != nil {
		c.t.Fatal(err)
	}
	c.wait()
}

// wait returns how the process ended.
func (c *child) wait() unix.WaitStatus {
	c.t.Helper()
	var ws unix.WaitStatus
	for {
		_, err := unix.Wait4(c.pid, &ws, 0, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			c.t.Fatalf("wait for process %d: %v", c.pid, err)
		}
		c.ended = true
		return ws
	}
}

// TestKilled kills a service with mounts in mode fuse, which die with it, and starts another,
// which makes them again.
func TestKilled(t *testing.T) {
	testenv.NoLeaks(t)
	testenv.NeedFUSE(t)
	w := newWorld(t)
	tree := grow(t, 22)
	ref := w.publish(tree, "killed")
	dirs := newDirs(t)
	dir, gone := point(t), point(t)

	c := startChild(t, dirs)
	for _, at := range []string{dir, gone} {
		if _, err := c.Mount(t.Context(), node.MountRequest{Ref: ref, Dir: at, Mode: "fuse", Token: w.token}); err != nil {
			t.Fatal(err)
		}
	}
	check(t, tree, dir)
	busy, err := os.Open(filepath.Join(dir, first(t, tree, 1)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = busy.Close() }()
	c.kill()
	if err := c.Ping(t.Context()); !errors.Is(err, node.ErrNotRunning) {
		t.Errorf("Ping of a killed service = %v, want %v", err, node.ErrNotRunning)
	}
	if err := errors.Join(unix.Unmount(gone, unix.MNT_DETACH), os.Remove(gone)); err != nil {
		t.Fatal(err)
	}

	w.down.Store(true) // what is here must do
	c = startChild(t, dirs)
	st, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(st.Mounts) != 1 || st.Mounts[0].Dir != dir || st.Mounts[0].Mode != mount.FUSE || st.Mounts[0].Ref != ref || len(w.dead(st)) != 1 {
		t.Errorf("status = %+v, want %s at %s, in mode fuse, and one that is dead", st, ref, dir)
	} else if d := w.dead(st)[0]; d.Dir != gone || d.Ref != ref || !strings.Contains(d.Reason, "make the directory first") || !strings.Contains(d.Try, "zosfs mount "+ref+" "+gone) {
		t.Errorf("dead = %+v, want %s and how to bring it back", d, gone)
	}
	check(t, tree, dir)
	if err := unix.Fstatfs(int(busy.Fd()), new(unix.Statfs_t)); !errors.Is(err, unix.ENOTCONN) {
		t.Errorf("a file of the dead mount: %v, want %v", err, unix.ENOTCONN)
	}
	wantLog(t, dirs, "made again; programs that used the old one must be started anew\" dir="+dir,
		"the token that it was mounted with is lost", "could not be made again\" dir="+gone, "make the directory first", "zosfs mount "+ref+" "+gone)
	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if ws := c.wait(); !ws.Exited() || ws.ExitStatus() != 0 {
		t.Errorf("after Stop the service ended with %v", ws)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("after Stop the mount point has %v, %v", left, err)
	}
	if _, err := os.Stat(filepath.Join(dirs.State, "mounts.json")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after Stop the table of mounts: %v, want %v", err, os.ErrNotExist)
	}
}

// wantLog fails unless the log of a service has all the texts.
func wantLog(t *testing.T, dirs node.Dirs, texts ...string) {
	t.Helper()
	p, err := os.ReadFile(filepath.Join(dirs.State, "node.log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range texts {
		if !strings.Contains(string(p), text) {
			t.Errorf("the log lacks %q:\n%s", text, p)
		}
	}
}

// TestDeadMount has a mount that died with its service, and is in no table that can be read.
func TestDeadMount(t *testing.T) {
	tables := map[string]string{
		"none":            "",
		"corrupt":         "{\"version\":1,\"mounts\":[{",
		"another version": `{"version":2,"mounts":[]}`,
	}
	for name, table := range tables {
		t.Run(name, func(t *testing.T) { testDeadMount(t, table) })
	}
}

func testDeadMount(t *testing.T, table string) {
	testenv.NoLeaks(t)
	testenv.NeedFUSE(t)
	w := newWorld(t)
	tree := grow(t, 22)
	ref := w.publish(tree, "dead")
	dirs := newDirs(t)
	dir := point(t)
	request := node.MountRequest{Ref: ref, Dir: dir, Mode: "fuse", Token: w.token}
	c := startChild(t, dirs)
	if _, err := c.Mount(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	check(t, tree, dir)
	busy, err := os.Open(dir) // also a dead mount may be in use
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = busy.Close() }()
	c.kill()
	path := filepath.Join(dirs.State, "mounts.json")
	if table == "" {
		err = os.Remove(path)
	} else {
		err = os.WriteFile(path, []byte(table), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}

	c = startChild(t, dirs)
	st, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if dead := w.dead(st); len(dead) != 1 || dead[0].Info != (mount.Info{Dir: dir, Source: ref, Mode: mount.FUSE}) || dead[0].Reason == "" || !strings.Contains(dead[0].Try, "zosfs mount "+ref+" "+dir) {
		t.Errorf("dead mounts = %+v, want %s at %s", dead, ref, dir)
	}
	wantLog(t, dirs, "a mount is dead", dir)
	if table != "" {
		wantLog(t, dirs, "which mounts an earlier service had is not known")
		if aside, err := os.ReadFile(path + ".bad"); err != nil || string(aside) != table {
			t.Errorf("the table that could not be read is now %q, %v, want %q", aside, err, table)
		}
		if !slices.ContainsFunc(st.Notes, func(n string) bool { return strings.Contains(n, path+".bad") }) {
			t.Errorf("notes = %q, want where the table is", st.Notes)
		}
	}
	if _, err := c.Mount(t.Context(), request); err == nil || !strings.Contains(err.Error(), "zosfs umount") {
		t.Errorf("Mount over a dead mount = %v, want it explained", err)
	}
	if err := c.Unmount(t.Context(), dir, false); err != nil {
		t.Fatalf("Unmount of a dead mount = %v", err)
	}
	if _, err := c.Mount(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	before := w.blobs.Load()
	check(t, tree, dir)
	if n := w.blobs.Load(); n != before {
		t.Errorf("after the kill %d requests for blobs were needed", n-before)
	}
	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.wait()
}

// TestUnmountWithoutService takes the dead mount of a killed service away when none runs.
func TestUnmountWithoutService(t *testing.T) {
	testenv.NoLeaks(t)
	testenv.NeedFUSE(t)
	w := newWorld(t)
	ref := w.publish(grow(t, 23), "killed")
	dirs, dir := newDirs(t), point(t)
	c := startChild(t, dirs)
	if _, err := c.Mount(t.Context(), node.MountRequest{Ref: ref, Dir: dir, Mode: "fuse", Token: w.token}); err != nil {
		t.Fatal(err)
	}
	c.kill()
	if err := c.Unmount(t.Context(), dir, false); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("the mount point has %v, %v", left, err)
	}
}

func TestStartDetachedTwice(t *testing.T) {
	testenv.NoLeaks(t)
	dirs := newDirs(t)
	c := startChild(t, dirs)
	if err := node.StartDetached(t.Context(), dirs, []string{"0s"}); err != nil {
		t.Errorf("StartDetached with a service running = %v", err)
	}
	if st, err := c.Status(t.Context()); err != nil || st.PID != c.pid {
		t.Errorf("Status = process %d, %v; want %d", st.PID, err, c.pid)
	}
	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.wait()
}

func TestStartDetachedFails(t *testing.T) {
	testenv.NoLeaks(t)
	t.Setenv(credentials.EnvFile, filepath.Join(t.TempDir(), "none"))
	tests := []struct {
		name, child string
		args        []string
		prepare     func(d node.Dirs) error
		want        error
		text        string
	}{
		{"lock of the cache", "serve", []string{"0s"}, func(d node.Dirs) error {
			return os.MkdirAll(filepath.Join(d.Cache, "lock"), 0o700)
		}, nil, "lock"},
		{"wrong arguments", "serve", []string{"what"}, nil, nil, "invalid duration"},
		{"panic", "panic", nil, nil, nil, "the child has panicked"},
		{"quiet", "quiet", nil, nil, nil, "exit status 3"},
		{"state", "serve", []string{"0s"}, func(d node.Dirs) error {
			return errors.Join(os.MkdirAll(d.State, 0o700), os.Chmod(d.State, 0o777))
		}, os.ErrPermission, "chmod 700"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dirs := newDirs(t)
			if tt.prepare != nil {
				if err := tt.prepare(dirs); err != nil {
					t.Fatal(err)
				}
			}
			t.Setenv(envChild, tt.child)
			err := node.StartDetached(t.Context(), dirs, tt.args)
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("StartDetached = %v, want %v with %q", err, tt.want, tt.text)
			}
		})
	}
}

// TestStartDetachedCancelled does not wait for a service that never gets ready.
func TestStartDetachedCancelled(t *testing.T) {
	testenv.NoLeaks(t)
	t.Setenv(envChild, "hang")
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := node.StartDetached(ctx, newDirs(t), nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("StartDetached = %v, want %v", err, context.DeadlineExceeded)
	}
}
