package all_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/store/all"
)

func policy(t *testing.T, o all.PolicyOptions) *all.Policy {
	t.Helper()
	p, err := all.NewPolicy(o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

const hub = "http://127.0.0.1:7000"

func TestPolicyCheck(t *testing.T) {
	fromHub := policy(t, all.PolicyOptions{Hub: hub, Hubs: []string{"https://Hub.Lan:443/", "http://[fd00::1]"}})
	fromFile := policy(t, all.PolicyOptions{})
	allows := policy(t, all.PolicyOptions{Hub: hub, Allow: []string{
		"mirror.lan", "port.lan:8080", "*.Example.org", "10.1.0.0/16", "192.168.7.7", "fd00:1::/32", "[fd00:2::2]:81",
	}})
	tests := []struct {
		policy  *all.Policy
		url     string
		refused bool
	}{
		// Directories.
		{fromHub, "file:///srv/blobs", true}, {fromHub, "FILE:///srv/blobs", true}, {fromFile, "file:///srv/blobs", false},
		{allows, "file:///srv/blobs", true}, {fromHub, "file://localhost/srv", true},
		// The hub itself and those logged in to, and nothing else of those machines.
		{fromHub, hub, false}, {fromHub, "http://127.0.0.1:7000/", false}, {fromHub, "http://127.0.0.1:7001", true},
		{fromHub, "http://127.0.0.1", true}, {fromHub, "https://127.0.0.1:7000", true}, {fromFile, hub, true},
		{fromHub, "https://hub.lan", false}, {fromHub, "HTTPS://HUB.LAN:443", false}, {fromHub, "http://[fd00::1]:80", false},
		{fromHub, "http://[fd00::1]:81", true},
		// Names and addresses of the internet.
		{fromHub, "https://example.org", false}, {fromHub, "http://example.org:8080/x", false}, {fromHub, "http://1.1.1.1", false},
		{fromHub, "http://[2606:4700::1111]", false}, {fromHub, "http://[64:ff9b::101:101]", false}, {fromFile, "https://example.org", false},
		// This machine, in all the ways to write it.
		{fromFile, "http://127.0.0.1", true}, {fromFile, "http://127.9.9.9", true}, {fromFile, "http://localhost", true},
		{fromFile, "http://LocalHost.:80", true}, {fromFile, "http://a.localhost", true}, {fromFile, "http://[::1]", true},
		{fromFile, "http://0.0.0.0", true}, {fromFile, "http://[::]", true}, {fromFile, "http://[::ffff:127.0.0.1]", true},
		{fromFile, "http://[::ffff:7f00:1]", true}, {fromFile, "http://[::127.0.0.1]", true}, {fromFile, "http://[64:ff9b::7f00:1]", true},
		{fromFile, "http://2130706433", true}, {fromFile, "http://0x7f000001", true}, {fromFile, "http://0x7f.1", true},
		{fromFile, "http://017700000001", true}, {fromFile, "http://127.1", true}, {fromFile, "http://0177.0.0.1", true},
		{fromFile, "http://127.0.0.1.", true}, {fromFile, "http://0x", true},
		// Inner addresses, and those that are no place.
		{fromHub, "http://10.0.0.1", true}, {fromHub, "http://172.16.0.1", true}, {fromHub, "http://192.168.1.1", true},
		{fromHub, "http://169.254.169.254/latest/meta-data", true}, {fromHub, "http://100.64.0.1", true}, {fromHub, "http://0.1.2.3", true},
		{fromHub, "http://192.0.0.170", true}, {fromHub, "http://198.18.0.1", true}, {fromHub, "http://224.0.0.1", true},
		{fromHub, "http://240.0.0.1", true}, {fromHub, "http://255.255.255.255", true}, {fromHub, "http://203.0.113.1", true},
		{fromHub, "http://[fe80::1]", true}, {fromHub, "http://[fe80::1%25eth0]", true}, {fromHub, "http://[fd00::2]", true},
		{fromHub, "http://[ff02::1]", true}, {fromHub, "http://[fec0::1]", true}, {fromHub, "http://[2002:7f00:1::]", true},
		{fromHub, "http://[2001::1]", true}, {fromHub, "http://[2001:db8::1]", true}, {fromHub, "http://[100::1]", true},
		{fromHub, "http://[::ffff:10.0.0.1]", true}, {fromHub, "http://[64:ff9b::a00:1]", true},
		// What is allowed.
		{allows, "http://mirror.lan", false}, {allows, "https://MIRROR.lan.:8443", false}, {allows, "http://port.lan:8080", false},
		{allows, "http://a.b.example.org", false}, {allows, "http://10.1.2.3:9", false}, {allows, "http://192.168.7.7", false},
		{allows, "http://[::ffff:10.1.2.3]", false}, {allows, "http://[fd00:1::9]", false}, {allows, "http://[fd00:2::2]:81", false},
		{allows, "http://10.2.0.1", true}, {allows, "http://192.168.7.8", true}, {allows, "http://[fd00:2::2]", true},
		// Other schemes.
		{fromFile, "s3://bucket", true}, {fromFile, "gopher://example.org", true}, {fromFile, "zdb://127.0.0.1:9900/x", true},
	}
	for _, tt := range tests {
		err := tt.policy.Check(tt.url)
		_, refused := errors.AsType[*all.RefusedError](err)
		if refused != tt.refused || refused != (err != nil) || refused && !errors.Is(err, errs.ErrDenied) {
			t.Errorf("Check(%q) = %v, want it refused: %v", tt.url, err, tt.refused)
		}
	}
}

func TestPolicyFormat(t *testing.T) {
	for _, url := range []string{"", "/srv", "http://user:secret@example.org", "http://", "http:example.org", "http://a b", "http://[::1", "http://h/#x", "file:srv", "file://host/srv"} {
		if err := policy(t, all.PolicyOptions{}).Check(url); !errors.Is(err, errs.ErrFormat) || strings.Contains(err.Error(), "secret") {
			t.Errorf("Check(%q) = %v, want %v without secrets", url, err, errs.ErrFormat)
		}
	}
	for _, o := range []all.PolicyOptions{
		{Hub: "hub.lan"}, {Hub: "file:///x"}, {Hubs: []string{"http://u:p@h"}},
		{Allow: []string{""}}, {Allow: []string{"http://h"}}, {Allow: []string{"a*b"}}, {Allow: []string{"*"}}, {Allow: []string{"*.a.*"}}, {Allow: []string{"h/x"}},
	} {
		if p, err := all.NewPolicy(o); !errors.Is(err, errs.ErrFormat) {
			t.Errorf("NewPolicy(%+v) = %v, %v, want %v", o, p, err, errs.ErrFormat)
		}
	}
}

func FuzzPolicyCheck(f *testing.F) {
	for _, s := range []string{"file:///x", "http://127.0.0.1", "http://[::ffff:1.2.3.4%25a]:80/", "http://0x7f.1", "https://example.org.", "s3://b?x", "http://u:p@h"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, url string) {
		p := policy(t, all.PolicyOptions{Hub: hub})
		err := p.Check(url)
		if err == nil && !strings.HasPrefix(strings.ToLower(url), "http") {
			t.Errorf("Check(%q) lets it pass", url)
		}
		if err != nil && !errors.Is(err, errs.ErrDenied) && !errors.Is(err, errs.ErrFormat) {
			t.Errorf("Check(%q) = %v, which is of neither kind", url, err)
		}
	})
}

func TestRedact(t *testing.T) {
	for url, want := range map[string]string{
		"https://hub.example.org/x":                            "https://hub.example.org/x",
		"https://user:secret@hub/x":                            "https://xxxxx@hub/x",
		"https://secret@hub":                                   "https://xxxxx@hub",
		"s3://b/p?endpoint=https://s3.lan&key=secret":          "s3://b/p?endpoint=https%3A%2F%2Fs3.lan&key=xxxxx",
		"s3://b?endpoint=https://u:secret@s3.lan":              "s3://b?endpoint=https%3A%2F%2Fxxxxx%40s3.lan",
		"https://h/b?X-Amz-Signature=secret&X-Amz-Date=secret": "https://h/b?X-Amz-Date=xxxxx&X-Amz-Signature=xxxxx",
		"https://h/#secret":                                    "https://h/#xxxxx",
		"https://h/?a=%zz;secret":                              "https://h/?xxxxx",
		"http://a b:secret@h":                                  "http://(unreadable)",
		"secret\x7f":                                           "(unreadable URL)",
		"http:secret@h":                                        "http:xxxxx",
	} {
		if got := all.Redact(url); got != want {
			t.Errorf("Redact(%q) = %q, want %q", url, got, want)
		}
	}
}
