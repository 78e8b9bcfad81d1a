package hub_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zosfs/zosfs/hub"
	"github.com/zosfs/zosfs/hub/api"
	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/store/storetest"
)

// pipes is a listener whose connections live in memory, for tests in which time is not real.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) dial() net.Conn {
	a, b := net.Pipe()
	p.conns <- b
	return a
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

// TestSlowPeers: who sends slowly, or nothing, is cut off in time.
func TestSlowPeers(t *testing.T) {
	w := newWorld(t, hub.Options{})
	acme := w.token("acme", api.ScopeWrite, "")
	b := storetest.Blobs(1)[0]
	synctest.Test(t, func(t *testing.T) {
		ln := newPipes()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.Serve(ctx, ln) }()
		for _, c := range []struct {
			name, send string
			within     time.Duration
			want       string
		}{
			{"nothing", "", 11 * time.Second, ""},
			{"half a header", "GET /v1 HTTP/1.1\r\nHost: h\r\nX-", 11 * time.Second, ""},
			{"half a body", fmt.Sprintf("PUT %s HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer %s\r\nContent-Length: 5000\r\n\r\nZOS", blobPath(b), acme),
				45 * time.Second, "HTTP/1.1 400"},
			{"a huge header", "GET /v1 HTTP/1.1\r\nHost: h\r\nX-Y: " + strings.Repeat("a", 64<<10), 11 * time.Second, "HTTP/1.1 431"},
		} {
			conn, start := ln.dial(), time.Now()
			go func() { _, _ = io.WriteString(conn, c.send) }()
			answer, err := io.ReadAll(conn)
			if took := time.Since(start); took > c.within || !strings.HasPrefix(string(answer), c.want) {
				t.Errorf("%s: cut off after %v with %.60q, %v; want within %v and %q", c.name, took, answer, err, c.within, c.want)
			}
			_ = conn.Close()
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve = %v", err)
		}
	})
}

// TestGracefulStop: a running request ends, new ones are not taken.
func TestGracefulStop(t *testing.T) {
	testenv.NoLeaks(t)
	s, err := hub.New(t.Context(), hub.Options{Data: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Serve(ctx, ln) }()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	body := make([]byte, 64)
	body[0] = 1
	_, _ = fmt.Fprintf(conn, "POST /v1/chunks/locate HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", len(body))
	r := bufio.NewReader(conn)
	if line, err := r.ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 100") {
		t.Fatalf("first line = %q, %v, want 100 Continue: the handler runs", line, err)
	}
	cancel()
	body[32] = 1
	if _, err := conn.Write(body); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(r)
	if err != nil || !bytes.Contains(rest, []byte("HTTP/1.1 200 OK")) {
		t.Errorf("the running request ends with %.100q, %v", rest, err)
	}
	if err := <-done; err != nil {
		t.Errorf("Serve = %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

func TestServeFails(t *testing.T) {
	s, err := hub.New(t.Context(), hub.Options{Data: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ln := newPipes()
	_ = ln.Close()
	if err := s.Serve(t.Context(), ln); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve on a closed listener = %v, want %v", err, net.ErrClosed)
	}
	if _, err := hub.New(t.Context(), hub.Options{Data: t.TempDir(), TLSCert: "x"}); err == nil {
		t.Error("New with half of the TLS options: no error")
	}
}

func TestTLS(t *testing.T) {
	cert, key, client := selfSigned(t)
	s, err := hub.New(t.Context(), hub.Options{Data: filepath.Join(t.TempDir(), "new", "dir"), TLSCert: cert, TLSKey: key})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Serve(ctx, ln) }()
	req, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+ln.Addr().String()+"/v1", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 200 {
		t.Errorf("status %d over TLS", resp.StatusCode)
	}
	_ = resp.Body.Close()
	client.CloseIdleConnections()
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Serve = %v", err)
	}
}

// TestPanic: a panic is answered with 500 and logged; after the answer has begun, the
// connection is cut.
func TestPanic(t *testing.T) {
	var mu sync.Mutex
	var log bytes.Buffer
	h := hub.Observe(slog.New(slog.NewTextHandler(lockedWriter{&mu, &log}, nil)), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/late" {
			_, _ = io.WriteString(w, strings.Repeat("half of it", 1000))
		}
		panic("at the disco")
	}))
	srv := httptest.NewServer(h)
	w := &world{nil, t, srv.URL, ""}
	r := w.want(500, "GET", "/early", "", nil)
	if r.code() != api.CodeInternal || bytes.Contains(r.body, []byte("disco")) {
		t.Errorf("body = %s", r.body)
	}
	req, err := http.NewRequestWithContext(t.Context(), "GET", srv.URL+"/late", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err == nil {
		_, err = io.ReadAll(resp.Body)
		_ = resp.Body.Close()
	}
	if err == nil {
		t.Error("half an answer looks whole")
	}
	srv.Close()
	mu.Lock()
	defer mu.Unlock()
	if strings.Count(log.String(), "at the disco") != 2 {
		t.Errorf("log = %s", &log)
	}
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// TestBusy: more uploads than are taken at once are told to come back.
func TestBusy(t *testing.T) {
	w := newWorld(t, hub.Options{Uploads: 1})
	acme := w.token("acme", api.ScopeWrite, "")
	b := storetest.Blobs(1)[0]
	body, feed := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), "PUT", w.url+blobPath(b), body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+acme)
	req.Header.Set("Expect", "100-continue")
	req.ContentLength = b.Size()
	got := make(chan int)
	go func() {
		resp, err := (&http.Transport{ExpectContinueTimeout: time.Minute}).RoundTrip(req)
		if err != nil {
			t.Error(err)
			got <- 0
			return
		}
		_ = resp.Body.Close()
		got <- resp.StatusCode
	}()
	if _, err := feed.Write(b.Data[:1]); err != nil { // taken: the hub has said 100, so it holds the slot
		t.Fatal(err)
	}
	r := w.want(503, "PUT", blobPath(b), acme, b.Data)
	if r.code() != api.CodeUnavailable || r.Header.Get("Retry-After") == "" {
		t.Errorf("busy: %s, Retry-After %q", r.body, r.Header.Get("Retry-After"))
	}
	if _, err := feed.Write(b.Data[1:]); err != nil {
		t.Fatal(err)
	}
	_ = feed.Close()
	if status := <-got; status != 201 {
		t.Errorf("the first upload: status %d", status)
	}
	w.putBlob(acme, b)
}

// TestOpenAPI: the description is OpenAPI 3.1 and has each endpoint of the protocol.
func TestOpenAPI(t *testing.T) {
	w := newWorld(t, hub.Options{Version: "1.2.3"})
	r := w.want(200, "GET", "/openapi.json", "", nil)
	var spec struct {
		OpenAPI string `json:"openapi"`
		Info    struct{ Version string }
		Paths   map[string]map[string]struct {
			OperationID string                     `json:"operationId"`
			Responses   map[string]json.RawMessage `json:"responses"`
		} `json:"paths"`
	}
	if err := json.Unmarshal(r.body, &spec); err != nil {
		t.Fatal(err)
	}
	if spec.OpenAPI != "3.1.0" || spec.Info.Version != "1.2.3" {
		t.Errorf("openapi %q, version %q", spec.OpenAPI, spec.Info.Version)
	}
	var ops []string
	for path, methods := range spec.Paths {
		for method, op := range methods {
			ops = append(ops, strings.ToUpper(method)+" "+path)
			if op.OperationID == "" || len(op.Responses["default"]) == 0 {
				t.Errorf("%s %s: id %q, default response %s", method, path, op.OperationID, op.Responses["default"])
			}
		}
	}
	slices.Sort(ops)
	want := []string{
		"DELETE /v1/blobs/{digest}", "DELETE /v1/repos/{owner}/{name}/tags/{tag}", "DELETE /v1/tokens/{id}",
		"GET /healthz", "GET /v1", "GET /v1/blobs", "GET /v1/blobs/{digest}", "GET /v1/repos", "GET /v1/repos/{owner}/{name}",
		"GET /v1/repos/{owner}/{name}/flists", "GET /v1/repos/{owner}/{name}/flists/{digest}", "GET /v1/repos/{owner}/{name}/tags",
		"GET /v1/repos/{owner}/{name}/tags/{tag}", "GET /v1/repos/{owner}/{name}/tags/{tag}/moves", "GET /v1/tokens", "GET /v1/whoami",
		"HEAD /v1/blobs/{digest}", "HEAD /v1/repos/{owner}/{name}/flists/{digest}", "PATCH /v1/repos/{owner}/{name}", "POST /v1/chunks/locate",
		"POST /v1/tokens", "PUT /v1/blobs/{digest}", "PUT /v1/repos/{owner}/{name}/tags/{tag}",
	}
	if !slices.Equal(ops, want) {
		t.Errorf("operations:\n%s\nwant:\n%s", strings.Join(ops, "\n"), strings.Join(want, "\n"))
	}
	if !bytes.Contains(r.body, []byte(`"ErrorBody"`)) || bytes.Contains(r.body, []byte("problem+json")) {
		t.Error("the description has another error body than the protocol")
	}
	if y := w.want(200, "GET", "/openapi.yaml", "", nil); !bytes.Contains(y.body, []byte("openapi: 3.1.0")) {
		t.Errorf("YAML begins %.100s", y.body)
	}
	var info api.Info
	w.want(200, "GET", "/v1", "", nil).into(t, &info)
	if info.Name != "zosfs-hub" || info.Protocol != "v1" || info.Limits.Locate != api.MaxLocate {
		t.Errorf("info = %+v", info)
	}
}
