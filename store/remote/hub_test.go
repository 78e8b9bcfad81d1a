package remote_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/hub"
	"github.com/zosfs/zosfs/hub/api"
	"github.com/zosfs/zosfs/store/remote"
	"github.com/zosfs/zosfs/store/storetest"
)

// shipped returns the shipped flist of a tree with one file, the first chunk of b.
func shipped(t *testing.T, b storetest.Blob) []byte {
	t.Helper()
	w, err := flist.NewWriter(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	root, err := w.AddNode(flist.Node{Mode: flist.ModeDir | 0o755})
	must(err)
	bl := w.AddBlob()
	w.SetBlob(bl, flist.Blob{Digest: b.Digest, Size: b.Size()})
	c, err := w.AddChunk(flist.Chunk{Ref: b.Table.Refs[0], Blob: bl})
	must(err)
	size := int64(b.Table.Refs[0].Size)
	o, err := w.AddObject(flist.Object{Digest: b.Table.Refs[0].Chunk, Size: size}, []flist.Extent{{Chunk: c}})
	must(err)
	n, err := w.AddNode(flist.Node{Mode: flist.ModeRegular | 0o644, Size: size, Object: o})
	must(err)
	must(w.AddEntry(root, []byte("file"), n))
	path := filepath.Join(t.TempDir(), "f.flist")
	_, err = w.Finish(path)
	must(err)
	p, err := os.ReadFile(path)
	must(err)
	return p
}

func TestHub(t *testing.T) {
	url, data := serve(t)
	acme := client(t, url, data, hub.TokenRequest{User: "acme", Name: "ci", Scope: api.ScopeWrite})
	nobody := connect(t, remote.Options{URL: url})
	ctx, b := t.Context(), storetest.Blobs(1)[0]
	p := shipped(t, b)
	publish := func(tag string) (api.Tag, error) {
		return acme.Publish(ctx, "acme", "debian", tag, bytes.NewReader(p), int64(len(p)))
	}

	_, err := publish("12")
	refused, ok := errors.AsType[*remote.Error](err)
	if !ok || refused.Missing == nil || !cmp.Equal(refused.Missing.Blobs, []string{b.Digest.String()}) || !errors.Is(err, errs.ErrNotFound) {
		t.Fatalf("Publish without its blob = %v, want to be told which", err)
	}
	if err := acme.Put(ctx, b.Digest, b.Data); err != nil {
		t.Fatal(err)
	}
	tag, err := publish("12")
	if want := api.Digest(chunk.Sum(p)); err != nil || tag.Flist.Digest != want {
		t.Fatalf("Publish = %+v, %v, want the digest %v", tag, err, want)
	}
	byTag, byDigest := api.Ref{Owner: "acme", Name: "debian", Tag: "12"}, api.Ref{Owner: "acme", Name: "debian", Digest: tag.Flist.Digest}
	if got, err := acme.Tag(ctx, byTag); err != nil || !cmp.Equal(got, tag) {
		t.Errorf("Tag = %+v, %v, want %+v", got, err, tag)
	}
	if _, err := nobody.Tag(ctx, byTag); !errors.Is(err, errs.ErrNotFound) {
		t.Errorf("Tag of a private repository for nobody = %v, want %v", err, errs.ErrNotFound)
	}
	if err := acme.SetPublic(ctx, "acme", "debian", true); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []api.Ref{byTag, byDigest} {
		f, err := nobody.OpenFlist(ctx, ref)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(f)
		if cerr := f.Close(); err != nil || cerr != nil || !bytes.Equal(got, p) || f.Size != int64(len(p)) || f.Digest != flist.Digest(tag.Flist.Digest) {
			t.Errorf("OpenFlist(%v) = %d bytes of %d, %v, digest %v", ref, len(got), f.Size, err, f.Digest)
		}
	}
	if _, err := publish("13"); err != nil {
		t.Fatal(err)
	}
	var tags, repos []string
	if err := nobody.Tags(ctx, "acme", "debian", func(t api.Tag) error { tags = append(tags, t.Name); return nil }); err != nil || !cmp.Equal(tags, []string{"12", "13"}) {
		t.Errorf("Tags = %q, %v", tags, err)
	}
	if err := nobody.Repos(ctx, "acme", func(r api.Repo) error { repos = append(repos, r.Name); return nil }); err != nil || !cmp.Equal(repos, []string{"debian"}) {
		t.Errorf("Repos = %q, %v", repos, err)
	}
	enough := errors.New("enough")
	if err := nobody.Tags(ctx, "acme", "debian", func(api.Tag) error { return enough }); err != enough { //nolint:errorlint // as it is
		t.Errorf("Tags = %v, want %v itself", err, enough)
	}
	if err := acme.DeleteTag(ctx, byTag); err != nil {
		t.Error(err)
	}
	if _, err := acme.Tag(ctx, byTag); !errors.Is(err, errs.ErrNotFound) {
		t.Errorf("Tag after DeleteTag = %v, want %v", err, errs.ErrNotFound)
	}
	if err := nobody.DeleteTag(ctx, api.Ref{Owner: "acme", Name: "debian", Tag: "13"}); !errors.Is(err, errs.ErrDenied) {
		t.Errorf("DeleteTag by nobody = %v, want %v", err, errs.ErrDenied)
	}
	for _, ref := range []api.Ref{{Owner: "..", Name: "x", Tag: "y"}, {Owner: "a", Name: "b/c", Tag: "y"}, {Owner: "a", Name: "b", Tag: "../x"}, byDigest} {
		if _, err := acme.Tag(ctx, ref); !errors.Is(err, errs.ErrFormat) {
			t.Errorf("Tag(%v) = %v, want %v", ref, err, errs.ErrFormat)
		}
	}
}

func TestTokens(t *testing.T) {
	url, data := serve(t)
	acme := client(t, url, data, hub.TokenRequest{User: "acme", Name: "ci", Scope: api.ScopeWrite})
	ctx := t.Context()
	if who, err := acme.Whoami(ctx); err != nil || who.User != "acme" || who.Token != "ci" {
		t.Errorf("Whoami = %+v, %v", who, err)
	}
	if _, err := connect(t, remote.Options{URL: url}).Whoami(ctx); !errors.Is(err, errs.ErrDenied) {
		t.Errorf("Whoami without a token = %v, want %v", err, errs.ErrDenied)
	}
	end := time.Now().Add(time.Hour)
	made, err := acme.CreateToken(ctx, api.TokenRequest{Name: "sub", Scope: api.ScopeRead, Expires: &end})
	if err != nil {
		t.Fatal(err)
	}
	sub := connect(t, remote.Options{URL: url, Token: made.Secret})
	b := storetest.Blobs(1)[0]
	if err := sub.Put(ctx, b.Digest, b.Data); !errors.Is(err, errs.ErrDenied) {
		t.Errorf("Put with a token that may read = %v, want %v", err, errs.ErrDenied)
	}
	if list, err := acme.Tokens(ctx); err != nil || len(list) != 2 {
		t.Errorf("Tokens = %+v, %v, want two", list, err)
	}
	if err := acme.RevokeToken(ctx, made.Token.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := sub.Whoami(ctx); !errors.Is(err, errs.ErrDenied) {
		t.Errorf("Whoami with a revoked token = %v, want %v", err, errs.ErrDenied)
	}
	if info, err := sub.Info(ctx); err == nil {
		t.Errorf("Info with a revoked token = %+v, want an error", info)
	}
}
