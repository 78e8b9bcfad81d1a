package all_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/store"
	"github.com/zosfs/zosfs/store/all"
	"github.com/zosfs/zosfs/store/storetest"
)

func open(t *testing.T, url string, o all.Options) store.Store {
	t.Helper()
	s, err := all.Open(t.Context(), url, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(s); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

func TestDirectory(t *testing.T) {
	storetest.Test(t, func(t *testing.T) store.Store {
		return open(t, "file://"+filepath.Join(t.TempDir(), "a b", "new"), all.Options{})
	})
}

func TestDirectoryWithIndex(t *testing.T) {
	cache := t.TempDir()
	storetest.Test(t, func(t *testing.T) store.Store {
		s := open(t, "file://"+t.TempDir(), all.Options{CacheDir: cache})
		if _, ok := s.(store.Locator); !ok {
			t.Fatal("not a store.Locator")
		}
		return s
	})
	if files, err := os.ReadDir(cache); err != nil || len(files) < 2 {
		t.Errorf("cache directory: %v, %v, want a file for each store", files, err)
	}
}

func TestDirectoryOfFlist(t *testing.T) {
	root, o := t.TempDir(), all.Options{Policy: policy(t, all.PolicyOptions{})}
	open(t, "file://"+root, o)
	if err := os.WriteFile(filepath.Join(root, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"absent", "file"} {
		if s, err := all.Open(t.Context(), "file://"+filepath.Join(root, name), o); !errors.Is(err, errs.ErrNotFound) {
			t.Errorf("Open(%s) = %v, %v, want %v", name, s, err, errs.ErrNotFound)
		}
	}
	if _, err := os.Stat(filepath.Join(root, "absent")); err == nil {
		t.Error("a directory that an flist names was made")
	}
	o.Policy = policy(t, all.PolicyOptions{Hub: hub})
	if s, err := all.Open(t.Context(), "file://"+root, o); !errors.Is(err, errs.ErrDenied) {
		t.Errorf("Open for an flist from a hub = %v, %v, want %v", s, err, errs.ErrDenied)
	}
}

func TestOpenErrors(t *testing.T) {
	tests := []struct {
		url  string
		kind error
		says string
	}{
		{"/srv/blobs", errs.ErrFormat, "file:///srv/blobs"},
		{"srv/blobs", errs.ErrFormat, "file:///"},
		{"", errs.ErrFormat, "https://"},
		{"file://srv/blobs", errs.ErrFormat, "file:///absolute"},
		{"file:blobs", errs.ErrFormat, "file:///absolute"},
		{"file:///x?y", errs.ErrFormat, "file:///absolute"},
		{"file:///x%00y", errs.ErrFormat, "file:///absolute"},
		{"https://user:secret@hub", errs.ErrFormat, "zosfs login"},
		{"https://secret@hub", errs.ErrFormat, "zosfs login"},
		{"s3://key:secret@bucket", errs.ErrFormat, "zosfs login"},
		{"https://", errs.ErrFormat, "host"},
		{"https://hub?token=secret", errs.ErrFormat, "host"},
		{"https://hub#secret", errs.ErrFormat, "fragment"},
		{"http://h:secret@", errs.ErrFormat, "xxxxx"},
		{"://", errs.ErrFormat, "not a URL"},
		{"s3://bucket/prefix?endpoint=http://minio", errors.ErrUnsupported, "try a hub"},
		{"oci://registry/repo", errors.ErrUnsupported, "try a hub"},
		{"zdb://host:9900/ns", errors.ErrUnsupported, "try a hub"},
		{"ftp://host/", errors.ErrUnsupported, "unknown scheme"},
	}
	for _, tt := range tests {
		s, err := all.Open(t.Context(), tt.url, all.Options{})
		if !errors.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "secret") {
			t.Errorf("Open(%q) = %v, %v, want %v that says %q and no secret", tt.url, s, err, tt.kind, tt.says)
		}
	}
}

// server is a web server with one blob, which notes what it is asked.
type server struct {
	*httptest.Server
	blob     storetest.Blob
	requests atomic.Int64
	token    atomic.Value // of the last request
	redirect atomic.Value // where to, "" to answer
}

// serve starts a server on an address of this machine.
func serve(t *testing.T, ip string) *server {
	t.Helper()
	s := &server{blob: storetest.Blobs(1)[0]}
	s.redirect.Store("")
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", ip+":0")
	if err != nil {
		t.Fatal(err)
	}
	s.Server = &httptest.Server{Listener: l, Config: &http.Server{Handler: s}}
	s.Start()
	t.Cleanup(s.Close)
	return s
}

// ServeHTTP implements http.Handler.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.requests.Add(1)
	s.token.Store(r.Header.Get("Authorization"))
	if to, _ := s.redirect.Load().(string); to != "" {
		http.Redirect(w, r, to+r.URL.Path, http.StatusTemporaryRedirect)
		return
	}
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(s.blob.Data)))
}

func read(t *testing.T, s store.Store, b storetest.Blob) error {
	t.Helper()
	p := make([]byte, 100)
	if err := store.ReadRange(t.Context(), s, b.Digest, 50, p); err != nil {
		return err
	}
	if string(p) != string(b.Data[50:150]) {
		t.Error("other bytes came")
	}
	return nil
}

// TestTokens opens a hub in the ways in which a token might get there, and tells which do.
func TestTokens(t *testing.T) {
	testenv.NoLeaks(t)
	home, other := serve(t, "127.0.0.1"), serve(t, "127.0.0.1")
	creds := func(hub string) string { return map[string]string{home.URL: "for-home", other.URL: "for-other"}[hub] }
	fromHome := all.PolicyOptions{Hub: home.URL, Allow: []string{"127.0.0.1/32"}}
	loggedIn := fromHome
	loggedIn.Hubs = []string{other.URL}
	tests := []struct {
		name   string
		server *server
		token  string
		creds  func(string) string
		policy *all.PolicyOptions
		want   string
	}{
		{"none", home, "", nil, nil, ""},
		{"own URL, token", home, "T", creds, nil, "Bearer T"},
		{"own URL, credentials", home, "", creds, nil, "Bearer for-home"},
		{"hub of the flist", home, "", creds, &fromHome, "Bearer for-home"},
		{"hub of the flist, token", home, "T", nil, &fromHome, "Bearer T"},
		{"stranger", other, "", creds, &fromHome, ""},
		{"stranger, token", other, "T", creds, &fromHome, ""},
		{"logged in", other, "", creds, &loggedIn, "Bearer for-other"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := all.Options{Token: tt.token, Credentials: tt.creds}
			if tt.policy != nil {
				o.Policy = policy(t, *tt.policy)
			}
			if err := read(t, open(t, tt.server.URL, o), tt.server.blob); err != nil {
				t.Fatal(err)
			}
			if got := tt.server.token.Load(); got != tt.want {
				t.Errorf("the server got the token %q, want %q", got, tt.want)
			}
		})
	}
}

// TestRedirects has a server redirect to another one.
func TestRedirects(t *testing.T) {
	testenv.NoLeaks(t)
	home, target := serve(t, "127.0.0.1"), serve(t, "127.0.0.1")
	// The address of a stranger is as good as public here, which its port is not to be.
	stranger, friend := serve(t, "127.0.0.2"), serve(t, "127.0.0.2")
	o := all.PolicyOptions{Hub: home.URL, Allow: []string{"127.0.0.2"}}
	withTarget := o
	withTarget.Allow = []string{"127.0.0.2", target.Listener.Addr().String()}
	file := "file:///etc/passwd?"
	tests := []struct {
		name     string
		policy   all.PolicyOptions
		from     *server
		to       string
		refused  bool
		answered *server
	}{
		{"hub to an inner address", o, home, target.URL, true, nil},
		{"hub to an allowed address", withTarget, home, target.URL, false, target},
		{"hub to a public address", o, home, friend.URL, false, friend},
		{"hub to localhost", o, home, strings.Replace(target.URL, "127.0.0.1", "localhost", 1), true, nil},
		{"hub to a file", o, home, file, true, nil},
		{"stranger to a public address", o, stranger, friend.URL, false, friend},
		{"stranger to an inner address", o, stranger, target.URL, true, nil},
		{"stranger to the hub", o, stranger, home.URL, true, nil},
		{"stranger to an allowed inner address", withTarget, stranger, target.URL, true, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, s := range []*server{home, target, stranger, friend} {
				s.redirect.Store("")
				s.requests.Store(0)
			}
			tt.from.redirect.Store(tt.to)
			err := read(t, open(t, tt.from.URL, all.Options{Token: "T", Policy: policy(t, tt.policy)}), tt.from.blob)
			_, refused := errors.AsType[*all.RefusedError](err)
			if tt.to == file { // the client in between may refuse it first
				refused = err != nil
			}
			if refused != tt.refused || refused != (err != nil) {
				t.Errorf("read = %v, want it refused: %v", err, tt.refused)
			}
			for _, s := range []*server{home, target, stranger, friend} {
				want := int64(0)
				if s == tt.from || s == tt.answered {
					want = 1
				}
				if n := s.requests.Load(); n != want {
					t.Errorf("%s was asked %d times, want %d", s.URL, n, want)
				}
			}
			if tt.answered != nil && tt.answered.token.Load() != "" {
				t.Errorf("the token went along: %v", tt.answered.token.Load())
			}
		})
	}
}

// TestNames resolves names to addresses of this machine.
func TestNames(t *testing.T) {
	testenv.NoLeaks(t)
	s := serve(t, "127.0.0.1")
	_, port, err := net.SplitHostPort(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	resolver := fakeDNS(map[string][]string{
		"loop.test": {"127.0.0.1"}, "mapped.test": {"::ffff:127.0.0.1"}, "zero.test": {"0.0.0.0"}, "any6.test": {"::"}, "loop6.test": {"::1"},
		"inner.test": {"10.0.0.1", "169.254.169.254", "fe80::1"}, "hub.test": {"127.0.0.1"}, "mirror.test": {"127.0.0.1"},
	})
	at := func(name string) string { return "http://" + name + ":" + port }
	named := all.PolicyOptions{Hub: at("hub.test"), Allow: []string{"mirror.test"}}
	tests := []struct {
		policy  all.PolicyOptions
		name    string
		refused bool
	}{
		{all.PolicyOptions{}, "loop.test", true}, {all.PolicyOptions{}, "mapped.test", true}, {all.PolicyOptions{}, "zero.test", true},
		{all.PolicyOptions{}, "any6.test", true}, {all.PolicyOptions{}, "loop6.test", true}, {all.PolicyOptions{}, "inner.test", true},
		{named, "loop.test", true}, {named, "hub.test", false}, {named, "HUB.test", false}, {named, "mirror.test", false},
		{all.PolicyOptions{Allow: []string{"127.0.0.0/8"}}, "loop.test", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s.requests.Store(0)
			p := policy(t, tt.policy)
			p.SetResolver(resolver)
			err := read(t, open(t, at(tt.name), all.Options{Policy: p}), s.blob)
			_, refused := errors.AsType[*all.RefusedError](err)
			if refused != tt.refused || refused != (err != nil) || refused == (s.requests.Load() > 0) {
				t.Errorf("read = %v after %d requests, want it refused: %v", err, s.requests.Load(), tt.refused)
			}
			if errors.Is(err, errs.ErrUnavailable) {
				t.Errorf("read = %v, which is worth another try", err)
			}
		})
	}
}

// fakeDNS returns a resolver that knows the given addresses of names and nothing else.
func fakeDNS(names map[string][]string) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe() // not a PacketConn, so messages have a length before them
		go func() {
			defer func() { _ = theirs.Close() }()
			var size [2]byte
			for {
				if _, err := io.ReadFull(theirs, size[:]); err != nil {
					return
				}
				q := make([]byte, binary.BigEndian.Uint16(size[:]))
				if _, err := io.ReadFull(theirs, q); err != nil {
					return
				}
				a := answer(q, names)
				if _, err := theirs.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(a))), a...)); err != nil {
					return
				}
			}
		}()
		return ours, nil
	}}
}

// answer returns the answer to the one question of the DNS message q (RFC 1035, section 4).
func answer(q []byte, names map[string][]string) []byte {
	const header, typeA, typeAAAA = 12, 1, 28
	var labels []string
	end := header
	for q[end] != 0 {
		n := int(q[end])
		labels = append(labels, string(q[end+1:][:n]))
		end += 1 + n
	}
	end++
	kind := binary.BigEndian.Uint16(q[end:])
	end += 4
	var records []byte
	count := uint16(0)
	for _, s := range names[strings.ToLower(strings.Join(labels, "."))] {
		addr := netip.MustParseAddr(s)
		if addr.Is4() != (kind == typeA) || kind != typeA && kind != typeAAAA {
			continue
		}
		count++
		records = append(records, 0xc0, header) // the name of the question
		records = binary.BigEndian.AppendUint16(records, kind)
		records = append(records, 0, 1, 0, 0, 0, 60) // class, time to live
		records = binary.BigEndian.AppendUint16(records, uint16(len(addr.AsSlice())))
		records = append(records, addr.AsSlice()...)
	}
	out := append([]byte{q[0], q[1], 0x81, 0x80, 0, 1}, binary.BigEndian.AppendUint16(nil, count)...)
	out = append(out, 0, 0, 0, 0)
	return append(append(out, q[header:end]...), records...)
}
