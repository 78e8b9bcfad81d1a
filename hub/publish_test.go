package hub_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/hub"
	"github.com/zosfs/zosfs/hub/api"
	"github.com/zosfs/zosfs/store/storetest"
)

func TestPublish(t *testing.T) {
	w := newWorld(t, hub.Options{})
	acme := w.token("acme", api.ScopeWrite, "")
	blobs := storetest.Blobs(2)
	one := w.publish(acme, "acme/debian:12", blobs[0])
	p := flistOf(t, blobs[0], nil)
	if want := api.Digest(chunk.Sum(p)); one.Flist.Digest != want || one.Flist.Size != int64(len(p)) || one.Name != "12" {
		t.Errorf("published %+v, want the digest %v and size %d of the file", one, want, len(p))
	}
	if c := one.Flist.Counts; c.Entries != 3 || c.Files != 3 || c.Chunks != 3 || c.Blobs != 1 || c.Dirs != 1 {
		t.Errorf("counts = %+v", c)
	}
	path := "/v1/repos/acme/debian/flists/" + one.Flist.Digest.String()
	if r := w.want(200, "GET", path, acme, nil); !bytes.Equal(r.body, p) || r.Header.Get("ETag") != `"`+one.Flist.Digest.String()+`"` {
		t.Errorf("GET flist: %d bytes, ETag %s", len(r.body), r.Header.Get("ETag"))
	}
	// The tag moves, the digest never does.
	two := w.publish(acme, "acme/debian:12", blobs[1])
	var got api.Tag
	w.want(200, "GET", "/v1/repos/acme/debian/tags/12", acme, nil).into(t, &got)
	if diff := cmp.Diff(two, got); diff != "" {
		t.Errorf("tag after it moved (-want +got):\n%s", diff)
	}
	if r := w.want(200, "GET", path, acme, nil); !bytes.Equal(r.body, p) {
		t.Error("the first flist has changed")
	}
	again := w.publishFlist(acme, "acme/debian:12", flistOf(t, blobs[1], nil))
	if !again.Moved.Equal(two.Moved) {
		t.Errorf("publishing what is there moved the tag")
	}
	w.want(204, "DELETE", "/v1/repos/acme/debian/tags/12", acme, nil)
	w.want(404, "GET", "/v1/repos/acme/debian/tags/12", acme, nil)
	w.want(404, "DELETE", "/v1/repos/acme/debian/tags/12", acme, nil)
	w.want(200, "GET", path, acme, nil)
	var moves api.Moves
	w.want(200, "GET", "/v1/repos/acme/debian/tags/12/moves", acme, nil).into(t, &moves)
	if len(moves.Moves) != 3 || moves.Moves[0].Digest != nil || *moves.Moves[2].Digest != one.Flist.Digest || moves.Moves[2].User != "acme" {
		t.Errorf("moves = %+v", moves)
	}
}

// TestPublishMissing: nothing appears while a blob is not there or is somebody else's.
func TestPublishMissing(t *testing.T) {
	w := newWorld(t, hub.Options{})
	acme, bob := w.token("acme", api.ScopeWrite, ""), w.token("bob", api.ScopeWrite, "")
	b := storetest.Blobs(1)[0]
	p := flistOf(t, b, nil)
	refused := func(why string) {
		t.Helper()
		var body api.ErrorBody
		w.want(409, "PUT", "/v1/repos/acme/x/tags/t", acme, p).into(t, &body)
		want := &api.Missing{Total: 1, Blobs: []string{b.Digest.String()}}
		if body.Error.Code != api.CodeMissingBlobs || !cmp.Equal(body.Error.Missing, want) {
			t.Errorf("%s: %+v, want %+v", why, body.Error, want)
		}
		w.want(404, "GET", "/v1/repos/acme/x", acme, nil)
	}
	refused("no blob")
	w.putBlob(bob, b)
	refused("somebody else's blob")
	w.publish(bob, "bob/private:1", b)
	refused("a blob of somebody else's private repository")
	w.want(200, "PATCH", "/v1/repos/bob/private", bob, []byte(`{"public":true}`))
	w.want(201, "PUT", "/v1/repos/acme/x/tags/t", acme, p)
}

// TestPublishDisagrees: an flist that says other things than the blobs is refused, so that
// what is published can be read.
func TestPublishDisagrees(t *testing.T) {
	w := newWorld(t, hub.Options{})
	acme := w.token("acme", api.ScopeWrite, "")
	b := storetest.NewBlob(0, bytes.Repeat([]byte("z"), 5000), storetest.Chunk(1, 5000), storetest.Chunk(2, 1000))
	w.putBlob(acme, b)
	other := storetest.NewBlob(blob.FlagCopy, storetest.Chunk(1, 20_000))
	w.putBlob(acme, other)
	cases := map[string]func(*flist.Chunk, *flist.Blob){
		"size of the blob": func(_ *flist.Chunk, x *flist.Blob) {
			if x != nil {
				x.Size++
			}
		},
		"another blob": func(_ *flist.Chunk, x *flist.Blob) {
			if x != nil {
				x.Digest, x.Size = other.Digest, other.Size()
			}
		},
	}
	for name, change := range map[string]func(*blob.Ref){
		"offset": func(r *blob.Ref) { r.Offset++ },
		"stored": func(r *blob.Ref) { r.Stored-- },
		"size":   func(r *blob.Ref) { r.Size++ },
		"codec":  func(r *blob.Ref) { r.Codec = blob.CodecStored; r.Stored = r.Size },
		"digest": func(r *blob.Ref) { r.Chunk[0] ^= 1 },
	} {
		cases[name] = func(c *flist.Chunk, _ *flist.Blob) {
			if c != nil && c.Codec == blob.CodecZstd { // the first
				change(&c.Ref)
			}
		}
	}
	for name, alter := range cases {
		t.Run(name, func(t *testing.T) {
			r := w.want(422, "PUT", "/v1/repos/acme/x/tags/t", acme, flistOf(t, b, alter))
			if r.code() != api.CodeCorrupt {
				t.Errorf("code %q, want %q", r.code(), api.CodeCorrupt)
			}
			w.want(404, "GET", "/v1/repos/acme/x", acme, nil)
		})
	}
	w.want(201, "PUT", "/v1/repos/acme/x/tags/t", acme, flistOf(t, b, nil))
}

// TestPublishHostile: bodies that are no flist.
func TestPublishHostile(t *testing.T) {
	w := newWorld(t, hub.Options{MaxFlist: 1 << 20})
	acme := w.token("acme", api.ScopeWrite, "")
	b := storetest.Blobs(1)[0]
	w.putBlob(acme, b)
	good := flistOf(t, b, nil)
	dec, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	plain, err := dec.DecodeAll(good, nil)
	if err != nil {
		t.Fatal(err)
	}
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer enc.Close()
	damaged := bytes.Clone(plain)
	damaged[len(damaged)/2] ^= 0x40
	for name, c := range map[string]struct {
		body   []byte
		status int
	}{
		"nothing":        {nil, 415},
		"text":           {[]byte("hello"), 415},
		"plain SQLite":   {plain, 415},
		"cut off":        {good[:len(good)-9], 422},
		"bomb":           {enc.EncodeAll(make([]byte, 64<<20), nil), 413},
		"too large":      {make([]byte, 1<<20+1), 413},
		"zstd of a text": {enc.EncodeAll([]byte("hello"), nil), 415},
	} {
		t.Run(name, func(t *testing.T) {
			r := w.do("PUT", "/v1/repos/acme/x/tags/t", acme, c.body)
			if r.StatusCode != c.status && r.StatusCode != 422 {
				t.Errorf("status %d, want %d: %s", r.StatusCode, c.status, r.body)
			}
			if strings.Contains(string(r.body), w.data) {
				t.Errorf("the answer tells a path of the hub: %s", r.body)
			}
		})
	}
	r := w.do("PUT", "/v1/repos/acme/x/tags/t", acme, enc.EncodeAll(damaged, nil))
	if r.StatusCode != 415 && r.StatusCode != 422 {
		t.Errorf("damaged flist: status %d: %s", r.StatusCode, r.body)
	}
	w.want(404, "GET", "/v1/repos/acme/x", acme, nil)
}

func TestNamesInPaths(t *testing.T) {
	w := newWorld(t, hub.Options{})
	acme := w.token("acme", api.ScopeWrite, "")
	for _, path := range []string{"Acme/x/tags/t", "acme/X/tags/t", "acme/x/tags/.t", "acme/x/tags/%2e%2e", "acme/%2e%2e/tags/t",
		"acme/a%2fb/tags/t", "acme/x/tags/a%00b", "acme/" + strings.Repeat("a", 101) + "/tags/t"} {
		if r := w.do("PUT", "/v1/repos/"+path, acme, flistOf(t, storetest.Blobs(1)[0], nil)); r.StatusCode != 400 && r.StatusCode != 404 && r.StatusCode != 307 {
			t.Errorf("PUT %s: status %d: %s", path, r.StatusCode, r.body)
		}
	}
}

// TestPages walks lists page by page.
func TestPages(t *testing.T) {
	w := newWorld(t, hub.Options{})
	acme := w.token("acme", api.ScopeWrite, "")
	b := storetest.Blobs(1)[0]
	w.putBlob(acme, b)
	p := flistOf(t, b, nil)
	for i := range 5 {
		w.publishFlist(acme, fmt.Sprintf("acme/r%d:t", i), p)
		w.publishFlist(acme, fmt.Sprintf("acme/r0:t%d", i), p)
	}
	var repos, tags []string
	for after := "-"; after != ""; {
		var page api.Repos
		w.want(200, "GET", "/v1/repos?limit=2&after="+strings.Trim(after, "-"), acme, nil).into(t, &page)
		for _, r := range page.Repos {
			repos = append(repos, r.Name)
		}
		after = page.Next
	}
	for after := "-"; after != ""; {
		var page api.Tags
		w.want(200, "GET", "/v1/repos/acme/r0/tags?limit=4&after="+strings.Trim(after, "-"), acme, nil).into(t, &page)
		for _, r := range page.Tags {
			tags = append(tags, r.Name)
		}
		after = page.Next
	}
	if !slices.Equal(repos, []string{"r0", "r1", "r2", "r3", "r4"}) || !slices.Equal(tags, []string{"t", "t0", "t1", "t2", "t3", "t4"}) {
		t.Errorf("page by page: repos %q, tags %q", repos, tags)
	}
	for _, q := range []string{"limit=-1", "limit=1001", "limit=x"} {
		w.want(400, "GET", "/v1/repos?"+q, acme, nil)
	}
	var flists api.Flists
	w.want(200, "GET", "/v1/repos/acme/r0/flists", acme, nil).into(t, &flists)
	if len(flists.Flists) != 1 {
		t.Errorf("%d versions for one flist with many tags, want 1", len(flists.Flists))
	}
}
