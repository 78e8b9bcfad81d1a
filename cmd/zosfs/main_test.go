package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/node"
)

var update = flag.Bool("update", false, "write docs/cli.md anew")

func TestDocs(t *testing.T) {
	const path = "../../docs/cli.md"
	var b bytes.Buffer
	if err := writeDocs(&b); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(have), b.String()); diff != "" {
		t.Errorf("docs/cli.md is not what the help says; run make docs (-file +help):\n%s", diff)
	}
}

// TestHelp sees that every command has an example and lists its exit codes.
func TestHelp(t *testing.T) {
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		if c.Long != "" && c.Name() != "zosfs" {
			if !strings.Contains(c.Long, "\n  zosfs ") {
				t.Errorf("%s: no example in its help", c.CommandPath())
			}
			// Output can fail to be written, and words can be wrong, everywhere.
			if !regexp.MustCompile(`Exit codes: 0 .*, 1 .*, 2 usage`).MatchString(c.Long) {
				t.Errorf("%s: no exit codes in its help, or not 0, 1 and 2", c.CommandPath())
			}
		}
		if c.Long == "" {
			t.Errorf("%s: no help", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	visit((&app{}).root())
}

func TestExitCodes(t *testing.T) {
	for _, kind := range errs.All() {
		found := false
		for _, e := range exitCodes {
			found = found || errors.Is(e.kind, kind)
		}
		if !found {
			t.Errorf("%v has no exit code", kind)
		}
	}
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("other"), 1},
		{errs.ErrFull, 1},
		{usage((&app{}).root(), errors.New("x")), 2},
		{fmt.Errorf("a: %w", errs.ErrCorrupt), 3},
		{errs.ErrFormat, 3},
		{errs.ErrNotFound, 4},
		{&fs.PathError{Op: "open", Path: "x", Err: fs.ErrNotExist}, 4},
		{errs.ErrDenied, 5},
		{fs.ErrPermission, 5},
		{errs.ErrUnavailable, 6},
		{context.DeadlineExceeded, 6},
		{interrupted{errs.ErrUnavailable}, 130},
	} {
		if got := exitCode(c.err); got != c.want {
			t.Errorf("exitCode(%v) = %d, want %d", c.err, got, c.want)
		}
	}
}

// exec runs a command line in this process.
func exec(t *testing.T, in string, args ...string) (code int, out, errOut string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(t.Context(), args, streams{in: strings.NewReader(in), out: &o, err: &e})
	return code, o.String(), e.String()
}

func isolate(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	for _, k := range []string{"ZOSFS_CACHE", "ZOSFS_STATE", "ZOSFS_CREDENTIALS"} {
		t.Setenv(k, dir+"/"+strings.ToLower(k))
	}
	t.Setenv("ZOSFS_TOKEN", "")
	t.Setenv("ZOSFS_HUB", "")
}

func TestUsage(t *testing.T) {
	isolate(t)
	for _, c := range []struct {
		args string
		code int
		want string // in stderr
	}{
		{"nonsense", 2, `unknown command "nonsense"`},
		{"ls", 2, `want "zosfs ls REF [PATH]", have 0`},
		{"ls --nonsense x", 2, "unknown flag"},
		{"ls ./no/such.flist", 4, "no such file"},
		{"ls acme/debian:12", 2, "hub"},
		{"ls ftp://x/y/z", 2, "ftp"},
		{"mount --mode kernal ./x.flist /mnt --foreground", 2, "kernal"},
		{"mount ./x.flist /mnt --foreground", 4, "no such file"},
		{"pack --store nonsense . x.flist", 2, "nonsense"},
		{"login nonsense", 2, "nonsense"},
		{"logout http://127.0.0.1:1", 4, "no token"},
		{"pack . http://127.0.0.1:1/a/b:c", 6, "127.0.0.1:1"},
		{"pack . ./x.flist", 2, "--store"},
		{"pack --store file:///x . http://127.0.0.1:1/a/b:c", 2, "no --store"},
		{"cache prune --to much", 2, "no size"},
		{"mont", 2, "did you mean mount or umount?"},
		{"cache bogus", 2, `unknown command "bogus" of "zosfs cache"`},
		{"completion powershell", 2, "powershell"},
		{"help bogus", 2, "bogus"},
		{"cache stats x", 2, "have 1 argument\n"},
		{"tree --depth -1 x.flist", 2, "0 or more"},
		{"pack --workers -3 . x.flist", 2, "0 or more"},
		{"pack --exclude [ . x.flist", 2, `exclude pattern "["`},
		{"hub serve --data /no/such --listen 127.0.0.1", 2, "listen on 127.0.0.1: missing port"},
		{"hub token --data /no/such --user x", 4, "zosfs hub serve --data /no/such"},
		{"status /no/such", 4, "/no/such: no image is mounted there\n"},
		{"hub token --data /x", 2, "user"},
		{"hub serve", 2, "data"},
	} {
		t.Run(c.args, func(t *testing.T) {
			code, out, errOut := exec(t, "", strings.Fields(c.args)...)
			if code != c.code || !strings.Contains(errOut, c.want) || out != "" {
				t.Errorf("exit %d, stdout %q, stderr %q; want %d and %q", code, out, errOut, c.code, c.want)
			}
			if !strings.HasPrefix(errOut, "zosfs: ") {
				t.Errorf("stderr %q lacks the prefix", errOut)
			}
			// The same as JSON.
			code, _, errOut = exec(t, "", append(strings.Fields(c.args), "--json")...)
			var e struct {
				Type, Message string
				Code          int
			}
			if err := json.Unmarshal([]byte(errOut), &e); err != nil || e.Type != "error" || e.Code != c.code || code != c.code {
				t.Errorf("with --json: exit %d, stderr %q: %v", code, errOut, err)
			}
		})
	}
}

func TestSize(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "5": 5, "1K": 1024, "2.5M": 5 << 19, "20G": 20 << 30, "3GiB": 3 << 30, "1T": 1 << 40, "7kb": 7 << 10} {
		var s size
		if err := s.Set(text); err != nil || int64(s) != want {
			t.Errorf("Set(%q) = %d, %v, want %d", text, s, err, want)
		}
	}
	for _, text := range []string{"", "x", "-1", "1Q", "K", "NaN", "1e30T"} {
		var s size
		if err := s.Set(text); err == nil {
			t.Errorf("Set(%q) = %d, want an error", text, s)
		}
	}
}

func TestNumber(t *testing.T) {
	for text, want := range map[string]int{"0": 0, "16": 16} {
		var n number
		if err := n.Set(text); err != nil || int(n) != want {
			t.Errorf("Set(%q) = %d, %v, want %d", text, n, err, want)
		}
	}
	for _, text := range []string{"", "-1", "1.5", "x", "4294967296"} {
		var n number
		if err := n.Set(text); err == nil {
			t.Errorf("Set(%q) = %d, want an error", text, n)
		}
	}
}

func TestCount(t *testing.T) {
	for thing, want := range map[string]string{"chunk": "0 chunks, 1 chunk, 2 chunks", "directory": "0 directories, 1 directory, 2 directories", "miss": "0 misses, 1 miss, 2 misses"} {
		if got := count(0, thing) + ", " + count(1, thing) + ", " + count(2, thing); got != want {
			t.Errorf("count says %s, want %s", got, want)
		}
	}
}

func TestEntriesText(t *testing.T) {
	for want, n := range map[string]flist.Counts{
		"the root alone":                    {Nodes: 1, Dirs: 1},
		"2 files, 1 directory, 1 hard link": {Nodes: 4, Dirs: 2, Files: 2, Entries: 4},
		"1 directory, 2 symlinks, 3 others": {Nodes: 7, Dirs: 2, Symlinks: 2, Entries: 6},
	} {
		if got := entriesText(n); got != want {
			t.Errorf("entriesText(%+v) = %s, want %s", n, got, want)
		}
	}
}

func TestShareText(t *testing.T) {
	for _, c := range []struct {
		fetched, stored int64
		want            string
	}{
		{0, 0, "0.0 % of the image"},
		{512, 1024, "50.0 % of the image"},
		{1024, 1024, "100.0 % of the image"},
		{1100, 1024, "the image has 1.0 KiB"},
	} {
		if got := shareText(c.fetched, c.stored); got != c.want {
			t.Errorf("shareText(%d, %d) = %s, want %s", c.fetched, c.stored, got, c.want)
		}
	}
}

func TestBrief(t *testing.T) {
	digest, other := strings.Repeat("0123456789abcdef", 4), strings.Repeat("f", 64)
	for text, want := range map[string]string{
		"no digest": "no digest",
		"chunk " + other + " of blob " + digest + ": blob " + digest + ", 10 bytes at 14: s: get blob " + digest + ": hub h does not answer": "chunk ffffffffffff… of blob 0123456789ab…: s: hub h does not answer",
		"a: blob " + digest + ": gone; b: blob " + digest + ": gone":                                                                         "a: blob 0123456789ab…: gone; b: gone",
		"/cache/flists/" + digest + ".flist: torn":                                                                                           "/cache/flists/" + digest + ".flist: torn",
		digest: "0123456789ab…",
	} {
		if got := brief(text); got != want {
			t.Errorf("brief(%q) =\n%q, want\n%q", text, got, want)
		}
	}
}

// TestSeveral sees that each error is told, and the first decides.
func TestSeveral(t *testing.T) {
	var e bytes.Buffer
	a := &app{streams: streams{err: &e}}
	err := several{fs.ErrNotExist, errs.ErrDenied}
	if a.report(err); e.String() != "zosfs: file does not exist\nzosfs: access denied\n" || exitCode(err) != exitNotFound {
		t.Errorf("report: %q, exit %d", &e, exitCode(err))
	}
}

func TestSweep(t *testing.T) {
	a := &app{dirs: node.Dirs{Cache: t.TempDir()}, now: time.Now}
	for _, name := range []string{"pack-1", "pack-2", "segments"} {
		if err := os.Mkdir(filepath.Join(a.dirs.Cache, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	left := func() string {
		names, err := filepath.Glob(filepath.Join(a.dirs.Cache, "*"))
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(len(names))
	}
	if a.sweep(); left() != "3" {
		t.Errorf("%s directories after a sweep of new ones, want 3", left())
	}
	a.now = func() time.Time { return time.Now().Add(25 * time.Hour) }
	if a.sweep(); left() != "1" {
		t.Errorf("%s directories a day later, want 1", left())
	}
}
