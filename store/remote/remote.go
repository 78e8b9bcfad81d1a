// Package remote is a store on a hub, and what else a hub offers its clients: flists, tags,
// tokens. It speaks the protocol of docs/protocol.md.
//
// A hub is not trusted. Sizes are limited before they are read, answers must be the ones
// the protocol has, and the token is sent to the hub alone: a redirect to another host,
// such as to a presigned URL, is followed without it. Bytes of blobs and flists are not
// compared with their digests here; as with any store, whoever asked verifies them.
//
// Nothing is repeated here; package store/retry does that. Every call ends: connecting, the
// first byte of an answer and each pause within it have a limit.
package remote

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/store"
)

// Options configure a Client. URL is required.
type Options struct {
	URL       string        // http or https, of the hub's root; without user, query and fragment
	Token     string        // "" for what everybody may do
	TokenName string        // what to call the token when it is refused, such as "the token in ZOSFS_TOKEN"; "" leaves that to the hub
	HTTP      *http.Client  // default: one of its own with connections kept alive. Its redirect policy is not used
	UserAgent string        // default "zosfs"
	Stall     time.Duration // longest wait for the next byte, of an answer or to be taken; default 30 s
	Check     time.Duration // longest wait for the answer to an upload, which the hub verifies first; default 5 min
}

// Client speaks to one hub. It is safe for concurrent use.
type Client struct {
	base  *url.URL
	opts  Options
	http  *http.Client
	close func()
}

var (
	_ store.Store   = (*Client)(nil)
	_ store.Locator = (*Client)(nil)
)

const (
	dialTimeout = 10 * time.Second
	// keepIdle connections serve the next requests; read-ahead uses tens at once.
	keepIdle     = 64
	maxRedirects = 5
)

// New returns a Client. It does not connect yet. A URL that cannot be a hub's is
// errs.ErrFormat.
func New(o Options) (*Client, error) {
	u, err := url.Parse(o.URL)
	if err != nil {
		return nil, fmt.Errorf("hub URL: %w: %w", errs.ErrFormat, errors.Unwrap(err)) // the outer one repeats the URL, which may hold a password
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("hub URL %s: want http:// or https://, a host, and neither user nor query: %w", u.Redacted(), errs.ErrFormat)
	}
	if strings.ContainsAny(o.Token, " \r\n\t") {
		return nil, fmt.Errorf("hub token: it has white space in it: %w", errs.ErrFormat)
	}
	if o.UserAgent == "" {
		o.UserAgent = "zosfs"
	}
	if o.Stall <= 0 {
		o.Stall = 30 * time.Second
	}
	if o.Check <= 0 {
		o.Check = 5 * time.Minute
	}
	c := &Client{base: u, opts: o, close: func() {}}
	if o.HTTP != nil {
		copied := *o.HTTP
		c.http = &copied
	} else {
		t := transport()
		c.http, c.close = &http.Client{Transport: t}, t.CloseIdleConnections
	}
	c.http.CheckRedirect = c.redirect
	return c, nil
}

func transport() *http.Transport {
	// HTTP/1.1: many ranges at once are faster over many connections than over one, see
	// folbricht/desync issue 109.
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout:    dialTimeout,
		MaxIdleConnsPerHost:    keepIdle,
		IdleConnTimeout:        90 * time.Second,
		DisableCompression:     true, // what we fetch is compressed
		MaxResponseHeaderBytes: 64 << 10,
		WriteBufferSize:        64 << 10,
		ReadBufferSize:         64 << 10,
		Protocols:              &protocols,
	}
}

// URL returns the hub's URL, without a slash at its end.
func (c *Client) URL() string { return strings.TrimRight(c.base.String(), "/") }

// Close closes idle connections, if they are the Client's own.
func (c *Client) Close() error {
	c.close()
	return nil
}

// redirect follows GET and HEAD, not to where a listener could read along if the hub
// itself is safe from that, and takes the token along to the hub alone.
func (c *Client) redirect(req *http.Request, via []*http.Request) error {
	switch {
	case via[0].Method != http.MethodGet && via[0].Method != http.MethodHead:
		return http.ErrUseLastResponse
	case len(via) >= maxRedirects:
		return errors.New("too many redirects")
	case req.URL.Scheme != "https" && (req.URL.Scheme != "http" || c.base.Scheme == "https"):
		return fmt.Errorf("redirect to a %s URL", req.URL.Scheme)
	}
	req.Header.Del("Referer")
	if req.URL.Scheme != c.base.Scheme || req.URL.Host != c.base.Host {
		req.Header.Del("Authorization")
	}
	return nil
}
