package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/zosfs/zosfs/internal/treetest"
)

// mountBudgets are the times to mount, first and again, in seconds, by number of entries.
var mountBudgets = map[int][2]*budget{
	136_000:   {atMost(0.6), atMost(0.05)},
	1_000_000: {atMost(4), atMost(0.1)},
}

// nodeMemory is the budget of memory of the node service with nodeMemoryEntries mounted.
const (
	nodeMemory        = 64 << 20 // bytes
	nodeMemoryEntries = 136_000
)

// mounting is section mount: files of at most 64 bytes, and of what is there once the flist
// is on this machine.
func (b *bench) mounting(ctx context.Context) error {
	t := b.rep.table("Mount: flist local, service running; first in the life of the node, and again; memory of the service")
	for _, entries := range b.entries {
		if err := b.mountTree(ctx, t, entries); err != nil {
			return err
		}
	}
	return b.manyMounts(ctx)
}

// manyMounts shows what the node service needs for many images.
func (b *bench) manyMounts(ctx context.Context) error {
	const most, files = 100, 500
	t := b.rep.table(fmt.Sprintf("Many mounts: memory of the service with so many different images, each of %d files and mounted", files))
	store, err := b.lab.mkdir("many-store")
	if err != nil {
		return err
	}
	var flists []string
	for i := range most {
		b.lab.say("mount: make image %d of %d", i+1, most)
		dir, err := b.lab.mkdir("trees", "many")
		if err != nil {
			return err
		}
		if _, err := treetest.Grow(dir, treetest.GrowOptions{Files: files, Seed: uint64(100 + i), MaxFile: 4096}); err != nil {
			return err
		}
		flists = append(flists, b.lab.path(fmt.Sprintf("many-%d.flist", i)))
		if _, err := b.product.pack(ctx, "--no-cache", "--store", "file://"+store, dir, flists[i]); err != nil {
			return err
		}
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	for _, mode := range b.modes {
		cells, err := b.mountMany(ctx, mode, flists)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			b.rep.fail("many mounts, %s: %v", mode, err)
			continue
		}
		t.add(mode, cells...)
	}
	return os.RemoveAll(store)
}

func (b *bench) mountMany(ctx context.Context, mode string, flists []string) (cells []cell, err error) {
	m := b.product.machine("many-"+mode, mode)
	defer func() {
		if serr := m.stop(); err == nil {
			err = serr
		}
	}()
	if err := m.boot(ctx, true); err != nil {
		return nil, err
	}
	var took samples
	for i, flist := range flists {
		dir, err := b.lab.mkdir("many", mode, fmt.Sprint(i))
		if err != nil {
			return nil, err
		}
		out, err := m.call(ctx, m.nodeEnv(), nil, "mount", "--mode", mode, flist, dir)
		if err != nil {
			return nil, err
		}
		took.add(out.wall)
		if n := i + 1; n == 1 || n == 10 || n == 100 {
			cells = append(cells, figure(thousands(int64(n))+" mounted", memory(m.service.pid(), "VmRSS"), byteSize, nil))
		}
	}
	return append(cells, figure("median time to mount", took.median(), seconds, nil)), nil
}

func (b *bench) mountTree(ctx context.Context, t *table, entries int) (err error) {
	b.lab.say("mount: make a tree of %d entries", entries)
	dir, err := b.lab.mkdir("trees", "mount")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	// A file in Grow brings directories and links with it.
	totals, err := treetest.Grow(dir, treetest.GrowOptions{Files: max(1, int(float64(entries)/(1+1/7.5+1/22.5))), Seed: 7, MaxFile: 64})
	if err != nil {
		return err
	}
	store, err := b.lab.mkdir("mount-store")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(store)) }()
	flist := b.lab.path("mount.flist")
	b.lab.say("mount: pack it")
	packed, err := b.product.pack(ctx, "--no-cache", "--store", "file://"+store, dir, flist)
	if err != nil {
		return err
	}
	if got := totals.Files + totals.Dirs + totals.Symlinks - 1; packed.Counts.Entries != int64(got) {
		return fmt.Errorf("packed %d entries, want %d", packed.Counts.Entries, got)
	}
	for _, mode := range b.modes {
		name := fmt.Sprintf("%s entries, %s", thousands(packed.Counts.Entries), mode)
		cells, err := b.mountTimes(ctx, mode, flist, entries)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			b.rep.fail("mount, %s: %v", name, err)
			continue
		}
		t.add(name, append(cells, figure("flist", packed.FlistSize, byteSize, nil), figure("pack", packed.wall.Seconds(), seconds, nil), figure("pack memory", packed.peak, byteSize, atMost(packMemory)))...)
	}
	return nil
}

func (b *bench) mountTimes(ctx context.Context, mode, flist string, entries int) (cells []cell, err error) {
	m := b.product.machine("mounting-"+mode, mode)
	defer func() {
		if serr := m.stop(); err == nil {
			err = serr
		}
	}()
	var first, again samples
	for range b.reps {
		if err := m.boot(ctx, true); err != nil {
			return nil, err
		}
		for _, s := range []*samples{&first, &again} {
			if err := m.umount(ctx); err != nil {
				return nil, err
			}
			b.lab.say("mount: %d entries, %s", entries, mode)
			out, err := m.mount(ctx, flist)
			if err != nil {
				return nil, err
			}
			s.add(out.wall)
		}
	}
	var limit *budget
	if entries == nodeMemoryEntries {
		limit = atMost(nodeMemory)
	}
	budgets := mountBudgets[entries]
	cells = append(cells, figure("first", first.median(), seconds, budgets[0]), figure("again", again.median(), seconds, budgets[1]))
	mem := func(column, field string) {
		cells = append(cells, figure(column, memory(m.service.pid(), field), byteSize, limit))
	}
	mem("mounted", "VmRSS")
	if _, err := b.lab.run(ctx, command{args: []string{"find", m.mountDir(), "-size", "+1G"}, out: io.Discard}); err != nil {
		return nil, err
	}
	mem("after find", "VmRSS")
	if entries <= nodeMemoryEntries {
		if _, err := tar(ctx, b.lab, m.mountDir()); err != nil {
			return nil, err
		}
		mem("after tar", "VmRSS")
	}
	limit = nil
	mem("peak", "VmHWM")
	return cells, nil
}
