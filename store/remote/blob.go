package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/hub/api"
	"github.com/zosfs/zosfs/store"
)

func blobPath(id blob.Digest) []string { return []string{api.Version, "blobs", id.String()} }

// Get implements [store.Getter].
func (c *Client) Get(ctx context.Context, id blob.Digest, off, n int64) (io.ReadCloser, error) {
	switch {
	case off < 0 || n > 0 && off+n < off:
		return nil, &store.RangeError{Blob: id, Off: off, N: n, Size: -1}
	case n == 0:
		size, err := c.Stat(ctx, id)
		if err == nil {
			_, err = store.CheckRange(id, size, off, n)
		}
		if err != nil {
			return nil, err
		}
		return http.NoBody, nil
	case off == 0 && n < 0:
		resp, err := c.do(ctx, call{method: http.MethodGet, path: blobPath(id)}, http.StatusOK)
		if err != nil {
			return nil, fmt.Errorf("get blob %v: %w", id, err)
		}
		if resp.size > blob.MaxSize {
			return nil, errors.Join(fmt.Errorf("get blob %v: %d bytes are no blob: %w", id, resp.size, errs.ErrCorrupt), resp.body.Close())
		}
		return limit(resp.body, blob.MaxSize), nil
	}
	return c.getRange(ctx, id, off, n)
}

// getRange gets [off, off+n), or up to the end if n < 0.
func (c *Client) getRange(ctx context.Context, id blob.Digest, off, n int64) (io.ReadCloser, error) {
	ask := fmt.Sprintf("bytes=%d-", off)
	if n > 0 {
		ask += strconv.FormatInt(off+n-1, 10)
	}
	k := call{method: http.MethodGet, path: blobPath(id), header: http.Header{"Range": {ask}}}
	resp, err := c.do(ctx, k, http.StatusPartialContent, http.StatusRequestedRangeNotSatisfiable)
	if err != nil {
		return nil, fmt.Errorf("get blob %v: %w", id, err)
	}
	first, last, size, err := contentRange(resp.header.Get("Content-Range"))
	var want int64
	switch {
	case err != nil:
	case resp.status == http.StatusRequestedRangeNotSatisfiable:
		if off != size || n >= 0 {
			err = &store.RangeError{Blob: id, Off: off, N: n, Size: size}
		}
	default:
		if want, err = store.CheckRange(id, size, off, n); err == nil && (first != off || last != off+want-1) {
			err = fmt.Errorf("asked for %s, got %d-%d: %w", ask, first, last, errs.ErrUnavailable)
		}
	}
	if err != nil {
		drain(resp.body)
		return nil, fmt.Errorf("get blob %v: %w", id, err)
	}
	return limit(resp.body, want), nil
}

// contentRange reads "bytes first-last/size", or "bytes */size" with first and last -1.
func contentRange(s string) (first, last, size int64, err error) {
	bad := fmt.Errorf("Content-Range %.80q: %w", s, errs.ErrUnavailable)
	rest, ok := strings.CutPrefix(s, "bytes ")
	span, total, ok2 := strings.Cut(rest, "/")
	if size, err = number(total); !ok || !ok2 || err != nil {
		return 0, 0, 0, bad
	}
	if span == "*" {
		return -1, -1, size, nil
	}
	a, b, ok := strings.Cut(span, "-")
	first, err = number(a)
	last, err2 := number(b)
	if !ok || err != nil || err2 != nil || first > last || last >= size {
		return 0, 0, 0, bad
	}
	return first, last, size, nil
}

func number(s string) (int64, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	return int64(n), err
}

// limit ends a body after n bytes: what a hub sends beyond is not ours.
func limit(b io.ReadCloser, n int64) io.ReadCloser {
	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(b, n), b}
}

// Put implements [store.Putter].
func (c *Client) Put(ctx context.Context, id blob.Digest, data []byte) error {
	if err := id.Check(data); err != nil {
		return fmt.Errorf("put blob %v: %w", id, err)
	}
	return c.PutSummed(ctx, id, data)
}

// PutSummed implements [store.SummedPutter].
func (c *Client) PutSummed(ctx context.Context, id blob.Digest, data []byte) error {
	resp, err := c.do(ctx, call{
		method: http.MethodPut, path: blobPath(id), mimeType: api.TypeBlob,
		body: func() io.Reader { return bytes.NewReader(data) }, size: int64(len(data)),
	}, http.StatusCreated)
	if err != nil {
		return fmt.Errorf("put blob %v: %w", id, err)
	}
	drain(resp.body)
	return nil
}

// Stat implements [store.Stater].
func (c *Client) Stat(ctx context.Context, id blob.Digest) (int64, error) {
	resp, err := c.do(ctx, call{method: http.MethodHead, path: blobPath(id)}, http.StatusOK)
	if err != nil {
		return 0, fmt.Errorf("stat blob %v: %w", id, err)
	}
	drain(resp.body)
	if resp.size < 0 || resp.size > blob.MaxSize {
		return 0, fmt.Errorf("stat blob %v: %d is no size of a blob: %w", id, resp.size, errs.ErrCorrupt)
	}
	return resp.size, nil
}

// List implements [store.Lister]. It needs a token with the scope of an admin.
func (c *Client) List(ctx context.Context, fn func(store.Info) error) error {
	var last blob.Digest
	for {
		k := call{method: http.MethodGet, path: []string{api.Version, "blobs"}, query: url.Values{}}
		if !last.IsZero() {
			k.query.Set("after", last.String())
		}
		var page api.Blobs
		if err := c.json(ctx, k, nil, &page, http.StatusOK); err != nil {
			return fmt.Errorf("list blobs: %w", err)
		}
		for _, b := range page.Blobs {
			if b.Digest.Compare(last) <= 0 {
				return fmt.Errorf("list blobs: %v comes after %v: %w", b.Digest, last, errs.ErrFormat)
			}
			last = b.Digest
			if err := fn(store.Info{Digest: b.Digest, Size: b.Size}); err != nil {
				return err
			}
		}
		if page.Next == "" || len(page.Blobs) == 0 {
			return nil
		}
	}
}

// Delete implements [store.Store]. It needs a token with the scope of an admin; a blob that
// a repository needs is not deleted.
func (c *Client) Delete(ctx context.Context, id blob.Digest) error {
	if err := c.json(ctx, call{method: http.MethodDelete, path: blobPath(id)}, nil, nil, http.StatusNoContent); err != nil {
		return fmt.Errorf("delete blob %v: %w", id, err)
	}
	return nil
}

// Locate implements [store.Locator]. Any number of chunks may be asked for; it is one round
// trip for each api.MaxLocate of them.
func (c *Client) Locate(ctx context.Context, chunks []chunk.Digest) (map[chunk.Digest]blob.Location, error) {
	out := make(map[chunk.Digest]blob.Location)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for len(chunks) > 0 {
		batch := chunks[:min(len(chunks), api.MaxLocate)]
		chunks = chunks[len(batch):]
		if err := c.locate(ctx, batch, out); err != nil {
			return nil, fmt.Errorf("locate %d chunks: %w", len(batch), err)
		}
	}
	return out, nil
}

func (c *Client) locate(ctx context.Context, chunks []chunk.Digest, out map[chunk.Digest]blob.Location) error {
	ask := api.EncodeLocate(chunks)
	resp, err := c.do(ctx, call{
		method: http.MethodPost, path: []string{api.Version, "chunks", "locate"}, mimeType: api.TypeLocate,
		body: func() io.Reader { return bytes.NewReader(ask) }, size: int64(len(ask)),
	}, http.StatusOK)
	if err != nil {
		return err
	}
	p, err := io.ReadAll(io.LimitReader(resp.body, api.MaxLocateAnswer+1))
	drain(resp.body)
	if err != nil {
		return err
	}
	found, err := api.DecodeFound(p, chunks)
	for _, f := range found {
		out[f.Chunk] = f.Location
	}
	return err
}
