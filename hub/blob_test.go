package hub_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/hub"
	"github.com/zosfs/zosfs/hub/api"
	"github.com/zosfs/zosfs/store/storetest"
)

func TestBlobRanges(t *testing.T) {
	w := newWorld(t, hub.Options{})
	acme := w.token("acme", api.ScopeWrite, "")
	b := storetest.NewBlob(0, storetest.Chunk(1, 100_000))
	w.putBlob(acme, b)
	size, etag := b.Size(), `"`+b.Digest.String()+`"`
	for _, c := range []struct {
		header   []string
		status   int
		off, end int64 // of what comes
	}{
		{nil, 200, 0, size},
		{[]string{"Range", "bytes=0-0"}, 206, 0, 1},
		{[]string{"Range", "bytes=10-99"}, 206, 10, 100},
		{[]string{"Range", "bytes=99000-"}, 206, 99_000, size},
		{[]string{"Range", "bytes=-56"}, 206, size - 56, size},
		{[]string{"Range", "bytes=5-999999999"}, 206, 5, size},
		{[]string{"Range", "bytes=-999999999"}, 206, 0, size},
		{[]string{"Range", fmt.Sprintf("bytes=%d-", size)}, 416, 0, 0},
		{[]string{"Range", "bytes=200000-300000"}, 416, 0, 0},
		{[]string{"Range", "bytes=5-2"}, 416, 0, 0},
		{[]string{"Range", "bytes=99999999999999999999-"}, 416, 0, 0},
		{[]string{"Range", "bytes=10-99", "If-Range", etag}, 206, 10, 100},
		{[]string{"Range", "bytes=10-99", "If-Range", `"other"`}, 200, 0, size},
		{[]string{"If-None-Match", etag}, 304, 0, 0},
	} {
		r := w.do("GET", blobPath(b), acme, nil, c.header...)
		if r.StatusCode != c.status {
			t.Errorf("GET with %q: status %d, want %d", c.header, r.StatusCode, c.status)
			continue
		}
		if c.status < 300 && !bytes.Equal(r.body, b.Data[c.off:c.end]) {
			t.Errorf("GET with %q: %d bytes, want [%d, %d)", c.header, len(r.body), c.off, c.end)
		}
		if want := fmt.Sprintf("bytes %d-%d/%d", c.off, c.end-1, size); c.status == 206 && r.Header.Get("Content-Range") != want {
			t.Errorf("GET with %q: Content-Range %q, want %q", c.header, r.Header.Get("Content-Range"), want)
		}
		if want := fmt.Sprintf("bytes */%d", size); c.status == 416 && !strings.HasPrefix(c.header[1], "bytes=5-2") &&
			!strings.Contains(c.header[1], "99999999999999999999") && r.Header.Get("Content-Range") != want {
			t.Errorf("GET with %q: Content-Range %q, want %q", c.header, r.Header.Get("Content-Range"), want)
		}
	}
	r := w.want(200, "HEAD", blobPath(b), acme, nil)
	if r.ContentLength != size || r.Header.Get("ETag") != etag || r.Header.Get("Content-Type") != api.TypeBlob || r.Header.Get("Accept-Ranges") != "bytes" {
		t.Errorf("HEAD: length %d, headers %v", r.ContentLength, r.Header)
	}
}

func TestBlobManyRanges(t *testing.T) {
	w := newWorld(t, hub.Options{})
	acme := w.token("acme", api.ScopeWrite, "")
	b := storetest.Blobs(1)[0]
	w.putBlob(acme, b)
	r := w.want(206, "GET", blobPath(b), acme, nil, "Range", "bytes=0-9,100-119")
	_, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	m := multipart.NewReader(bytes.NewReader(r.body), params["boundary"])
	for _, want := range [][]byte{b.Data[0:10], b.Data[100:120]} {
		part, err := m.NextPart()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(part); err != nil || !bytes.Equal(got, want) {
			t.Errorf("part = %d bytes, %v, want %d", len(got), err, len(want))
		}
	}
	// More ranges than the blob has bytes are no way to make us send more.
	r = w.want(200, "GET", blobPath(b), acme, nil, "Range", "bytes=0-"+strings.Repeat(",0-", 500))
	if !bytes.Equal(r.body, b.Data) {
		t.Errorf("GET of 500 times the whole: %d bytes, want %d", len(r.body), len(b.Data))
	}
}

func TestCacheHeaders(t *testing.T) {
	w := newWorld(t, hub.Options{})
	acme := w.token("acme", api.ScopeWrite, "")
	b := storetest.Blobs(1)[0]
	tag := w.publish(acme, "acme/x:1", b)
	paths := []string{blobPath(b), "/v1/repos/acme/x/flists/" + tag.Flist.Digest.String()}
	for _, p := range paths {
		if got := w.want(200, "GET", p, acme, nil).Header.Get("Cache-Control"); got != "private, no-cache" {
			t.Errorf("Cache-Control of private %s = %q", p, got)
		}
		w.want(404, "GET", p, "", nil)
	}
	w.want(200, "PATCH", "/v1/repos/acme/x", acme, []byte(`{"public":true}`))
	for _, p := range paths {
		r := w.want(200, "GET", p, "", nil)
		if got := r.Header.Get("Cache-Control"); !strings.HasPrefix(got, "public, ") || !strings.Contains(got, "immutable") {
			t.Errorf("Cache-Control of public %s = %q", p, got)
		}
		if r.Header.Get("Vary") != "Authorization" {
			t.Errorf("Vary of %s = %q", p, r.Header.Get("Vary"))
		}
	}
}

// TestPutBlobRefused: what is not exactly a valid blob of that name leaves no trace.
func TestPutBlobRefused(t *testing.T) {
	w := newWorld(t, hub.Options{})
	acme, admin := w.token("acme", api.ScopeWrite, ""), w.token("root", api.ScopeAdmin, "")
	b, other := storetest.Blobs(2)[0], storetest.Blobs(2)[1]
	poison := bytes.Clone(b.Data)
	poison[20] ^= 1 // in the first chunk: the table still promises the old one
	text := []byte("not a blob at all")
	unknown := storetest.NewBlob(0, storetest.Chunk(1, 100))
	foreign := withCodec(unknown, blob.CodecZstdAES)
	path := func(p []byte) string { return "/v1/blobs/" + blob.Sum(p).String() }
	for name, c := range map[string]struct {
		path   string
		body   []byte
		header []string
		status int
		code   api.Code
	}{
		"another blob's name":   {blobPath(b), other.Data, nil, 422, api.CodeCorrupt},
		"a poisoned chunk":      {path(poison), poison, nil, 422, api.CodeCorrupt},
		"a text":                {path(text), text, nil, 422, api.CodeCorrupt},
		"nothing":               {path(nil), nil, nil, 422, api.CodeCorrupt},
		"a codec of the future": {path(foreign), foreign, nil, 415, api.CodeFormat},
		"larger than any":       {path(text), make([]byte, blob.MaxSize+1), nil, 413, api.CodeTooLarge},
		"no digest":             {"/v1/blobs/abc", b.Data, nil, 400, api.CodeBadRequest},
		"upper case":            {"/v1/blobs/" + strings.ToUpper(b.Digest.String()), b.Data, nil, 400, api.CodeBadRequest},
		"compressed":            {blobPath(b), b.Data, []string{"Content-Encoding", "gzip"}, 400, api.CodeBadRequest},
		"a part":                {blobPath(b), b.Data, []string{"Content-Range", "bytes 0-1/2"}, 400, api.CodeBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			if r := w.want(c.status, "PUT", c.path, acme, c.body, c.header...); r.code() != c.code {
				t.Errorf("code %q, want %q", r.code(), c.code)
			}
		})
	}
	var all api.Blobs
	w.want(200, "GET", "/v1/blobs", admin, nil).into(t, &all)
	if len(all.Blobs) > 0 || w.locate(acme, b) > 0 {
		t.Errorf("after refused uploads there are %v", all.Blobs)
	}
	if left, err := os.ReadDir(w.data + "/tmp"); err != nil || len(left) > 0 {
		t.Errorf("files left of refused uploads: %v, %v", left, err)
	}
}

// withCodec returns a blob like b whose chunks claim another codec.
func withCodec(b storetest.Blob, c blob.Codec) []byte {
	w := blob.NewWriter(0)
	for i, r := range b.Table.Refs {
		w.Add(blob.Sealed{Chunk: r.Chunk, Size: r.Size, Codec: c, Data: b.Plain[i]})
	}
	p, _, _ := w.Finish()
	return p
}

// TestPutBlobCutOff: a connection that ends early leaves nothing.
func TestPutBlobCutOff(t *testing.T) {
	w := newWorld(t, hub.Options{})
	acme, admin := w.token("acme", api.ScopeWrite, ""), w.token("root", api.ScopeAdmin, "")
	b := storetest.Blobs(1)[0]
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(w.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	_, _ = fmt.Fprintf(conn, "PUT %s HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s", blobPath(b), acme, b.Size(), b.Data[:100])
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 400 ") {
		t.Errorf("answer to half a body = %.100q, %v, want 400", answer, err)
	}
	_ = conn.Close()
	var all api.Blobs
	w.want(200, "GET", "/v1/blobs", admin, nil).into(t, &all)
	if left, err := os.ReadDir(w.data + "/tmp"); err != nil || len(left)+len(all.Blobs) > 0 {
		t.Errorf("half a body left %v and %v, %v", left, all.Blobs, err)
	}
}

// TestSendfile: what handlers write to takes files the short way, and does so for blobs.
func TestSendfile(t *testing.T) {
	w := newWorld(t, hub.Options{})
	acme := w.token("acme", api.ScopeWrite, "")
	b := storetest.NewBlob(0, storetest.Chunk(1, 1<<20))
	w.putBlob(acme, b)
	var seen, fromFile int
	h := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if _, ok := rw.(io.ReaderFrom); !ok {
			t.Errorf("%T, which net/http gives, is no io.ReaderFrom", rw)
		}
		w.Handler().ServeHTTP(&spyWriter{rw, &seen, &fromFile}, r)
	})
	srv := httptest.NewServer(h)
	defer srv.Close()
	direct := *w
	direct.url = srv.URL
	direct.want(200, "GET", blobPath(b), acme, nil)
	direct.want(206, "GET", blobPath(b), acme, nil, "Range", "bytes=1000-600000")
	if seen != 2 || fromFile != 2 {
		t.Errorf("of 2 downloads %d came to ReadFrom, %d of them with the file itself", seen, fromFile)
	}
}

// spyWriter notes what comes to ReadFrom, where net/http decides on sendfile.
type spyWriter struct {
	http.ResponseWriter
	seen, fromFile *int
}

func (s *spyWriter) ReadFrom(r io.Reader) (int64, error) {
	*s.seen++
	if l, ok := r.(*io.LimitedReader); ok {
		if _, ok := l.R.(*os.File); ok {
			*s.fromFile++
		}
	}
	return s.ResponseWriter.(io.ReaderFrom).ReadFrom(r)
}

// TestPutMeetsDelete: an acknowledged upload is there, whatever deletions ran beside it.
func TestPutMeetsDelete(t *testing.T) {
	w := newWorld(t, hub.Options{})
	acme, admin := w.token("acme", api.ScopeWrite, ""), w.token("root", api.ScopeAdmin, "")
	b := storetest.Blobs(1)[0]
	for range 20 {
		g, _ := errgroup.WithContext(context.WithoutCancel(t.Context()))
		for range 3 {
			g.Go(func() error { w.want(201, "PUT", blobPath(b), acme, b.Data); return nil })
			g.Go(func() error { w.want(204, "DELETE", blobPath(b), admin, nil); return nil })
		}
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		r := w.do("GET", blobPath(b), acme, nil)
		if r.StatusCode == 503 {
			t.Fatalf("a blob has rows and no file: %s", r.body)
		}
		w.putBlob(acme, b)
		if r := w.want(200, "GET", blobPath(b), acme, nil); !bytes.Equal(r.body, b.Data) {
			t.Fatal("GET after PUT: other bytes")
		}
	}
}

func TestDeleteBlob(t *testing.T) {
	w := newWorld(t, hub.Options{})
	acme, admin := w.token("acme", api.ScopeWrite, ""), w.token("root", api.ScopeAdmin, "")
	blobs := storetest.Blobs(2)
	w.publish(acme, "acme/x:1", blobs[0])
	w.putBlob(acme, blobs[1])
	if r := w.want(409, "DELETE", blobPath(blobs[0]), admin, nil); r.code() != api.CodeConflict {
		t.Errorf("code %q", r.code())
	}
	w.want(200, "GET", blobPath(blobs[0]), acme, nil)
	w.want(403, "DELETE", blobPath(blobs[1]), acme, nil)
	w.want(401, "DELETE", blobPath(blobs[1]), "", nil)
	w.want(204, "DELETE", blobPath(blobs[1]), admin, nil)
	w.want(404, "GET", blobPath(blobs[1]), acme, nil)
	if n := w.locate(acme, blobs[1]); n > 0 {
		t.Errorf("%d chunks of a deleted blob are found", n)
	}
}

func TestLocate(t *testing.T) {
	w := newWorld(t, hub.Options{})
	acme := w.token("acme", api.ScopeWrite, "")
	b := storetest.Blobs(1)[0]
	w.publish(acme, "acme/x:1", b)
	if n := w.locate(acme, b); n != 3 {
		t.Errorf("the owner finds %d chunks, want 3", n)
	}
	if n := w.locate("", b); n != 0 {
		t.Errorf("nobody finds %d chunks of a private repository", n)
	}
	for name, body := range map[string][]byte{"not whole": make([]byte, 33), "zero": make([]byte, 32)} {
		if r := w.want(400, "POST", "/v1/chunks/locate", acme, body); r.code() != api.CodeBadRequest {
			t.Errorf("%s: code %q", name, r.code())
		}
	}
	w.want(413, "POST", "/v1/chunks/locate", acme, make([]byte, api.MaxLocateRequest+32))
}
