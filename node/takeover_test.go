package node_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/internal/credentials"
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
	if len(st.Mounts) != want || len(st.Dead) != 0 {
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
		if m.Mode == mount.Kernel && filepath.Dir(m.Source) == filepath.Join(s.dirs.Cache, "metadata") {
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
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_RANDOM); err != nil { // no read-ahead
		t.Fatal(err)
	}
	cached := len(want) / 2 &^ 0xffff
	if _, err := f.ReadAt(make([]byte, cached), 0); err != nil {
		t.Fatal(err)
	}
	c.kill()
	s.killKeeper()
	s.login() // the token of a mount is nowhere on disk

	readTorn(t, f, want, cached)
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
