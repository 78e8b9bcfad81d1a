package pack_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/pack"
	"github.com/zosfs/zosfs/store"
	"github.com/zosfs/zosfs/store/mem"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childTree); dir != "" {
		os.Exit(packChild(dir))
	}
	os.Exit(m.Run())
}

// dest is a store in memory that knows its chunks.
type dest struct {
	*mem.Store
	put func(ctx context.Context) error // asked before each Put, if not nil

	mu      sync.Mutex
	chunks  map[chunk.Digest]blob.Location
	lookups int
	puts    []blob.Digest
	copies  []blob.Digest
}

var _ pack.Dest = (*dest)(nil)

func newDest() *dest {
	return &dest{Store: mem.New(), chunks: make(map[chunk.Digest]blob.Location)}
}

func (d *dest) Put(ctx context.Context, id blob.Digest, data []byte) error {
	if d.put != nil {
		if err := d.put(ctx); err != nil {
			return err
		}
	}
	if err := d.Store.Put(ctx, id, data); err != nil {
		return err
	}
	t, err := blob.Verify(data)
	if err != nil {
		return fmt.Errorf("pack puts a bad blob: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.puts = append(d.puts, id)
	if t.Flags&blob.FlagCopy != 0 {
		d.copies = append(d.copies, id)
		return nil
	}
	for _, r := range t.Refs {
		l, ok := d.chunks[r.Chunk]
		if !ok || bytes.Compare(id[:], l.Blob[:]) < 0 {
			d.chunks[r.Chunk] = blob.Location{Blob: id, Ref: r}
		}
	}
	return nil
}

func (d *dest) Locate(ctx context.Context, chunks []chunk.Digest) (map[chunk.Digest]blob.Location, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lookups++
	found := make(map[chunk.Digest]blob.Location)
	for _, c := range chunks {
		if l, ok := d.chunks[c]; ok {
			found[c] = l
		}
	}
	return found, nil
}

// clone returns a store with the same blobs.
func (d *dest) clone(t *testing.T) *dest {
	t.Helper()
	c := newDest()
	err := d.List(t.Context(), func(i store.Info) error {
		p := make([]byte, i.Size)
		if err := store.ReadRange(t.Context(), d, i.Digest, 0, p); err != nil {
			return err
		}
		return c.Put(t.Context(), i.Digest, p)
	})
	if err != nil {
		t.Fatal(err)
	}
	c.puts, c.copies = nil, nil
	return c
}

// mustPack packs dir and returns what came of it and the bytes of the flist.
func mustPack(t *testing.T, dir string, d pack.Dest, o pack.Options) (pack.Result, []byte) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "tree.flist")
	res, err := pack.Tree(t.Context(), dir, d, out, o)
	if err != nil {
		t.Fatal(err)
	}
	p, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return res, p
}

// open reads an flist; every rule of the format is checked by that.
func open(t *testing.T, p []byte) *flist.Reader {
	t.Helper()
	r, err := flist.OpenBytes(p, flist.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// paths maps the paths of an flist to nodes.
func paths(r *flist.Reader) map[string]flist.NodeID {
	at := map[flist.NodeID]string{flist.Root: ""}
	all := map[string]flist.NodeID{".": flist.Root}
	todo := []flist.NodeID{flist.Root}
	for len(todo) > 0 {
		dir := todo[0]
		todo = todo[1:]
		for e := range r.Dir(dir) {
			p := strings.TrimPrefix(at[dir]+"/"+string(e.Name), "/")
			all[p] = e.Node
			if n := r.Node(e.Node); n.Type() == flist.ModeDir {
				at[e.Node] = p
				todo = append(todo, e.Node)
			}
		}
	}
	return all
}

// content reads the content of a node through its rows.
func content(t *testing.T, r *flist.Reader, g store.Getter, id flist.NodeID) []byte {
	t.Helper()
	n := r.Node(id)
	p := make([]byte, n.Size)
	if n.Object == 0 {
		return p
	}
	for e := range r.Extents(n.Object) {
		c := r.Chunk(e.Chunk)
		sealed := make([]byte, c.Stored)
		if err := store.ReadRange(t.Context(), g, r.Blob(c.Blob).Digest, int64(c.Offset), sealed); err != nil {
			t.Fatal(err)
		}
		plain, err := blob.Open(nil, c.Ref, sealed)
		if err != nil {
			t.Fatal(err)
		}
		copy(p[e.Offset:], plain)
	}
	if got := chunk.Sum(p); got != r.Object(n.Object).Digest {
		t.Fatalf("node %d: content has digest %v, want %v", id, got, r.Object(n.Object).Digest)
	}
	return p
}

// files writes a tree of regular files.
func files(t *testing.T, of map[string]string) string {
	t.Helper()
	dir := testenv.TempDir(t)
	for name, data := range of {
		writeFile(t, filepath.Join(dir, name), data)
	}
	return dir
}

func writeFile(t *testing.T, path, data string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
}

// noise returns n bytes that do not compress and that seed decides.
func noise(n int, seed byte) string {
	h := chunk.NewHasher()
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		h.Reset()
		_, _ = h.Write([]byte{seed, byte(i), byte(i >> 8), byte(i >> 16), byte(i >> 24)})
		d := h.Sum()
		b.Write(d[:])
	}
	return b.String()[:n]
}

// later is a Start for which every file that a test has written is old.
func later() time.Time { return time.Now().Add(time.Hour) }

// leftovers fails the test if something other than the names given is in dir.
func leftovers(t *testing.T, dir string, want ...string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	ok := make(map[string]bool)
	for _, w := range want {
		ok[w] = true
	}
	for _, e := range list {
		if !ok[e.Name()] {
			t.Errorf("%s is left behind; want only %v", e.Name(), maps.Keys(ok))
		}
	}
}

// child runs this test as another process with variables set, and returns its stdout.
func child(t *testing.T, env ...string) (string, error) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), env...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, stderr.String())
	}
	return string(out), nil
}

// descriptors returns how many files this process has open.
func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
