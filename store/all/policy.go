package all

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"github.com/zosfs/zosfs/errs"
)

// PolicyOptions say where an flist came from and what its reader trusts.
type PolicyOptions struct {
	// Hub is the URL of the hub that the flist came from, "" if it is a local file.
	Hub string
	// Hubs are the URLs of the hubs that the user is logged in to.
	Hubs []string
	// Allow names hosts that may be followed whatever their address: "mirror.lan",
	// "mirror.lan:8080" for one port alone, "*.example.org" for all names below, an address
	// or a prefix such as "10.1.0.0/16".
	Allow []string
}

// Policy decides whether a source that an flist names may be followed:
//
//   - file: only for an flist that is a local file;
//   - http and https: to the hub that the flist came from, to hubs that the user is logged
//     in to and to hosts that are allowed, wherever they are; to any other host only at a
//     public address, without a proxy. That is enforced on the address that is dialled, so
//     names that resolve to other addresses do not help, and for each redirect anew; where
//     a redirect comes from a stranger, all that follows is a stranger;
//   - any other scheme: never.
//
// It is immutable and safe for concurrent use.
type Policy struct {
	local    bool
	hubs     map[string]bool // origins
	hosts    []hostPattern
	prefixes []netip.Prefix

	dial dialer
}

type hostPattern struct {
	name string // without "*" and trailing dot; begins with a dot if it stands for all below
	port string // "" is any
}

// RefusedError says that policy does not let a source be followed. It unwraps to
// errs.ErrDenied.
type RefusedError struct {
	URL string // redacted; "" where only the address is known
	Why string
}

// Error implements error.
func (e *RefusedError) Error() string {
	if e.URL == "" {
		return "source refused: " + e.Why
	}
	return fmt.Sprintf("source %s refused: %s", e.URL, e.Why)
}

// Unwrap returns errs.ErrDenied.
func (e *RefusedError) Unwrap() error { return errs.ErrDenied }

// NewPolicy returns the Policy for o. What cannot be understood is errs.ErrFormat.
func NewPolicy(o PolicyOptions) (*Policy, error) {
	p := &Policy{local: o.Hub == "", hubs: make(map[string]bool)}
	hubs := o.Hubs
	if o.Hub != "" {
		hubs = append([]string{o.Hub}, hubs...)
	}
	for _, h := range hubs {
		u, err := parse(h)
		if err != nil {
			return nil, err
		}
		if u.Scheme != "http" && u.Scheme != "https" {
			return nil, fmt.Errorf("hub %s: want http:// or https://: %w", Redact(h), errs.ErrFormat)
		}
		p.hubs[origin(u)] = true
	}
	for _, a := range o.Allow {
		if err := p.allow(a); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (p *Policy) allow(s string) error {
	if prefix, err := netip.ParsePrefix(s); err == nil {
		p.prefixes = append(p.prefixes, prefix.Masked())
		return nil
	}
	if addr, err := netip.ParseAddr(s); err == nil {
		p.prefixes = append(p.prefixes, netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen()))
		return nil
	}
	u, err := url.Parse("//" + s)
	if err != nil || u.Hostname() == "" || u.Host != s || strings.Contains(strings.TrimPrefix(u.Hostname(), "*."), "*") {
		return fmt.Errorf("allowed host %q: want a name, *.name, address or prefix, a port after a colon: %w", s, errs.ErrFormat)
	}
	p.hosts = append(p.hosts, hostPattern{name: strings.TrimPrefix(hostname(u), "*"), port: u.Port()})
	return nil
}

// Check reports with a [RefusedError] if a source must not be followed, as far as the URL
// tells: a name may still turn out to lead to an address that [Policy.Client] refuses.
func (p *Policy) Check(rawURL string) error {
	u, err := parse(rawURL)
	if err != nil {
		return err
	}
	return p.check(u)
}

func (p *Policy) check(u *url.URL) error {
	switch u.Scheme {
	case "file":
		if !p.local {
			return refuse(u, "an flist from a hub does not name directories of this machine")
		}
		return nil
	case "http", "https":
		if p.trusts(u) {
			return nil
		}
		return p.checkStranger(u)
	}
	return refuse(u, "an flist is followed to hubs, and to directories if it is a local file")
}

// checkStranger checks the host of a URL that is not trusted.
func (p *Policy) checkStranger(u *url.URL) error {
	const hint = "; to follow it, log in to that hub or allow its host"
	host := hostname(u)
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return refuse(u, "it is this machine"+hint)
	}
	addr, err := netip.ParseAddr(host)
	switch {
	case err != nil && numeric(host):
		return refuse(u, "the address is not written in the usual way")
	case err == nil && !p.allows(addr):
		return refuse(u, host+" is not a public address"+hint)
	}
	return nil
}

func refuse(u *url.URL, why string) error { return &RefusedError{URL: Redact(u.String()), Why: why} }

// ours reports whether u is at the hub that the flist came from or at one that the user is
// logged in to.
func (p *Policy) ours(u *url.URL) bool {
	return p.hubs[u.Scheme+"://"+canonicalHost(u)]
}

// trusts reports whether u may be followed whatever its address.
func (p *Policy) trusts(u *url.URL) bool {
	if p.ours(u) {
		return true
	}
	host, port := hostname(u), u.Port()
	if port == "" {
		port = defaultPort(u.Scheme)
	}
	for _, h := range p.hosts {
		if h.port != "" && h.port != port {
			continue
		}
		if host == h.name || h.name[0] == '.' && len(host) > len(h.name) && strings.HasSuffix(host, h.name) {
			return true
		}
	}
	return false
}

// allows reports whether a stranger may be at addr.
func (p *Policy) allows(addr netip.Addr) bool {
	if public(addr) {
		return true
	}
	addr = addr.Unmap()
	for _, prefix := range p.prefixes {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}

// hostname returns the host of u without port, brackets and the dot of a full name.
func hostname(u *url.URL) string { return strings.TrimSuffix(strings.ToLower(u.Hostname()), ".") }

// numeric reports whether host would be read as an IPv4 address in one of its odd forms,
// such as 127.1, 0x7f000001 and 2130706433: where its last label is a number (WHATWG URL
// standard, "ends in a number").
func numeric(host string) bool {
	last := host[strings.LastIndexByte(host, '.')+1:]
	if hex, ok := strings.CutPrefix(last, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return last != "" && strings.Trim(last, "0123456789") == ""
}
