package remote_test

import (
	"net/http/httptest"
	"testing"

	"github.com/zosfs/zosfs/hub"
	"github.com/zosfs/zosfs/hub/api"
	"github.com/zosfs/zosfs/store"
	"github.com/zosfs/zosfs/store/remote"
	"github.com/zosfs/zosfs/store/storetest"
)

// serve starts a new hub and returns its URL and data directory.
func serve(t testing.TB) (url, data string) {
	t.Helper()
	data = t.TempDir()
	s, err := hub.New(t.Context(), hub.Options{Data: data})
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
	return srv.URL, data
}

// client returns a Client with a new token, closed with the test.
func client(t testing.TB, url, data string, r hub.TokenRequest) *remote.Client {
	t.Helper()
	secret, _, err := hub.CreateToken(t.Context(), data, r)
	if err != nil {
		t.Fatal(err)
	}
	return connect(t, remote.Options{URL: url, Token: secret})
}

func connect(t testing.TB, o remote.Options) *remote.Client {
	t.Helper()
	c, err := remote.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func admin(t testing.TB) *remote.Client {
	url, data := serve(t)
	return client(t, url, data, hub.TokenRequest{User: "root", Scope: api.ScopeAdmin})
}

func TestStore(t *testing.T) {
	storetest.Test(t, func(t *testing.T) store.Store { return admin(t) })
}

func BenchmarkStore(b *testing.B) {
	storetest.Benchmark(b, func(b *testing.B) store.Store { return admin(b) })
}
