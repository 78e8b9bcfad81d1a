package api_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/hub/api"
)

func TestNames(t *testing.T) {
	long := func(n int) string { return strings.Repeat("a", n) }
	for _, c := range []struct {
		what      string
		check     func(string) error
		good, bad []string
	}{
		{"owner", api.CheckOwner,
			[]string{"a", "acme", "a-b", "0", "a1-2b", long(39)},
			[]string{"", "-a", "a-", "a--b", "A", "a.b", "a_b", "ä", "a b", "a/b", "..", ".", "v1", "assets", "healthz", "a\x00", "a\n", long(40)}},
		{"repo", api.CheckRepo,
			[]string{"a", "debian", "go1.26", "a_b", "a-b.c", long(100)},
			[]string{"", ".", "..", ".a", "a.", "a..b", "a--b", "-a", "A", "a/b", "a:b", "a@b", "%2e%2e", "a\\b", "a\x00b", long(101)}},
		{"tag", api.CheckTag,
			[]string{"12", "latest", "v1.2.3-rc_1", "_x", "A..b", long(128)},
			[]string{"", ".", "..", ".a", "-a", "a/b", "a b", "a:b", "@", "ä", "a\n", long(129)}},
		{"pattern", api.CheckPattern,
			[]string{"acme/*", "*/*", "acme/deb*-x", "*/a"},
			[]string{"", "acme", "/", "a/", "/a", "a/b/c", "A/b", "a/b?", "a/[b]", "a/%", "a/b\\", "a/" + long(101)}},
	} {
		for _, s := range c.good {
			if err := c.check(s); err != nil {
				t.Errorf("%s %q: %v, want none", c.what, s, err)
			}
		}
		for _, s := range c.bad {
			if err := c.check(s); !errors.Is(err, errs.ErrFormat) {
				t.Errorf("%s %q: %v, want %v", c.what, s, err, errs.ErrFormat)
			}
		}
	}
}

func TestParseRef(t *testing.T) {
	digest := strings.Repeat("ab", 32)
	for in, want := range map[string]string{
		"acme/debian:12":          "acme/debian:12",
		"acme/debian":             "acme/debian:latest",
		"acme/debian@" + digest:   "acme/debian@" + digest,
		"acme/debian:v1.2-3_beta": "acme/debian:v1.2-3_beta",
	} {
		r, err := api.ParseRef(in)
		if err != nil || r.String() != want {
			t.Errorf("ParseRef(%q) = %v, %v, want %v", in, r, err, want)
		}
	}
	for _, in := range []string{"", "acme", "acme/", "/debian", "acme/debian:", "acme/debian@", "acme/debian@12", "acme/debian:1:2", "a/b/c",
		"acme/../etc", "acme/debian:../x", "acme/debian@" + strings.Repeat("00", 32), "acme/debian@" + strings.ToUpper(digest), "v1/whoami"} {
		if r, err := api.ParseRef(in); !errors.Is(err, errs.ErrFormat) {
			t.Errorf("ParseRef(%q) = %v, %v, want %v", in, r, err, errs.ErrFormat)
		}
	}
}

func FuzzParseRef(f *testing.F) {
	for _, s := range []string{"a/b", "a/b:c", "a/b@" + strings.Repeat("ab", 32), "../..:..", "a/b:c@d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := api.ParseRef(s)
		if err != nil {
			return
		}
		if again, err := api.ParseRef(r.String()); err != nil || again != r {
			t.Errorf("ParseRef(%q) = %v, which is read back as %v, %v", s, r, again, err)
		}
		if strings.ContainsAny(r.Owner+r.Name+r.Tag, "/\\%\x00") || r.Owner == ".." || r.Name == ".." || r.Tag == ".." {
			t.Errorf("ParseRef(%q) = %v, which is not safe in a path", s, r)
		}
	})
}
