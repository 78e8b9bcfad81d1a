package node_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/internal/treetest"
	"github.com/zosfs/zosfs/mount"
	"github.com/zosfs/zosfs/node"
)

func TestMount(t *testing.T) {
	eachMode(t, testMount)
}

func testMount(t *testing.T, mode mount.Mode) {
	testenv.NoLeaks(t)
	w := newWorld(t)
	tree := filepath.Join(testenv.TempDir(t), "tree")
	if err := os.Mkdir(tree, 0o755); err != nil {
		t.Fatal(err)
	}
	treetest.Odd(t, tree, treetest.Options{Seed: 1})
	ref := w.publish(tree, "odd")
	s := serve(t, node.Options{})
	info := s.mountAs(w, ref, mode)
	if info.Ref != ref || info.Mode != mode || info.Reason != "" || info.Counts.Entries == 0 || info.Stale || (info.Rung != "") != (mode == mount.Kernel) {
		t.Errorf("Mount = %+v", info)
	}
	check(t, tree, info.Dir)

	got := s.only()
	sizes := int64(0)
	for _, src := range got.Sources {
		sizes += src.Bytes
	}
	im := got.Image
	if got.Digest != info.Digest || got.Digest.IsZero() || got.TreeDigest.IsZero() || got.Counts.Chunks != im.ChunksFetched ||
		im.BytesRead == 0 || im.Requests == 0 || im.BytesFetched == 0 || im.Errors != 0 || got.Kernel.ReadBytes == 0 {
		t.Errorf("after reading everything once, status = %+v; want all %d chunks fetched", got, got.Counts.Chunks)
	}
	if len(got.Sources) != 1 || got.Sources[0].Name != w.url || got.Sources[0].Requests != w.blobs.Load() || sizes != im.BytesFetched {
		t.Errorf("sources = %+v after %d requests and %d bytes, want %s with these", got.Sources, w.blobs.Load(), im.BytesFetched, w.url)
	}
	notes := 0
	if mode == mount.Kernel {
		notes = 1 // that there is no keeper
	}
	if st := s.status(); st.Cache.Chunks != im.ChunksFetched || st.PID != os.Getpid() || st.Version == "" || len(w.dead(st)) != 0 || len(st.Notes) != notes {
		t.Errorf("status = %+v, want %d chunks in the cache", st, im.ChunksFetched)
	}

	if err := s.Unmount(t.Context(), info.Dir, false); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(info.Dir); err != nil || len(left) != 0 {
		t.Errorf("after Unmount the directory has %v, %v", left, err)
	}
	if st := s.status(); len(st.Mounts) != 0 {
		t.Errorf("after Unmount status has %+v", st.Mounts)
	}
	if err := s.Unmount(t.Context(), info.Dir, false); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Unmount again = %v, want %v", err, fs.ErrNotExist)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.wait()
	if err := s.Ping(t.Context()); !errors.Is(err, node.ErrNotRunning) {
		t.Errorf("Ping after Stop = %v, want %v", err, node.ErrNotRunning)
	}
}

// TestSharedCache reads what other mounts have read already.
func TestSharedCache(t *testing.T) {
	testenv.NoLeaks(t)
	w := newWorld(t)
	tree := grow(t, 1)
	one := w.publish(tree, "one")
	s := serve(t, node.Options{})
	check(t, tree, s.mountAs(w, one, mount.FUSE).Dir) // in mode kernel the second mount would be the same
	before := w.blobs.Load()
	again := s.mountAs(w, one, mount.FUSE)
	check(t, tree, again.Dir)
	if n := w.blobs.Load(); n != before {
		t.Errorf("the second mount of the image made %d requests for blobs", n-before)
	}
	if err := os.WriteFile(filepath.Join(tree, "new"), []byte("new in the second version"), 0o600); err != nil {
		t.Fatal(err)
	}
	next := s.mount(w, w.publish(tree, "two"))
	check(t, tree, next.Dir)
	for _, m := range s.status().Mounts {
		switch m.Dir {
		case again.Dir:
			if m.Image.ChunksFetched != 0 || m.Image.BytesFetched != 0 || m.Image.ChunksCached == 0 {
				t.Errorf("the second mount of the image: %+v, want everything from the cache", m.Image)
			}
		case next.Dir:
			if m.Image.ChunksFetched != 1 || m.Image.ChunksCached == 0 {
				t.Errorf("the next version: %+v, want one new chunk fetched", m.Image)
			}
		}
	}
}

// TestSourceGone has a reading rule: EIO after the deadline, the reason to be found, recovery
// without being told.
func TestSourceGone(t *testing.T) {
	testenv.NoLeaks(t)
	w := newWorld(t)
	tree := grow(t, 2)
	ref := w.publish(tree, "gone")
	var log syncBuffer
	s := serve(t, node.Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	info := s.mount(w, ref)
	w.down.Store(true)
	file := first(t, tree, 1000)
	start := time.Now()
	if _, err := os.ReadFile(filepath.Join(info.Dir, file)); !errors.Is(err, syscall.EIO) {
		t.Fatalf("read without a source = %v, want %v", err, syscall.EIO)
	}
	if took := time.Since(start); took < time.Second || took > 15*time.Second {
		t.Errorf("the read failed after %v, want the deadline of 1 s", took)
	}
	got := s.only()
	if got.Image.Errors == 0 || len(got.Image.LastErrors) == 0 || got.Sources[0].Errors == 0 {
		t.Fatalf("after EIO status = %+v", got)
	}
	last := got.Image.LastErrors[len(got.Image.LastErrors)-1]
	if last.Chunk.IsZero() || last.Path == "" || !strings.Contains(last.Text, w.url) {
		t.Errorf("last error = %+v, want the chunk, the path and the source %s", last, w.url)
	}
	for _, want := range []string{"time=", "read failed", last.Chunk.String(), w.url, info.Dir} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, log.String())
		}
	}
	w.down.Store(false)
	until(t, "the file is readable again", func() bool {
		_, err := os.ReadFile(filepath.Join(info.Dir, file))
		return err == nil
	})
	check(t, tree, info.Dir)
}

// TestOffline mounts again what was mounted before, with the hub out of reach.
func TestOffline(t *testing.T) {
	testenv.NoLeaks(t)
	w := newWorld(t)
	tree := grow(t, 3)
	ref := w.publish(tree, "offline")
	s := serve(t, node.Options{})
	check(t, tree, s.mount(w, ref).Dir)
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}

	s = serve(t, node.Options{Dirs: s.dirs})
	w.down.Store(true)
	info := s.mount(w, ref)
	if !info.Stale {
		t.Error("a mount with the hub out of reach does not say that it may be stale")
	}
	check(t, tree, info.Dir)
	if err := s.Unmount(t.Context(), info.Dir, false); err != nil {
		t.Fatal(err)
	}

	w.down.Store(false)
	asked := w.all.Load()
	info, err := s.Mount(t.Context(), node.MountRequest{Ref: ref, Dir: point(t), Offline: true})
	if err != nil {
		t.Fatal(err)
	}
	check(t, tree, info.Dir)
	if n := w.all.Load(); n != asked || !info.Offline || info.Stale {
		t.Errorf("offline: %d requests to the hub, %+v", n-asked, info)
	}
	_, err = s.Mount(t.Context(), node.MountRequest{Ref: w.url + "/acme/never:1", Dir: point(t), Offline: true})
	if !errors.Is(err, errs.ErrNotFound) || errors.Is(err, errs.ErrUnavailable) {
		t.Errorf("offline mount of what was never here = %v, want %v", err, errs.ErrNotFound)
	}
}

// TestRights mounts a private image: the token of the caller counts, and is shown nowhere.
func TestRights(t *testing.T) {
	testenv.NoLeaks(t)
	w := newWorld(t)
	ref := w.publish(grow(t, 4), "private")
	var log syncBuffer
	s := serve(t, node.Options{Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	_, err := s.Mount(t.Context(), node.MountRequest{Ref: ref, Dir: point(t)})
	if !errors.Is(err, errs.ErrNotFound) && !errors.Is(err, errs.ErrDenied) {
		t.Errorf("Mount without a token = %v, want %v", err, errs.ErrNotFound)
	}
	s.mount(w, ref)
	p, err := json.Marshal(s.status())
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(p), w.token) || strings.Contains(log.String(), w.token) {
		t.Errorf("the token is shown:\n%s\n%s", p, log.String())
	}
}

func TestMountRefuses(t *testing.T) {
	testenv.NoLeaks(t)
	w := newWorld(t)
	ref := w.publish(grow(t, 5), "some")
	s := serve(t, node.Options{})
	taken := s.mount(w, ref).Dir
	file := filepath.Join(t.TempDir(), "file")
	link := filepath.Join(t.TempDir(), "link")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Symlink(s.dirs.Cache, link)); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		r    node.MountRequest
		want error
		text string
	}{
		{"no directory", node.MountRequest{Ref: ref, Dir: filepath.Join(t.TempDir(), "none")}, fs.ErrNotExist, "make the directory"},
		{"a file", node.MountRequest{Ref: ref, Dir: file}, unix.ENOTDIR, file},
		{"taken", node.MountRequest{Ref: ref, Dir: taken}, fs.ErrExist, "already"},
		{"own cache", node.MountRequest{Ref: ref, Dir: s.dirs.Cache}, fs.ErrInvalid, "cache directory"},
		{"own cache by a link", node.MountRequest{Ref: ref, Dir: link}, fs.ErrInvalid, "cache directory"},
		{"in the cache", node.MountRequest{Ref: ref, Dir: filepath.Join(s.dirs.Cache, "flists")}, fs.ErrInvalid, "cache directory"},
		{"own state", node.MountRequest{Ref: ref, Dir: s.dirs.State}, fs.ErrInvalid, "state directory"},
		{"above both", node.MountRequest{Ref: ref, Dir: filepath.Dir(s.dirs.State)}, fs.ErrInvalid, "neither may be inside"},
		{"root", node.MountRequest{Ref: ref, Dir: "/"}, fs.ErrInvalid, "neither may be inside"},
		{"unknown mode", node.MountRequest{Ref: ref, Dir: point(t), Mode: "magic"}, errs.ErrFormat, "auto, fuse or kernel"},
		{"unknown tag", node.MountRequest{Ref: w.url + "/acme/some:2", Dir: point(t)}, errs.ErrNotFound, "some:2"},
		{"no hub there", node.MountRequest{Ref: "http://127.0.0.1:1/acme/some:1", Dir: point(t)}, errs.ErrUnavailable, "127.0.0.1:1"},
		{"no such flist", node.MountRequest{Ref: "/no/such.flist", Dir: point(t)}, errs.ErrNotFound, "/no/such.flist"},
		{"no flist", node.MountRequest{Ref: file, Dir: point(t)}, errs.ErrFormat, file},
		{"no reference", node.MountRequest{Ref: "some", Dir: point(t)}, errs.ErrFormat, "some"},
		{"bad token", node.MountRequest{Ref: ref, Dir: point(t), Token: "a\nb"}, errs.ErrFormat, "token"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.r.Token == "" {
				tt.r.Token = w.token
			}
			_, err := s.Mount(t.Context(), tt.r)
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("Mount = %v, want %v with %q", err, tt.want, tt.text)
			}
		})
	}
	if n := len(s.status().Mounts); n != 1 {
		t.Errorf("%d mounts after all that, want 1", n)
	}
}

func TestMountInMount(t *testing.T) {
	testenv.NoLeaks(t)
	w := newWorld(t)
	tree := grow(t, 6)
	if err := os.Mkdir(filepath.Join(tree, "inner"), 0o755); err != nil {
		t.Fatal(err)
	}
	ref := w.publish(tree, "nest")
	s := serve(t, node.Options{})
	outer := s.mount(w, ref).Dir
	inner := filepath.Join(outer, "inner")
	if _, err := s.Mount(t.Context(), node.MountRequest{Ref: ref, Dir: inner, Token: w.token}); err != nil {
		t.Fatal(err)
	}
	check(t, tree, inner)
	if err := s.Unmount(t.Context(), outer, false); !errors.Is(err, unix.EBUSY) {
		t.Errorf("Unmount of the outer mount = %v, want %v", err, unix.EBUSY)
	}
	for _, dir := range []string{inner, outer} {
		if err := s.Unmount(t.Context(), dir, false); err != nil {
			t.Error(err)
		}
	}
}

// TestMountAtOnce asks for one directory many times.
func TestMountAtOnce(t *testing.T) {
	testenv.NoLeaks(t)
	w := newWorld(t)
	ref := w.publish(grow(t, 7), "once")
	s := serve(t, node.Options{})
	dir := point(t)
	var wg sync.WaitGroup
	errors8 := make([]error, 8)
	for i := range errors8 {
		wg.Go(func() {
			_, errors8[i] = s.Mount(t.Context(), node.MountRequest{Ref: ref, Dir: dir, Token: w.token})
		})
	}
	wg.Wait()
	good := 0
	for _, err := range errors8 {
		if err == nil {
			good++
		} else if !errors.Is(err, fs.ErrExist) {
			t.Errorf("Mount = %v, want %v", err, fs.ErrExist)
		}
	}
	if good != 1 {
		t.Errorf("%d of 8 mounts at one directory came about, want 1", good)
	}
}

// TestOperatorUnmounts takes a mount away behind the back of the service.
func TestOperatorUnmounts(t *testing.T) {
	testenv.NoLeaks(t)
	testenv.NeedRoot(t)
	w := newWorld(t)
	var log syncBuffer
	s := serve(t, node.Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	info := s.mountAs(w, w.publish(grow(t, 8), "op"), mount.FUSE)
	if err := unix.Unmount(info.Dir, 0); err != nil {
		t.Fatal(err)
	}
	until(t, "the mount is dropped from the table", func() bool { return len(s.status().Mounts) == 0 })
	until(t, "the log says who unmounted", func() bool { return strings.Contains(log.String(), "unmounted by somebody else") })
	if _, err := s.Mount(t.Context(), node.MountRequest{Ref: info.Ref, Dir: info.Dir, Token: w.token}); err != nil {
		t.Errorf("Mount there again = %v", err)
	}
}

func TestBusy(t *testing.T) {
	testenv.NoLeaks(t)
	w := newWorld(t)
	tree := grow(t, 9)
	s := serve(t, node.Options{})
	info := s.mount(w, w.publish(tree, "busy"))
	name := first(t, tree, 1000)
	f, err := os.Open(filepath.Join(info.Dir, name))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Unmount(t.Context(), info.Dir, false); !errors.Is(err, unix.EBUSY) {
		t.Errorf("Unmount of a busy mount = %v, want %v", err, unix.EBUSY)
	}
	if s.only().Detached {
		t.Error("a mount that could not be unmounted counts as detached")
	}
	if err := s.Unmount(t.Context(), info.Dir, true); err != nil {
		t.Fatal(err)
	}
	if !s.only().Detached {
		t.Error("status does not say that the mount is detached")
	}
	if _, err := s.Mount(t.Context(), node.MountRequest{Ref: info.Ref, Dir: info.Dir, Token: w.token}); err != nil {
		t.Fatalf("Mount where a detached mount was = %v", err)
	}
	want, err := os.ReadFile(filepath.Join(tree, name))
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(f)
	if err = errors.Join(err, f.Close()); err != nil || string(got) != string(want) {
		t.Errorf("file of the detached mount: %d bytes, %v; want %d", len(got), err, len(want))
	}
	until(t, "the detached mount ends", func() bool { return len(s.status().Mounts) == 1 })
}

// TestStopBusy ends a service whose mount is in use.
func TestStopBusy(t *testing.T) {
	testenv.NoLeaks(t)
	w := newWorld(t)
	tree := grow(t, 10)
	var log syncBuffer
	s := serve(t, node.Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	info := s.mount(w, w.publish(tree, "busy"))
	idle := s.mount(w, info.Ref)
	f, err := os.Open(filepath.Join(info.Dir, first(t, tree, 1)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.wait()
	for _, dir := range []string{info.Dir, idle.Dir} {
		if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
			t.Errorf("after the end %s has %v, %v", dir, left, err)
		}
	}
	if !strings.Contains(log.String(), "programs use the mount") || !strings.Contains(log.String(), info.Dir) {
		t.Errorf("the log does not tell of the busy mount:\n%s", log.String())
	}
}

// TestCallerGone cancels a mount whose hub does not answer.
func TestCallerGone(t *testing.T) {
	testenv.NoLeaks(t)
	w := newWorld(t)
	ref := w.publish(grow(t, 11), "slow")
	s := serve(t, node.Options{})
	reached, release := w.stall()
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error)
	dir := point(t)
	go func() {
		_, err := s.Mount(ctx, node.MountRequest{Ref: ref, Dir: dir, Token: w.token})
		failed <- err
	}()
	<-reached
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("Mount = %v, want %v", err, context.Canceled)
	}
	release()
	until(t, "the directory is free again", func() bool {
		_, err := s.Mount(t.Context(), node.MountRequest{Ref: ref, Dir: dir, Token: w.token})
		if err != nil && !errors.Is(err, fs.ErrExist) {
			t.Fatalf("Mount = %v", err)
		}
		return err == nil
	})
	if n := len(s.status().Mounts); n != 1 {
		t.Errorf("%d mounts, want 1", n)
	}
}

// TestStopWhileMounting ends the service while the hub of a mount does not answer.
func TestStopWhileMounting(t *testing.T) {
	testenv.NoLeaks(t)
	w := newWorld(t)
	ref := w.publish(grow(t, 12), "slow")
	s := serve(t, node.Options{})
	reached, release := w.stall()
	defer release()
	failed := make(chan error)
	dir := point(t)
	go func() {
		_, err := s.Mount(t.Context(), node.MountRequest{Ref: ref, Dir: dir, Token: w.token})
		failed <- err
	}()
	<-reached
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; err == nil {
		t.Error("Mount came about while the service ended")
	}
	s.wait()
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("the mount point has %v, %v", left, err)
	}
}

func TestPrune(t *testing.T) {
	testenv.NoLeaks(t)
	w := newWorld(t)
	tree := grow(t, 13)
	s := serve(t, node.Options{})
	info := s.mount(w, w.publish(tree, "prune"))
	check(t, tree, info.Dir)
	before := s.status().Cache
	freed, err := s.Prune(t.Context(), 0)
	after := s.status().Cache
	if err != nil || freed <= 0 || after.Bytes != before.Bytes-freed {
		t.Errorf("Prune(0) = %d, %v; cache had %d bytes, has %d", freed, err, before.Bytes, after.Bytes)
	}
	if _, err := s.Prune(t.Context(), -1); !errors.Is(err, errs.ErrFormat) {
		t.Errorf("Prune(-1) = %v, want %v", err, errs.ErrFormat)
	}
	if diff := cmp.Diff(1, len(s.status().Mounts)); diff != "" {
		t.Error(diff)
	}
}

// syncBuffer is a log.
type syncBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
