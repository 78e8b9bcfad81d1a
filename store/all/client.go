package all

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/store/remote"
)

// dialer is what tests replace.
type dialer struct{ resolver *net.Resolver }

// Client returns a client that goes only where the policy lets it: each request, those of
// redirects too, is checked by its URL, and, where the host is not trusted, again by the
// address that is dialled. The caller ends it with CloseIdleConnections.
func (p *Policy) Client() *http.Client {
	trusted, stranger := transport(), transport()
	trusted.Proxy = http.ProxyFromEnvironment
	trusted.DialContext = p.dialer(nil).DialContext
	// A proxy would resolve the name where we cannot see to what.
	stranger.DialContext = p.dialer(p.control).DialContext
	return &http.Client{Transport: &guard{p, trusted, stranger}}
}

const dialTimeout = 10 * time.Second

func (p *Policy) dialer(control func(context.Context, string, string, syscall.RawConn) error) *net.Dialer {
	return &net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second, ControlContext: control, Resolver: p.dial.resolver}
}

// transport is as store/remote has it: HTTP/1.1, since many ranges at once are faster over
// many connections, and none compressed.
func transport() *http.Transport {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &http.Transport{
		TLSHandshakeTimeout:    dialTimeout,
		MaxIdleConnsPerHost:    64,
		IdleConnTimeout:        90 * time.Second,
		DisableCompression:     true,
		MaxResponseHeaderBytes: 64 << 10,
		WriteBufferSize:        64 << 10,
		ReadBufferSize:         64 << 10,
		Protocols:              &protocols,
	}
}

// control refuses to dial what is not a public address. It sees each address that a name
// resolves to, after the resolver and before the connection.
func (p *Policy) control(_ context.Context, _, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil || !p.allows(at.Addr()) {
		return &RefusedError{Why: address + " is not a public address"}
	}
	return nil
}

// guard is the transport of a policy's client.
type guard struct {
	policy            *Policy
	trusted, stranger *http.Transport
}

// RoundTrip implements [http.RoundTripper].
func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := g.check(req); err != nil {
		if req.Body != nil {
			err = errors.Join(err, req.Body.Close())
		}
		return nil, err
	}
	if g.trusts(req) {
		return g.trusted.RoundTrip(req)
	}
	return g.stranger.RoundTrip(req)
}

func (g *guard) check(req *http.Request) error {
	switch {
	case req.URL.Scheme != "http" && req.URL.Scheme != "https":
		return refuse(req.URL, "redirected to another scheme")
	case req.URL.Scheme == "http" && from(req) != nil && from(req).URL.Scheme == "https":
		return refuse(req.URL, "redirected from https to http")
	case g.trusts(req):
		return nil
	}
	return g.policy.checkStranger(req.URL)
}

// trusts reports whether req may go to any address: if its host is trusted, and so were all
// that redirected to it.
func (g *guard) trusts(req *http.Request) bool {
	for ; req != nil; req = from(req) {
		if !g.policy.trusts(req.URL) {
			return false
		}
	}
	return true
}

// from returns the request whose answer redirected to req, nil if none did.
func from(req *http.Request) *http.Request {
	if req.Response == nil {
		return nil
	}
	return req.Response.Request
}

// CloseIdleConnections is what [http.Client.CloseIdleConnections] calls.
func (g *guard) CloseIdleConnections() {
	g.trusted.CloseIdleConnections()
	g.stranger.CloseIdleConnections()
}

// guarded is a hub behind a policy.
type guarded struct {
	*remote.Client
	http *http.Client
}

// Get implements [store.Getter].
func (s guarded) Get(ctx context.Context, id blob.Digest, off, n int64) (io.ReadCloser, error) {
	rc, err := s.Client.Get(ctx, id, off, n)
	return rc, refused(err)
}

// Stat implements [store.Stater].
func (s guarded) Stat(ctx context.Context, id blob.Digest) (int64, error) {
	n, err := s.Client.Stat(ctx, id)
	return n, refused(err)
}

// Locate implements [store.Locator].
func (s guarded) Locate(ctx context.Context, chunks []chunk.Digest) (map[chunk.Digest]blob.Location, error) {
	found, err := s.Client.Locate(ctx, chunks)
	return found, refused(err)
}

// Close closes the connections.
func (s guarded) Close() error {
	s.http.CloseIdleConnections()
	return s.Client.Close()
}

// refused returns the refusal in err, if there is one: that a hub is out of reach, which is
// what a client makes of it, would be worth another try.
func refused(err error) error {
	if r, ok := errors.AsType[*RefusedError](err); ok {
		return r
	}
	return err
}
