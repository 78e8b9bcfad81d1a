package ref

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/flist"
)

var (
	someDigest = flist.Digest{1, 2, 3}
	hub        = "https://hub.example"
)

func TestParse(t *testing.T) {
	tests := []struct {
		in, hub string
		want    Ref
		str     string // String of it; "" is in itself
	}{
		{in: "tree.flist", want: Ref{Path: "tree.flist"}},
		{in: "acme/debian.flist", hub: hub, want: Ref{Path: "acme/debian.flist"}},
		{in: "/srv/tree", want: Ref{Path: "/srv/tree"}},
		{in: "./a:b", want: Ref{Path: "./a:b"}},
		{in: "../x@y", want: Ref{Path: "../x@y"}},
		{in: "https://hub.example/acme/debian:12", want: Ref{Hub: hub, Owner: "acme", Name: "debian", Tag: "12"}},
		{in: "HTTPS://HUB.example:443/acme/debian", want: Ref{Hub: hub, Owner: "acme", Name: "debian", Tag: "latest"}, str: "https://hub.example/acme/debian:latest"},
		{in: "http://127.0.0.1:8080/acme/debian.flist:1", want: Ref{Hub: "http://127.0.0.1:8080", Owner: "acme", Name: "debian.flist", Tag: "1"}},
		{in: "http://[::1]:80/a/b:c", want: Ref{Hub: "http://[::1]", Owner: "a", Name: "b", Tag: "c"}, str: "http://[::1]/a/b:c"},
		{in: hub + "/acme/debian@" + someDigest.String(), want: Ref{Hub: hub, Owner: "acme", Name: "debian", Digest: someDigest}},
		{in: "acme/debian:12", hub: "HTTPS://hub.example/", want: Ref{Hub: hub, Owner: "acme", Name: "debian", Tag: "12"}, str: hub + "/acme/debian:12"},
		{in: "acme/debian", hub: hub, want: Ref{Hub: hub, Owner: "acme", Name: "debian", Tag: "latest"}, str: hub + "/acme/debian:latest"},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			got, err := Parse(tt.in, tt.hub)
			if err != nil {
				t.Fatalf("Parse(%q) = %v", tt.in, err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("Parse(%q) (-want +got):\n%s", tt.in, diff)
			}
			want := tt.str
			if want == "" {
				want = tt.in
			}
			if s := got.String(); s != want {
				t.Errorf("String() = %q, want %q", s, want)
			}
			if again, err := Parse(got.String(), ""); err != nil || again != got {
				t.Errorf("Parse(%q) = %v, %v; want %v", got, again, err, got)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	tests := []struct {
		in, hub string
		want    error
		text    string
	}{
		{"", hub, errs.ErrFormat, "OWNER/NAME"},
		{"debian", hub, errs.ErrFormat, "a path begins with ./"},
		{"acme/debian", "", errs.ErrFormat, "ZOSFS_HUB"},
		{"acme/debian", "not a hub", errs.ErrFormat, "default hub"},
		{"a/b/c", hub, errs.ErrFormat, ""},
		{"acme/..:x", hub, errs.ErrFormat, ""},
		{"acme/debian:../../x", hub, errs.ErrFormat, "tag"},
		{"acme/debian:.hidden", hub, errs.ErrFormat, "tag"},
		{"acme/debian@12", hub, errs.ErrFormat, ""},
		{"acme/debian:12@" + someDigest.String(), hub, errs.ErrFormat, ""},
		{"https://hub.example", "", errs.ErrFormat, ""},
		{"https://hub.example/acme", "", errs.ErrFormat, ""},
		{"https://hub.example/acme/debian?x=y", "", errs.ErrFormat, ""},
		{"https:///acme/debian", "", errs.ErrFormat, "no host"},
		{"https://u:hidden@hub.example/acme/debian", "", errs.ErrFormat, "zosfs login"},
		{"ftp://u:hidden@hub.example/acme/debian", "", errs.ErrFormat, "want a path"},
		{"file:///srv/tree.flist", "", errs.ErrFormat, "want a path"},
		{"oci://u:hidden@registry/x:y", "", errors.ErrUnsupported, "later version"},
		{"old.fl", "", errors.ErrUnsupported, "later version"},
		{"/a\x00b", "", errs.ErrFormat, "NUL"},
	}
	for _, tt := range tests {
		got, err := Parse(tt.in, tt.hub)
		if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) || !got.IsZero() && got.Path != "" {
			t.Errorf("Parse(%q, %q) = %v, %v; want %v with %q", tt.in, tt.hub, got, err, tt.want, tt.text)
		}
		if err != nil && strings.Contains(err.Error(), "hidden@") {
			t.Errorf("Parse(%q) = %v, which shows the password", tt.in, err)
		}
	}
}

func TestAbs(t *testing.T) {
	t.Chdir(t.TempDir())
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ in, want Ref }{
		{Ref{Path: "x.flist"}, Ref{Path: filepath.Join(wd, "x.flist")}},
		{Ref{Path: "/x"}, Ref{Path: "/x"}},
		{Ref{Hub: hub, Owner: "a", Name: "b", Tag: "c"}, Ref{Hub: hub, Owner: "a", Name: "b", Tag: "c"}},
	} {
		if got, err := tt.in.Abs(); err != nil || got != tt.want {
			t.Errorf("%v.Abs() = %v, %v; want %v", tt.in, got, err, tt.want)
		}
	}
}

// FuzzParse checks that what Parse takes is written back and names files below a directory.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"x.flist", "./x", "acme/debian:12", hub + "/a/b@" + someDigest.String(), "http://[::1]:1/a/b", "oci://x", "http://u:p@h/a/b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := Parse(s, hub)
		if err != nil {
			return
		}
		if again, err := Parse(r.String(), ""); err != nil || again != r {
			t.Errorf("Parse(%q) = %#v; Parse(%q) = %#v, %v", s, r, r, again, err)
		}
		if r.Path == "" && r.Tag != "" && !filepath.IsLocal(r.tagFile()) {
			t.Errorf("the tag of %q is kept at %q", s, r.tagFile())
		}
	})
}
