package ref

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/store/remote"
)

// TestResolveSilentHub bounds the wait for a hub that does not answer, where a version is known.
func TestResolveSilentHub(t *testing.T) {
	testenv.NoLeaks(t)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(srv.Close)
	client, err := remote.New(remote.Options{URL: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	k, err := newKeep(t.TempDir(), false, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	f := &fetcher{keep: k, hub: client, log: slog.New(slog.NewTextHandler(&log, nil)), patience: 50 * time.Millisecond}
	r := Ref{Hub: srv.URL, Owner: "acme", Name: "tree", Tag: "1", Digest: flist.Digest{7}}
	if err := k.remember(r); err != nil {
		t.Fatal(err)
	}
	unresolved := r
	unresolved.Digest = flist.Digest{}
	got, stale, err := f.resolve(t.Context(), unresolved)
	if err != nil || !stale || got != r || !strings.Contains(log.String(), "out of reach") {
		t.Errorf("resolve = %v, %t, %v; want %v, stale; log:\n%s", got, stale, err, r, &log)
	}
	if _, err := f.ask(t.Context(), r, time.Millisecond); !errors.Is(err, errs.ErrUnavailable) {
		t.Errorf("ask = %v, want %v", err, errs.ErrUnavailable)
	}
}
