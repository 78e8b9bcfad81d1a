package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// trace is a program that is started out of a mount.
type trace struct {
	name    string
	tree    *tree
	program string // in the tree; where it is not there, the trace is left out
	// script is run by sh in a mount namespace of its own, with the root of the tree as $1.
	script string
}

// inRoot runs a command with the tree as its root directory and something writable at /tmp.
const inRoot = `mount -t tmpfs tmpfs "$1/tmp" && exec chroot "$1" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp TMPDIR=/tmp `

func (b *bench) traces() []trace {
	return []trace{
		{"python3, import of ten modules", b.trees.debian, "usr/bin/python3", inRoot + `python3 -c 'import json, ssl, http.client, asyncio, sqlite3, xml.dom.minidom, email, decimal, unittest, urllib.request'`},
		{"gcc, compile and run hello", b.trees.debian, "usr/bin/gcc", inRoot + `sh -c 'printf "#include <stdio.h>\nint main(void) { return puts(\"hello\") < 0; }\n" | gcc -x c -o /tmp/hello - && /tmp/hello'`},
		{"node -v", b.trees.debian, "usr/bin/node", inRoot + `node -v`},
		{"perl, use of POSIX", b.trees.debian, "usr/bin/perl", inRoot + `perl -MPOSIX -e 'print floor(1.5)'`},
		{"go version", b.trees.toolchain, "bin/go", `exec env GOTOOLCHAIN=local GOROOT="$1" HOME=/nonexistent "$1/bin/go" version`},
		{"go list -deps fmt", b.trees.toolchain, "bin/go", `mount -t tmpfs tmpfs "$1/test" && cd "$1" && exec env GOTOOLCHAIN=local GOROOT="$1" HOME="$1/test" GOCACHE="$1/test/cache" "$1/bin/go" list -deps fmt`},
	}
}

// tracing is section trace.
func (b *bench) tracing(ctx context.Context) error {
	if !b.lab.root {
		b.rep.note("section trace is left out: it needs root, for drop_caches, chroot and mincore")
		return nil
	}
	t := b.rep.table(fmt.Sprintf("Cold start: empty cache, hub on loopback, median of %d; touched is the sealed size of all chunks that the page cache then holds", b.reps))
	refs := make(map[*tree]string)
	for _, tr := range b.traces() {
		if err := b.trace(ctx, t, tr, refs); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			b.rep.note("trace, %s: %v", tr.name, err)
		}
	}
	return nil
}

func (b *bench) trace(ctx context.Context, t *table, tr trace, refs map[*tree]string) error {
	dir, err := tr.tree.open(ctx, b.lab)
	if err != nil {
		return err
	}
	if found, err := filepath.Glob(filepath.Join(dir, tr.program)); err != nil || len(found) == 0 {
		return errors.Join(fmt.Errorf("the tree has no %s", tr.program), err)
	}
	if refs[tr.tree] == "" {
		if refs[tr.tree], err = b.product.publish(ctx, dir, tr.tree.name); err != nil {
			return err
		}
	}
	for _, mode := range b.modes {
		b.lab.say("trace: %s, %s", tr.name, mode)
		cells, err := b.traceMode(ctx, tr, dir, refs[tr.tree], mode)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			b.rep.fail("trace, %s, %s: %v", tr.name, mode, err)
			continue
		}
		t.add(tr.name+", "+mode, cells...)
	}
	return nil
}

func (b *bench) traceMode(ctx context.Context, tr trace, dir, ref, mode string) (cells []cell, err error) {
	m := b.product.machine("trace-"+mode, mode)
	defer func() { err = errors.Join(err, m.stop()) }()
	var here, there samples
	for rep := range b.reps {
		if err := dropCaches(); err != nil {
			return nil, err
		}
		took, err := b.start(ctx, tr, dir)
		if err != nil {
			return nil, fmt.Errorf("native: %w", err)
		}
		here.add(took)
		if err := m.boot(ctx, true); err != nil {
			return nil, err
		}
		if _, err := m.mount(ctx, b.product.hub+ref); err != nil {
			return nil, err
		}
		if err := dropCaches(); err != nil {
			return nil, err
		}
		if took, err = b.start(ctx, tr, m.mountDir()); err != nil {
			return nil, err
		}
		there.add(took)
		if rep == b.reps-1 {
			if cells, err = fetchedCells(ctx, m); err != nil {
				return nil, err
			}
		}
	}
	return append([]cell{figure(fsName(dir)+" cold", here.median(), seconds, nil), figure("zosfs", there.median(), seconds, nil)}, cells...), nil
}

func (b *bench) start(ctx context.Context, tr trace, root string) (time.Duration, error) {
	out, err := b.lab.run(ctx, command{args: []string{"unshare", "--mount", "sh", "-c", tr.script, "sh", root}})
	return out.wall, err
}

// fetchedCells tells what a mount has fetched so far.
func fetchedCells(ctx context.Context, m *machine) ([]cell, error) {
	r, err := m.flist()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	touched, err := touchedBytes(m.mountDir(), r)
	if err != nil {
		return nil, err
	}
	st, err := m.stats(ctx)
	if err != nil {
		return nil, err
	}
	stored := r.Counts().Stored
	return []cell{
		figure("fetched", st.BytesFetched, byteSize, nil), figure("requests", st.Requests, count, nil),
		figure("of the image", 100*over(st.BytesFetched, stored), percent, nil),
		figure("touched", touched, byteSize, nil), figure("fetched/touched", over(st.BytesFetched, touched), ratio, atMost(1.1)),
	}, nil
}
