package hub_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/hub"
	"github.com/zosfs/zosfs/hub/api"
	"github.com/zosfs/zosfs/store/storetest"
)

// TestRights is the table of who gets which status where.
func TestRights(t *testing.T) {
	w := newWorld(t, hub.Options{})
	tokens := map[string]string{
		"nobody": "", "read": w.token("acme", api.ScopeRead, ""), "write": w.token("acme", api.ScopeWrite, ""),
		"narrow": w.token("acme", api.ScopeWrite, "acme/other"), "bob": w.token("bob", api.ScopeWrite, ""),
		"admin": w.token("root", api.ScopeAdmin, ""), "bad": api.TokenPrefix + strings.Repeat("x", 43),
	}
	clock := newClock(w)
	blobs := storetest.Blobs(3)
	priv := w.publish(tokens["write"], "acme/priv:1", blobs[0])
	pub := w.publish(tokens["write"], "acme/pub:1", blobs[1])
	w.want(200, "PATCH", "/v1/repos/acme/pub", tokens["write"], []byte(`{"public":true}`))
	p := flistOf(t, blobs[0], nil)
	names := []string{"nobody", "read", "write", "narrow", "bob", "admin", "bad"}
	for _, c := range []struct {
		method, path string
		body         []byte
		want         string // status for each name
	}{
		{"GET", "/v1", nil, "200 200 200 200 200 200 401"},
		{"GET", "/healthz", nil, "200 200 200 200 200 200 401"},
		{"GET", "/v1/whoami", nil, "401 200 200 200 200 200 401"},
		{"GET", "/v1/tokens", nil, "401 200 200 200 200 200 401"},
		{"GET", "/v1/repos", nil, "200 200 200 200 200 200 401"},
		{"GET", "/v1/repos/acme/priv", nil, "404 200 200 404 404 200 401"},
		{"GET", "/v1/repos/acme/priv/tags", nil, "404 200 200 404 404 200 401"},
		{"GET", "/v1/repos/acme/priv/tags/1", nil, "404 200 200 404 404 200 401"},
		{"GET", "/v1/repos/acme/priv/tags/1/moves", nil, "404 200 200 404 404 200 401"},
		{"GET", "/v1/repos/acme/priv/flists", nil, "404 200 200 404 404 200 401"},
		{"GET", "/v1/repos/acme/priv/flists/" + priv.Flist.Digest.String(), nil, "404 200 200 404 404 200 401"},
		{"HEAD", blobPath(blobs[0]), nil, "404 200 200 404 404 200 401"},
		{"GET", blobPath(blobs[0]), nil, "404 200 200 404 404 200 401"},
		{"GET", "/v1/repos/acme/pub/tags/1", nil, "200 200 200 200 200 200 401"},
		{"GET", "/v1/repos/acme/pub/flists/" + pub.Flist.Digest.String(), nil, "200 200 200 200 200 200 401"},
		{"GET", "/v1/repos/acme/pub/flists/" + priv.Flist.Digest.String(), nil, "404 404 404 404 404 404 401"},
		{"GET", blobPath(blobs[1]), nil, "200 200 200 200 200 200 401"},
		{"GET", blobPath(blobs[2]), nil, "404 404 404 404 404 404 401"},
		{"GET", "/v1/blobs", nil, "401 403 403 403 403 200 401"},
		{"DELETE", blobPath(blobs[2]), nil, "401 403 403 403 403 204 401"},
		{"PATCH", "/v1/repos/acme/priv", []byte(`{"public":false}`), "401 403 200 403 403 200 401"},
		{"PATCH", "/v1/repos/acme/absent", []byte(`{"public":false}`), "401 403 404 403 403 404 401"},
		{"DELETE", "/v1/repos/acme/priv/tags/none", nil, "401 403 404 403 403 404 401"},
		{"PUT", "/v1/repos/acme/priv/tags/1", p, "401 403 201 403 403 201 401"},
		{"PUT", "/v1/repos/acme/absent/tags/1", []byte("x"), "401 403 415 403 403 415 401"},
		{"PUT", blobPath(blobs[0]), blobs[0].Data, "401 403 201 201 201 201 401"},
		{"GET", blobPath(blobs[0]), nil, "404 200 200 200 200 200 401"}, // all have proved to hold it
		{"GET", "/v1/nothing", nil, "404 404 404 404 404 404 401"},
		{"POST", "/v1/whoami", nil, "405 405 405 405 405 405 401"},
	} {
		var got []string
		for _, n := range names {
			clock.add(time.Second) // or so many failures are answered otherwise
			r := w.do(c.method, c.path, tokens[n], c.body)
			got = append(got, fmt.Sprint(r.StatusCode))
			if r.StatusCode >= 400 && c.method != "HEAD" && r.code() == "" {
				t.Errorf("%s %s as %s: no error body: %s", c.method, c.path, n, r.body)
			}
			if r.StatusCode == 401 && r.Header.Get("WWW-Authenticate") == "" {
				t.Errorf("%s %s as %s: 401 without WWW-Authenticate", c.method, c.path, n)
			}
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s %s\n%v\n got %s\nwant %s", c.method, c.path, names, s, c.want)
		}
	}
	var list api.Repos
	w.want(200, "GET", "/v1/repos", tokens["bob"], nil).into(t, &list)
	if len(list.Repos) != 1 || list.Repos[0].Name != "pub" {
		t.Errorf("bob sees %+v, want acme/pub alone", list.Repos)
	}
}

func TestBadAuthorization(t *testing.T) {
	w := newWorld(t, hub.Options{})
	good := w.token("acme", api.ScopeRead, "")
	for _, h := range []string{"Bearer", "Bearer ", "Basic YTpi", good, "Bearer  " + good, "Bearer " + good + "x", "Bearer x" + good, "Bearer " + good[:48]} {
		if r := w.do("GET", "/v1", "", nil, "Authorization", h); r.StatusCode != 401 || r.code() != api.CodeUnauthenticated {
			t.Errorf("Authorization %.20q: status %d, %s", h, r.StatusCode, r.body)
		}
	}
	w.want(200, "GET", "/v1/whoami", "", nil, "Authorization", "bearer "+good)
}

func TestTokenLife(t *testing.T) {
	w := newWorld(t, hub.Options{})
	clock := newClock(w)
	secret, info, err := hub.CreateToken(t.Context(), w.data, hub.TokenRequest{User: "acme", Name: "ci", Scope: api.ScopeWrite, Expires: clock.now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	var who api.Whoami
	w.want(200, "GET", "/v1/whoami", secret, nil).into(t, &who)
	if who.User != "acme" || who.Token != "ci" || who.Scope != api.ScopeWrite || who.Expires == nil {
		t.Errorf("whoami = %+v", who)
	}
	clock.add(time.Hour)
	w.want(401, "GET", "/v1/whoami", secret, nil)
	clock.add(-time.Minute)
	w.want(200, "GET", "/v1/whoami", secret, nil)
	list, err := hub.ListTokens(t.Context(), w.data, "acme")
	if err != nil || len(list) != 1 || list[0].LastUsed == nil {
		t.Errorf("ListTokens = %+v, %v, want one that was used", list, err)
	}
	if err := hub.RevokeToken(t.Context(), w.data, info.ID); err != nil {
		t.Fatal(err)
	}
	w.want(401, "GET", "/v1/whoami", secret, nil)
	if err := hub.RevokeToken(t.Context(), w.data, 999); !errors.Is(err, errs.ErrNotFound) {
		t.Errorf("RevokeToken(none) = %v, want %v", err, errs.ErrNotFound)
	}
	if _, err := hub.ListTokens(t.Context(), t.TempDir(), ""); !errors.Is(err, errs.ErrNotFound) {
		t.Errorf("ListTokens in a directory of no hub = %v, want %v", err, errs.ErrNotFound)
	}
	for name, r := range map[string]hub.TokenRequest{
		"no user": {Scope: api.ScopeRead}, "bad user": {User: "../x", Scope: api.ScopeRead}, "no scope": {User: "a"},
		"past": {User: "a", Scope: api.ScopeRead, Expires: clock.now().Add(-time.Hour)}, "pattern": {User: "a", Scope: api.ScopeRead, Pattern: "x"},
	} {
		if _, _, err := hub.CreateToken(t.Context(), w.data, r); !errors.Is(err, errs.ErrFormat) {
			t.Errorf("CreateToken(%s) = %v, want %v", name, err, errs.ErrFormat)
		}
	}
}

// TestTokensDoNotGrow: a token makes no token that can do more than itself.
func TestTokensDoNotGrow(t *testing.T) {
	w := newWorld(t, hub.Options{})
	soon, later := time.Now().Add(time.Hour), time.Now().Add(2*time.Hour)
	read, write, narrow := w.token("acme", api.ScopeRead, ""), w.token("acme", api.ScopeWrite, ""), w.token("acme", api.ScopeWrite, "acme/x")
	short, _, err := hub.CreateToken(t.Context(), w.data, hub.TokenRequest{User: "acme", Scope: api.ScopeWrite, Expires: soon})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		token  string
		ask    api.TokenRequest
		status int
	}{
		{"nobody", "", api.TokenRequest{Name: "n", Scope: api.ScopeRead}, 401},
		{"read to read", read, api.TokenRequest{Name: "n", Scope: api.ScopeRead}, 200},
		{"read to write", read, api.TokenRequest{Name: "n", Scope: api.ScopeWrite}, 403},
		{"write to admin", write, api.TokenRequest{Name: "n", Scope: api.ScopeAdmin}, 403},
		{"write to narrowed", write, api.TokenRequest{Name: "n", Scope: api.ScopeWrite, Pattern: "acme/y*"}, 200},
		{"narrowed to wide", narrow, api.TokenRequest{Name: "n", Scope: api.ScopeRead}, 403},
		{"narrowed to other", narrow, api.TokenRequest{Name: "n", Scope: api.ScopeRead, Pattern: "acme/*"}, 403},
		{"narrowed to same", narrow, api.TokenRequest{Name: "n", Scope: api.ScopeRead, Pattern: "acme/x"}, 200},
		{"short to endless", short, api.TokenRequest{Name: "n", Scope: api.ScopeRead}, 403},
		{"short to later", short, api.TokenRequest{Name: "n", Scope: api.ScopeRead, Expires: &later}, 403},
		{"short to short", short, api.TokenRequest{Name: "n", Scope: api.ScopeRead, Expires: &soon}, 200},
		{"no name", write, api.TokenRequest{Scope: api.ScopeRead}, 400},
		{"no such scope", write, api.TokenRequest{Name: "n", Scope: "root"}, 400},
		{"bad pattern", write, api.TokenRequest{Name: "n", Scope: api.ScopeRead, Pattern: "?"}, 400},
	} {
		body, err := json.Marshal(c.ask)
		if err != nil {
			t.Fatal(err)
		}
		r := w.do("POST", "/v1/tokens", c.token, body, "Content-Type", "application/json")
		if r.StatusCode != c.status {
			t.Errorf("%s: status %d, want %d: %s", c.name, r.StatusCode, c.status, r.body)
			continue
		}
		if c.status != 200 {
			continue
		}
		var made api.NewToken
		r.into(t, &made)
		var who api.Whoami
		w.want(200, "GET", "/v1/whoami", made.Secret, nil).into(t, &who)
		if who.User != "acme" || who.Scope != c.ask.Scope || who.Pattern != c.ask.Pattern {
			t.Errorf("%s: made %+v", c.name, who)
		}
	}
	for _, body := range []string{"", "{", "[]", `{"name":"n"}`, `{"name":"n","scope":"read","extra":1}`, `{"name":1,"scope":"read"}`, strings.Repeat(" ", 100<<10)} {
		r := w.do("POST", "/v1/tokens", write, []byte(body), "Content-Type", "application/json")
		if (r.StatusCode != 400 && r.StatusCode != 413) || r.code() == "" || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("POST %.30q: status %d %s: %s", body, r.StatusCode, r.Header.Get("Content-Type"), r.body)
		}
	}
}

func TestRevokeByAPI(t *testing.T) {
	w := newWorld(t, hub.Options{})
	write, narrow, bob, admin := w.token("acme", api.ScopeWrite, ""), w.token("acme", api.ScopeWrite, "acme/x"), w.token("bob", api.ScopeWrite, ""), w.token("root", api.ScopeAdmin, "")
	ids := map[string]int64{}
	list, err := hub.ListTokens(t.Context(), w.data, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range list {
		ids[x.User+x.Pattern] = x.ID
	}
	path := func(id int64) string { return fmt.Sprintf("/v1/tokens/%d", id) }
	w.want(404, "DELETE", path(ids["bob"]), write, nil)
	w.want(403, "DELETE", path(ids["acme"]), narrow, nil)
	w.want(400, "DELETE", "/v1/tokens/x", write, nil)
	w.want(204, "DELETE", path(ids["acmeacme/x"]), narrow, nil)
	w.want(401, "GET", "/v1/whoami", narrow, nil)
	w.want(204, "DELETE", path(ids["bob"]), admin, nil)
	w.want(401, "GET", "/v1/whoami", bob, nil)
	w.want(204, "DELETE", path(ids["acme"]), write, nil)
	w.want(401, "GET", "/v1/whoami", write, nil)
}

// TestFailedAuthentications: an address with many is told to wait, and a valid token from
// the same address is not held up by that.
func TestFailedAuthentications(t *testing.T) {
	w := newWorld(t, hub.Options{})
	clock := newClock(w)
	good, bad := w.token("acme", api.ScopeRead, ""), api.TokenPrefix+strings.Repeat("x", 43)
	for i := range 20 {
		if r := w.do("GET", "/v1", bad, nil); r.StatusCode != 401 {
			t.Fatalf("failure %d: status %d", i, r.StatusCode)
		}
	}
	r := w.want(429, "GET", "/v1", bad, nil)
	if r.code() != api.CodeRateLimited || r.Header.Get("Retry-After") == "" {
		t.Errorf("429: %s, Retry-After %q", r.body, r.Header.Get("Retry-After"))
	}
	w.want(200, "GET", "/v1/whoami", good, nil)
	clock.add(2 * time.Second)
	w.want(401, "GET", "/v1", bad, nil)
}
