package remote_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/store/remote"
)

// TestUnreachableText reads the errors of hubs that give no answer.
func TestUnreachableText(t *testing.T) {
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := ln.Addr().String()
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	mute := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
			_ = conn.Close()
		}
	}))
	t.Cleanup(mute.Close)
	for _, c := range []struct {
		name, url, want string
		kind            error
	}{
		{"nobody listens", "http://" + closed, "hub " + closed + " does not answer: connection refused", syscall.ECONNREFUSED},
		{"cut off", mute.URL, "hub " + strings.TrimPrefix(mute.URL, "http://") + " does not answer: it closed the connection", io.EOF},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, err := remote.New(remote.Options{URL: c.url})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = client.Close() })
			_, err = client.Whoami(t.Context())
			if err == nil || err.Error() != c.want {
				t.Errorf("Whoami = %v, want %s", err, c.want)
			}
			if !errors.Is(err, errs.ErrUnavailable) || !errors.Is(err, c.kind) {
				t.Errorf("%v is not %v and %v", err, errs.ErrUnavailable, c.kind)
			}
		})
	}
}

// TestTokenName sees that a refused token is called by its name, and nothing else is.
func TestTokenName(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		w.WriteHeader(http.StatusUnauthorized)
	}))
	t.Cleanup(srv.Close)
	const blame = "the token of the test was refused"
	for _, c := range []struct {
		name, token string
		want        bool
	}{{"named", "zosfs_x", true}, {"no token", "", false}} {
		t.Run(c.name, func(t *testing.T) {
			client, err := remote.New(remote.Options{URL: srv.URL, Token: c.token, TokenName: "the token of the test"})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = client.Close() })
			if _, err := client.Whoami(t.Context()); !errors.Is(err, errs.ErrDenied) || strings.Contains(err.Error(), blame) != c.want {
				t.Errorf("Whoami = %v; %q in it: want %t", err, blame, c.want)
			}
			if _, err := client.Info(t.Context()); !errors.Is(err, errs.ErrDenied) || strings.Contains(err.Error(), blame) {
				t.Errorf("status 403 = %v, want %v that says nothing of the token", err, errs.ErrDenied)
			}
		})
	}
}
