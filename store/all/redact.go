package all

import (
	"net/url"
	"strings"
)

// Redact returns rawURL for messages and logs: without user name and password, and with the
// values of its query hidden but for those known to be harmless. What is no URL is not
// shown beyond its scheme.
func Redact(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		if scheme, _, ok := strings.Cut(rawURL, "://"); ok && len(scheme) < 16 {
			return scheme + "://(unreadable)"
		}
		return "(unreadable URL)"
	}
	if u.User != nil {
		u.User = url.User("xxxxx")
	}
	if u.Opaque != "" {
		u.Opaque = "xxxxx" // mail:user:password@host and the like
	}
	if u.Fragment != "" {
		u.Fragment, u.RawFragment = "xxxxx", ""
	}
	if u.RawQuery != "" {
		u.RawQuery = redactQuery(u.RawQuery)
	}
	return u.String()
}

func redactQuery(raw string) string {
	q, err := url.ParseQuery(raw)
	if err != nil {
		return "xxxxx"
	}
	for name, values := range q {
		if name == "endpoint" || name == "region" {
			for i, v := range values {
				values[i] = Redact(v)
			}
			continue
		}
		q[name] = []string{"xxxxx"}
	}
	return q.Encode()
}
