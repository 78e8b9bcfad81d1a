package hub_test

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/hub"
	"github.com/zosfs/zosfs/hub/api"
	"github.com/zosfs/zosfs/store/storetest"
)

var links = regexp.MustCompile(`href="([^"]*)"`)

// publicTree publishes root as acme/debian:12 for everybody.
func (w *world) publicTree(root node) api.Tag {
	w.t.Helper()
	acme := w.token("acme", api.ScopeWrite, "")
	b := storetest.NewBlob(0, storetest.Chunk(1, 1500), make([]byte, 200_000))
	w.putBlob(acme, b)
	tag := w.publishFlist(acme, "acme/debian:12", flistOfTree(w.t, b, root, nil))
	w.want(200, "PATCH", "/v1/repos/acme/debian", acme, []byte(`{"public":true}`))
	return tag
}

// page gets a page and checks that it is well-formed and loads nothing from elsewhere.
func (w *world) page(status int, path string) string {
	w.t.Helper()
	r := w.want(status, "GET", path, "", nil)
	if ct := r.Header.Get("Content-Type"); ct != "text/html; charset=utf-8" {
		w.t.Errorf("GET %s: Content-Type %q", path, ct)
	}
	d := xml.NewDecoder(strings.NewReader(string(r.body)))
	d.Strict, d.AutoClose, d.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			return string(r.body)
		}
		if err != nil {
			w.t.Fatalf("GET %s: %v in\n%s", path, err, r.body)
		}
		e, ok := tok.(xml.StartElement)
		if !ok {
			continue
		}
		if n := e.Name.Local; n == "script" || n == "iframe" || n == "form" || n == "style" || n == "marquee" {
			w.t.Errorf("GET %s: element %s", path, n)
		}
		for _, a := range e.Attr {
			outside := strings.Contains(a.Value, "//") && a.Name.Local != "content"
			if strings.HasPrefix(a.Name.Local, "on") || a.Name.Local == "style" || outside || strings.HasPrefix(strings.TrimSpace(a.Value), "javascript:") {
				w.t.Errorf("GET %s: %s has %s=%q", path, e.Name.Local, a.Name.Local, a.Value)
			}
		}
	}
}

func TestPage(t *testing.T) {
	w := newWorld(t, hub.Options{})
	if p := w.page(200, "/"); !strings.Contains(p, "zosfs pack") {
		t.Error("an empty hub does not say how to publish")
	}
	tag := w.publicTree(dir(map[string]node{
		"bin":  {target: "usr/bin"},
		"etc":  dir(map[string]node{"passwd": {chunk: 1}, "empty": {}}),
		"null": {mode: flist.ModeChar | 0o666},
		"su":   {mode: flist.ModeFIFO | 0o4755},
		"usr":  dir(map[string]node{"bin": dir(map[string]node{"sh": {chunk: 2}})}),
		"void": dir(map[string]node{}),
	}))
	digest := tag.Flist.Digest.String()
	for path, wants := range map[string][]string{
		"/":                                  {`href="/acme/debian"`, "1 tag<"},
		"/acme/debian":                       {`href="/acme/debian/tree/12/"`, "zosfs mount " + w.url + "/acme/debian:12 /mnt", digest[:12], "196.8 KiB"},
		"/acme/debian/tree/12/":              {`href="/acme/debian/tree/12/etc/"`, "→ usr/bin", "drwxr-xr-x", "crw-rw-rw-", "prwsr-xr-x", "8, 1", "2025-06-15"},
		"/acme/debian/tree/12/etc":           {`href="/acme/debian/tree/12/etc/passwd/"`, "1.5 KiB", "0 B"},
		"/acme/debian/tree/12/etc/passwd/":   {"-rw-r--r--", "1\u202f500 bytes", "aria-current"},
		"/acme/debian/tree/12/bin/":          {"symlink", "usr/bin"},
		"/acme/debian/tree/12/void/":         {"empty"},
		"/acme/debian/tree/@" + digest + "/": {"zosfs mount " + w.url + "/acme/debian@" + digest + " /mnt"},
	} {
		p := w.page(200, path)
		for _, want := range wants {
			if !strings.Contains(p, want) {
				t.Errorf("GET %s: no %q in\n%s", path, want, p)
			}
		}
		for _, m := range links.FindAllStringSubmatch(p, -1) {
			w.want(200, "GET", strings.ReplaceAll(m[1], "&amp;", "&"), "", nil)
		}
	}
	for _, p := range []string{"/acme/none", "/acme", "/acme/debian/tree/13/", "/acme/debian/tree/12/none", "/acme/debian/tree/12/etc/passwd/x",
		"/acme/debian/tree/@abc/", "/acme/debian/tree/@" + strings.Repeat("ab", 32) + "/", "/acme/debian/tree/12/etc/..%2fusr", "/acme/a:b:c"} {
		w.page(404, p)
	}
	for ref, to := range map[string]string{"/acme/debian:12": "/acme/debian/tree/12/", "/acme/debian@" + digest: "/acme/debian/tree/@" + digest + "/"} {
		if r := w.want(302, "GET", ref, "", nil); r.Header.Get("Location") != to {
			t.Errorf("GET %s leads to %s, want %s", ref, r.Header.Get("Location"), to)
		}
	}
	w.want(405, "POST", "/acme/debian", "", nil)
}

// TestHostileNames: names from a stranger's tree are shown and linked, and never more.
func TestHostileNames(t *testing.T) {
	names := []string{
		"<script>alert(1)<!--", `"><img src=x onerror=alert(1)>`, "' onmouseover='alert(1)", "javascript:alert(1)", "{{.Hub}}", "&lt;b&gt;",
		"\xff\xfe not UTF-8", "a\nb\tc", "\u202egnp.exe", "..\u200b", "%2e%2e", "%3Cscript%3E", "a b?c#d&e=f", `back\slash`, "…", ":8000", "x\x7f\x1b[31m",
	}
	root := map[string]node{}
	for _, n := range names {
		root[n] = dir(map[string]node{n: {target: n}, "deep": {chunk: 1}})
	}
	w := newWorld(t, hub.Options{})
	w.publicTree(dir(root))
	p := w.page(200, "/acme/debian/tree/12/")
	for _, bad := range []string{"<script>alert", "<img src=x", "\xff", "\u202e", "\u200b", "\x1b", "\x7f"} {
		if strings.Contains(p, bad) {
			t.Errorf("the page holds %q", bad)
		}
	}
	for _, want := range []string{`\xff\xfe not UTF-8`, `a\x0ab\x09c`, `\u{202e}gnp.exe`, `x\x7f\x1b[31m`, "&lt;script&gt;alert(1)&lt;!--"} {
		if !strings.Contains(p, want) {
			t.Errorf("the page does not show %q", want)
		}
	}
	for _, n := range names {
		path := "/acme/debian/tree/12/" + url.PathEscape(n) + "/"
		if !strings.Contains(p, `href="`+strings.ReplaceAll(strings.ReplaceAll(path, "&", "&amp;"), "'", "&#39;")+`"`) {
			t.Errorf("no link %s in\n%s", path, p)
		}
		w.page(200, path)
		if q := w.page(200, path+url.PathEscape(n)+"/"); !strings.Contains(q, "symlink") {
			t.Errorf("page of %q in %q: %s", n, n, q)
		}
	}
	w.page(200, "/?after="+url.QueryEscape("<script>"))
	w.page(404, "/%3Cscript%3Ealert(1)%3C%2Fscript%3E/x")
}

func TestLargeDirectory(t *testing.T) {
	root := map[string]node{}
	for i := range 2500 {
		root[fmt.Sprintf("\xffa&b=%04d", i)] = node{}
	}
	w := newWorld(t, hub.Options{})
	w.publicTree(dir(root))
	seen, next := 0, "/acme/debian/tree/12/"
	for pages := 0; next != ""; pages++ {
		if pages > 5 {
			t.Fatal("the pages do not end")
		}
		p := w.page(200, next)
		seen += strings.Count(p, `class="name"`)
		m := regexp.MustCompile(`href="(\?after=[^"]*)"`).FindStringSubmatch(p)
		if next = ""; m != nil {
			next = "/acme/debian/tree/12/" + strings.ReplaceAll(m[1], "&amp;", "&")
		}
	}
	if seen != 2500 {
		t.Errorf("%d entries on all pages, want 2500", seen)
	}
}

// TestManyTrees looks at more versions than are kept open.
func TestManyTrees(t *testing.T) {
	w := newWorld(t, hub.Options{Public: true})
	acme := w.token("acme", api.ScopeWrite, "")
	for i := range 12 {
		w.publishFlist(acme, fmt.Sprintf("acme/x:%d", i), flistOfTree(t, storetest.Blob{}, dir(map[string]node{fmt.Sprint("file", i): {}}), nil))
	}
	for range 2 {
		for i := range 12 {
			if p := w.page(200, fmt.Sprintf("/acme/x/tree/%d/", i)); !strings.Contains(p, fmt.Sprint("file", i)) {
				t.Errorf("page of version %d: %s", i, p)
			}
		}
	}
}
