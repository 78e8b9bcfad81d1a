package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/internal/treetest"
)

// tree is an input: a directory on the native file system, made when it is first asked for.
type tree struct {
	name string // also that of its image
	what string // for people
	make func(ctx context.Context, dir string) error
	dir  string // "" until it was made
	err  error  // why it cannot be had
}

// open makes the tree, if it was not yet made.
func (t *tree) open(ctx context.Context, l *lab) (string, error) {
	if t.dir != "" || t.err != nil {
		return t.dir, t.err
	}
	dir, err := l.mkdir("trees", t.name)
	if err != nil {
		return "", err
	}
	l.say("make tree %s: %s", t.name, t.what)
	if err := t.make(ctx, dir); err != nil {
		t.err = errors.Join(fmt.Errorf("tree %s: %w", t.name, err), removeTree(dir))
		return "", t.err
	}
	t.dir = dir
	return dir, nil
}

// trees are the inputs of a run.
type trees struct{ debian, toolchain, grown, big, link *tree }

func newTrees(l *lab, o options) trees {
	return trees{
		debian:    &tree{name: "debian", what: "Debian 12 root, minbase with python3, gcc and node", make: func(ctx context.Context, dir string) error { return makeDebian(ctx, l, o, dir) }},
		toolchain: &tree{name: "go", what: "Go toolchain", make: func(ctx context.Context, dir string) error { return makeToolchain(ctx, l, dir) }},
		grown:     &tree{name: "grown", what: fmt.Sprintf("generated, %d files like those of a machine", o.files), make: func(_ context.Context, dir string) error { return makeGrown(dir, o.files) }},
		big: &tree{name: "big", what: fmt.Sprintf("one file of %d MiB", o.big>>20), make: func(ctx context.Context, dir string) error {
			return writeBig(ctx, filepath.Join(dir, bigName), o.big, 0.6)
		}},
		link: &tree{name: "link", what: fmt.Sprintf("one file of %d MiB and 1,000 small ones", o.link>>20), make: func(ctx context.Context, dir string) error { return makeLink(ctx, dir, o.link) }},
	}
}

// makeGrown grows a tree and gives one file in ten an extended attribute.
func makeGrown(dir string, files int) error {
	if err := grow(dir, files, 8<<20, 1); err != nil {
		return err
	}
	i := 0
	return eachFile(dir, func(path string, _ fs.FileInfo) error {
		if i++; i%10 != 0 {
			return nil
		}
		return unix.Lsetxattr(path, "user.bench", fmt.Appendf(nil, "%d", i%7), 0)
	})
}

func grow(dir string, files int, maxFile int64, seed uint64) error {
	_, err := treetest.Grow(dir, treetest.GrowOptions{Files: files, Seed: seed, MaxFile: maxFile})
	return err
}

// debianPackages bring the programs that are started in section trace.
const debianPackages = "python3,gcc,libc6-dev,nodejs"

// makeDebian copies the root that was given, or makes one with debootstrap.
func makeDebian(ctx context.Context, l *lab, o options, dir string) error {
	switch {
	case o.debian != "":
		return copyTree(ctx, l, o.debian, dir)
	case o.quick:
		return errors.New("left out of a quick run, unless -debian names one")
	case !l.root || !have("debootstrap"):
		return errors.New("needs root and debootstrap")
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Minute)
	defer cancel()
	_, err := l.run(ctx, command{args: []string{"debootstrap", "--variant=minbase", "--include=" + debianPackages, "bookworm", dir}})
	return errors.Join(err, unmountBelow(dir))
}

func unmountBelow(dir string) error {
	for _, m := range mountsBelow(dir) {
		if err := detach(m); err != nil {
			return err
		}
	}
	return nil
}

func makeToolchain(ctx context.Context, l *lab, dir string) error {
	root, err := l.run(ctx, command{args: []string{"go", "env", "GOROOT"}})
	if err != nil {
		return err
	}
	return copyTree(ctx, l, strings.TrimSpace(string(root.stdout)), dir)
}

func copyTree(ctx context.Context, l *lab, from, to string) error {
	_, err := l.run(ctx, command{args: []string{"cp", "-ax", from + "/.", to}})
	return err
}

// bigName is the file in the trees big and link.
const bigName = "big"

func makeLink(ctx context.Context, dir string, size int64) error {
	small := filepath.Join(dir, "small")
	if err := os.Mkdir(small, 0o755); err != nil {
		return err
	}
	if err := grow(small, 1000, 64<<10, 2); err != nil {
		return err
	}
	return writeBig(ctx, filepath.Join(dir, bigName), size, 1)
}

// writeBig writes a file of which a share of noise does not compress. No part of it occurs
// twice, so nothing is deduplicated.
func writeBig(ctx context.Context, path string, size int64, noise float64) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	r := rand.New(rand.NewPCG(uint64(size), 3))
	buf := make([]byte, 64<<10)
	for done := int64(0); done < size; done += int64(len(buf)) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		fillBlock(buf, r, noise)
		if _, err := f.Write(buf[:min(int64(len(buf)), size-done)]); err != nil {
			return err
		}
	}
	return nil
}

// fillBlock makes lines of 64 bytes: noise, and for the rest one byte over and over.
func fillBlock(p []byte, r *rand.Rand, noise float64) {
	for ; len(p) >= 64; p = p[64:] {
		random := int(noise*64) &^ 7
		for i := 0; i < random; i += 8 {
			binary.LittleEndian.PutUint64(p[i:], r.Uint64())
		}
		for i := random; i < 64; i++ {
			p[i] = '.'
		}
	}
}

// treeBytes returns the sum of the sizes of all regular files.
func treeBytes(dir string) (n int64, err error) {
	err = eachFile(dir, func(_ string, fi fs.FileInfo) error {
		n += fi.Size()
		return nil
	})
	return n, err
}

// eachFile calls f for each regular file below dir, in walk order.
func eachFile(dir string, f func(path string, fi fs.FileInfo) error) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		fi, err := e.Info()
		if err != nil {
			return err
		}
		return f(path, fi)
	})
}

// smallFiles returns up to n files of at most 64 KiB in walk order, relative to dir.
func smallFiles(dir string, n int) ([]string, error) {
	var names []string
	err := eachFile(dir, func(path string, fi fs.FileInfo) error {
		if fi.Size() <= 64<<10 {
			rel, err := filepath.Rel(dir, path)
			if err != nil {
				return err
			}
			names = append(names, rel)
		}
		if len(names) == n {
			return io.EOF
		}
		return nil
	})
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return names, err
}
