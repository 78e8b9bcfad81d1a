// Package layers holds the rules of who may import whom, and its test applies them.
//
// Packages lie on floors. A package imports lower floors only; two of one floor do not know
// each other, but for those in internal, which may use each other. A heavy dependency has
// one home, and everyone else reaches it through that. Code that is not a test does not
// import test support. Imports of test files are free. One more rule that no linter has is
// here too: tests sleep where time is not real only.
package layers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
)

// Module is the path that the packages of this project begin with.
const Module = "github.com/zosfs/zosfs"

// floors are the packages of each floor, from below. "x/*" stands for all below x that are
// not named themselves. What is in free may import anything.
var (
	floors = [][]string{
		{"errs", "chunk", "erofs", "internal/*"},
		{"blob"},
		{"flist", "store", "hub/api", "hub/db", "hub/ui"},
		{"flist/*", "store/*", "cache", "image"},
		{"store/all", "pack", "unpack", "mount/*"},
		{"mount", "ref", "commit", "writable"},
		{"node", "hub"},
		{"machine", "snapshotter"},
		{"cmd/zosfs"},
	}
	free = []string{"bench", "bench/*", "test/*", "tools/*"}
)

// homes are where heavy dependencies may be imported; the first column begins import paths.
var homes = []struct {
	dependency string
	homes      []string
}{
	{"github.com/hanwen/go-fuse", []string{"mount/fusefs"}},
	{"github.com/containerd", []string{"snapshotter"}},
	{"database/sql", []string{"flist", "flist/legacy", "hub/db"}},
	{"modernc.org/sqlite", []string{"flist", "flist/legacy", "hub/db"}},
	{"github.com/pressly/goose", []string{"hub/db"}},
	{"github.com/jackc/pgx", []string{"hub/db"}},
	{"github.com/aws", []string{"store/s3"}},
	{"github.com/minio", []string{"store/s3"}},
	{"github.com/google/go-containerregistry", []string{"internal/oci"}},
	{"github.com/spf13", []string{"cmd/zosfs"}},
	{"github.com/vbauerster/mpb", []string{"internal/term"}},
}

// support are the packages for tests: they alone import each other and package testing.
var support = []string{"internal/testenv", "internal/treetest", "store/storetest", "mount/mounttest"}

// A Package is what the rules look at.
type Package struct {
	ImportPath string
	Imports    []string // of files that are not tests
}

// List returns the packages of the module that dir lies in, as the go command sees them.
func List(ctx context.Context, dir string) ([]Package, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-e", "-json=ImportPath,Imports", Module+"/...")
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	var all []Package
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p Package
		switch err := dec.Decode(&p); {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return nil, fmt.Errorf("go list: %w", err)
		}
		all = append(all, p)
	}
}

// Check returns what breaks the rules, one line each, in the order of all.
func Check(all []Package) []string {
	var broken []string
	for _, p := range all {
		name := strings.TrimPrefix(p.ImportPath, Module+"/")
		if within(name, free) {
			continue
		}
		floor := floorOf(name)
		if floor < 0 {
			broken = append(broken, name+" is on no floor")
			continue
		}
		for _, path := range p.Imports {
			if why := refuse(name, floor, path); why != "" {
				broken = append(broken, fmt.Sprintf("%s imports %s: %s", name, strings.TrimPrefix(path, Module+"/"), why))
			}
		}
	}
	return broken
}

// refuse says why the package name may not import path; "" if it may.
func refuse(name string, floor int, path string) string {
	supports := slices.Contains(support, name)
	target, ours := strings.CutPrefix(path, Module+"/")
	if !ours {
		if path == "testing" && !supports {
			return "only test support imports it"
		}
		return refuseOutside(name, path)
	}
	if slices.Contains(support, target) && !supports {
		return "that is test support"
	}
	switch below := floorOf(target); {
	case below < 0:
		return "that is on no floor"
	case below > floor:
		return fmt.Sprintf("floor %d lies above floor %d", below, floor)
	case below == floor && !together(name, target):
		return fmt.Sprintf("both are on floor %d", floor)
	}
	return ""
}

// together reports whether two packages of one floor may know each other: those of
// internal, which may use errs as well.
func together(name, target string) bool {
	return within(name, []string{"internal/*"}) && within(target, []string{"internal/*", "errs"})
}

func refuseOutside(name, path string) string {
	for _, h := range homes {
		if (path == h.dependency || strings.HasPrefix(path, h.dependency+"/")) && !slices.Contains(h.homes, name) {
			return "its home is " + strings.Join(h.homes, ", ")
		}
	}
	return ""
}

// floorOf returns the floor of a package, -1 if it has none. An exact name wins over "x/*".
func floorOf(name string) int {
	found := -1
	for i, packages := range floors {
		if slices.Contains(packages, name) {
			return i
		}
		if within(name, packages) {
			found = i
		}
	}
	return found
}

// within reports whether one of the patterns is name, or "x/*" with name below x.
func within(name string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		parent, ok := strings.CutSuffix(pattern, "/*")
		return ok && strings.HasPrefix(name, parent+"/") || name == pattern
	})
}
