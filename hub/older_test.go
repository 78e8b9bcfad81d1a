package hub_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/zosfs/zosfs/hub"
	"github.com/zosfs/zosfs/hub/api"
	"github.com/zosfs/zosfs/store/storetest"
)

// The tests of this file are about weaknesses of older servers of this family: each shows
// one that we do not have.

// TestNoFileReads: no path, however written, reads a file that is not an answer.
func TestNoFileReads(t *testing.T) {
	w := newWorld(t, hub.Options{})
	secret := "the token of " + w.token("acme", api.ScopeAdmin, "")
	if err := os.WriteFile(w.data+"/config.toml", []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{
		"/config.toml", "/hub.db", "/lock", "/tmp", "/flists/", "/blobs/", "/../config.toml", "/%2e%2e/config.toml", "/..%2fconfig.toml",
		"/assets/..%2f..%2fhub.db", "/assets/../hub.db", "/assets/%2e%2e/%2e%2e/etc/passwd", "/assets/", "/assets",
		"/v1/blobs/..%2f..%2fconfig.toml", "/v1/blobs/%2fetc%2fpasswd", "/v1/blobs/..%2fhub.db", "/v1/blobs/abc", "/v1/blobs/%00",
		"/v1/repos/acme/x/flists/..%2f..%2f..%2fhub.db", "/v1/repos/..%2f../x/flists/a", "/v1/blobs//etc/passwd", "//etc/passwd", "/\\etc\\passwd",
	} {
		for _, method := range []string{"GET", "HEAD"} {
			r := w.do(method, p, "", nil)
			if r.StatusCode < 300 || bytes.Contains(r.body, []byte("SQLite format")) || bytes.Contains(r.body, []byte("the token of")) || bytes.Contains(r.body, []byte("root:")) {
				t.Errorf("%s %s: status %d: %.100s", method, p, r.StatusCode, r.body)
			}
		}
	}
	for _, f := range []string{"hub.db", "lock"} {
		if fi, err := os.Stat(w.data + "/" + f); err != nil || fi.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v, want it for the owner alone", f, fi.Mode(), err)
		}
	}
}

// TestSecretsAreHashed: the data directory does not hold tokens, the log neither, and no
// answer but the one that makes them.
func TestSecretsAreHashed(t *testing.T) {
	var log bytes.Buffer
	data := t.TempDir()
	w := newWorld(t, hub.Options{Data: data, Log: slog.New(slog.NewTextHandler(&log, nil))})
	token := w.token("acme", api.ScopeAdmin, "")
	w.publish(token, "acme/x:1", storetest.Blobs(1)[0])
	for _, p := range []string{"/v1/tokens", "/v1/whoami", "/v1/repos?token=" + token, "/"} {
		if r := w.do("GET", p, token, nil); bytes.Contains(r.body, []byte(token[6:])) {
			t.Errorf("GET %s tells the token", p)
		}
	}
	if bytes.Contains(log.Bytes(), []byte(token[6:])) || !bytes.Contains(log.Bytes(), []byte("user=acme")) {
		t.Errorf("the log has the token, or not the user:\n%s", &log)
	}
	for _, f := range []string{"/hub.db", "/hub.db-wal"} {
		if p, err := os.ReadFile(data + f); err != nil || bytes.Contains(p, []byte(token[6:])) {
			t.Errorf("%s holds the token, or: %v", f, err)
		}
	}
}

// TestNoChangeByGET: no GET or HEAD changes anything, no answer invites other origins, and
// a cookie is worth nothing.
func TestNoChangeByGET(t *testing.T) {
	w := newWorld(t, hub.Options{})
	admin := w.token("acme", api.ScopeAdmin, "")
	b := storetest.Blobs(1)[0]
	w.publish(admin, "acme/x:1", b)
	var spec struct {
		Paths map[string]map[string]json.RawMessage `json:"paths"`
	}
	if err := json.Unmarshal(w.want(200, "GET", "/openapi.json", "", nil).body, &spec); err != nil {
		t.Fatal(err)
	}
	fill := strings.NewReplacer("{owner}", "acme", "{name}", "x", "{tag}", "1", "{digest}", b.Digest.String(), "{id}", "1")
	for path := range spec.Paths {
		for _, method := range []string{"GET", "HEAD", "OPTIONS"} {
			r := w.do(method, fill.Replace(path), admin, nil, "Origin", "https://evil.example", "Access-Control-Request-Method", "DELETE")
			for name := range r.Header {
				if strings.HasPrefix(name, "Access-Control-") || name == "Set-Cookie" {
					t.Errorf("%s %s: header %s", method, path, name)
				}
			}
		}
	}
	w.want(200, "GET", "/v1/repos/acme/x/tags/1", admin, nil)
	w.want(200, "GET", "/v1/whoami", admin, nil)
	r := w.do("DELETE", "/v1/repos/acme/x/tags/1", "", nil, "Cookie", "token="+admin+"; session="+admin)
	if r.StatusCode != 401 {
		t.Errorf("DELETE with a cookie: status %d, want 401", r.StatusCode)
	}
	w.want(401, "DELETE", "/v1/repos/acme/x/tags/1?token="+admin+"&access_token="+admin, "", nil)
}

// TestOthersContent: nobody changes or reads what is another's by naming it, and two who put
// the same bytes do not disturb each other.
func TestOthersContent(t *testing.T) {
	w := newWorld(t, hub.Options{})
	acme, bob := w.token("acme", api.ScopeWrite, ""), w.token("bob", api.ScopeWrite, "")
	b := storetest.Blobs(1)[0]
	tag := w.publish(acme, "acme/x:1", b)
	// Naming the blob, its chunks or the flist gives bob nothing.
	if n := w.locate(bob, b); n > 0 {
		t.Errorf("bob finds %d chunks that only acme has", n)
	}
	w.want(404, "HEAD", blobPath(b), bob, nil)
	w.want(404, "GET", "/v1/repos/acme/x/flists/"+tag.Flist.Digest.String(), bob, nil)
	w.want(404, "GET", "/v1/repos/bob/x/flists/"+tag.Flist.Digest.String(), bob, nil)
	w.want(409, "PUT", "/v1/repos/bob/x/tags/1", bob, flistOf(t, b, nil))
	// Claiming other bytes for the name changes nothing.
	evil := bytes.Clone(b.Data)
	evil[50] ^= 1
	w.want(422, "PUT", blobPath(b), bob, evil)
	// The same upload by both is one blob that both have.
	w.publish(bob, "bob/x:1", b)
	for _, token := range []string{acme, bob} {
		if r := w.want(200, "GET", blobPath(b), token, nil); !bytes.Equal(r.body, b.Data) {
			t.Error("the blob has other bytes")
		}
		if n := w.locate(token, b); n != 3 {
			t.Errorf("%d chunks are found, want 3: known content would be sent again", n)
		}
	}
	// Whether a blob was there is not told.
	first := w.want(201, "PUT", blobPath(storetest.Blobs(2)[1]), bob, storetest.Blobs(2)[1].Data)
	second := w.want(201, "PUT", blobPath(storetest.Blobs(2)[1]), acme, storetest.Blobs(2)[1].Data)
	if !bytes.Equal(first.body, second.body) {
		t.Errorf("the first upload is answered with %s, the second with %s", first.body, second.body)
	}
}

// TestNothingListed: content can be listed by an admin alone.
func TestNothingListed(t *testing.T) {
	w := newWorld(t, hub.Options{})
	acme := w.token("acme", api.ScopeWrite, "")
	b := storetest.Blobs(1)[0]
	w.publish(acme, "acme/private-thing:1", b)
	for _, p := range []string{"/", "/v1/repos", "/v1/repos?owner=acme", "/v1/blobs", "/acme/private-thing", "/acme", "/acme/private-thing/tree/1/"} {
		r := w.do("GET", p, "", nil)
		if strings.Contains(string(r.body), "private-thing") || strings.Contains(string(r.body), b.Digest.String()) {
			t.Errorf("GET %s tells of a private repository: %.300s", p, r.body)
		}
	}
	absent, private := w.do("GET", "/v1/repos/acme/none", "", nil), w.do("GET", "/v1/repos/acme/private-thing", "", nil)
	if absent.StatusCode != private.StatusCode || !bytes.Equal(absent.body, private.body) {
		t.Errorf("what is not there and what may not be seen differ: %s, %s", absent.body, private.body)
	}
}

// TestReadsDoNotWrite: serving a blob writes no row, so readers do not queue for the one
// writer. The use of a token is noted once in ten minutes.
func TestReadsDoNotWrite(t *testing.T) {
	w := newWorld(t, hub.Options{})
	acme := w.token("acme", api.ScopeWrite, "")
	b := storetest.Blobs(1)[0]
	w.publish(acme, "acme/x:1", b)
	before, err := os.Stat(w.data + "/hub.db-wal")
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		w.want(200, "GET", blobPath(b), acme, nil)
		w.locate(acme, b)
		w.want(200, "GET", "/v1/repos/acme/x/tags/1", acme, nil)
	}
	if after, err := os.Stat(w.data + "/hub.db-wal"); err != nil || after.Size() != before.Size() || !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("reads wrote to the database: %v, %v", after, err)
	}
}

// TestMethodsAndHeaders: all answers say that they are not to be guessed at or framed.
func TestSafeHeaders(t *testing.T) {
	w := newWorld(t, hub.Options{})
	for _, p := range []string{"/", "/v1", "/none", "/v1/none", "/openapi.json", "/openapi.yaml", "/healthz", "/assets/style.css"} {
		h := w.do("GET", p, "", nil).Header
		csp := h.Get("Content-Security-Policy")
		if h.Get("X-Content-Type-Options") != "nosniff" || !strings.HasPrefix(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") ||
			strings.Contains(csp, "script-src") || !strings.Contains(csp, "frame-ancestors 'none'") || h.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("headers of %s: %v", p, h)
		}
	}
	if r := w.do(http.MethodTrace, "/v1", "", nil); r.StatusCode != 405 {
		t.Errorf("TRACE: status %d, want 405", r.StatusCode)
	}
}
