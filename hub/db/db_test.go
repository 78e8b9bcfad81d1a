package db_test

import (
	"encoding/binary"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/hub/db"
)

var now = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func open(t testing.TB) *db.DB {
	t.Helper()
	return openAt(t, filepath.Join(t.TempDir(), "a?b#c%41.db")) // a name that is none of a URI
}

func openAt(t testing.TB, path string) *db.DB {
	t.Helper()
	d, err := db.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return d
}

var tokens uint32

// token makes a token and returns whom it stands for.
func token(t testing.TB, d *db.DB, user, scope, pattern string) db.Caller {
	t.Helper()
	tokens++
	var hash db.TokenHash
	binary.LittleEndian.PutUint32(hash[:], tokens)
	tok, err := d.CreateToken(t.Context(), db.Token{User: user, Name: "test", Scope: scope, Pattern: pattern, Created: now}, hash)
	if err != nil {
		t.Fatal(err)
	}
	return tok.Caller()
}

// table is the table of a blob with the given chunks.
func table(chunks ...string) blob.Table {
	var t blob.Table
	off := uint32(8)
	for _, c := range chunks {
		t.Refs = append(t.Refs, blob.Ref{Chunk: chunk.Sum([]byte(c)), Offset: off, Stored: 10, Size: 10})
		off += 10
	}
	return t
}

func add(t testing.TB, d *db.DB, c db.Caller, id byte, tab blob.Table) blob.Digest {
	t.Helper()
	digest := blob.Digest{id}
	if err := d.AddBlob(t.Context(), c, digest, 1000, tab, now); err != nil {
		t.Fatal(err)
	}
	return digest
}

func publish(t testing.TB, d *db.DB, c db.Caller, owner, name, tag string, public bool, flist byte, blobs ...blob.Digest) db.Tag {
	t.Helper()
	got, err := d.Publish(t.Context(), c, db.Publication{Owner: owner, Name: name, Tag: tag, Public: public,
		Flist: db.Flist{Digest: db.FlistDigest{flist}, Tree: db.TreeDigest{flist}, Size: 5}, Blobs: blobs, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// TestAccess asks every kind of caller for a blob in every kind of place.
func TestAccess(t *testing.T) {
	d := open(t)
	owner := token(t, d, "acme", "write", "")
	callers := map[string]db.Caller{
		"nobody":          {},
		"owner":           owner,
		"owner read":      token(t, d, "acme", "read", ""),
		"owner narrowed":  token(t, d, "acme", "write", "acme/pr*"),
		"owner elsewhere": token(t, d, "acme", "write", "acme/other"),
		"other":           token(t, d, "bob", "write", ""),
		"admin":           token(t, d, "root", "admin", ""),
		"admin narrowed":  token(t, d, "root", "admin", "acme/*"),
	}
	public, private, loose := add(t, d, owner, 1, table("a")), add(t, d, owner, 2, table("b")), add(t, d, owner, 3, table("c"))
	publish(t, d, owner, "acme", "pub", "t", true, 1, public)
	publish(t, d, owner, "acme", "priv", "t", false, 2, private)
	want := map[string]string{ // which of the three may be read
		"nobody": "a", "owner": "abc", "owner read": "abc", "owner narrowed": "ab", "owner elsewhere": "a",
		"other": "a", "admin": "abc", "admin narrowed": "a",
	}
	for name, c := range callers {
		var byBlob, bySize, byChunk string
		sizes, err := d.BlobSizes(t.Context(), c, []blob.Digest{public, private, loose})
		if err != nil {
			t.Fatal(err)
		}
		for i, id := range []blob.Digest{public, private, loose} {
			letter := string(rune('a' + i))
			b, err := d.Blob(t.Context(), c, id)
			switch {
			case err == nil:
				byBlob += letter
				if b.Public != (id == public) || b.Size != 1000 {
					t.Errorf("%s: Blob(%s) = %+v", name, letter, b)
				}
			case !errors.Is(err, errs.ErrNotFound):
				t.Errorf("%s: Blob(%s) = %v, want %v", name, letter, err, errs.ErrNotFound)
			}
			if sizes[id] == 1000 {
				bySize += letter
			}
			found, err := d.Locate(t.Context(), c, []chunk.Digest{chunk.Sum([]byte(letter))})
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range found {
				if byChunk += letter; f.Blob != id {
					t.Errorf("%s: Locate(%s) = %v, want it in %v", name, letter, f, id)
				}
			}
		}
		if byBlob != want[name] || bySize != want[name] || byChunk != want[name] {
			t.Errorf("%s may read %q, %q by sizes, %q by chunks; want %q", name, byBlob, bySize, byChunk, want[name])
		}
	}
}

// TestPossession: who puts the bytes of somebody else's blob has proved to hold them.
func TestPossession(t *testing.T) {
	d := open(t)
	acme, bob := token(t, d, "acme", "write", ""), token(t, d, "bob", "write", "")
	id := add(t, d, acme, 1, table("a"))
	if _, err := d.Blob(t.Context(), bob, id); !errors.Is(err, errs.ErrNotFound) {
		t.Fatalf("Blob before the proof = %v, want %v", err, errs.ErrNotFound)
	}
	add(t, d, bob, 1, table("a"))
	if _, err := d.Blob(t.Context(), bob, id); err != nil {
		t.Errorf("Blob after the proof: %v", err)
	}
	// What one narrowed token has put is not there for another.
	one, two := token(t, d, "bob", "write", "bob/one"), token(t, d, "bob", "write", "bob/two")
	add(t, d, one, 2, table("b"))
	if _, err := d.Blob(t.Context(), one, blob.Digest{2}); err != nil {
		t.Errorf("Blob for the token that put it: %v", err)
	}
	if _, err := d.Blob(t.Context(), two, blob.Digest{2}); !errors.Is(err, errs.ErrNotFound) {
		t.Errorf("Blob for another narrowed token = %v, want %v", err, errs.ErrNotFound)
	}
}

// TestLocateOthers: a chunk that lies in a blob of somebody else first is found in one's own.
func TestLocateOthers(t *testing.T) {
	d := open(t)
	acme, bob := token(t, d, "acme", "write", ""), token(t, d, "bob", "write", "")
	add(t, d, acme, 1, table("x", "a"))
	mine := add(t, d, bob, 9, table("a"))
	got, err := d.Locate(t.Context(), bob, []chunk.Digest{chunk.Sum([]byte("x")), chunk.Sum([]byte("a")), chunk.Sum([]byte("a"))})
	if err != nil {
		t.Fatal(err)
	}
	ref := table("a").Refs[0]
	want := []db.Found{{Index: 1, Location: blob.Location{Blob: mine, Ref: ref}}, {Index: 2, Location: blob.Location{Blob: mine, Ref: ref}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Locate (-want +got):\n%s", diff)
	}
}

// TestManyCopies: an account cannot make look-ups slow by putting a chunk into many blobs.
func TestManyCopies(t *testing.T) {
	d := open(t)
	mallory, acme := token(t, d, "mallory", "write", ""), token(t, d, "acme", "write", "")
	for i := range 40 {
		add(t, d, mallory, byte(100+i), table("zeros"))
	}
	add(t, d, acme, 1, table("zeros"))
	if n := d.Rows(t, "chunk"); n > 17 {
		t.Errorf("%d rows for one chunk, want at most 16 of mallory's and the one of acme", n)
	}
	got, err := d.Locate(t.Context(), acme, []chunk.Digest{chunk.Sum([]byte("zeros"))})
	if err != nil || len(got) != 1 || got[0].Blob != (blob.Digest{1}) {
		t.Errorf("Locate = %v, %v, want it in acme's own blob", got, err)
	}
}

func TestPublish(t *testing.T) {
	d := open(t)
	acme, bob := token(t, d, "acme", "write", ""), token(t, d, "bob", "write", "")
	mine, his := add(t, d, acme, 1, table("a")), add(t, d, bob, 2, table("b"))
	p := db.Publication{Owner: "acme", Name: "x", Tag: "t", Flist: db.Flist{Digest: db.FlistDigest{7}}, Blobs: []blob.Digest{mine, his, {3}}, Now: now}
	_, err := d.Publish(t.Context(), acme, p)
	missing, ok := errors.AsType[*db.MissingError](err)
	if !ok || !cmp.Equal(missing.Blobs, []blob.Digest{his, {3}}) || !errors.Is(err, errs.ErrNotFound) {
		t.Fatalf("Publish = %v, want the two blobs that acme may not read", err)
	}
	for _, table := range []string{"repository", "flist", "tag", "tag_move", "blob_repository"} {
		if n := d.Rows(t, table); n > 0 {
			t.Errorf("%d rows in %s after a refused publication", n, table)
		}
	}
	one := publish(t, d, acme, "acme", "x", "t", false, 1, mine)
	again := publish(t, d, acme, "acme", "x", "t", true, 1, mine)
	if diff := cmp.Diff(one, again); diff != "" {
		t.Errorf("publishing again (-first +second):\n%s", diff)
	}
	publish(t, d, acme, "acme", "x", "t", false, 2, mine)
	repo, err := d.Repository(t.Context(), acme, "acme", "x")
	if err != nil || repo.Public || repo.Tags != 1 {
		t.Fatalf("Repository = %+v, %v, want it private still, with one tag", repo, err)
	}
	if err := d.DeleteTag(t.Context(), acme, repo.ID, "t", now); err != nil {
		t.Fatal(err)
	}
	moves, err := d.Moves(t.Context(), repo.ID, "t", 10)
	var seen []byte
	for _, m := range moves {
		seen = append(seen, m.Digest[0])
	}
	if err != nil || !cmp.Equal(seen, []byte{0, 2, 1}) {
		t.Errorf("Moves = %v, %v, want deleted, 2, 1", moves, err)
	}
	if f, err := d.Flist(t.Context(), repo.ID, db.FlistDigest{1}); err != nil || f.Tree != (db.TreeDigest{1}) {
		t.Errorf("Flist after its tag moved and was deleted = %+v, %v", f, err)
	}
	if err := d.DeleteTag(t.Context(), acme, repo.ID, "t", now); !errors.Is(err, errs.ErrNotFound) {
		t.Errorf("DeleteTag of none = %v, want %v", err, errs.ErrNotFound)
	}
}

func TestDeleteBlob(t *testing.T) {
	d := open(t)
	acme := token(t, d, "acme", "write", "")
	used, free := add(t, d, acme, 1, table("a")), add(t, d, acme, 2, table("b"))
	publish(t, d, acme, "acme", "x", "t", false, 1, used)
	if err := d.DeleteBlob(t.Context(), used, table("a")); !errors.Is(err, db.ErrInUse) {
		t.Errorf("DeleteBlob(needed) = %v, want %v", err, db.ErrInUse)
	}
	for range 2 {
		if err := d.DeleteBlob(t.Context(), free, blob.Table{}); err != nil {
			t.Errorf("DeleteBlob: %v", err)
		}
	}
	// The row of the index that stayed, as the table was not at hand, is found by nobody,
	// and never comes to mean another blob.
	add(t, d, acme, 3, table("c"))
	if got, err := d.Locate(t.Context(), acme, []chunk.Digest{chunk.Sum([]byte("b"))}); err != nil || len(got) > 0 {
		t.Errorf("Locate(chunk of a deleted blob) = %v, %v", got, err)
	}
}

func TestTokens(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hub.db")
	d, other := openAt(t, path), openAt(t, path) // as the operator's command beside the hub
	tok, err := other.CreateToken(t.Context(), db.Token{User: "acme", Name: "n", Scope: "read", Pattern: "acme/x", Created: now, Expires: now.Add(time.Hour)}, db.TokenHash{1})
	if err != nil {
		t.Fatal(err)
	}
	got, err := d.TokenByHash(t.Context(), db.TokenHash{1})
	if diff := cmp.Diff(tok, got); err != nil || diff != "" {
		t.Errorf("TokenByHash: %v (-want +got):\n%s", err, diff)
	}
	if _, err := d.TokenByHash(t.Context(), db.TokenHash{2}); !errors.Is(err, errs.ErrNotFound) {
		t.Errorf("TokenByHash(none) = %v, want %v", err, errs.ErrNotFound)
	}
	for _, c := range []struct {
		at   time.Time
		want bool
	}{{now, true}, {now.Add(time.Hour - 1), true}, {now.Add(time.Hour), false}} {
		if got.Valid(c.at) != c.want {
			t.Errorf("Valid(%v) = %v, want %v", c.at, !c.want, c.want)
		}
	}
	if err := d.RevokeToken(t.Context(), tok.ID, "bob", now); !errors.Is(err, errs.ErrNotFound) {
		t.Errorf("RevokeToken by another user = %v, want %v", err, errs.ErrNotFound)
	}
	if err := d.TouchToken(t.Context(), tok.ID, now.Add(time.Minute)); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := d.RevokeToken(t.Context(), tok.ID, "acme", now); err != nil {
			t.Errorf("RevokeToken: %v", err)
		}
	}
	list, err := other.Tokens(t.Context(), "acme")
	if err != nil || len(list) != 1 || list[0].Valid(now) || !list[0].LastUsed.Equal(now.Add(time.Minute)) {
		t.Errorf("Tokens = %+v, %v, want one, used and revoked", list, err)
	}
}

func TestPages(t *testing.T) {
	d := open(t)
	acme, ab := token(t, d, "a", "write", ""), token(t, d, "a-b", "write", "")
	id := add(t, d, acme, 1, table("a"))
	add(t, d, ab, 1, table("a"))
	publish(t, d, acme, "a", "x", "t1", true, 1, id)
	publish(t, d, acme, "a", "x", "t2", true, 2, id)
	publish(t, d, acme, "a", "secret", "t", false, 1, id)
	publish(t, d, ab, "a-b", "a", "t", true, 1, id)
	var names []string
	owner, name := "", ""
	for {
		page, err := d.Repositories(t.Context(), db.Caller{}, "", owner, name, 1)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		owner, name = page[0].Owner, page[0].Name
		names = append(names, owner+"/"+name)
	}
	if !cmp.Equal(names, []string{"a/x", "a-b/a"}) {
		t.Errorf("public repositories page by page = %q", names)
	}
	repo, err := d.Repository(t.Context(), db.Caller{}, "a", "x")
	if err != nil {
		t.Fatal(err)
	}
	tags, err := d.Tags(t.Context(), repo.ID, "t1", 10)
	if err != nil || len(tags) != 1 || tags[0].Name != "t2" || tags[0].Flist.Digest[0] != 2 {
		t.Errorf("Tags after t1 = %+v, %v", tags, err)
	}
	flists, err := d.Flists(t.Context(), repo.ID, 0, 10)
	if err != nil || len(flists) != 2 || flists[0].Digest[0] != 2 {
		t.Errorf("Flists = %+v, %v, want the newest first", flists, err)
	}
	if _, err := d.Repository(t.Context(), db.Caller{}, "a", "secret"); !errors.Is(err, errs.ErrNotFound) {
		t.Errorf("Repository(private) for nobody = %v, want %v", err, errs.ErrNotFound)
	}
}

func TestNarrowed(t *testing.T) {
	for _, c := range []struct {
		pattern, owner, name string
		want                 bool
	}{
		{"", "acme", "x", true}, {"", "bob", "x", false},
		{"acme/*", "acme", "x", true}, {"acme/x", "acme", "xy", false}, {"acme/x*", "acme", "xy", true},
		{"*/x", "acme", "x", true}, {"*/x", "bob", "x", false}, {"acme/a*b*c", "acme", "a1b2c", true},
		{"acme/a*a", "acme", "a", false}, {"acme/a_b", "acme", "axb", false}, {"acme/*-*", "acme", "a-b", true}, {"acme/*b*b", "acme", "ab", false},
	} {
		d := db.Caller{Account: 1, User: "acme", Scope: "write", Pattern: c.pattern}
		if got := d.Owns(c.owner, c.name); got != c.want {
			t.Errorf("token narrowed to %q: Owns(%s/%s) = %v, want %v", c.pattern, c.owner, c.name, got, c.want)
		}
	}
	if (&db.Caller{}).Owns("", "x") {
		t.Error("nobody owns a repository")
	}
	for _, c := range []struct {
		have, need string
		want       bool
	}{{"read", "read", true}, {"read", "write", false}, {"write", "read", true}, {"admin", "write", true}, {"", "read", false}, {"admin", "", false}, {"admin", "x", false}} {
		if got := (&db.Caller{Scope: c.have}).May(c.need); got != c.want {
			t.Errorf("scope %q May(%q) = %v, want %v", c.have, c.need, got, c.want)
		}
	}
}

// TestLikeIsGlob: the two ways a pattern is applied, in SQL and in Go, agree.
func TestLikeIsGlob(t *testing.T) {
	d := open(t)
	writer := token(t, d, "acme", "write", "")
	id := add(t, d, writer, 1, table("a"))
	names := []string{"a", "a_b", "axb", "a-b", "ab", "b"}
	for i, n := range names {
		publish(t, d, writer, "acme", n, "t", false, byte(i+1), id)
	}
	for _, pattern := range []string{"acme/*", "acme/a_b", "acme/a*b", "acme/*b", "*/a", "bob/*"} {
		c := token(t, d, "acme", "read", pattern)
		for _, n := range names {
			_, err := d.Repository(t.Context(), c, "acme", n)
			if got, want := err == nil, c.Owns("acme", n); got != want {
				t.Errorf("token narrowed to %s: may read acme/%s: %v by SQL, %v by Owns", pattern, n, got, want)
			}
		}
	}
}
