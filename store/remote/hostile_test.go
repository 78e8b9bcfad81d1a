package remote_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/hub/api"
	"github.com/zosfs/zosfs/store"
	"github.com/zosfs/zosfs/store/remote"
)

var id = blob.Digest{1, 2, 3}

// fake serves h as if it were a hub and returns a client of it.
func fake(t *testing.T, h http.HandlerFunc) *remote.Client {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return connect(t, remote.Options{URL: srv.URL, Token: "zosfs_secret"})
}

// TestRefusals: each status becomes the kind that the protocol gives it, with and without an
// error body.
func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		status int
		body   string
		want   error // nil: none of the kinds
		text   string
	}{
		{400, `{"error":{"code":"bad_request","message":"no"}}`, nil, "no"},
		{401, "", errs.ErrDenied, "zosfs login"},
		{401, `{"error":{"code":"unauthenticated","message":"m","hint":"try this"}}`, errs.ErrDenied, "try this"},
		{403, `{"error":{"code":"denied","message":"not yours"}}`, errs.ErrDenied, "not yours"},
		{404, "<html>", errs.ErrNotFound, "404"},
		{404, `{"error":{"code":"internal","message":"m"}}`, errs.ErrNotFound, "404"}, // a code of another status
		{409, `{"error":{"code":"conflict","message":"m"}}`, nil, "m"},
		{413, "", errs.ErrFull, "413"},
		{415, `{"error":{"code":"bad_format","message":"m"}}`, errs.ErrFormat, "m"},
		{422, "", errs.ErrCorrupt, "422"},
		{429, "", errs.ErrUnavailable, "429"},
		{500, "", errs.ErrUnavailable, "500"},
		{502, "bad gateway", errs.ErrUnavailable, "502"},
		{503, "", errs.ErrUnavailable, "503"},
		{507, `{"error":{"code":"no_space","message":"full"}}`, errs.ErrFull, "full"},
		{418, `{"error":{"code":"` + strings.Repeat("x", 1<<20), nil, "418"},
		{503, "{\"error\":{\"code\":\"unavailable\",\"message\":\"a\\u001b[31m\\u202eb\\n" + strings.Repeat("long ", 500) + "\"}}", errs.ErrUnavailable, "a [31m b long"},
	} {
		client := fake(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, c.body)
		})
		_, err := client.Get(t.Context(), id, 0, -1)
		for _, k := range errs.All() {
			if errors.Is(err, k) != (k == c.want) { //nolint:errorlint // the kinds themselves
				t.Errorf("status %d %.40q = %v, which is %v: %v", c.status, c.body, err, k, errors.Is(err, k))
			}
		}
		if err == nil || !strings.Contains(err.Error(), c.text) || len(err.Error()) > 1000 || strings.ContainsAny(err.Error(), "\x1b\n\u202e") {
			t.Errorf("status %d: error %.200q, want %q in it, no control characters, and a bound", c.status, err, c.text)
		}
		if strings.Contains(fmt.Sprint(err), "zosfs_secret") {
			t.Errorf("the error tells the token: %v", err)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	for header, want := range map[string]time.Duration{"": 0, "7": 7 * time.Second, "-1": 0, "x": 0, "99999999": time.Hour,
		"Thu, 01 Jan 1970 00:00:00 GMT": 0, "Fri, 31 Dec 9999 23:59:59 GMT": time.Hour} {
		for _, status := range []int{429, 503} {
			client := fake(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", header)
				w.WriteHeader(status)
			})
			_, err := client.Stat(t.Context(), id)
			after, ok := errors.AsType[*store.RetryAfterError](err)
			if !ok || after.After != want {
				t.Errorf("status %d, Retry-After %q = %v, want it after %v", status, header, err, want)
			}
		}
	}
}

// TestRangeLies: an answer that is not the range asked for is no bytes of ours.
func TestRangeLies(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		header string
		want   error
	}{
		"good":               {206, "bytes 10-19/100", nil},
		"whole instead":      {200, "", errs.ErrFormat},
		"no Content-Range":   {206, "", errs.ErrUnavailable},
		"another place":      {206, "bytes 20-29/100", errs.ErrUnavailable},
		"less":               {206, "bytes 10-18/100", errs.ErrUnavailable},
		"more":               {206, "bytes 10-20/100", errs.ErrUnavailable},
		"size unknown":       {206, "bytes 10-19/*", errs.ErrUnavailable},
		"other unit":         {206, "pages 10-19/100", errs.ErrUnavailable},
		"negative":           {206, "bytes -10-19/100", errs.ErrUnavailable},
		"sign":               {206, "bytes +10-19/100", errs.ErrUnavailable},
		"beyond its size":    {206, "bytes 10-19/15", errs.ErrUnavailable},
		"overflow":           {206, "bytes 10-19/99999999999999999999", errs.ErrUnavailable},
		"416 without a size": {416, "", errs.ErrUnavailable},
	} {
		client := fake(t, func(w http.ResponseWriter, _ *http.Request) {
			if c.header != "" {
				w.Header().Set("Content-Range", c.header)
			}
			w.WriteHeader(c.status)
			_, _ = w.Write(make([]byte, 10))
		})
		rc, err := client.Get(t.Context(), id, 10, 10)
		if !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s: Get = %v, want %v", name, err, c.want)
		}
		if err == nil {
			_ = rc.Close()
		}
	}
}

// TestTooMuch: a hub that sends without end is read to the limit and no further.
func TestTooMuch(t *testing.T) {
	client := fake(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/v1/blobs/") && r.Header.Get("Range") != "":
			w.Header().Set("Content-Range", "bytes 0-9/100")
			w.WriteHeader(206)
		case r.Method == "HEAD":
			w.Header().Set("Content-Length", "9999999999")
			return
		}
		for r.Context().Err() == nil {
			if _, err := w.Write(bytes.Repeat([]byte("[1,"), 10_000)); err != nil {
				return
			}
		}
	})
	rc, err := client.Get(t.Context(), id, 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := io.ReadAll(rc); len(p) != 10 || err != nil {
		t.Errorf("range of 10 bytes gives %d, %v", len(p), err)
	}
	_ = rc.Close()
	if rc, err = client.Get(t.Context(), id, 0, -1); err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, rc); n != blob.MaxSize || err != nil {
		t.Errorf("a blob gives %d bytes, %v, want at most %d", n, err, blob.MaxSize)
	}
	_ = rc.Close()
	if _, err := client.Whoami(t.Context()); !errors.Is(err, errs.ErrFormat) {
		t.Errorf("Whoami of endless JSON = %v, want %v", err, errs.ErrFormat)
	}
	if _, err := client.Locate(t.Context(), []chunk.Digest{{1}}); !errors.Is(err, errs.ErrCorrupt) {
		t.Errorf("Locate with an endless answer = %v, want %v", err, errs.ErrCorrupt)
	}
	if _, err := client.Stat(t.Context(), id); !errors.Is(err, errs.ErrCorrupt) {
		t.Errorf("Stat of 10 GB = %v, want %v", err, errs.ErrCorrupt)
	}
}

// TestCutShort: a body that ends early is told, so that a retry may help.
func TestCutShort(t *testing.T) {
	client := fake(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = w.Write(make([]byte, 40))
	})
	rc, err := client.Get(t.Context(), id, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	if p, err := io.ReadAll(rc); len(p) != 40 || !errors.Is(err, errs.ErrUnavailable) {
		t.Errorf("ReadAll = %d bytes, %v, want 40 and %v", len(p), err, errs.ErrUnavailable)
	}
}

func TestListLies(t *testing.T) {
	a, b := blob.Digest{1}, blob.Digest{2}
	page := func(next string, ids ...blob.Digest) string {
		p := api.Blobs{Next: next}
		for _, id := range ids {
			p.Blobs = append(p.Blobs, api.Blob{Digest: id, Size: 1})
		}
		out, _ := json.Marshal(p)
		return string(out)
	}
	for name, body := range map[string]string{
		"not in order":    page("", b, a),
		"twice":           page("", a, a),
		"again and again": page(a.String(), a),
		"no JSON":         "<html>",
		"bad digest":      `{"blobs":[{"digest":"xyz","size":1}]}`,
		"zero digest":     page("", blob.Digest{}),
	} {
		client := fake(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) })
		if err := client.List(t.Context(), func(store.Info) error { return nil }); !errors.Is(err, errs.ErrFormat) {
			t.Errorf("%s: List = %v, want %v", name, err, errs.ErrFormat)
		}
	}
	client := fake(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"repos":[],"next":"a/b"}`) })
	if err := client.Repos(t.Context(), "", func(api.Repo) error { return nil }); !errors.Is(err, errs.ErrFormat) {
		t.Errorf("Repos that go in circles = %v, want %v", err, errs.ErrFormat)
	}
}

// TestRedirect: blobs may come from elsewhere, the token never goes there, and nothing but
// reading follows.
func TestRedirect(t *testing.T) {
	data := []byte("bytes of a blob, from a bucket")
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, h := range []string{"Authorization", "Cookie", "Referer"} {
			if r.Header.Get(h) != "" {
				t.Errorf("the other host sees %s: %s", h, r.Header.Get(h))
			}
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	}))
	defer elsewhere.Close()
	client := fake(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer zosfs_secret" {
			t.Errorf("the hub sees Authorization %q", r.Header.Get("Authorization"))
		}
		if strings.HasSuffix(r.URL.Path, "/whoami") {
			http.Redirect(w, r, "/v1/whoami?again="+r.URL.Query().Get("again")+"x", http.StatusFound)
			return
		}
		http.Redirect(w, r, elsewhere.URL+"/bucket?X-Signature=abc", http.StatusTemporaryRedirect)
	})
	for _, c := range []struct{ off, n int64 }{{0, -1}, {6, 10}} {
		rc, err := client.Get(t.Context(), id, c.off, c.n)
		if err != nil {
			t.Fatal(err)
		}
		want := data[c.off:]
		if c.n > 0 {
			want = want[:c.n]
		}
		if p, err := io.ReadAll(rc); err != nil || !bytes.Equal(p, want) {
			t.Errorf("Get(%d, %d) by redirect = %q, %v, want %q", c.off, c.n, p, err, want)
		}
		_ = rc.Close()
	}
	if err := client.Put(t.Context(), blob.Sum(data), data); !errors.Is(err, errs.ErrFormat) {
		t.Errorf("Put that is redirected = %v, want %v", err, errs.ErrFormat)
	}
	if _, err := client.Whoami(t.Context()); !errors.Is(err, errs.ErrUnavailable) {
		t.Errorf("redirects in a circle = %v, want %v", err, errs.ErrUnavailable)
	}
	elsewhere.Close()
	if _, err := client.Get(t.Context(), id, 0, -1); !errors.Is(err, errs.ErrUnavailable) || strings.Contains(err.Error(), "X-Signature") {
		t.Errorf("Get while the bucket is down = %v, want %v and no signature", err, errs.ErrUnavailable)
	}
}

// TestNoDowngrade: what began with TLS does not go on without.
func TestNoDowngrade(t *testing.T) {
	plain := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("asked without TLS") }))
	defer plain.Close()
	srv := httptest.NewTLSServer(http.RedirectHandler(plain.URL, http.StatusFound))
	defer srv.Close()
	client := connect(t, remote.Options{URL: srv.URL, HTTP: &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: srv.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}}}})
	if _, err := client.Get(t.Context(), id, 0, -1); !errors.Is(err, errs.ErrUnavailable) {
		t.Errorf("Get = %v, want %v", err, errs.ErrUnavailable)
	}
}

func TestUnreachable(t *testing.T) {
	srv := httptest.NewServer(nil)
	client := connect(t, remote.Options{URL: srv.URL})
	srv.Close()
	for op, err := range map[string]error{
		"Put":    client.Put(t.Context(), blob.Sum([]byte("x")), []byte("x")),
		"Delete": client.Delete(t.Context(), id),
		"List":   client.List(t.Context(), func(store.Info) error { return nil }),
	} {
		if !errors.Is(err, errs.ErrUnavailable) {
			t.Errorf("%s = %v, want %v", op, err, errs.ErrUnavailable)
		}
	}
}

// TestStall: silence ends a call, before the answer and within it; slowness does not.
func TestStall(t *testing.T) {
	for _, c := range []struct {
		name  string
		serve func(w http.ResponseWriter, r *http.Request)
		n     int // bytes that come
		want  error
		took  time.Duration
	}{
		{"no answer", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, 0, errs.ErrUnavailable, 40 * time.Second},
		{"silence", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write(make([]byte, 10))
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, 10, errs.ErrUnavailable, 30 * time.Second},
		{"a byte every 20 s", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "10")
			for range 10 {
				<-time.After(20 * time.Second)
				_, _ = w.Write([]byte("x"))
				_ = http.NewResponseController(w).Flush()
			}
		}, 10, nil, 200 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, stop := inMemory(t, c.serve)
				defer stop()
				start := time.Now()
				var p []byte
				rc, err := client.Get(t.Context(), id, 0, -1)
				if err == nil {
					p, err = io.ReadAll(rc)
					_ = rc.Close()
				}
				if took := time.Since(start); len(p) != c.n || !errors.Is(err, c.want) || took != c.took {
					t.Errorf("%d bytes, %v after %v, want %d, %v after %v", len(p), err, took, c.n, c.want, c.took)
				}
			})
		})
	}
}

// inMemory returns a client and a server that talk through pipes.
func inMemory(t *testing.T, h http.HandlerFunc) (*remote.Client, func()) {
	conns := make(chan net.Conn)
	ln := &listener{conns: conns, done: make(chan struct{})}
	srv := &http.Server{Handler: h}
	ended := make(chan struct{})
	go func() {
		_ = srv.Serve(ln)
		close(ended)
	}()
	tr := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		a, b := net.Pipe()
		conns <- b
		return a, nil
	}}
	client, err := remote.New(remote.Options{URL: "http://hub.test", HTTP: &http.Client{Transport: tr}})
	if err != nil {
		t.Fatal(err)
	}
	return client, func() {
		tr.CloseIdleConnections()
		_ = srv.Close()
		<-ended
	}
}

type listener struct {
	conns chan net.Conn
	done  chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l *listener) Close() error   { close(l.done); return nil }
func (l *listener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

func TestNew(t *testing.T) {
	for _, u := range []string{"", "hub.example", "ftp://h", "http://", "http://user:secret@h/", "http://h/?x=1", "http://h/#f", "http://h:x\x7f/", "http://user:secret@[::1"} {
		_, err := remote.New(remote.Options{URL: u})
		if !errors.Is(err, errs.ErrFormat) || strings.Contains(err.Error(), "secret") {
			t.Errorf("New(%q) = %v, want %v and no password", u, err, errs.ErrFormat)
		}
	}
	if _, err := remote.New(remote.Options{URL: "http://h", Token: "a\r\nb"}); !errors.Is(err, errs.ErrFormat) {
		t.Errorf("New(token of two lines) = %v, want %v", err, errs.ErrFormat)
	}
	paths := make(chan string, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { paths <- r.RequestURI }))
	defer srv.Close()
	c := connect(t, remote.Options{URL: srv.URL + "/below/a%2Fb/"})
	_, _ = c.Info(t.Context())
	if got := <-paths; got != "/below/a%2Fb/v1" {
		t.Errorf("a hub below a path is asked for %s", got)
	}
}
