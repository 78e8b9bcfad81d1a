package ui

import (
	"strings"
	"testing"
)

func TestText(t *testing.T) {
	for in, want := range map[string]string{
		"plain": "plain", "ä…日本": "ä…日本", "a b": "a b", "": "", "\xff": `\xff`, "a\xc3": `a\xc3`, "\x00\x1b\x7f": `\x00\x1b\x7f`,
		"\n\t": `\x0a\x09`, "\u202e": `\u{202e}`, "\u00a0": `\u{a0}`, "\ufffd": "\ufffd", "<&\"'>": "<&\"'>",
	} {
		if got := Text(in); got != want {
			t.Errorf("Text(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzText(f *testing.F) {
	f.Add("a\xff\u202e\n")
	f.Fuzz(func(t *testing.T, s string) {
		got := Text(s)
		if got != strings.ToValidUTF8(got, "!") || Text(got) != got {
			t.Errorf("Text(%q) = %q, which is not text for all", s, got)
		}
	})
}

func TestFigures(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 1 << 20: "1.0 MiB", 1<<20 - 1: "1.0 MiB", 1<<63 - 1: "8.0 EiB"} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %q, want %q", n, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1\u202f000", 1234567: "1\u202f234\u202f567"} {
		if got := count(n); got != want {
			t.Errorf("count(%d) = %q, want %q", n, got, want)
		}
	}
	for v, want := range map[Version]string{{}: "", {Bytes: 10, Stored: 10}: "", {Bytes: 100, Stored: 25}: "75 % smaller"} {
		if got := saved(v); got != want {
			t.Errorf("saved(%+v) = %q, want %q", v, got, want)
		}
	}
	for d, want := range map[uint64]string{0x801: "8, 1", 0x103: "1, 3"} {
		if got := device(d); got != want {
			t.Errorf("device(%#x) = %q, want %q", d, got, want)
		}
	}
}

func TestMode(t *testing.T) {
	for mode, want := range map[uint32]string{
		0o100644: "-rw-r--r--", 0o040755: "drwxr-xr-x", 0o120777: "lrwxrwxrwx", 0o104755: "-rwsr-xr-x", 0o104644: "-rwSr--r--",
		0o102755: "-rwxr-sr-x", 0o041777: "drwxrwxrwt", 0o041776: "drwxrwxrwT", 0o020666: "crw-rw-rw-", 0o060660: "brw-rw----",
		0o010600: "prw-------", 0o140755: "srwxr-xr-x",
	} {
		if got := modeString(mode); got != want {
			t.Errorf("modeString(%o) = %q, want %q", mode, got, want)
		}
	}
}

func TestTreeURL(t *testing.T) {
	for want, path := range map[string][]string{
		"/a/b/tree/12/": nil, "/a/b/tree/12/etc/passwd/": {"etc", "passwd"}, "/a/b/tree/12/%FF%3Fx%23%2F%25/": {"\xff?x#/%"},
	} {
		if got := TreeURL("a", "b", "12", path); got != want {
			t.Errorf("TreeURL(%q) = %q, want %q", path, got, want)
		}
	}
}
