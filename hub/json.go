package hub

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/hub/api"
	"github.com/zosfs/zosfs/hub/db"
)

// Requests of the JSON endpoints. Paths are repeated since huma does not look into embedded
// types that are not exported.
type (
	noInput  struct{}
	repoPath struct {
		Owner string `path:"owner" doc:"Owner of the repository."`
		Name  string `path:"name" doc:"Name of the repository."`
	}
	tagPath struct {
		Owner string `path:"owner" doc:"Owner of the repository."`
		Name  string `path:"name" doc:"Name of the repository."`
		Tag   string `path:"tag" doc:"Tag; it may move."`
	}
	reposInput struct {
		Owner string `query:"owner" doc:"Only those of this owner."`
		After string `query:"after" doc:"Begin after this one: next of the page before."`
		Limit int    `query:"limit" doc:"Most rows in the answer, 1 to 1000; default 1000."`
	}
	tagsInput struct {
		Owner string `path:"owner" doc:"Owner of the repository."`
		Name  string `path:"name" doc:"Name of the repository."`
		After string `query:"after" doc:"Begin after this one: next of the page before."`
		Limit int    `query:"limit" doc:"Most rows in the answer, 1 to 1000; default 1000."`
	}
	flistsInput struct {
		Owner  string `path:"owner" doc:"Owner of the repository."`
		Name   string `path:"name" doc:"Name of the repository."`
		Before string `query:"before" doc:"Begin after this one: next of the page before."`
		Limit  int    `query:"limit" doc:"Most rows in the answer, 1 to 1000; default 1000."`
	}
	blobsInput struct {
		After string `query:"after" doc:"Begin after this one: next of the page before."`
		Limit int    `query:"limit" doc:"Most rows in the answer, 1 to 1000; default 1000."`
	}
	patchInput struct {
		Owner string `path:"owner" doc:"Owner of the repository."`
		Name  string `path:"name" doc:"Name of the repository."`
		Body  api.RepoPatch
	}
	tokenInput struct{ Body api.TokenRequest }
	tokenPath  struct {
		ID string `path:"id" doc:"Number of the token."`
	}
	blobPath struct {
		Digest string `path:"digest" doc:"SHA-256 of the blob, 64 lower-case hexadecimal digits."`
	}
)

// answer is the output of a JSON endpoint.
type answer[T any] struct {
	CacheControl string `header:"Cache-Control"`
	Body         T
}

func ok[T any](v T) *answer[T] { return &answer[T]{CacheControl: "no-store", Body: v} }

// nothing is the output of an endpoint that answers 204.
type nothing struct{}

func limitOf(n int) (int, error) {
	if n < 0 || n > api.MaxPage {
		return 0, fail(api.CodeBadRequest, "limit %d: want 1 to %d", n, api.MaxPage)
	}
	if n == 0 {
		n = api.MaxPage
	}
	return n, nil
}

// cut takes the row too many that tells whether there is a next page.
func cut[T any](rows []T, limit int, key func(T) string) ([]T, string) {
	if len(rows) <= limit {
		return rows, ""
	}
	return rows[:limit], key(rows[limit-1])
}

func (s *Server) info(context.Context, *noInput) (*answer[api.Info], error) {
	return ok(api.Info{Name: "zosfs-hub", Protocol: api.Version, Version: s.opts.Version, Limits: api.Limits{
		BlobSize: blob.MaxSize, FlistSize: s.opts.MaxFlist, Locate: api.MaxLocate, Page: api.MaxPage}}), nil
}

func (s *Server) whoami(ctx context.Context, _ *noInput) (*answer[api.Whoami], error) {
	c, err := needScope(ctx, api.ScopeRead)
	if err != nil {
		return nil, err
	}
	list, err := s.db.Tokens(ctx, c.User)
	if err != nil {
		return nil, err
	}
	w := api.Whoami{User: c.User, Scope: api.Scope(c.Scope), Pattern: c.Pattern}
	for _, t := range list {
		if t.ID == c.Token {
			w.Token, w.Expires = t.Name, optionalTime(t.Expires)
		}
	}
	return ok(w), nil
}

func (s *Server) listTokens(ctx context.Context, _ *noInput) (*answer[api.Tokens], error) {
	c, err := needScope(ctx, api.ScopeRead)
	if err != nil {
		return nil, err
	}
	list, err := s.db.Tokens(ctx, c.User)
	if err != nil {
		return nil, err
	}
	return ok(api.Tokens{Tokens: each(list, tokenJSON)}), nil
}

// makeToken makes a token for the same user that can do no more than the one that asks.
func (s *Server) makeToken(ctx context.Context, in *tokenInput) (*answer[api.NewToken], error) {
	c, err := needScope(ctx, in.Body.Scope)
	if err != nil {
		return nil, err
	}
	t := db.Token{User: c.User, Name: in.Body.Name, Scope: string(in.Body.Scope), Pattern: in.Body.Pattern, Created: s.now()}
	if in.Body.Expires != nil {
		t.Expires = in.Body.Expires.Truncate(time.Millisecond) // as rows have it
	}
	if c.Pattern != "" && t.Pattern != c.Pattern {
		return nil, fail(api.CodeDenied, "the token that asks is narrowed to %s; so must the new one be", c.Pattern)
	}
	end, err := s.expiry(ctx, c)
	if err != nil {
		return nil, err
	}
	if !end.IsZero() && (t.Expires.IsZero() || t.Expires.After(end)) {
		return nil, fail(api.CodeDenied, "the token that asks expires at %v; the new one must not outlive it", end.Format(time.RFC3339))
	}
	if err := checkToken(&t); err != nil || t.Name == "" {
		return nil, fail(api.CodeBadRequest, "a token needs a name, a known scope, a valid pattern and an end that is not past").because(err)
	}
	secret, t, err := createToken(ctx, s.db, t)
	if err != nil {
		return nil, err
	}
	return ok(api.NewToken{Secret: secret, Token: tokenJSON(t)}), nil
}

// expiry returns when the token of c expires.
func (s *Server) expiry(ctx context.Context, c db.Caller) (time.Time, error) {
	list, err := s.db.Tokens(ctx, c.User)
	for _, t := range list {
		if t.ID == c.Token {
			return t.Expires, err
		}
	}
	return time.Time{}, err
}

// dropToken revokes a token of the same user, of anybody for an admin. A token that is
// narrowed or may only read can revoke itself alone.
func (s *Server) dropToken(ctx context.Context, in *tokenPath) (*nothing, error) {
	c, err := needScope(ctx, api.ScopeRead)
	if err != nil {
		return nil, err
	}
	id, err := strconv.ParseInt(in.ID, 10, 64)
	if err != nil {
		return nil, fail(api.CodeBadRequest, "a token is named by its number").because(err)
	}
	user := c.User
	switch {
	case c.Admin():
		user = ""
	case id != c.Token && (c.Pattern != "" || !c.May("write")):
		return nil, fail(api.CodeDenied, "this token may revoke itself alone")
	}
	return nil, s.db.RevokeToken(ctx, id, user, s.now())
}

func (s *Server) listRepos(ctx context.Context, in *reposInput) (*answer[api.Repos], error) {
	limit, err := limitOf(in.Limit)
	if err != nil {
		return nil, err
	}
	owner, name, _ := strings.Cut(in.After, "/")
	rows, err := s.db.Repositories(ctx, caller(ctx), in.Owner, owner, name, limit+1)
	if err != nil {
		return nil, err
	}
	rows, next := cut(rows, limit, func(r db.Repository) string { return r.Owner + "/" + r.Name })
	return ok(api.Repos{Repos: each(rows, repoJSON), Next: next}), nil
}

// repo returns a repository if the caller may read it.
func (s *Server) repo(ctx context.Context, owner, name string) (db.Repository, error) {
	return s.db.Repository(ctx, caller(ctx), owner, name)
}

func (s *Server) getRepo(ctx context.Context, in *repoPath) (*answer[api.Repo], error) {
	r, err := s.repo(ctx, in.Owner, in.Name)
	if err != nil {
		return nil, err
	}
	return ok(repoJSON(r)), nil
}

func (s *Server) patchRepo(ctx context.Context, in *patchInput) (*answer[api.Repo], error) {
	if _, err := needWrite(ctx, in.Owner, in.Name); err != nil {
		return nil, err
	}
	r, err := s.repo(ctx, in.Owner, in.Name)
	if err != nil {
		return nil, err
	}
	if err := s.db.SetPublic(ctx, r.ID, in.Body.Public); err != nil {
		return nil, err
	}
	r.Public = in.Body.Public
	return ok(repoJSON(r)), nil
}

func (s *Server) listTags(ctx context.Context, in *tagsInput) (*answer[api.Tags], error) {
	limit, err := limitOf(in.Limit)
	if err != nil {
		return nil, err
	}
	r, err := s.repo(ctx, in.Owner, in.Name)
	if err != nil {
		return nil, err
	}
	rows, err := s.db.Tags(ctx, r.ID, in.After, limit+1)
	if err != nil {
		return nil, err
	}
	rows, next := cut(rows, limit, func(t db.Tag) string { return t.Name })
	return ok(api.Tags{Tags: each(rows, tagJSON), Next: next}), nil
}

func (s *Server) getTag(ctx context.Context, in *tagPath) (*answer[api.Tag], error) {
	r, err := s.repo(ctx, in.Owner, in.Name)
	if err != nil {
		return nil, err
	}
	t, err := s.db.Tag(ctx, r.ID, in.Tag)
	if err != nil {
		return nil, err
	}
	return ok(tagJSON(t)), nil
}

func (s *Server) deleteTag(ctx context.Context, in *tagPath) (*nothing, error) {
	c, err := needWrite(ctx, in.Owner, in.Name)
	if err != nil {
		return nil, err
	}
	r, err := s.repo(ctx, in.Owner, in.Name)
	if err != nil {
		return nil, err
	}
	return nil, s.db.DeleteTag(ctx, c, r.ID, in.Tag, s.now())
}

func (s *Server) listMoves(ctx context.Context, in *tagPath) (*answer[api.Moves], error) {
	r, err := s.repo(ctx, in.Owner, in.Name)
	if err != nil {
		return nil, err
	}
	rows, err := s.db.Moves(ctx, r.ID, in.Tag, api.MaxPage)
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, fail(api.CodeNotFound, "%s/%s never had this tag", r.Owner, r.Name)
	}
	return ok(api.Moves{Moves: each(rows, moveJSON)}), nil
}

func (s *Server) listFlists(ctx context.Context, in *flistsInput) (*answer[api.Flists], error) {
	limit, err := limitOf(in.Limit)
	if err != nil {
		return nil, err
	}
	var before int64
	if in.Before != "" {
		if before, err = strconv.ParseInt(in.Before, 10, 64); err != nil {
			return nil, fail(api.CodeBadRequest, "before is not what a page gave as next").because(err)
		}
	}
	r, err := s.repo(ctx, in.Owner, in.Name)
	if err != nil {
		return nil, err
	}
	rows, err := s.db.Flists(ctx, r.ID, before, limit+1)
	if err != nil {
		return nil, err
	}
	rows, next := cut(rows, limit, func(f db.Flist) string { return strconv.FormatInt(f.ID, 10) })
	return ok(api.Flists{Flists: each(rows, flistJSON), Next: next}), nil
}

func (s *Server) listBlobs(ctx context.Context, in *blobsInput) (*answer[api.Blobs], error) {
	if err := needAdmin(ctx); err != nil {
		return nil, err
	}
	limit, err := limitOf(in.Limit)
	if err != nil {
		return nil, err
	}
	var after blob.Digest
	if in.After != "" {
		if after, err = blob.ParseDigest(in.After); err != nil {
			return nil, fail(api.CodeBadRequest, "after is not a digest").because(err)
		}
	}
	rows, err := s.db.AllBlobs(ctx, after, limit+1)
	if err != nil {
		return nil, err
	}
	rows, next := cut(rows, limit, func(b db.Blob) string { return b.Digest.String() })
	return ok(api.Blobs{Blobs: each(rows, func(b db.Blob) api.Blob { return api.Blob{Digest: b.Digest, Size: b.Size} }), Next: next}), nil
}

func (s *Server) dropBlob(ctx context.Context, in *blobPath) (*nothing, error) {
	if err := needAdmin(ctx); err != nil {
		return nil, err
	}
	id, err := blob.ParseDigest(in.Digest)
	if err != nil {
		return nil, fail(api.CodeBadRequest, "a blob is named by 64 lower-case hexadecimal digits").because(err)
	}
	return nil, s.deleteBlob(ctx, id)
}

// operations registers the JSON endpoints.
func (s *Server) operations(a huma.API) {
	const repo = "/v1/repos/{owner}/{name}"
	register(a, "get-info", http.MethodGet, "/v1", "About this hub", s.info)
	register(a, "whoami", http.MethodGet, "/v1/whoami", "The user and the token of the request", s.whoami)
	register(a, "list-tokens", http.MethodGet, "/v1/tokens", "The user's tokens, newest first", s.listTokens)
	register(a, "create-token", http.MethodPost, "/v1/tokens", "Make a token for the same user", s.makeToken)
	register(a, "revoke-token", http.MethodDelete, "/v1/tokens/{id}", "Revoke a token", s.dropToken)
	register(a, "list-repos", http.MethodGet, "/v1/repos", "Repositories that the caller may read", s.listRepos)
	register(a, "get-repo", http.MethodGet, repo, "A repository", s.getRepo)
	register(a, "patch-repo", http.MethodPatch, repo, "Change who may read a repository", s.patchRepo)
	register(a, "list-tags", http.MethodGet, repo+"/tags", "Tags of a repository, by name", s.listTags)
	register(a, "get-tag", http.MethodGet, repo+"/tags/{tag}", "Where a tag points", s.getTag)
	register(a, "delete-tag", http.MethodDelete, repo+"/tags/{tag}", "Delete a tag; the flist stays", s.deleteTag)
	register(a, "list-moves", http.MethodGet, repo+"/tags/{tag}/moves", "History of a tag, newest first", s.listMoves)
	register(a, "list-flists", http.MethodGet, repo+"/flists", "Versions in a repository, newest first", s.listFlists)
	register(a, "list-blobs", http.MethodGet, "/v1/blobs", "All blobs, for admins", s.listBlobs)
	register(a, "delete-blob", http.MethodDelete, "/v1/blobs/{digest}", "Delete a blob that no repository needs, for admins", s.dropBlob)
}
