package node_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/internal/keeper"
	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/mount"
	"github.com/zosfs/zosfs/node"
)

// status returns the status of a service within the time that people have.
func (s *site) status(c *child) node.Status {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	st, err := c.Status(ctx)
	if err != nil {
		s.t.Fatalf("Status: %v", err)
	}
	return st
}

func (s *site) table() string { return filepath.Join(s.dirs.State, "mounts.json") }

// forgetFlists makes it so that nothing can be mounted without the hub.
func (s *site) forgetFlists() {
	s.t.Helper()
	entries, err := os.ReadDir(s.dirs.Cache)
	for _, e := range entries {
		if e.Name() != "metadata" {
			err = errors.Join(err, os.RemoveAll(filepath.Join(s.dirs.Cache, e.Name())))
		}
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// mountMortal has a service mount the reference at dir and die before it can say so.
func (s *site) mountMortal(ref, dir string) {
	t := s.t
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "0", "mortal") //nolint:noctx // it kills itself, or the test does
	cmd.Env = append(os.Environ(), envChild+"=serve-kernel", node.EnvCache+"="+s.dirs.Cache, node.EnvState+"="+s.dirs.State)
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	c := node.Dial(s.dirs)
	until(t, "the service answers", func() bool { return c.Ping(t.Context()) == nil })
	if _, err := c.Mount(t.Context(), node.MountRequest{Ref: ref, Dir: dir, Mode: "kernel", Token: s.token}); !errors.Is(err, errs.ErrUnavailable) {
		t.Fatalf("Mount = %v, want the service to die", err)
	}
	_ = cmd.Wait() // it was killed
	if on, err := mount.Holds(dir); err != nil || on.Dir != dir {
		t.Fatalf("%s holds %+v, %v; want a mount", dir, on, err)
	}
	s.findKeeper()
}

// TestKilledBetween kills a service that has shown a mount but not saved that it did.
func TestKilledBetween(t *testing.T) {
	tests := map[string]struct {
		keeper bool // goes on
		log    string
	}{
		"keeper":    {true, "took over a mount"},
		"no keeper": {false, "a mount has died and was made again"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			testenv.NoLeaks(t)
			s := newSite(t)
			s.login()
			tree, dir := growBig(t, 67), point(t)
			testenv.Mounted(t, filepath.Join(s.dirs.State, "content"))
			s.mountMortal(s.publish(tree, "between"), dir)
			if !tt.keeper {
				s.killKeeper()
			}
			c := s.start(0)
			wantLog(t, s.dirs, tt.log)
			if m := s.mounts(c, 1)[0]; m.Dir != dir || m.Mode != mount.Kernel || m.Rung == "" {
				t.Errorf("after the death of the service: %+v", m)
			}
			check(t, tree, dir)
			s.findKeeper()
			s.stop(c)
		})
	}
}

// TestDeadKernelMount has a mount that died with service and keeper and is in no table. Its names
// can be read still.
func TestDeadKernelMount(t *testing.T) {
	testenv.NoLeaks(t)
	s := newSite(t)
	tree, dir := growBig(t, 68), point(t)
	c := s.start(0)
	info := s.mount(c, s.publish(tree, "stray"), dir)
	c.kill()
	s.killKeeper()
	if err := os.Remove(s.table()); err != nil {
		t.Fatal(err)
	}
	c = s.start(0)
	st := s.status(c)
	dead := s.dead(st)
	if len(st.Mounts) != 0 || len(dead) != 1 || dead[0].Dir != dir || dead[0].Mode != mount.Kernel || dead[0].Reason == "" ||
		!strings.HasPrefix(dead[0].Try, "zosfs umount "+dir+"; zosfs mount ") || !strings.HasSuffix(dead[0].Image, info.Digest.String()+".zosfs.erofs") {
		t.Fatalf("status = %+v, want %s dead", st, dir)
	}
	wantLog(t, s.dirs, "a mount is dead\" dir="+dir+" mode=kernel")
	if _, err := os.ReadFile(filepath.Join(dir, "big-0")); !errors.Is(err, unix.EIO) {
		t.Errorf("read of the dead mount: %v, want %v", err, unix.EIO)
	}
	busy, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = busy.Close() }()
	if err := c.Unmount(t.Context(), dir, false); err != nil {
		t.Fatalf("Unmount of a dead mount = %v", err)
	}
	s.mount(c, info.Ref, dir)
	check(t, tree, dir)
	s.mounts(c, 1)
	// That of another service with the same cache is not dead.
	other := serve(t, node.Options{Dirs: node.Dirs{Cache: s.dirs.Cache, State: newDirs(t).State}})
	if st := other.status(); slices.ContainsFunc(st.Dead, func(d node.DeadMount) bool { return d.Dir == dir }) {
		t.Errorf("beside it, dead = %+v", st.Dead)
	}
	s.stop(c)
}

// TestNotRevived has a dead mount whose image cannot be opened: it stays as it is until it can.
func TestNotRevived(t *testing.T) {
	testenv.NoLeaks(t)
	s := newSite(t)
	s.login()
	tree, dir, other := growBig(t, 69), point(t), point(t)
	c := s.start(0)
	info := s.mount(c, s.publish(tree, "later"), dir)
	s.mount(c, info.Ref, other)
	c.kill()
	s.killKeeper()
	s.forgetFlists()
	s.down.Store(true)
	for range 2 { // also the next service knows of it
		c = s.start(0)
		st := s.status(c)
		dead := s.dead(st)
		if len(st.Mounts) != 0 || len(dead) != 2 {
			t.Fatalf("status = %+v, want two dead mounts", st)
		}
		for _, d := range dead {
			if d.Ref != info.Ref || !strings.Contains(d.Reason, "503") || d.Try != "zosfs umount "+d.Dir+"; zosfs mount "+info.Ref+" "+d.Dir || d.Mode != mount.Kernel {
				t.Errorf("dead: %+v", d)
			}
		}
		if on, err := mount.Holds(dir); err != nil || on.Dir != dir {
			t.Errorf("%s holds %+v, %v; want the dead mount", dir, on, err)
		}
		if names, err := os.ReadDir(dir); err != nil || len(names) == 0 {
			t.Errorf("names in the dead mount: %v, %v", names, err)
		}
		c.kill()
	}
	wantLog(t, s.dirs, "a mount has died and could not be made again\" dir="+dir)
	c = s.start(0)
	if err := c.Unmount(t.Context(), other, false); err != nil { // it is given up
		t.Errorf("Unmount of a dead mount = %v", err)
	}
	if err := c.Unmount(t.Context(), other, false); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Unmount again = %v, want %v", err, fs.ErrNotExist)
	}
	c.kill()
	s.down.Store(false)
	c = s.start(0)
	if m := s.mounts(c, 1)[0]; m.Dir != dir || m.Mode != mount.Kernel {
		t.Errorf("with the hub back: %+v, want %s", m, dir)
	}
	check(t, tree, dir)
	s.findKeeper()
	s.stop(c)
}

// TestUnreadableTable damages the tables of mounts, one and both.
func TestUnreadableTable(t *testing.T) {
	const other = `{"version":99,"mounts":"somewhere else"}`
	tests := map[string]struct{ file, keeper bool }{"keeper": {false, true}, "file": {true, false}, "both": {true, true}}
	for name, bad := range tests {
		t.Run(name, func(t *testing.T) {
			testenv.NoLeaks(t)
			s := newSite(t)
			s.login()
			tree, dir := growBig(t, 70), point(t)
			c := s.start(0)
			info := s.mount(c, s.publish(tree, "table"), dir)
			c.kill()
			if bad.file {
				if err := os.WriteFile(s.table(), []byte(other), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if bad.keeper {
				s.putTable(other)
			}
			c = s.start(0)
			if bad.file {
				if p, err := os.ReadFile(s.table() + ".bad"); err != nil || string(p) != other {
					t.Errorf("the file is now %q, %v, want %q", p, err, other)
				}
			}
			if held := s.held("mounts.unread"); bad.keeper != (held == other) {
				t.Errorf("the keeper has put aside %q", held)
			}
			if bad.file && bad.keeper {
				st := s.status(c)
				if dead := s.dead(st); len(st.Mounts) != 0 || len(dead) != 1 || dead[0].Dir != dir || !strings.Contains(strings.Join(st.Notes, "\n"), s.table()+".bad") {
					t.Fatalf("status = %+v, want %s dead and a note", st, dir)
				}
				wantLog(t, s.dirs, "which mounts an earlier service had is not known", "a mount is dead\" dir="+dir)
				if err := c.Unmount(t.Context(), dir, false); err != nil {
					t.Fatal(err)
				}
				s.mount(c, info.Ref, dir)
			} else {
				wantLog(t, s.dirs, "a table of mounts cannot be read, the other copy is taken", "took over a mount\" dir="+dir)
			}
			s.mounts(c, 1)
			check(t, tree, dir)
			s.stop(c)
		})
	}
}

func (s *site) askKeeper(ask func(*keeper.Client) error) {
	s.t.Helper()
	k, err := keeper.Dial(s.t.Context(), filepath.Join(s.dirs.State, "keeper", "keeper.sock"))
	if err == nil {
		err = errors.Join(ask(k), k.Close())
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// putTable gives the keeper another table of mounts.
func (s *site) putTable(text string) {
	s.t.Helper()
	s.askKeeper(func(k *keeper.Client) error {
		return k.Put(s.t.Context(), keeper.Item{Name: "mounts", Data: []byte(text), FD: -1})
	})
}

// held returns what the keeper has under a name.
func (s *site) held(name string) (text string) {
	s.t.Helper()
	s.askKeeper(func(k *keeper.Client) error {
		items, err := k.Get(s.t.Context())
		for _, i := range items {
			if i.FD >= 0 {
				err = errors.Join(err, unix.Close(i.FD))
			}
			if i.Name == name {
				text = string(i.Data)
			}
		}
		return err
	})
	return text
}

// TestSilentKeeper stops the keeper under a service: nobody waits for it for long, and who asks how
// the service is not at all. When it goes on, what it holds is old.
func TestSilentKeeper(t *testing.T) {
	testenv.NoLeaks(t)
	s := newSite(t)
	s.login() // a token of a mount is in no file
	tree, more := growBig(t, 71), grow(t, 72)
	one, two := point(t), point(t)
	c := s.start(0, "hasty")
	s.mount(c, s.publish(tree, "one"), one)
	s.signalKeeper(unix.SIGSTOP)
	request := node.MountRequest{Ref: s.publish(more, "two"), Dir: two, Mode: "kernel", Token: s.token}
	mounted := make(chan error, 1)
	go func() {
		_, err := c.Mount(t.Context(), request)
		mounted <- err
	}()
	for done := false; !done; {
		select {
		case err := <-mounted:
			if err != nil {
				t.Fatalf("Mount with a silent keeper = %v", err)
			}
			done = true
		default:
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second) // less than the patience
		_, err := c.Status(ctx)
		if _, merr := c.Metrics(ctx); err != nil || merr != nil {
			t.Fatalf("with a silent keeper: status %v, metrics %v", err, merr)
		}
		cancel()
	}
	if st := s.status(c); len(st.Mounts) != 2 || !strings.Contains(strings.Join(st.Notes, "\n"), "the keeper does not answer") {
		t.Errorf("status = %+v, want two mounts and a note", st)
	}
	if err := c.Unmount(t.Context(), two, false); err != nil {
		t.Errorf("Unmount with a silent keeper = %v", err)
	}
	if _, err := c.Mount(t.Context(), request); err != nil {
		t.Errorf("Mount again = %v", err)
	}
	s.signalKeeper(unix.SIGCONT)
	c.kill()
	r := readLater(t, filepath.Join(one, "big-0"))
	c = s.start(0)
	r.want(t, filepath.Join(tree, "big-0"))
	wantLog(t, s.dirs, "took over a mount\" dir="+one, "took over a mount\" dir="+two)
	s.mounts(c, 2)
	check(t, tree, one)
	check(t, more, two)
	s.stop(c)
}

func (s *site) signalKeeper(sig unix.Signal) {
	s.t.Helper()
	if err := unix.PidfdSendSignal(s.keeper, sig, nil, 0); err != nil {
		s.t.Fatal(err)
	}
}

// TestSilentKeeperAtStart stops the keeper and kills the service: the next one makes the mounts
// again, and who waits for the old ones gets errors.
func TestSilentKeeperAtStart(t *testing.T) {
	testenv.NoLeaks(t)
	s := newSite(t)
	s.login()
	tree, dir := growBig(t, 73), point(t)
	c := s.start(0)
	s.mount(c, s.publish(tree, "silent"), dir)
	s.signalKeeper(unix.SIGSTOP)
	c.kill()
	r := readLater(t, filepath.Join(dir, "big-0"))
	c = s.start(0, "hasty")
	<-r.done
	if !errors.Is(r.err, unix.EIO) {
		t.Errorf("read of the old mount: %v, want %v", r.err, unix.EIO)
	}
	wantLog(t, s.dirs, "cannot take over from the keeper", "the keeper does not answer", "a mount has died and was made again\" dir="+dir)
	s.mounts(c, 1)
	check(t, tree, dir)
	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.wait()
	// It goes on when nothing is mounted any more, and has an old connection and table.
	s.signalKeeper(unix.SIGCONT)
	c = s.start(0)
	s.mounts(c, 0)
	s.mount(c, s.url+"/acme/silent:1", dir)
	check(t, tree, dir)
	s.stop(c)
}
