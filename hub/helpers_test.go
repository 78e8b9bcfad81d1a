package hub_test

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/hub"
	"github.com/zosfs/zosfs/hub/api"
	"github.com/zosfs/zosfs/store/storetest"
)

// A world is a hub behind a server of its own.
type world struct {
	*hub.Server
	t    testing.TB
	url  string
	data string
}

func newWorld(t testing.TB, o hub.Options) *world {
	t.Helper()
	if o.Data == "" {
		o.Data = t.TempDir()
	}
	s, err := hub.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(s.Handler())
	t.Cleanup(func() {
		srv.Close()
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return &world{s, t, srv.URL, o.Data}
}

// A clock is the time of a hub, which stands still until it is moved.
type clock struct{ nanos atomic.Int64 }

func newClock(w *world) *clock {
	c := &clock{}
	c.nanos.Store(time.Now().UnixNano())
	w.SetNow(c.now)
	return c
}

func (c *clock) now() time.Time { return time.Unix(0, c.nanos.Load()) }

func (c *clock) add(d time.Duration) { c.nanos.Add(int64(d)) }

// token makes a token as the operator does.
func (w *world) token(user string, scope api.Scope, pattern string) string {
	w.t.Helper()
	secret, _, err := hub.CreateToken(w.t.Context(), w.data, hub.TokenRequest{User: user, Scope: scope, Pattern: pattern})
	if err != nil {
		w.t.Fatal(err)
	}
	return secret
}

// A reply is an answer with its body read.
type reply struct {
	*http.Response
	body []byte
}

// code returns the code of an error body, "" if it is none.
func (r reply) code() api.Code {
	var b api.ErrorBody
	_ = json.Unmarshal(r.body, &b)
	return b.Error.Code
}

// into decodes a JSON body.
func (r reply) into(t testing.TB, v any) {
	t.Helper()
	if ct := r.Header.Get("Content-Type"); ct != "application/json" {
		t.Errorf("Content-Type of %s = %q", r.Request.URL.Path, ct)
	}
	if err := json.Unmarshal(r.body, v); err != nil {
		t.Fatalf("body of %s %s: %v: %s", r.Request.Method, r.Request.URL.Path, err, r.body)
	}
}

// do sends a request; path is sent as it is.
func (w *world) do(method, path, token string, body []byte, header ...string) reply {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.url+path, bytes.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
	p, err := io.ReadAll(resp.Body)
	if cerr := resp.Body.Close(); err != nil || cerr != nil {
		w.t.Fatalf("%s %s: read: %v, %v", method, path, err, cerr)
	}
	return reply{resp, p}
}

// want sends a request and fails the test if the answer has another status.
func (w *world) want(status int, method, path, token string, body []byte, header ...string) reply {
	w.t.Helper()
	r := w.do(method, path, token, body, header...)
	if r.StatusCode != status {
		w.t.Errorf("%s %s: status %d, want %d: %.300s", method, path, r.StatusCode, status, r.body)
	}
	return r
}

func (w *world) putBlob(token string, b storetest.Blob) {
	w.t.Helper()
	w.want(201, "PUT", blobPath(b), token, b.Data)
}

func blobPath(b storetest.Blob) string { return "/v1/blobs/" + b.Digest.String() }

// publish puts the blob and an flist of one file in it.
func (w *world) publish(token, ref string, b storetest.Blob) api.Tag {
	w.t.Helper()
	w.putBlob(token, b)
	return w.publishFlist(token, ref, flistOf(w.t, b, nil))
}

func (w *world) publishFlist(token, ref string, p []byte) api.Tag {
	w.t.Helper()
	r, err := api.ParseRef(ref)
	if err != nil {
		w.t.Fatal(err)
	}
	var t api.Tag
	w.want(201, "PUT", tagPath(r), token, p).into(w.t, &t)
	return t
}

func tagPath(r api.Ref) string { return "/v1/repos/" + r.Owner + "/" + r.Name + "/tags/" + r.Tag }

// locate asks for all chunks of b and returns how many were found.
func (w *world) locate(token string, b storetest.Blob) int {
	w.t.Helper()
	var chunks []chunk.Digest
	for _, r := range b.Table.Refs {
		chunks = append(chunks, r.Chunk)
	}
	r := w.want(200, "POST", "/v1/chunks/locate", token, api.EncodeLocate(chunks))
	found, err := api.DecodeFound(r.body, chunks)
	if err != nil {
		w.t.Errorf("answer to a look-up: %v", err)
	}
	for _, f := range found {
		if f.Blob != b.Digest || !slices.Contains(b.Table.Refs, f.Ref) {
			w.t.Errorf("Locate found %v, which is not where the chunk lies", f)
		}
	}
	return len(found)
}

// flistOf returns the shipped flist of a tree with a file for each chunk of b. alter, if not
// nil, changes what the flist says of the blob and its chunks.
func flistOf(t testing.TB, b storetest.Blob, alter func(*flist.Chunk, *flist.Blob)) []byte {
	t.Helper()
	files := make(map[string]node)
	for i := range b.Plain {
		files[string(rune('a'+i))] = node{chunk: i + 1}
	}
	return flistOfTree(t, b, dir(files), alter)
}

// A node of a tree for tests: a directory, a symlink, or a file of one chunk.
type node struct {
	entries map[string]node
	target  string
	chunk   int // of the blob, from 1
	mode    uint32
}

func dir(entries map[string]node) node { return node{entries: entries} }

func flistOfTree(t testing.TB, b storetest.Blob, root node, alter func(*flist.Chunk, *flist.Blob)) []byte {
	t.Helper()
	w, err := flist.NewWriter(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	m := &maker{t: t, w: w, b: b, alter: alter}
	m.dir(m.node(root), root)
	if m.blob != 0 {
		row := flist.Blob{Digest: b.Digest, Size: b.Size()}
		if alter != nil {
			alter(nil, &row)
		}
		w.SetBlob(m.blob, row)
	}
	path := filepath.Join(t.TempDir(), "f.flist")
	if _, err := w.Finish(path); err != nil {
		t.Fatal(err)
	}
	p, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

type maker struct {
	t     testing.TB
	w     *flist.Writer
	b     storetest.Blob
	blob  flist.BlobID
	alter func(*flist.Chunk, *flist.Blob)
}

func (m *maker) node(n node) flist.NodeID {
	m.t.Helper()
	row := flist.Node{Mode: flist.ModeDir | 0o755, MTime: 1_750_000_000_123456789}
	switch {
	case n.target != "":
		row.Mode, row.Target, row.Size = flist.ModeSymlink|0o777, []byte(n.target), int64(len(n.target))
	case n.mode != 0:
		if row.Mode = n.mode; row.Type() == flist.ModeChar {
			row.Rdev = 0x801
		}
	case n.entries == nil && n.chunk == 0:
		row.Mode = flist.ModeRegular | 0o644
	case n.entries == nil:
		row.Mode = flist.ModeRegular | 0o644
		row.Object, row.Size = m.object(n.chunk - 1)
	}
	id, err := m.w.AddNode(row)
	if err != nil {
		m.t.Fatal(err)
	}
	return id
}

func (m *maker) object(i int) (flist.ObjectID, int64) {
	if m.blob == 0 {
		m.blob = m.w.AddBlob()
	}
	c := flist.Chunk{Ref: m.b.Table.Refs[i], Blob: m.blob}
	if m.alter != nil {
		m.alter(&c, nil)
	}
	id, err := m.w.AddChunk(c)
	if err != nil {
		m.t.Fatal(err)
	}
	o, err := m.w.AddObject(flist.Object{Digest: c.Chunk, Size: int64(c.Size)}, []flist.Extent{{Chunk: id}})
	if err != nil {
		m.t.Fatal(err)
	}
	return o, int64(c.Size)
}

func (m *maker) dir(id flist.NodeID, n node) {
	ids := make(map[string]flist.NodeID)
	names := slices.SortedFunc(maps.Keys(n.entries), strings.Compare)
	for _, name := range names {
		ids[name] = m.node(n.entries[name])
		if err := m.w.AddEntry(id, []byte(name), ids[name]); err != nil {
			m.t.Fatal(err)
		}
	}
	for _, name := range names {
		if n.entries[name].entries != nil {
			m.dir(ids[name], n.entries[name])
		}
	}
}
