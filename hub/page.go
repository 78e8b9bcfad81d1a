package hub

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/hub/api"
	"github.com/zosfs/zosfs/hub/db"
	"github.com/zosfs/zosfs/hub/ui"
)

// Rows of one page.
const (
	pageRepos    = 100
	pageTags     = 100
	pageVersions = 50
	pageEntries  = 1000
)

// pages serves the page for people. It shows what everybody may see, whoever asks: it
// takes no credentials at all, so nothing can be done in somebody's name through it.
func (s *Server) pages() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", s.pageFunc(s.homePage))
	mux.Handle("GET /{owner}/{name}", s.pageFunc(s.repoPage))
	mux.Handle("GET /{owner}/{name}/tree/{ref}/{path...}", s.pageFunc(s.treePage))
	mux.Handle("GET /assets/{file}", s.page.Assets())
	mux.Handle("GET /", s.pageFunc(func(http.ResponseWriter, *http.Request) error {
		return fail(api.CodeNotFound, "there is no such page")
	}))
	return mux
}

// pageFunc is handlerFunc with errors as pages.
func (s *Server) pageFunc(h handlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ui.Headers(w.Header())
		err := h(w, r)
		if err == nil {
			return
		}
		f := asFailure(err)
		failed(r.Context(), f)
		f.headers(w.Header())
		s.page.Failure(w, f.GetStatus(), f.body.Message)
	})
}

func (s *Server) homePage(w http.ResponseWriter, r *http.Request) error {
	owner, name, _ := strings.Cut(r.URL.Query().Get("after"), "/")
	rows, err := s.db.Repositories(r.Context(), db.Caller{}, "", owner, name, pageRepos+1)
	if err != nil {
		return err
	}
	rows, next := cut(rows, pageRepos, func(r db.Repository) string { return r.Owner + "/" + r.Name })
	p := ui.Home{Hub: hubURL(r), Next: next, First: owner == ""}
	for _, row := range rows {
		p.Repos = append(p.Repos, ui.Repo{Owner: row.Owner, Name: row.Name, Tags: row.Tags, Updated: row.Updated})
	}
	s.page.Home(w, p)
	return nil
}

// repoPage shows a repository. owner/name:tag and owner/name@digest, which is how flists are
// named everywhere else, lead to the tree.
func (s *Server) repoPage(w http.ResponseWriter, r *http.Request) error {
	owner, name := r.PathValue("owner"), r.PathValue("name")
	if strings.ContainsAny(name, ":@") {
		ref, err := api.ParseRef(owner + "/" + name)
		if err != nil {
			return fail(api.CodeNotFound, "there is no such page")
		}
		version := ref.Tag
		if version == "" {
			version = "@" + ref.Digest.String()
		}
		http.Redirect(w, r, ui.TreeURL(ref.Owner, ref.Name, version, nil), http.StatusFound)
		return nil
	}
	repo, err := s.db.Repository(r.Context(), db.Caller{}, owner, name)
	if err != nil {
		return err
	}
	tags, err := s.db.Tags(r.Context(), repo.ID, r.URL.Query().Get("after"), pageTags+1)
	if err != nil {
		return err
	}
	tags, next := cut(tags, pageTags, func(t db.Tag) string { return t.Name })
	versions, err := s.db.Flists(r.Context(), repo.ID, 0, pageVersions)
	if err != nil {
		return err
	}
	p := ui.Repository{Hub: hubURL(r), Owner: owner, Name: name, Next: next}
	for _, t := range tags {
		p.Tags = append(p.Tags, ui.Tag{Name: t.Name, Moved: t.Moved, Version: versionOf(t.Flist)})
	}
	for _, f := range versions {
		p.Versions = append(p.Versions, versionOf(f))
	}
	s.page.Repository(w, p)
	return nil
}

func versionOf(f db.Flist) ui.Version {
	return ui.Version{Digest: api.Digest(f.Digest).String(), Created: f.Created, Entries: f.Counts.Entries,
		Bytes: f.Counts.Bytes, Stored: f.Counts.Stored}
}

// treePage shows one directory, or one file's attributes, of a version.
func (s *Server) treePage(w http.ResponseWriter, r *http.Request) error {
	owner, name, ref := r.PathValue("owner"), r.PathValue("name"), r.PathValue("ref")
	version, err := s.version(r.Context(), owner, name, ref)
	if err != nil {
		return err
	}
	f, release, err := s.trees.get(r.Context(), version.Digest)
	if err != nil {
		return err
	}
	defer release()
	p := ui.Tree{Hub: hubURL(r), Owner: owner, Name: name, Ref: ref, Version: versionOf(version)}
	at := flist.Root
	for _, part := range strings.Split(strings.Trim(r.PathValue("path"), "/"), "/") {
		if part == "" {
			continue
		}
		node, ok := flist.NodeID(0), false
		if isDir(f, at) {
			node, ok = f.Lookup(at, []byte(part))
		}
		if !ok {
			return fail(api.CodeNotFound, "there is no such file in this version")
		}
		at = node
		p.Path = append(p.Path, part)
	}
	p.Self = entryOf(f, "", at)
	if isDir(f, at) {
		p.Entries, p.Next = list(f, at, r.URL.Query().Get("after"))
	}
	s.page.Tree(w, p)
	return nil
}

// version returns the public flist that ref, a tag or "@" and a digest, means.
func (s *Server) version(ctx context.Context, owner, name, ref string) (db.Flist, error) {
	repo, err := s.db.Repository(ctx, db.Caller{}, owner, name)
	if err != nil {
		return db.Flist{}, err
	}
	text, byDigest := strings.CutPrefix(ref, "@")
	if !byDigest {
		t, err := s.db.Tag(ctx, repo.ID, ref)
		return t.Flist, err
	}
	digest, err := api.ParseDigest(text)
	if err != nil {
		return db.Flist{}, fail(api.CodeNotFound, "there is no such version").because(err)
	}
	return s.db.Flist(ctx, repo.ID, db.FlistDigest(digest))
}

func isDir(f *flist.Reader, id flist.NodeID) bool {
	n := f.Node(id)
	return n.Type() == flist.ModeDir
}

// list returns up to pageEntries of a directory, from the first one after the name after.
func list(f *flist.Reader, dir flist.NodeID, after string) (out []ui.Entry, next string) {
	for e := range f.Dir(dir) {
		if after != "" && string(e.Name) <= after {
			continue
		}
		if len(out) == pageEntries {
			return out, out[len(out)-1].Name
		}
		out = append(out, entryOf(f, string(e.Name), e.Node))
	}
	return out, ""
}

// entryOf copies what the page shows of a node.
func entryOf(f *flist.Reader, name string, id flist.NodeID) ui.Entry {
	n := f.Node(id)
	return ui.Entry{
		Name: name, Mode: n.Mode, UID: n.UID, GID: n.GID, Size: n.Size, Rdev: n.Rdev,
		Target: string(n.Target), MTime: time.Unix(0, n.MTime).UTC(),
	}
}

// hubURL returns the address by which the page was reached, for commands to copy. It is
// the peer's word, shown back to the same peer.
func hubURL(r *http.Request) string {
	u := url.URL{Scheme: "http", Host: r.Host}
	if r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https" {
		u.Scheme = "https"
	}
	return u.String()
}
