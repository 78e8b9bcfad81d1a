package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/mount"
	"github.com/zosfs/zosfs/ref"
)

// maxAnswer bounds an answer, in bytes: the status of some ten thousand mounts.
const maxAnswer = 256 << 20

// A Client speaks to the node service of a state directory. Errors have the kinds that they
// had there ([Error]); where no service runs, they are [ErrNotRunning].
type Client struct {
	dirs Dirs
	http *http.Client
}

// Dial returns a Client. It does not connect: each call does.
func Dial(d Dirs) *Client {
	return &Client{dirs: d, http: &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, d) },
	}}}
}

// Ping fails unless a service answers.
func (c *Client) Ping(ctx context.Context) error {
	return c.call(ctx, http.MethodGet, "ping", nil, &Pong{})
}

// Status tells of the service.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var s Status
	return s, c.call(ctx, http.MethodGet, "status", nil, &s)
}

// Mount mounts. Relative paths, of the mount point and of an flist, count from here.
func (c *Client) Mount(ctx context.Context, r MountRequest) (MountInfo, error) {
	var info MountInfo
	name, err := ref.Parse(r.Ref, "")
	if err != nil {
		return info, err
	}
	if name, err = name.Abs(); err != nil {
		return info, err
	}
	r.Ref = name.String()
	if r.Dir, err = filepath.Abs(r.Dir); err != nil {
		return info, fmt.Errorf("mount point: %w", err)
	}
	return info, c.call(ctx, http.MethodPost, "mount", r, &info)
}

// Unmount takes the mount at dir away. While programs use it, that fails with unix.EBUSY; with
// lazy it is out of sight at once and ends with the last of them. What the service does not
// have, a mount of another process or of a service that died, is unmounted by this process;
// one that is dead always lazily, as nobody can get anything from it. No mount of zosfs at dir
// is fs.ErrNotExist.
func (c *Client) Unmount(ctx context.Context, dir string, lazy bool) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("mount point: %w", err)
	}
	err = c.call(ctx, http.MethodPost, "unmount", UnmountRequest{Dir: dir, Lazy: lazy}, &struct{}{})
	if errors.Is(err, ErrNotRunning) || errors.Is(err, fs.ErrNotExist) {
		return mount.Unmount(ctx, dir, lazy || !isAlive(dir))
	}
	return err
}

// Prune evicts chunks until the files of the cache take at most n bytes, and returns how many
// bytes that freed.
func (c *Client) Prune(ctx context.Context, n int64) (freed int64, err error) {
	var res PruneResult
	err = c.call(ctx, http.MethodPost, "prune", PruneRequest{Bytes: n}, &res)
	return res.Freed, err
}

// Events yields what happens in the service, beginning with what is kept of the events after
// the one with Seq since, until it ends, ctx is done, or it is lost. Only the last pair can
// have an error. Whoever reads too slowly gets an EventMissed now and then.
func (c *Client) Events(ctx context.Context, since uint64) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		resp, err := c.get(ctx, "events", "?since="+strconv.FormatUint(since, 10))
		if err != nil {
			yield(Event{}, err)
			return
		}
		defer func() { _ = resp.Body.Close() }()
		for dec := json.NewDecoder(resp.Body); ; {
			var v Event
			switch err := dec.Decode(&v); {
			case errors.Is(err, io.EOF):
				return
			case err != nil:
				yield(Event{}, lost(ctx, "events", err))
				return
			}
			if !yield(v, nil) {
				return
			}
		}
	}
}

// Metrics returns the figures of the service in the text format of Prometheus, version 0.0.4.
func (c *Client) Metrics(ctx context.Context) ([]byte, error) {
	resp, err := c.get(ctx, "metrics", "")
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	p, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, lost(ctx, "metrics", err)
	}
	return p, nil
}

// Stop ends the service and returns when it has ended: another one can start.
func (c *Client) Stop(ctx context.Context) error {
	if err := c.call(ctx, http.MethodPost, "stop", struct{}{}, &struct{}{}); err != nil {
		return err
	}
	return awaitEnd(ctx, c.dirs)
}

// call sends in, if it is not nil, and decodes the answer into out.
func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	if c.dirs.State == "" {
		_, err := c.dirs.abs()
		return err
	}
	var body io.Reader
	if in != nil {
		p, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		body = bytes.NewReader(p)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://node/v1/"+path, body)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	resp, err := c.do(req, path)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	p, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return lost(ctx, path, err)
	}
	if err := json.Unmarshal(p, out); err != nil {
		return fmt.Errorf("%s: answer of the node service: %w: %w", path, errs.ErrFormat, err)
	}
	return nil
}

// get asks for what is no single JSON value. The caller closes the body.
func (c *Client) get(ctx context.Context, path, query string) (*http.Response, error) {
	if c.dirs.State == "" {
		_, err := c.dirs.abs()
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://node/v1/"+path+query, nil)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c.do(req, path)
}

// do returns an answer that is no error. The caller closes the body.
func (c *Client) do(req *http.Request, path string) (*http.Response, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, lost(req.Context(), path, err)
	}
	if resp.StatusCode < http.StatusBadRequest {
		return resp, nil
	}
	defer func() { _ = resp.Body.Close() }()
	p, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, lost(req.Context(), path, err)
	}
	var e ErrorBody
	if err := json.Unmarshal(p, &e); err != nil || e.Error.Message == "" {
		return nil, fmt.Errorf("%s: the node service answers with status %d: %w", path, resp.StatusCode, errs.ErrUnavailable)
	}
	return nil, &Error{Info: e.Error}
}

// lost says why a call did not come through.
func lost(ctx context.Context, path string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err // without the made-up URL
	}
	if errors.Is(err, ErrNotRunning) || errors.Is(err, errs.ErrDenied) {
		return err
	}
	if errors.Is(err, unix.EACCES) {
		return fmt.Errorf("the node service belongs to somebody else: %w: %w", errs.ErrDenied, err)
	}
	return fmt.Errorf("%s: the node service has gone while it was asked: %w: %w", path, errs.ErrUnavailable, err)
}
