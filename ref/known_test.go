package ref_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/ref"
)

// TestKnown opens an image and expects it among what is known, and nothing that is none.
func TestKnown(t *testing.T) {
	testenv.NoLeaks(t)
	dir := filepath.Join(t.TempDir(), "a[b]*")
	if got := ref.Known(dir); len(got) != 0 {
		t.Errorf("Known of no directory = %v", got)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Known made the directory: %v", err)
	}
	p, d := makeFlist(t)
	h := newHub(t, p, d)
	open(t, h.ref(), ref.Options{Dir: dir})
	for _, junk := range []string{"refs/nohub/a/b/c", "refs/http:%2F%2Fh/a/b/.zosfs-tmp-1", "refs/%zz/a/b/c"} {
		path := filepath.Join(dir, junk)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]ref.Ref{h.ref()}, ref.Known(dir)); diff != "" {
		t.Errorf("Known (-want +got):\n%s", diff)
	}
}

// TestUnreachableHub reads the error of a hub that is not there: the cause first, everything once.
func TestUnreachableHub(t *testing.T) {
	testenv.NoLeaks(t)
	srv := httptest.NewServer(http.NotFoundHandler())
	srv.Close()
	host := strings.TrimPrefix(srv.URL, "http://")
	_, err := ref.Open(t.Context(), ref.Ref{Hub: srv.URL, Owner: "acme", Name: "tree", Tag: "1"}, ref.Options{Dir: t.TempDir()})
	if !errors.Is(err, errs.ErrUnavailable) || errors.Is(err, errs.ErrNotFound) {
		t.Fatalf("Open = %v, want %v", err, errs.ErrUnavailable)
	}
	text := err.Error()
	if !strings.HasPrefix(text, "hub "+host+" does not answer: connection refused (waited ") ||
		!strings.HasSuffix(text, "; acme/tree:1 was never opened here") || strings.Count(text, host) != 1 {
		t.Errorf("Open = %s", text)
	}
}
