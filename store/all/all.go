// Package all is the one list from the scheme of a URL to the backend that serves it, and
// the policy that decides which of the URLs that an flist names may be followed.
//
//	file:///absolute/directory    store/dir
//	http(s)://host[:port]         store/remote: a hub
//
// An flist is a stranger's file: without a [Policy] it could make a node read files or probe
// the addresses inside its network. Whoever opens a source that an flist names sets
// [Options].Policy; without it a URL is the user's own and is followed wherever it leads.
//
// URLs carry no passwords: [Open] refuses them, and [Redact] takes out of a URL what must
// not be shown.
package all

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/store"
	"github.com/zosfs/zosfs/store/dir"
	"github.com/zosfs/zosfs/store/remote"
)

// Options for [Open]. The zero value is for a URL of the user's own and no credentials.
type Options struct {
	// Token is sent to the host of the URL. If it is empty, Credentials, if not nil, returns
	// the token for a hub, given its origin such as "https://hub.example.org", or "". With a
	// Policy, tokens go only to the hub that the flist came from and to those that the user
	// is logged in to.
	Token       string
	Credentials func(hub string) string

	// CacheDir, if not empty, is where the chunk index of a store that has none of its own
	// is kept; the Store is a [store.Index] then, refreshed.
	CacheDir string

	// Policy is set for a URL that an flist names.
	Policy *Policy
}

// Open opens the store at a URL; [store.Close] closes it. No connection is made yet, but for
// CacheDir. A directory of the user's own is made where it is not there; one that an flist
// names must be there, else it is errs.ErrNotFound. A URL that cannot be understood is
// errs.ErrFormat, one that Policy refuses a [RefusedError], and a scheme without a backend
// errors.ErrUnsupported.
func Open(ctx context.Context, rawURL string, o Options) (store.Store, error) {
	u, err := parse(rawURL)
	if err != nil {
		return nil, err
	}
	if o.Policy != nil {
		if err := o.Policy.check(u); err != nil {
			return nil, err
		}
	}
	var s store.Store
	switch u.Scheme {
	case "file":
		s, err = openDir(u.Path, o.Policy == nil)
	case "http", "https":
		s, err = openHub(u, o)
	default:
		err = unsupported(u.Scheme)
	}
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", Redact(rawURL), err)
	}
	if _, ok := s.(store.Locator); ok || o.CacheDir == "" {
		return s, nil
	}
	// One file a store, whatever its URL looks like.
	x, err := store.OpenIndex(ctx, s, filepath.Join(o.CacheDir, chunk.Sum([]byte(u.String())).String()[:32]))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("store %s: %w", Redact(rawURL), err), store.Close(s))
	}
	return x, nil
}

// parse reads the URL of a store and makes it canonical: lower-case scheme and host, no port
// that is the scheme's own.
func parse(rawURL string) (*url.URL, error) {
	bad := func(why string) error {
		return fmt.Errorf("store %s: %s: %w", Redact(rawURL), why, errs.ErrFormat)
	}
	u, err := url.Parse(rawURL)
	switch {
	case err != nil:
		return nil, bad("not a URL") // the parser's error repeats all of it
	case u.User != nil:
		return nil, bad("user names and passwords have no place in a URL; log in with zosfs login, or set ZOSFS_TOKEN")
	case u.Scheme == "" && strings.HasPrefix(rawURL, "/"):
		return nil, bad("not a URL; for a directory try file://" + filepath.Clean(u.Path))
	case u.Scheme == "":
		return nil, bad("not a URL; try file:///directory or https://host")
	case u.Fragment != "":
		return nil, bad("a URL of a store has no fragment")
	}
	u.Scheme = strings.ToLower(u.Scheme)
	switch u.Scheme {
	case "file":
		if u.Host == "localhost" {
			u.Host = ""
		}
		if u.Host != "" || u.Opaque != "" || !strings.HasPrefix(u.Path, "/") || strings.ContainsRune(u.Path, 0) || u.RawQuery != "" {
			return nil, bad("want file:///absolute/directory")
		}
		u.Path, u.RawPath = filepath.Clean(u.Path), ""
	case "http", "https":
		if u.Hostname() == "" || u.Opaque != "" || u.RawQuery != "" {
			return nil, bad("want " + u.Scheme + "://host[:port]")
		}
		u.Host = canonicalHost(u)
	}
	return u, nil
}

// canonicalHost returns host and port, the port only if it is not the scheme's own.
func canonicalHost(u *url.URL) string {
	host, port := strings.ToLower(u.Hostname()), u.Port()
	if port == "" || port == defaultPort(u.Scheme) {
		if strings.Contains(host, ":") {
			return "[" + host + "]"
		}
		return host
	}
	return net.JoinHostPort(host, port)
}

func defaultPort(scheme string) string {
	if scheme == "https" {
		return "443"
	}
	return "80"
}

// origin returns what names a hub: scheme, host and port.
func origin(u *url.URL) string { return u.Scheme + "://" + u.Host }

func openDir(path string, create bool) (store.Store, error) {
	if !create {
		fi, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("no such directory: %w", errs.ErrNotFound)
		}
		if err != nil {
			return nil, err
		}
		if !fi.IsDir() {
			return nil, fmt.Errorf("not a directory: %w", errs.ErrNotFound)
		}
	}
	return dir.New(path)
}

func openHub(u *url.URL, o Options) (store.Store, error) {
	r := remote.Options{URL: u.String()}
	if o.Policy == nil || o.Policy.ours(u) {
		if r.Token = o.Token; r.Token == "" && o.Credentials != nil {
			r.Token = o.Credentials(origin(u))
		}
	}
	if o.Policy == nil {
		return remote.New(r)
	}
	r.HTTP = o.Policy.Client()
	c, err := remote.New(r)
	if err != nil {
		return nil, err
	}
	return guarded{c, r.HTTP}, nil
}

func unsupported(scheme string) error {
	switch scheme {
	case "s3", "oci", "zdb":
		return fmt.Errorf("%s stores are not in this version; try a hub (https://host) or a directory (file:///directory): %w", scheme, errors.ErrUnsupported)
	}
	return fmt.Errorf("unknown scheme %q; try https://host or file:///directory: %w", scheme, errors.ErrUnsupported)
}
