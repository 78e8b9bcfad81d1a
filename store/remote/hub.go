package remote

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/hub/api"
)

// maxFlist is the largest flist as shipped that is fetched, in bytes.
const maxFlist = 4 << 30

// Publish puts the flist as shipped, of size bytes, into the repository owner/name and
// points tag at it, all at once. The blobs it names must be put before, else the error is an
// [*Error] with Missing set, and errs.ErrNotFound. The repository is made if it is not there.
func (c *Client) Publish(ctx context.Context, owner, name, tag string, f io.ReaderAt, size int64) (api.Tag, error) {
	ref := api.Ref{Owner: owner, Name: name, Tag: tag}
	var t api.Tag
	if err := checkRef(ref); err != nil {
		return t, fmt.Errorf("publish: %w", err)
	}
	k := call{
		method: http.MethodPut, path: repoPath(owner, name, "tags", tag), mimeType: api.TypeFlist,
		body: func() io.Reader { return io.NewSectionReader(f, 0, size) }, size: size,
	}
	if err := c.json(ctx, k, nil, &t, http.StatusCreated); err != nil {
		return t, fmt.Errorf("publish %v: %w", ref, err)
	}
	return t, nil
}

// checkRef refuses names with which a path would not be the one meant.
func checkRef(r api.Ref) error {
	_, err := api.ParseRef(r.String())
	return err
}

// Tag returns where the tag of ref points.
func (c *Client) Tag(ctx context.Context, ref api.Ref) (api.Tag, error) {
	var t api.Tag
	if err := checkRef(ref); err != nil {
		return t, err
	}
	if ref.Tag == "" {
		return t, fmt.Errorf("tag of %v: it has a digest in its place: %w", ref, errs.ErrFormat)
	}
	err := c.json(ctx, call{method: http.MethodGet, path: repoPath(ref.Owner, ref.Name, "tags", ref.Tag)}, nil, &t, http.StatusOK)
	if err != nil {
		return t, fmt.Errorf("%v: %w", ref, err)
	}
	if t.Flist.Digest.IsZero() {
		return t, fmt.Errorf("%v: the hub names no flist: %w", ref, errs.ErrFormat)
	}
	return t, nil
}

// Flist is an flist on its way.
type Flist struct {
	io.ReadCloser              // the file as shipped; whoever opens it compares it with Digest
	Digest        flist.Digest // what was asked for, or where the tag points
	Size          int64        // bytes as the hub says, -1 if it does not
}

// OpenFlist gets the flist that ref names. The caller closes it.
func (c *Client) OpenFlist(ctx context.Context, ref api.Ref) (*Flist, error) {
	if err := checkRef(ref); err != nil {
		return nil, err
	}
	digest := ref.Digest
	if digest.IsZero() {
		t, err := c.Tag(ctx, ref)
		if err != nil {
			return nil, err
		}
		digest = t.Flist.Digest
	}
	k := call{method: http.MethodGet, path: repoPath(ref.Owner, ref.Name, "flists", digest.String())}
	resp, err := c.do(ctx, k, http.StatusOK)
	if err != nil {
		return nil, fmt.Errorf("get flist %v: %w", ref, err)
	}
	return &Flist{ReadCloser: limit(resp.body, maxFlist), Digest: flist.Digest(digest), Size: resp.size}, nil
}

// Info returns what the hub says of itself.
func (c *Client) Info(ctx context.Context) (api.Info, error) {
	var out api.Info
	err := c.get(ctx, &out, nil, api.Version)
	return out, err
}

// Whoami returns whose the token is. Without one, or with one that is not valid, it is
// errs.ErrDenied.
func (c *Client) Whoami(ctx context.Context) (api.Whoami, error) {
	var out api.Whoami
	err := c.get(ctx, &out, nil, api.Version, "whoami")
	return out, err
}

// Tokens returns the user's tokens, newest first.
func (c *Client) Tokens(ctx context.Context) ([]api.Token, error) {
	var out api.Tokens
	err := c.get(ctx, &out, nil, api.Version, "tokens")
	return out.Tokens, err
}

// CreateToken makes a token for the same user, which can do no more than the Client's own.
func (c *Client) CreateToken(ctx context.Context, r api.TokenRequest) (api.NewToken, error) {
	var out api.NewToken
	err := c.json(ctx, call{method: http.MethodPost, path: []string{api.Version, "tokens"}}, r, &out, http.StatusOK)
	return out, err
}

// RevokeToken revokes a token.
func (c *Client) RevokeToken(ctx context.Context, id int64) error {
	path := []string{api.Version, "tokens", strconv.FormatInt(id, 10)}
	return c.json(ctx, call{method: http.MethodDelete, path: path}, nil, nil, http.StatusNoContent)
}

// Repos calls fn for each repository that the caller may read, of owner alone where that is
// not "", in order of owner and name, until fn fails; that error is returned as it is.
func (c *Client) Repos(ctx context.Context, owner string, fn func(api.Repo) error) error {
	q := url.Values{}
	if owner != "" {
		q.Set("owner", owner)
	}
	return pages(q, func() (string, error) {
		var page api.Repos
		if err := c.get(ctx, &page, q, api.Version, "repos"); err != nil {
			return "", err
		}
		return page.Next, all(page.Repos, fn)
	})
}

// Tags calls fn for each tag of a repository in order of names, until fn fails; that error
// is returned as it is.
func (c *Client) Tags(ctx context.Context, owner, name string, fn func(api.Tag) error) error {
	if err := checkRepo(owner, name); err != nil {
		return err
	}
	q := url.Values{}
	return pages(q, func() (string, error) {
		var page api.Tags
		if err := c.get(ctx, &page, q, repoPath(owner, name, "tags")...); err != nil {
			return "", err
		}
		return page.Next, all(page.Tags, fn)
	})
}

// DeleteTag deletes the tag of ref; the flist stays.
func (c *Client) DeleteTag(ctx context.Context, ref api.Ref) error {
	if err := checkRef(ref); err != nil {
		return err
	}
	if ref.Tag == "" {
		return fmt.Errorf("delete tag of %v: it has a digest in its place: %w", ref, errs.ErrFormat)
	}
	k := call{method: http.MethodDelete, path: repoPath(ref.Owner, ref.Name, "tags", ref.Tag)}
	if err := c.json(ctx, k, nil, nil, http.StatusNoContent); err != nil {
		return fmt.Errorf("delete %v: %w", ref, err)
	}
	return nil
}

// SetPublic sets whether everybody may read a repository.
func (c *Client) SetPublic(ctx context.Context, owner, name string, public bool) error {
	if err := checkRepo(owner, name); err != nil {
		return err
	}
	k := call{method: http.MethodPatch, path: repoPath(owner, name)}
	return c.json(ctx, k, api.RepoPatch{Public: public}, nil, http.StatusOK)
}

func (c *Client) get(ctx context.Context, out any, q url.Values, path ...string) error {
	return c.json(ctx, call{method: http.MethodGet, path: path, query: q}, nil, out, http.StatusOK)
}

// pages gets page after page; q says where the next begins. A hub that does not get on is
// errs.ErrFormat.
func pages(q url.Values, page func() (next string, err error)) error {
	for {
		next, err := page()
		if err != nil || next == "" {
			return err
		}
		// Names are in order of their elements, and '/' is not the least letter.
		if order(next) <= order(q.Get("after")) {
			return fmt.Errorf("page after %.80q: the hub goes on at %.80q: %w", q.Get("after"), next, errs.ErrFormat)
		}
		q.Set("after", next)
	}
}

func order(name string) string { return strings.ReplaceAll(name, "/", "\x00") }

func all[T any](in []T, fn func(T) error) error {
	for _, v := range in {
		if err := fn(v); err != nil {
			return err
		}
	}
	return nil
}
