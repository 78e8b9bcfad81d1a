package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/hub/api"
)

// maxJSON is the largest JSON answer that is read, in bytes: a full page of tags has about
// 600 KiB.
const maxJSON = 4 << 20

// A call is one request.
type call struct {
	method string
	path   []string // elements, as they are
	query  url.Values
	header http.Header

	// body, if not nil, returns the body from its start; it has size bytes.
	body     func() io.Reader
	size     int64
	mimeType string
}

// An answer is one with a status that was wanted. The caller closes the body.
type answer struct {
	status int
	header http.Header
	size   int64 // of the body, -1 if the hub did not say
	body   io.ReadCloser
}

// do sends a request. An answer with another status than those given is an error.
func (c *Client) do(parent context.Context, k call, want ...int) (*answer, error) {
	ctx, w := c.watch(parent)
	resp, err := c.send(ctx, w, k) //nolint:bodyclose // closed by refusal or with answer.body
	if err == nil {
		if slices.Contains(want, resp.StatusCode) {
			w.answer()
			b := &body{ReadCloser: resp.Body, w: w, cancelled: parent.Err}
			return &answer{resp.StatusCode, resp.Header, resp.ContentLength, b}, nil
		}
		err = c.blame(refusal(resp))
	} else if err = network(parent, ctx, err); silent(err) {
		err = &UnreachableError{Hub: c.base.Host, Err: err}
	}
	w.stop()
	if _, ok := errors.AsType[*UnreachableError](err); ok {
		return nil, err
	}
	return nil, fmt.Errorf("hub %s: %w", c.base.Host, err)
}

func (c *Client) send(ctx context.Context, w *watch, k call) (*http.Response, error) {
	path := make([]string, len(k.path))
	for i, p := range k.path {
		path[i] = url.PathEscape(p)
	}
	u := c.base.JoinPath(path...)
	u.RawQuery = k.query.Encode()
	req, err := http.NewRequestWithContext(ctx, k.method, u.String(), nil)
	if err != nil {
		return nil, err
	}
	for name, v := range k.header {
		req.Header[name] = v
	}
	req.Header.Set("User-Agent", c.opts.UserAgent)
	if c.opts.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.opts.Token)
	}
	if k.body != nil {
		req.Header.Set("Content-Type", k.mimeType)
		// All our requests with a body may be repeated. The transport does so, where a kept
		// connection turns out to be dead, if this header is there; empty, it is not sent.
		req.Header["Idempotency-Key"] = []string{}
		req.GetBody = func() (io.ReadCloser, error) { return w.upload(k.body(), c.opts.Check), nil }
		req.Body, _ = req.GetBody()
		if req.ContentLength = k.size; k.size == 0 {
			req.Body = http.NoBody
		}
	}
	return c.http.Do(req)
}

// json sends a request and decodes the answer into out, if that is not nil.
func (c *Client) json(ctx context.Context, k call, in, out any, want ...int) error {
	if in != nil {
		p, err := json.Marshal(in)
		if err != nil {
			return err
		}
		k.body, k.size, k.mimeType = func() io.Reader { return bytes.NewReader(p) }, int64(len(p)), "application/json"
	}
	resp, err := c.do(ctx, k, want...)
	if err != nil {
		return err
	}
	defer drain(resp.body)
	if out == nil {
		return nil
	}
	p, err := io.ReadAll(io.LimitReader(resp.body, maxJSON+1))
	switch {
	case err != nil:
		return fmt.Errorf("hub %s: %w", c.base.Host, err)
	case len(p) > maxJSON:
		return fmt.Errorf("hub %s: the answer is larger than %d bytes: %w", c.base.Host, maxJSON, errs.ErrFormat)
	}
	if err := json.Unmarshal(p, out); err != nil {
		return fmt.Errorf("hub %s: not an answer of a hub: %w: %w", c.base.Host, errs.ErrFormat, err)
	}
	return nil
}

// drain closes a body; one that is nearly done is read first, so that its connection can be
// used again.
func drain(b io.ReadCloser) {
	_, _ = io.CopyN(io.Discard, b, 16<<10)
	_ = b.Close()
}

// network says what err of a request means: the caller's context, or a hub out of reach.
func network(parent, ctx context.Context, err error) error {
	if e := parent.Err(); e != nil {
		return e
	}
	if errors.Is(context.Cause(ctx), errStalled) {
		return fmt.Errorf("%w: %w", errs.ErrUnavailable, errStalled)
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err // without the URL, which after redirects may hold a signature
	}
	return fmt.Errorf("%w: %w", errs.ErrUnavailable, err)
}

var errStalled = errors.New("no bytes came or went for too long")

// A watch cancels a request when nothing moves.
type watch struct {
	cancel   context.CancelCauseFunc
	timer    *time.Timer
	stall    time.Duration
	answered atomic.Bool // the upload counts no longer
}

func (c *Client) watch(ctx context.Context) (context.Context, *watch) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &watch{cancel: cancel, stall: c.opts.Stall}
	w.timer = time.AfterFunc(dialTimeout+w.stall, func() { cancel(errStalled) })
	return ctx, w
}

func (w *watch) stop() {
	w.timer.Stop()
	w.cancel(nil)
}

// answer ends the wait for the answer; its body is watched from its first read on.
func (w *watch) answer() {
	w.answered.Store(true)
	w.timer.Stop()
}

// upload returns a request body that w watches; once it is sent, the hub has check to answer.
func (w *watch) upload(r io.Reader, check time.Duration) io.ReadCloser {
	return &uploadBody{r: r, w: w, check: check}
}

type uploadBody struct {
	r     io.Reader
	w     *watch
	check time.Duration
}

// Read implements io.Reader.
func (b *uploadBody) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	switch {
	case b.w.answered.Load():
	case err != nil:
		b.w.timer.Reset(b.check)
	default:
		b.w.timer.Reset(b.w.stall)
	}
	return n, err
}

// Close implements io.Closer.
func (b *uploadBody) Close() error { return nil }

// body is the body of an answer that its watch watches while it is read. Between reads the
// caller may take its time.
type body struct {
	io.ReadCloser
	w         *watch
	cancelled func() error // of the caller's context
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	b.w.timer.Reset(b.w.stall)
	n, err := b.ReadCloser.Read(p)
	b.w.timer.Stop()
	if err == nil || errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return n, err
	}
	if e := b.cancelled(); e != nil {
		return n, e
	}
	return n, fmt.Errorf("%w: %w", errs.ErrUnavailable, err)
}

// Close implements io.Closer.
func (b *body) Close() error {
	b.w.stop()
	return b.ReadCloser.Close()
}

// repoPath returns the path of a repository and what is below it.
func repoPath(owner, name string, more ...string) []string {
	return append([]string{api.Version, "repos", owner, name}, more...)
}

// checkRepo refuses names with which a path would not be the one meant.
func checkRepo(owner, name string) error {
	return errors.Join(api.CheckOwner(owner), api.CheckRepo(name))
}

// clean makes what a hub says safe for a terminal.
func clean(s string) string {
	const most = 500
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r >= 0x200b && r <= 0x200f || r >= 0x2028 && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
