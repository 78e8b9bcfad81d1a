package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCompletion(t *testing.T) {
	isolate(t)
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if code, out, errOut := exec(t, "", "completion", shell); code != 0 || !strings.Contains(out, "zosfs") {
			t.Errorf("completion %s: exit %d, %d bytes, %s", shell, code, len(out), errOut)
		}
	}
}

// TestCompleteArgs asks what shells ask, in a directory with an flist and an image that was
// opened before.
func TestCompleteArgs(t *testing.T) {
	isolate(t)
	t.Chdir(t.TempDir())
	t.Setenv("ZOSFS_HUB", "http://127.0.0.1:1")
	known := filepath.Join(os.Getenv("ZOSFS_CACHE"), "refs")
	err := errors.Join(
		os.MkdirAll("sub/.hidden", 0o700), os.WriteFile("tree.flist", nil, 0o600), os.WriteFile("notes", nil, 0o600),
		os.WriteFile("sub/old.fl", nil, 0o600), os.Symlink("sub", "link"),
		os.MkdirAll(filepath.Join(known, "http:%2F%2F127.0.0.1:1", "acme", "debian"), 0o700),
		os.WriteFile(filepath.Join(known, "http:%2F%2F127.0.0.1:1", "acme", "debian", "12"), nil, 0o600),
		os.MkdirAll(filepath.Join(known, "https:%2F%2Fhub.example", "a", "b"), 0o700),
		os.WriteFile(filepath.Join(known, "https:%2F%2Fhub.example", "a", "b", "c"), nil, 0o600),
	)
	if err != nil {
		t.Fatal(err)
	}
	const noSpace, noFiles, dirs = 2, 4, 16
	for line, want := range map[string]struct {
		offers    []string
		directive int
	}{
		"mount --mode |":      {[]string{"auto", "kernel", "fuse"}, noFiles},
		"hub token --scope |": {[]string{"read", "write", "admin"}, noFiles},
		"ls |":                {[]string{"link/", "sub/", "tree.flist", "acme/debian:12", "http://127.0.0.1:1/acme/debian:12", "https://hub.example/a/b:c"}, noFiles},
		"mount ac|":           {[]string{"acme/debian:12"}, noFiles},
		"du tree.flist t|":    {[]string{"tree.flist"}, noFiles},
		"inspect https://|":   {[]string{"https://hub.example/a/b:c"}, noFiles},
		"inspect sub/|":       {[]string{"sub/old.fl"}, noFiles},
		"inspect sub/.|":      {[]string{"sub/.hidden/"}, noFiles | noSpace},
		"inspect s|":          {[]string{"sub/"}, noFiles | noSpace},
		"inspect x x|":        {nil, noFiles},
		"mount x |":           {nil, dirs},
		"pack |":              {nil, dirs},
		"cat tree.flist |":    {nil, noFiles},
		"version |":           {nil, noFiles},
		"cache stats |":       {nil, noFiles},
		"hub serve --data |":  {nil, dirs},
		"completion |":        {[]string{"bash", "fish", "zsh"}, noFiles},
	} {
		t.Run(line, func(t *testing.T) {
			words := strings.Split(strings.TrimSuffix(line, "|"), " ")
			code, out, errOut := exec(t, "", append([]string{"__completeNoDesc"}, words...)...)
			lines := strings.Split(strings.TrimSpace(out), "\n")
			last := len(lines) - 1
			if code != 0 || lines[last] != fmt.Sprint(":", want.directive) {
				t.Errorf("exit %d, directive %s, want %d; %s", code, lines[last], want.directive, errOut)
			}
			if diff := cmp.Diff(want.offers, append([]string(nil), lines[:last]...)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	if left, err := os.ReadDir(os.Getenv("ZOSFS_CACHE")); err != nil || len(left) != 1 {
		t.Errorf("completing left %v, %v in the cache", left, err)
	}
}
