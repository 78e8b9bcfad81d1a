package ref_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/hub/api"
	"github.com/zosfs/zosfs/internal/credentials"
	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/ref"
	"github.com/zosfs/zosfs/store"
	"github.com/zosfs/zosfs/store/dir"
)

// makeFlist returns the flist of an empty directory as shipped, and its digest.
func makeFlist(t testing.TB, sources ...string) ([]byte, flist.Digest) {
	t.Helper()
	w, err := flist.NewWriter(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	if _, err := w.AddNode(flist.Node{Mode: flist.ModeDir | 0o755}); err != nil {
		t.Fatal(err)
	}
	for i, url := range sources {
		w.AddSource(flist.Source{URL: url, Priority: i})
	}
	path := filepath.Join(t.TempDir(), "out.flist")
	sum, err := w.Finish(path)
	if err != nil {
		t.Fatal(err)
	}
	p, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return p, sum.Digest
}

// hub is a hub that says what it is told to say.
type hub struct {
	t        testing.TB
	url      string
	requests atomic.Int64
	tokens   atomic.Int64 // requests with a token

	mu         sync.Mutex // for what is changed while a request may still run
	tag, flist func(w http.ResponseWriter, r *http.Request)
}

// newHub returns a hub whose tag acme/tree:1 points to d, and which serves p as that.
func newHub(t testing.TB, p []byte, d flist.Digest) *hub {
	t.Helper()
	h := &hub{t: t}
	h.tag = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(api.Tag{Name: "1", Flist: api.Flist{Digest: api.Digest(d), Tree: api.Digest{1}}})
	}
	h.flist = func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(p) }
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.requests.Add(1)
		if r.Header.Get("Authorization") != "" {
			h.tokens.Add(1)
		}
		h.mu.Lock()
		tag, flist := h.tag, h.flist
		h.mu.Unlock()
		switch r.URL.Path {
		case "/v1/repos/acme/tree/tags/1":
			tag(w, r)
		case "/v1/repos/acme/tree/flists/" + d.String():
			flist(w, r)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(srv.Close)
	h.url = srv.URL
	return h
}

func (h *hub) setTag(tag func(http.ResponseWriter, *http.Request)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tag = tag
}

func (h *hub) ref() ref.Ref {
	return ref.Ref{Hub: h.url, Owner: "acme", Name: "tree", Tag: "1"}
}

func status(code int) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// open opens r and closes it when the test ends.
func open(t testing.TB, r ref.Ref, o ref.Options) *ref.Opened {
	t.Helper()
	op, err := ref.Open(t.Context(), r, o)
	if err != nil {
		t.Fatalf("Open(%v) = %v", r, err)
	}
	t.Cleanup(func() {
		if err := op.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return op
}

func names(op *ref.Opened) []string {
	var all []string
	for _, s := range op.Source.Stats() {
		all = append(all, s.Name)
	}
	return all
}

// files returns the names of the regular files below dir.
func files(t testing.TB, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			rel, _ := filepath.Rel(dir, path)
			all = append(all, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestOpenHub(t *testing.T) {
	testenv.NoLeaks(t)
	p, d := makeFlist(t)
	h := newHub(t, p, d)
	o := ref.Options{Dir: t.TempDir()}
	op := open(t, h.ref(), o)
	want := h.ref()
	want.Digest = d
	if op.Ref != want || op.Flist.Digest() != d || op.Stale || len(op.Refused) != 0 {
		t.Errorf("Open = %+v, want %v", op, want)
	}
	if diff := cmp.Diff([]string{h.url}, names(op)); diff != "" {
		t.Errorf("sources (-want +got):\n%s", diff)
	}
	if n := h.requests.Load(); n != 2 {
		t.Errorf("the first Open took %d requests, want 2", n)
	}
	open(t, h.ref(), o)
	if n := h.requests.Load(); n != 3 {
		t.Errorf("the second Open took %d requests, want 1: for the tag", n-2)
	}
	open(t, ref.Ref{Hub: h.url, Owner: "acme", Name: "tree", Digest: d}, o)
	if n := h.requests.Load(); n != 3 {
		t.Errorf("Open by digest of what is kept took %d requests", n-3)
	}
	// Without a directory it works too, and leaves nothing behind.
	t.Setenv("TMPDIR", t.TempDir())
	op, err := ref.Open(t.Context(), h.ref(), ref.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := op.Close(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) != 0 {
		t.Errorf("Open without a directory left %v (%v)", left, err)
	}
}

func TestOpenStale(t *testing.T) {
	testenv.NoLeaks(t)
	p, d := makeFlist(t)
	h := newHub(t, p, d)
	o := ref.Options{Dir: t.TempDir()}
	open(t, h.ref(), o)
	for name, tag := range map[string]func(http.ResponseWriter, *http.Request){
		"unavailable": status(http.StatusServiceUnavailable),
		"cut":         func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		h.setTag(tag)
		if op := open(t, h.ref(), o); !op.Stale || op.Ref.Digest != d {
			t.Errorf("%s: Open = %+v, want what was known last", name, op)
		}
	}
	for code, want := range map[int]error{http.StatusNotFound: errs.ErrNotFound, http.StatusForbidden: errs.ErrDenied} {
		h.setTag(status(code))
		if op, err := ref.Open(t.Context(), h.ref(), o); !errors.Is(err, want) {
			t.Errorf("status %d: Open = %v, %v; want %v, since the hub has spoken", code, op, err, want)
		}
	}
}

// TestOpenOffline has no hub to be asked.
func TestOpenOffline(t *testing.T) {
	testenv.NoLeaks(t)
	p, d := makeFlist(t, "https://mirror.example")
	h := newHub(t, p, d)
	o := ref.Options{Dir: t.TempDir()}
	open(t, h.ref(), o)
	asked := h.requests.Load()
	o.Offline = true
	op := open(t, h.ref(), o)
	if op.Ref.Digest != d || op.Stale || h.requests.Load() != asked {
		t.Errorf("offline Open = %+v after %d requests", op, h.requests.Load()-asked)
	}
	if _, err := op.Source.Get(t.Context(), blob.Digest{1}, 0, 1); !errors.Is(err, errs.ErrNotFound) || errors.Is(err, errs.ErrUnavailable) {
		t.Errorf("offline Get = %v, want %v: waiting is of no use", err, errs.ErrNotFound)
	}
	other := h.ref()
	other.Tag = "2"
	if _, err := ref.Open(t.Context(), other, o); !errors.Is(err, errs.ErrNotFound) || errors.Is(err, errs.ErrUnavailable) {
		t.Errorf("offline Open of an unknown tag = %v, want %v", err, errs.ErrNotFound)
	}
	other = ref.Ref{Hub: h.url, Owner: "acme", Name: "tree", Digest: flist.Digest{9}}
	if _, err := ref.Open(t.Context(), other, o); !errors.Is(err, errs.ErrNotFound) || errors.Is(err, errs.ErrUnavailable) {
		t.Errorf("offline Open of an unknown digest = %v, want %v", err, errs.ErrNotFound)
	}
}

// TestHostileHub has a hub that lies. Nothing of what it says is kept, or followed.
func TestHostileHub(t *testing.T) {
	testenv.NoLeaks(t)
	p, d := makeFlist(t)
	wrong, _ := makeFlist(t, "https://evil.example")
	var victims atomic.Int64
	victim := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		victims.Add(1)
		_, _ = w.Write(p) // what would be right
	}))
	t.Cleanup(victim.Close)
	redirect := func(to string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusTemporaryRedirect) }
	}
	serve := func(p []byte) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(p) }
	}
	tests := []struct {
		name       string
		tag, flist func(http.ResponseWriter, *http.Request)
		want       error
	}{
		{name: "another flist", flist: serve(wrong), want: errs.ErrCorrupt},
		{name: "part of it", flist: serve(p[:len(p)-1]), want: errs.ErrCorrupt},
		{name: "more than it", flist: serve(append(bytes.Clone(p), 0)), want: errs.ErrCorrupt},
		{name: "no flist", flist: serve([]byte("<html>")), want: errs.ErrCorrupt},
		{name: "nothing", flist: serve(nil), want: errs.ErrCorrupt},
		{name: "huge", flist: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "2000000000")
			_, _ = w.Write(p)
		}, want: errs.ErrFull},
		{name: "cut", flist: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000000")
			_, _ = w.Write(p)
			panic(http.ErrAbortHandler)
		}, want: errs.ErrUnavailable},
		{name: "flist redirected to an inner address", flist: redirect(victim.URL), want: errs.ErrDenied},
		{name: "flist redirected to a file", flist: redirect("file:///etc/passwd"), want: errs.ErrUnavailable},
		{name: "flist redirected to the metadata service", flist: redirect("http://169.254.169.254/latest"), want: errs.ErrDenied},
		{name: "tag redirected to an inner address", tag: redirect(victim.URL), want: errs.ErrDenied},
		{name: "tag redirected to itself", tag: redirect("/v1/repos/acme/tree/tags/1"), want: errs.ErrUnavailable},
		{name: "tag without digest", tag: serve([]byte(`{"name":"1"}`)), want: errs.ErrFormat},
		{name: "tag is a page", tag: serve([]byte("<html>")), want: errs.ErrFormat},
		{name: "tag is endless", tag: serve(bytes.Repeat([]byte("[["), 3<<20)), want: errs.ErrFormat},
		{name: "digest with a path", tag: serve([]byte(`{"flist":{"digest":"../../../../etc/passwd"}}`)), want: errs.ErrFormat},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHub(t, p, d)
			if tt.tag != nil {
				h.tag = tt.tag
			}
			if tt.flist != nil {
				h.flist = tt.flist
			}
			kept := t.TempDir()
			op, err := ref.Open(t.Context(), h.ref(), ref.Options{Dir: kept})
			if !errors.Is(err, tt.want) {
				t.Errorf("Open = %v, %v; want %v", op, err, tt.want)
			}
			if left := files(t, kept); len(left) != 0 {
				t.Errorf("Open left %v", left)
			}
			if n := victims.Load(); n != 0 {
				t.Fatalf("%d requests went where the hub sent us", n)
			}
		})
	}
}

// TestBadFlist has an flist that is what its digest says, and no flist.
func TestBadFlist(t *testing.T) {
	testenv.NoLeaks(t)
	p := []byte("this is no flist")
	kept := t.TempDir()
	h := newHub(t, p, flist.Digest(chunk.Sum(p)))
	if op, err := ref.Open(t.Context(), h.ref(), ref.Options{Dir: kept}); !errors.Is(err, errs.ErrFormat) {
		t.Errorf("Open = %v, %v; want %v", op, err, errs.ErrFormat)
	}
	if left := files(t, kept); len(left) != 0 {
		t.Errorf("Open left %v", left)
	}
}

// TestKeptDamaged breaks what is kept, and has no checked copy of it; it is fetched again.
func TestKeptDamaged(t *testing.T) {
	testenv.NoLeaks(t)
	p, d := makeFlist(t)
	other, _ := makeFlist(t, "https://evil.example")
	h := newHub(t, p, d)
	o := ref.Options{Dir: t.TempDir()}
	open(t, h.ref(), o)
	flips := bytes.Clone(p)
	flips[len(flips)/2] ^= 1
	for name, bad := range map[string][]byte{"flipped bit": flips, "torn": p[:len(p)/2], "empty": nil, "another flist": other} {
		kept := filepath.Join(o.Dir, "flists", d.String())
		if err := errors.Join(os.Remove(kept+".checked"), os.WriteFile(kept+".flist", bad, 0o600)); err != nil {
			t.Fatal(err)
		}
		offline := o
		offline.Offline = true
		if _, err := ref.Open(t.Context(), h.ref(), offline); !errors.Is(err, errs.ErrNotFound) {
			t.Errorf("%s: offline Open = %v, want %v", name, err, errs.ErrNotFound)
		}
		if op := open(t, h.ref(), o); op.Flist.Digest() != d {
			t.Errorf("%s: Open has %v", name, op.Flist.Digest())
		}
	}
	if err := os.WriteFile(filepath.Join(o.Dir, "refs", files(t, filepath.Join(o.Dir, "refs"))[0]), []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	if op := open(t, h.ref(), o); op.Ref.Digest != d {
		t.Errorf("with a damaged memory of tags, Open has %v", op.Ref.Digest)
	}
}

// TestSources has flists that name sources.
func TestSources(t *testing.T) {
	testenv.NoLeaks(t)
	blobs, none := t.TempDir(), filepath.Join(t.TempDir(), "none")
	inner := newHub(t, nil, flist.Digest{1})
	urls := []string{"file://" + blobs, "file://" + none, inner.url, "http://10.1.2.3", "https://mirror.example", "HTTPS://mirror.example:443/", "s3://bucket"}
	p, d := makeFlist(t, urls...)
	h := newHub(t, p, d)
	path := filepath.Join(t.TempDir(), "tree.flist")
	if err := os.WriteFile(path, p, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name    string
		ref     ref.Ref
		o       ref.Options
		want    []string
		refused []string // what the reasons speak of
	}{
		{
			name: "from a hub", ref: h.ref(), want: []string{h.url, "https://mirror.example"},
			refused: []string{"file://" + blobs, "file://" + none, inner.url, "10.1.2.3", "s3"},
		},
		{
			name: "from a hub, allowed", ref: h.ref(), o: ref.Options{Allow: []string{"127.0.0.1", "10.0.0.0/8"}},
			want:    []string{h.url, inner.url, "http://10.1.2.3", "https://mirror.example"},
			refused: []string{"file://" + blobs, "file://" + none, "s3"},
		},
		{
			name: "from a file", ref: ref.Ref{Path: path}, want: []string{"file://" + blobs, "https://mirror.example"},
			refused: []string{"file://" + none, inner.url, "10.1.2.3", "s3"},
		},
		{
			name: "from a file, offline", ref: ref.Ref{Path: path}, o: ref.Options{Offline: true}, want: []string{"file://" + blobs},
			refused: []string{"file://" + none, "s3"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.o.Dir = t.TempDir()
			op := open(t, tt.ref, tt.o)
			if diff := cmp.Diff(tt.want, names(op)); diff != "" {
				t.Errorf("sources (-want +got):\n%s", diff)
			}
			ok := len(op.Refused) == len(tt.refused)
			for i := range min(len(op.Refused), len(tt.refused)) {
				ok = ok && strings.Contains(op.Refused[i], tt.refused[i])
			}
			if !ok {
				t.Errorf("refused:\n%s\nwant one line for each of %v", strings.Join(op.Refused, "\n"), tt.refused)
			}
		})
	}
	if n := inner.requests.Load(); n != 0 {
		t.Errorf("opening made %d requests to a source", n)
	}
}

// TestSourceOrder reads from the hub first, then from what the flist names.
func TestSourceOrder(t *testing.T) {
	testenv.NoLeaks(t)
	root := t.TempDir()
	s, err := dir.New(root)
	if err != nil {
		t.Fatal(err)
	}
	data := []byte("a blob")
	id := blob.Sum(data)
	if err := s.Put(t.Context(), id, data); err != nil {
		t.Fatal(err)
	}
	p, d := makeFlist(t, "file://"+root)
	path := filepath.Join(t.TempDir(), "tree.flist")
	if err := os.WriteFile(path, p, 0o600); err != nil {
		t.Fatal(err)
	}
	op := open(t, ref.Ref{Path: path}, ref.Options{Dir: t.TempDir()})
	got := make([]byte, len(data))
	if err := store.ReadRange(t.Context(), op.Source, id, 0, got); err != nil || string(got) != string(data) || op.Ref.Digest != d {
		t.Errorf("a blob of a local flist = %q, %v", got, err)
	}
}

// TestTokens looks who is shown a token.
func TestTokens(t *testing.T) {
	testenv.NoLeaks(t)
	mirror := newHub(t, nil, flist.Digest{1})
	p, d := makeFlist(t, mirror.url)
	h := newHub(t, p, d)
	for name, value := range map[string]string{credentials.EnvFile: filepath.Join(t.TempDir(), "c.json"), credentials.EnvHub: "", credentials.EnvToken: "from-env"} {
		t.Setenv(name, value)
	}
	creds, err := credentials.Load()
	if err != nil {
		t.Fatal(err)
	}
	op := open(t, h.ref(), ref.Options{Dir: t.TempDir(), Credentials: creds, Allow: []string{"127.0.0.1"}})
	if _, err := op.Source.Get(t.Context(), blob.Digest{1}, 0, 1); !errors.Is(err, errs.ErrNotFound) {
		t.Errorf("Get = %v, want %v of both hubs", err, errs.ErrNotFound)
	}
	if h.requests.Load() != 3 || h.tokens.Load() != 3 {
		t.Errorf("the hub that the user named got %d requests, %d with the token; want 3 and 3", h.requests.Load(), h.tokens.Load())
	}
	if mirror.requests.Load() != 1 || mirror.tokens.Load() != 0 {
		t.Errorf("the hub that the flist names got %d requests, %d with the token; want 1 and 0", mirror.requests.Load(), mirror.tokens.Load())
	}
	c, err := ref.Client(h.ref(), creds)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := c.Tag(t.Context(), api.Ref{Owner: "acme", Name: "tree", Tag: "1"}); err != nil || h.tokens.Load() != 4 {
		t.Errorf("Client: %v, %d requests with a token, want 4", err, h.tokens.Load())
	}
}

func TestOpenPathErrors(t *testing.T) {
	testenv.NoLeaks(t)
	junk := filepath.Join(t.TempDir(), "junk.flist")
	if err := os.WriteFile(junk, []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]error{"/no/such.flist": errs.ErrNotFound, junk: errs.ErrFormat, filepath.Dir(junk): errs.ErrFormat} {
		_, err := ref.Open(t.Context(), ref.Ref{Path: path}, ref.Options{Dir: t.TempDir()})
		if !errors.Is(err, want) || errors.Is(err, fs.ErrNotExist) || strings.Count(err.Error(), path) != 1 {
			t.Errorf("Open(%s) = %v, want %v", path, err, want)
		}
	}
}

// TestOpenCancelled gives up where the hub does not answer.
func TestOpenCancelled(t *testing.T) {
	testenv.NoLeaks(t)
	p, d := makeFlist(t)
	h := newHub(t, p, d)
	ctx, cancel := context.WithCancel(t.Context())
	h.flist = func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	}
	kept := t.TempDir()
	if _, err := ref.Open(ctx, h.ref(), ref.Options{Dir: kept}); !errors.Is(err, context.Canceled) {
		t.Errorf("Open = %v, want %v", err, context.Canceled)
	}
	if left := files(t, kept); len(left) != 0 {
		t.Errorf("Open left %v", left)
	}
}

// TestOpenTriesAgain loses a connection or two.
func TestOpenTriesAgain(t *testing.T) {
	testenv.NoLeaks(t)
	p, d := makeFlist(t)
	h := newHub(t, p, d)
	var lost atomic.Int64
	good := h.flist
	h.flist = func(w http.ResponseWriter, r *http.Request) {
		if lost.Add(1) < 3 {
			w.Header().Set("Content-Length", "1000000")
			_, _ = w.Write(p[:10])
			panic(http.ErrAbortHandler)
		}
		good(w, r)
	}
	var log bytes.Buffer
	op := open(t, h.ref(), ref.Options{Dir: t.TempDir(), Log: slog.New(slog.NewTextHandler(&log, nil))})
	if lost.Load() != 3 || op.Flist.Digest() != d || log.Len() != 0 {
		t.Errorf("after %d tries the flist is %v; log:\n%s", lost.Load(), op.Flist.Digest(), &log)
	}
}
