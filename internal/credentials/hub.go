package credentials

import (
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/zosfs/zosfs/errs"
)

// maxToken bounds a token, in bytes; those of a hub have about 50.
const maxToken = 4096

// Hub returns the origin of a hub's URL as it is written everywhere: scheme http or https and
// host in lower case, the port only where it is not the scheme's, no path. A URL with user,
// password, path, query or fragment is errs.ErrFormat; the text of the error has no secret.
func Hub(s string) (string, error) {
	u, err := url.Parse(s)
	if err != nil {
		return "", fmt.Errorf("hub URL: cannot be read, want http(s)://HOST[:PORT]: %w", errs.ErrFormat)
	}
	u.Scheme = strings.ToLower(u.Scheme)
	switch {
	case u.User != nil:
		return "", fmt.Errorf("hub URL %s: no user or password in a URL, zosfs login keeps tokens: %w", u.Redacted(), errs.ErrFormat)
	case u.Scheme != "http" && u.Scheme != "https":
		return "", fmt.Errorf("hub URL %.200q: want http(s)://HOST[:PORT]: %w", s, errs.ErrFormat)
	case u.Hostname() == "" || u.Opaque != "":
		return "", fmt.Errorf("hub URL %.200q: no host: %w", s, errs.ErrFormat)
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return "", fmt.Errorf("hub URL %.200q: want scheme, host and port alone: %w", s, errs.ErrFormat)
	}
	return u.Scheme + "://" + host(u), nil
}

func host(u *url.URL) string {
	name, port := strings.ToLower(u.Hostname()), u.Port()
	if port == "" || port == "80" && u.Scheme == "http" || port == "443" && u.Scheme == "https" {
		if strings.Contains(name, ":") {
			return "[" + name + "]"
		}
		return name
	}
	return net.JoinHostPort(name, port)
}

// checkHub fails unless hub is as Hub writes it.
func checkHub(hub string) error {
	canonical, err := Hub(hub)
	if err != nil {
		return err
	}
	if canonical != hub {
		return fmt.Errorf("hub URL %.200q: want it written as %s: %w", hub, canonical, errs.ErrFormat)
	}
	return nil
}

// checkToken fails unless token can stand in a header. It does not quote it.
func checkToken(token string) error {
	if token == "" || len(token) > maxToken {
		return fmt.Errorf("token of %d bytes, want 1 to %d: %w", len(token), maxToken, errs.ErrFormat)
	}
	for _, c := range []byte(token) {
		if c <= ' ' || c > '~' {
			return fmt.Errorf("token with blanks or characters that are not ASCII: %w", errs.ErrFormat)
		}
	}
	return nil
}
