package node_test

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zosfs/zosfs/hub"
	"github.com/zosfs/zosfs/hub/api"
	"github.com/zosfs/zosfs/internal/credentials"
	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/internal/treetest"
	"github.com/zosfs/zosfs/node"
	"github.com/zosfs/zosfs/pack"
	"github.com/zosfs/zosfs/store/remote"
)

// world is a hub that can fail, on a machine with no credentials but those of the test.
type world struct {
	t     testing.TB
	url   string
	token string
	down  atomic.Bool // answer nothing but 503
	lies  atomic.Bool // serve blobs with wrong bytes
	gate  atomic.Pointer[gate]
	blobs atomic.Int64 // requests for blobs
	all   atomic.Int64 // requests
}

func newWorld(t testing.TB) *world {
	t.Helper()
	t.Setenv(credentials.EnvFile, filepath.Join(t.TempDir(), "credentials.json"))
	t.Setenv(credentials.EnvHub, "")
	t.Setenv(credentials.EnvToken, "")
	data := testenv.TempDir(t)
	s, err := hub.New(t.Context(), hub.Options{Data: data})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t}
	handler := s.Handler()
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.all.Add(1)
		if strings.HasPrefix(r.URL.Path, "/v1/blobs/") && r.Method == http.MethodGet {
			w.blobs.Add(1)
		}
		if g := w.gate.Load(); g != nil {
			g.once.Do(func() { close(g.reached) })
			select {
			case <-g.open:
			case <-r.Context().Done():
				return
			}
		}
		if w.down.Load() {
			http.Error(rw, "down", http.StatusServiceUnavailable)
			return
		}
		if w.lies.Load() {
			rw = liar{rw}
		}
		handler.ServeHTTP(rw, r)
	}))
	t.Cleanup(func() {
		srv.Close()
		if err := s.Close(); err != nil {
			t.Errorf("close hub: %v", err)
		}
	})
	w.url = srv.URL
	if w.token, _, err = hub.CreateToken(t.Context(), data, hub.TokenRequest{User: "acme", Scope: api.ScopeWrite}); err != nil {
		t.Fatal(err)
	}
	return w
}

// liar inverts all bytes of an answer.
type liar struct{ http.ResponseWriter }

func (l liar) Write(p []byte) (int, error) {
	wrong := make([]byte, len(p))
	for i, b := range p {
		wrong[i] = ^b
	}
	return l.ResponseWriter.Write(wrong)
}

// gate holds up requests.
type gate struct {
	once          sync.Once
	reached, open chan struct{}
}

// stall holds up all requests from now on until release is called; reached is closed when
// there is one.
func (w *world) stall() (reached <-chan struct{}, release func()) {
	g := &gate{reached: make(chan struct{}), open: make(chan struct{})}
	w.gate.Store(g)
	return g.reached, func() {
		w.gate.Store(nil)
		close(g.open)
	}
}

// publish packs the tree dir to the hub and returns the reference.
func (w *world) publish(dir, name string) string {
	w.t.Helper()
	client, err := remote.New(remote.Options{URL: w.url, Token: w.token})
	if err != nil {
		w.t.Fatal(err)
	}
	out := filepath.Join(w.t.TempDir(), "tree.flist")
	if _, err := pack.Tree(w.t.Context(), dir, client, out, pack.Options{}); err != nil {
		w.t.Fatal(err)
	}
	f, err := os.Open(out)
	if err != nil {
		w.t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		w.t.Fatal(err)
	}
	_, err = client.Publish(w.t.Context(), "acme", name, "1", f, info.Size())
	if err = errors.Join(err, f.Close(), client.Close()); err != nil {
		w.t.Fatal(err)
	}
	return w.url + "/acme/" + name + ":1"
}

// grow makes a small tree.
func grow(t testing.TB, seed uint64) string {
	t.Helper()
	dir := testenv.TempDir(t)
	if _, err := treetest.Grow(dir, treetest.GrowOptions{Files: 60, Seed: seed, MaxFile: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	return dir
}

// service is a node service that runs in this process.
type service struct {
	*node.Client
	t     testing.TB
	dirs  node.Dirs
	ended chan struct{}
	err   error // of Run, when ended is closed
}

func newDirs(t testing.TB) node.Dirs {
	t.Helper()
	dir := testenv.TempDir(t)
	return node.Dirs{Cache: filepath.Join(dir, "cache"), State: filepath.Join(dir, "state")}
}

// serve runs a service until the test ends, or before.
func serve(t testing.TB, o node.Options) *service {
	t.Helper()
	testenv.NeedFUSE(t)
	if o.Dirs == (node.Dirs{}) {
		o.Dirs = newDirs(t)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready := make(chan struct{})
	o.Ready = func() { close(ready) }
	s := &service{Client: node.Dial(o.Dirs), t: t, dirs: o.Dirs, ended: make(chan struct{})}
	go func() {
		defer close(s.ended)
		s.err = node.Run(ctx, o)
	}()
	t.Cleanup(func() {
		cancel()
		s.wait()
	})
	select {
	case <-ready:
	case <-s.ended:
		t.Fatalf("Run = %v", s.err)
	}
	return s
}

// wait returns when the service has ended.
func (s *service) wait() {
	s.t.Helper()
	<-s.ended
	if s.err != nil {
		s.t.Errorf("Run = %v", s.err)
	}
}

// point returns an empty directory to mount at.
func point(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(testenv.TempDir(t), "mnt")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	testenv.Mounted(t, dir)
	return dir
}

// needKernel needs what mode kernel needs.
func needKernel(t testing.TB) {
	t.Helper()
	testenv.NeedRoot(t)
	testenv.NeedFUSE(t)
	testenv.NeedEROFS(t)
}

// mount mounts the reference at a new directory.
func (s *service) mount(w *world, ref string) node.MountInfo {
	s.t.Helper()
	info, err := s.Mount(s.t.Context(), node.MountRequest{Ref: ref, Dir: point(s.t), Token: w.token, Deadline: time.Second})
	if err != nil {
		s.t.Fatalf("Mount(%s): %v", ref, err)
	}
	return info
}

func (s *service) status() node.Status {
	s.t.Helper()
	st, err := s.Status(s.t.Context())
	if err != nil {
		s.t.Fatalf("Status: %v", err)
	}
	return st
}

// dead returns the dead mounts of a status that were mounted in this world: tests of other
// packages run at the same time.
func (w *world) dead(st node.Status) []node.DeadMount {
	return slices.DeleteFunc(st.Dead, func(i node.DeadMount) bool {
		return !strings.HasPrefix(i.Source, w.url) && !strings.HasPrefix(i.Source, st.Dirs.State)
	})
}

// only returns the one mount of the service.
func (s *service) only() node.MountInfo {
	s.t.Helper()
	st := s.status()
	if len(st.Mounts) != 1 {
		s.t.Fatalf("status has %d mounts, want 1: %+v", len(st.Mounts), st.Mounts)
	}
	return st.Mounts[0]
}

// check compares the tree at dir with the mount.
func check(t testing.TB, dir, mnt string) {
	t.Helper()
	treetest.Check(t, dir, mnt, treetest.CompareOptions{IgnoreHoles: true}) // a run of zeros is packed as a hole
}

// first returns the path below root of a regular file of at least n bytes.
func first(t testing.TB, root string, n int64) string {
	t.Helper()
	found := ""
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || found != "" || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Size() >= n {
			found, err = filepath.Rel(root, path)
		}
		return err
	})
	if err != nil || found == "" {
		t.Fatalf("no file of %d bytes in %s: %v", n, root, err)
	}
	return found
}

// until calls done, which asks the service or the kernel, until it is true.
func until(t testing.TB, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !done(); {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}
