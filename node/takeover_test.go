package node_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/internal/credentials"
	"github.com/zosfs/zosfs/internal/keeper"
	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/mount"
	"github.com/zosfs/zosfs/node"
)

// site is a machine with a hub whose services are processes of their own and have a keeper.
type site struct {
	*world
	t       *testing.T
	dirs    node.Dirs
	readers []*reader
	keeper  int // a pidfd; 0 is none
}

func newSite(t *testing.T) *site {
	t.Helper()
	needKernel(t)
	s := &site{world: newWorld(t), t: t, dirs: newDirs(t)}
	t.Cleanup(s.end)
	return s
}

// end ends what the test has left. Readers may wait for the keeper.
func (s *site) end() {
	if log, err := os.ReadFile(filepath.Join(s.dirs.State, "node.log")); s.t.Failed() && err == nil {
		s.t.Logf("the log of the services:\n%s", log)
	}
	if s.keeper != 0 {
		_ = unix.PidfdSendSignal(s.keeper, unix.SIGKILL, nil, 0) // it may have ended
		_ = unix.Close(s.keeper)
	}
	for _, r := range s.readers {
		if r.cmd.ProcessState == nil {
			_ = r.cmd.Process.Kill()
			_ = r.cmd.Wait()
		}
	}
}

// login gives the services credentials of their own.
func (s *site) login() {
	s.t.Helper()
	creds, err := credentials.Load()
	if err == nil {
		err = creds.Set(s.url, s.token)
	}
	if err == nil {
		err = creds.Save()
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// start starts a service; limit is that of its cache, in bytes.
func (s *site) start(limit int64, more ...string) *child {
	s.t.Helper()
	return startChildAs(s.t, s.dirs, "serve-kernel", append([]string{strconv.FormatInt(limit, 10)}, more...)...)
}

// mount mounts the reference at dir, and learns who is the keeper.
func (s *site) mount(c *child, ref, dir string) node.MountInfo {
	s.t.Helper()
	info, err := c.Mount(s.t.Context(), node.MountRequest{Ref: ref, Dir: dir, Mode: "kernel", Token: s.token})
	if err != nil {
		s.t.Fatal(err)
	}
	s.findKeeper()
	return info
}

func (s *site) findKeeper() {
	s.t.Helper()
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: filepath.Join(s.dirs.State, "keeper", "keeper.sock"), Net: "unix"})
	if err != nil {
		s.t.Fatalf("no keeper: %v", err)
	}
	defer func() { _ = conn.Close() }()
	raw, err := conn.SyscallConn()
	if err != nil {
		s.t.Fatal(err)
	}
	var peer *unix.Ucred
	if cerr := raw.Control(func(fd uintptr) { peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); cerr != nil || err != nil {
		s.t.Fatal(errors.Join(cerr, err))
	}
	fd, err := unix.PidfdOpen(int(peer.Pid), 0)
	if err != nil {
		s.t.Fatal(err)
	}
	if s.keeper != 0 {
		_ = unix.Close(s.keeper)
	}
	s.keeper = fd
}

// awaitKeeper waits for the end of the keeper.
func (s *site) awaitKeeper() {
	s.t.Helper()
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(s.keeper), Events: unix.POLLIN}}, 20_000)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if n != 1 || err != nil {
			s.t.Fatalf("the keeper goes on (%v)", err)
		}
		return
	}
}

func (s *site) killKeeper() {
	s.t.Helper()
	if err := unix.PidfdSendSignal(s.keeper, unix.SIGKILL, nil, 0); err != nil {
		s.t.Fatal(err)
	}
	s.awaitKeeper()
}

// mounts returns what the service has mounted.
func (s *site) mounts(c *child, want int) []node.MountInfo {
	s.t.Helper()
	st, err := c.Status(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	if len(st.Mounts) != want || len(s.dead(st)) != 0 {
		s.t.Fatalf("status = %+v, want %d mounts and none that is dead", st, want)
	}
	return st.Mounts
}

// stop stops the service and sees that nothing is left.
func (s *site) stop(c *child) {
	s.t.Helper()
	if err := c.Stop(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	if ws := c.wait(); !ws.Exited() || ws.ExitStatus() != 0 {
		s.t.Errorf("after Stop the service ended with %v", ws)
	}
	s.awaitKeeper()
	for _, name := range []string{"mounts.json", "keeper/keeper.sock", "node.sock"} {
		if _, err := os.Stat(filepath.Join(s.dirs.State, name)); !errors.Is(err, os.ErrNotExist) {
			s.t.Errorf("after Stop %s: %v, want %v", name, err, os.ErrNotExist)
		}
	}
	all, err := mount.List()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, m := range all {
		if m.Mode == mount.Kernel && filepath.Dir(m.Source) == filepath.Join(s.dirs.State, "metadata") {
			s.t.Errorf("after Stop %s is mounted", m.Dir)
		}
	}
}

// growBig makes a small tree with two larger files, big-0 and big-1.
func growBig(t *testing.T, seed uint64) string {
	t.Helper()
	tree := grow(t, seed)
	r := rand.NewChaCha8([32]byte{byte(seed)})
	for i := range 2 {
		p := make([]byte, 3<<20+i)
		_, _ = r.Read(p)
		if err := os.WriteFile(filepath.Join(tree, "big-"+strconv.Itoa(i)), p, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return tree
}

// growProgram makes a tree of one program, the test binary.
func growProgram(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	tree := testenv.TempDir(t)
	if err := os.WriteFile(filepath.Join(tree, "program"), p, 0o755); err != nil {
		t.Fatal(err)
	}
	return tree
}

// TestKill9 kills services and starts others, some of them with other limits as an upgrade
// may have, while programs read, map and run what is mounted; none may notice.
func TestKill9(t *testing.T) {
	testenv.NoLeaks(t)
	s := newSite(t)
	files, programs := growBig(t, 40), growProgram(t)
	filesAt, programsAt := point(t), point(t)
	c := s.start(0)
	s.mount(c, s.publish(files, "files"), filesAt)
	s.mount(c, s.publish(programs, "programs"), programsAt)
	readers := []*reader{s.read("pread", files, filesAt), s.read("mmap", files, filesAt), s.read("exec", programs, programsAt)}
	for _, r := range readers {
		r.await(1)
	}
	limits := []int64{0, 8 << 20, 0, 8 << 20, 64 << 20, 0}
	for i, limit := range limits {
		readers[i%len(readers)].progress()
		readers[i%len(readers)].await(1) // so that each is killed at another place
		c.kill()
		for _, r := range readers {
			r.progress()
		}
		c = s.start(limit)
		for _, r := range readers {
			r.await(2) // one may have been almost done
		}
		for _, m := range s.mounts(c, 2) {
			if m.Mode != mount.Kernel || m.Detached || m.Kernel.ReadErrors != 0 || m.Dir == filesAt && m.Kernel.Requests["read"] == 0 {
				t.Errorf("after kill %d: %+v", i+1, m)
			}
		}
	}
	for _, r := range readers {
		r.end()
	}
	check(t, files, filesAt)
	check(t, programs, programsAt)
	s.stop(c)
}

// TestKillInFlight kills a service that has requests of the kernel under way, and answers for
// none; the next one, which cannot reach the hub either at first, does.
func TestKillInFlight(t *testing.T) {
	testenv.NoLeaks(t)
	s := newSite(t)
	kinds := []string{"pread", "mmap", "exec"}
	trees := []string{growBig(t, 41), growBig(t, 42), growProgram(t)}
	var dirs []string
	c := s.start(0)
	for i, tree := range trees {
		dirs = append(dirs, point(t))
		s.mount(c, s.publish(tree, kinds[i]), dirs[i])
	}
	_, release := s.stall()
	before := s.blobs.Load()
	var readers []*reader
	for i, kind := range kinds {
		readers = append(readers, s.read(kind, trees[i], dirs[i]))
	}
	until(t, "all readers wait for the hub", func() bool { return s.blobs.Load() >= before+int64(len(kinds)) })
	c.kill()
	before = s.blobs.Load()
	c = s.start(0)
	until(t, "the next service has the requests", func() bool { return s.blobs.Load() >= before+int64(len(kinds)) })
	for _, r := range readers {
		if n := r.progress(); n != 0 {
			t.Errorf("%s: %d rounds without a hub", r.kind, n)
		}
	}
	release()
	for _, r := range readers {
		r.await(1)
		r.end()
	}
	s.mounts(c, len(kinds))
	for i, tree := range trees {
		check(t, tree, dirs[i])
	}
	s.stop(c)
}

// TestBothKilled kills the service and its keeper: what is in the page cache is right, the rest
// is an error, and the next service makes the mounts again.
func TestBothKilled(t *testing.T) {
	testenv.NoLeaks(t)
	s := newSite(t)
	tree, other := growBig(t, 43), grow(t, 44)
	busyAt, idleAt := point(t), point(t)
	c := s.start(0)
	s.mount(c, s.publish(tree, "busy"), busyAt)
	s.mount(c, s.publish(other, "idle"), idleAt)
	want, err := os.ReadFile(filepath.Join(tree, "big-0"))
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(filepath.Join(busyAt, "big-0"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	cached := len(want) / 2 &^ 0xffff
	mapped, err := unix.Mmap(int(f.Fd()), 0, cached, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(mapped) }()
	// Without read-ahead; what is locked nobody can drop.
	if err := errors.Join(unix.Madvise(mapped, unix.MADV_RANDOM), unix.Mlock(mapped)); err != nil {
		t.Fatal(err)
	}
	c.kill()
	s.killKeeper()
	s.login() // the token of a mount is nowhere on disk

	readTorn(t, f, want, cached)
	if err := same(f.Name(), mapped, want[:cached]); err != nil {
		t.Error(err)
	}
	if _, err := os.ReadFile(filepath.Join(busyAt, "big-1")); !errors.Is(err, unix.EIO) {
		t.Errorf("read of what is not in the page cache: %v, want %v", err, unix.EIO)
	}
	c = s.start(0)
	for _, m := range s.mounts(c, 2) {
		if m.Mode != mount.Kernel || m.Detached || m.Dir != busyAt && m.Dir != idleAt {
			t.Errorf("made again: %+v", m)
		}
	}
	check(t, tree, busyAt)
	check(t, other, idleAt)
	readTorn(t, f, want, cached)
	wantLog(t, s.dirs, "a mount has died and was made again\" dir="+idleAt,
		"a mount has died and was made again; programs that used the old one must be started anew\" dir="+busyAt)
	s.findKeeper()
	s.stop(c)
}

// readTorn reads all of f, whose first bytes are in the page cache.
func readTorn(t *testing.T, f *os.File, want []byte, cached int) {
	t.Helper()
	const step = 64 << 10
	failed := 0
	for off := 0; off < len(want); off += step {
		p := want[off:min(off+step, len(want))]
		got := make([]byte, len(p))
		_, err := f.ReadAt(got, int64(off))
		switch {
		case errors.Is(err, unix.EIO) && off >= cached:
			failed++
		case err != nil:
			t.Errorf("read at %d, of %d bytes in the page cache: %v", off, cached, err)
		case !bytes.Equal(got, p):
			t.Errorf("read at %d, of %d bytes in the page cache: wrong bytes", off, cached)
		}
	}
	if failed == 0 {
		t.Errorf("all of %d bytes can be read, %d of them are in the page cache; the test is void", len(want), cached)
	}
}

// reading reads a file whose content nobody can give yet, on a thread of its own.
type reading struct {
	path string
	done chan struct{}
	got  []byte
	err  error
	tid  int
}

// readLater begins to read path, and returns when the read waits for the kernel.
func readLater(t *testing.T, path string) *reading {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	r := &reading{path: path, done: make(chan struct{}), got: make([]byte, info.Size())}
	began := make(chan struct{})
	go func() {
		defer close(r.done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		r.tid = unix.Gettid()
		close(began)
		var f *os.File
		if f, r.err = opened(path); r.err == nil {
			_, r.err = f.ReadAt(r.got, 0)
			r.err = errors.Join(r.err, f.Close())
		}
	}()
	<-began
	until(t, "the read waits", func() bool {
		p, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/syscall", r.tid))
		if err != nil {
			t.Fatal(err)
		}
		select {
		case <-r.done:
			t.Fatalf("read %s: %v, it did not wait", path, r.err)
		default:
		}
		return strings.HasPrefix(string(p), strconv.Itoa(unix.SYS_PREAD64)+" ")
	})
	return r
}

// want waits for the end of the read, which must have the bytes of the file path.
func (r *reading) want(t *testing.T, path string) {
	t.Helper()
	<-r.done
	want, err := os.ReadFile(path)
	if err = errors.Join(err, r.err); err == nil {
		err = same(r.path, r.got, want)
	}
	if err != nil {
		t.Error(err)
	}
}

// TestKeepMounts ends a service in an orderly way that leaves its mounts to the next.
func TestKeepMounts(t *testing.T) {
	testenv.NoLeaks(t)
	s := newSite(t)
	tree, dir := growBig(t, 45), point(t)
	c := s.start(0, "keep")
	info := s.mount(c, s.publish(tree, "kept"), dir)
	check(t, tree, dir)
	for range 2 {
		if err := unix.Kill(c.pid, unix.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if ws := c.wait(); !ws.Exited() || ws.ExitStatus() != 0 {
			t.Fatalf("after SIGTERM the service ended with %v", ws)
		}
		if on, err := mount.Holds(dir); err != nil || on.Dir != dir || on.Mode != mount.Kernel {
			t.Fatalf("after the end of the service %s holds %+v, %v", dir, on, err)
		}
		r := readLater(t, filepath.Join(dir, "big-0"))
		c = s.start(0, "keep")
		r.want(t, filepath.Join(tree, "big-0"))
		got := s.mounts(c, 1)[0]
		if got.Ref != info.Ref || got.Dir != dir || got.Digest != info.Digest || got.Rung != info.Rung || !got.Since.Equal(info.Since) {
			t.Errorf("taken over: %+v, want what %+v was", got, info)
		}
	}
	check(t, tree, dir)
	s.stop(c)
}

// TestKilledBeforeFirstMount kills a service whose first mount in mode kernel has failed: the next
// one has a connection to the kernel to answer, and no table of mounts.
func TestKilledBeforeFirstMount(t *testing.T) {
	testenv.NoLeaks(t)
	s := newSite(t)
	tree, dir := grow(t, 66), point(t)
	ref := s.publish(tree, "first")
	full := filepath.Join(s.dirs.Cache, "metadata")
	tmpfs(t, full, "size=8k")
	c := s.start(0)
	request := node.MountRequest{Ref: ref, Dir: dir, Mode: "kernel", Token: s.token}
	if _, err := c.Mount(t.Context(), request); !errors.Is(err, errs.ErrFull) {
		t.Fatalf("Mount with a full disk = %v, want %v", err, errs.ErrFull)
	}
	if p, err := os.ReadFile(filepath.Join(s.dirs.State, "mounts.json")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the table after a mount that failed: %s, %v, want none", p, err)
	}
	s.findKeeper()
	c.kill()
	if err := errors.Join(unix.Unmount(full, unix.MNT_DETACH), s.dropTables()); err != nil {
		t.Fatal(err)
	}
	c = s.start(0)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // it used to hang
	defer cancel()
	if _, err := c.Mount(ctx, request); err != nil {
		t.Fatalf("Mount after that = %v", err)
	}
	check(t, tree, dir)
	s.mounts(c, 1)
	s.stop(c)
}

// dropTables makes it so that the killed service had saved no table of mounts yet.
func (s *site) dropTables() error {
	err := os.Remove(filepath.Join(s.dirs.State, "mounts.json"))
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	k, kerr := keeper.Dial(s.t.Context(), filepath.Join(s.dirs.State, "keeper", "keeper.sock"))
	if kerr != nil {
		return errors.Join(err, kerr)
	}
	return errors.Join(err, k.Delete(s.t.Context(), "mounts"), k.Close())
}

// TestUnmountedMeanwhile has mounts that somebody takes away while no service runs.
func TestUnmountedMeanwhile(t *testing.T) {
	testenv.NoLeaks(t)
	s := newSite(t)
	tree, other := growBig(t, 46), grow(t, 47)
	busyAt, goneAt := point(t), point(t)
	c := s.start(0)
	s.mount(c, s.publish(tree, "busy"), busyAt)
	s.mount(c, s.publish(other, "gone"), goneAt)
	f, err := os.Open(filepath.Join(busyAt, "big-0"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	c.kill()
	if err := errors.Join(unix.Unmount(busyAt, unix.MNT_DETACH), unix.Unmount(goneAt, 0), os.Remove(goneAt)); err != nil {
		t.Fatal(err)
	}
	c = s.start(0)
	until(t, "what is not used has ended", func() bool {
		st, err := c.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return len(st.Mounts) == 1
	})
	if m := s.mounts(c, 1)[0]; m.Dir != busyAt || !m.Detached {
		t.Errorf("the mount with an open file: %+v, want it detached", m)
	}
	wantLog(t, s.dirs, "unmounted meanwhile, programs may use it still\" dir="+busyAt, "unmounted meanwhile, programs may use it still\" dir="+goneAt)
	want, err := os.ReadFile(filepath.Join(tree, "big-0"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(f)
	if err = errors.Join(err, same(busyAt, got, want), f.Close()); err != nil {
		t.Error(err)
	}
	until(t, "the detached mount has ended", func() bool {
		st, err := c.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return len(st.Mounts) == 0
	})
	s.stop(c)
}

// TestKeeperKilled kills the keeper alone: the next change of the mounts starts another.
func TestKeeperKilled(t *testing.T) {
	testenv.NoLeaks(t)
	s := newSite(t)
	tree, dir := growBig(t, 48), point(t)
	c := s.start(0)
	info := s.mount(c, s.publish(tree, "keeper"), dir)
	s.killKeeper()
	check(t, tree, dir)
	s.mount(c, info.Ref, point(t))
	c.kill()
	r := readLater(t, filepath.Join(dir, "big-1"))
	c = s.start(0)
	r.want(t, filepath.Join(tree, "big-1"))
	wantLog(t, s.dirs, "the keeper has ended, starting another")
	s.mounts(c, 2)
	s.stop(c)
}

// TestTakeOverFails has a keeper with what no service can use: nobody must hang.
func TestTakeOverFails(t *testing.T) {
	tests := []struct {
		name string
		item func(t *testing.T, now keeper.Item) keeper.Item
		text string
	}{
		{"data", func(_ *testing.T, now keeper.Item) keeper.Item {
			now.Data = []byte("{")
			return now
		}, "unexpected end of JSON input"},
		{"no FUSE message", func(_ *testing.T, now keeper.Item) keeper.Item {
			now.Data = []byte(`{"init":"","reply":""}`)
			return now
		}, "begin to serve"},
		{"descriptor", func(t *testing.T, now keeper.Item) keeper.Item {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _, _ = r.Close(), w.Close() })
			_ = unix.Close(now.FD)
			now.FD = int(r.Fd())
			return now
		}, "ask for open requests"},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			testenv.NoLeaks(t)
			s := newSite(t)
			s.login()
			tree, dir := growBig(t, 50+uint64(i)), point(t)
			c := s.start(0)
			s.mount(c, s.publish(tree, "torn"), dir)
			c.kill()
			k, err := keeper.Dial(t.Context(), filepath.Join(s.dirs.State, "keeper", "keeper.sock"))
			if err != nil {
				t.Fatal(err)
			}
			items, err := k.Get(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			at := slices.IndexFunc(items, func(i keeper.Item) bool { return i.FD >= 0 })
			item := tt.item(t, items[at])
			if err := errors.Join(k.Put(t.Context(), item), unix.Close(item.FD), k.Close()); err != nil {
				t.Fatal(err)
			}
			c = s.start(0)
			wantLog(t, s.dirs, "cannot take over from the keeper", tt.text, "a mount has died and was made again")
			s.mounts(c, 1)
			check(t, tree, dir)
			s.findKeeper()
			s.stop(c)
		})
	}
}
