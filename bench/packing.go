package main

import (
	"context"
	"errors"
	"os"
	"runtime"
	"time"

	"github.com/zosfs/zosfs/internal/treetest"

	"golang.org/x/sys/unix"
)

// packMemory is the budget of memory of a pack, in bytes.
const packMemory = 256 << 20

// packing is section pack.
func (b *bench) packing(ctx context.Context) error {
	t := b.rep.table("Pack to a directory store: everything read, empty store; alone reads the same files and brings the same chunks through zstd and BLAKE3, on as many cores")
	for _, tr := range []*tree{b.trees.debian, b.trees.toolchain, b.trees.grown, b.trees.big} {
		dir, err := tr.open(ctx, b.lab)
		if err == nil {
			err = b.packTree(ctx, t, tr.name, dir)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			b.rep.note("pack, %s: %v", tr.name, err)
		}
	}
	if err := b.peerPacks(ctx); err != nil {
		return err
	}
	return b.packAgain(ctx)
}

// packTree packs one tree into empty stores, in turn with zstd and BLAKE3 alone.
func (b *bench) packTree(ctx context.Context, t *table, name, dir string) error {
	size, err := treeBytes(dir)
	if err != nil {
		return err
	}
	var ours, base samples
	var peak int64
	var last packed
	for rep := range b.reps {
		b.lab.say("pack %s: %d of %d", name, rep+1, b.reps)
		took, err := alone(ctx, dir, runtime.GOMAXPROCS(0))
		if err != nil {
			return err
		}
		base.add(took)
		if last, err = b.packFresh(ctx, dir); err != nil {
			return err
		}
		ours.add(last.wall)
		peak = max(peak, last.peak)
	}
	t.add(name,
		figure("entries", last.Counts.Entries, count, nil),
		figure("logical", size, byteSize, nil),
		figure("stored", last.BytesSent, byteSize, nil),
		figure("alone", base.median(), seconds, nil),
		figure("pack", ours.median(), seconds, nil),
		figure("pack/alone", over(ours.median(), base.median()), ratio, atMost(1.3)),
		figure("MiB/s", float64(size)/(1<<20)/ours.median(), count, nil),
		figure("peak memory", peak, byteSize, atMost(packMemory)),
	)
	return nil
}

// packFresh packs dir into an empty store and removes that.
func (b *bench) packFresh(ctx context.Context, dir string) (_ packed, err error) {
	store, err := b.lab.mkdir("pack-store")
	if err != nil {
		return packed{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(store)) }()
	unix.Sync() // else our fsyncs wait for what others wrote before
	return b.product.pack(ctx, "--no-cache", "--store", "file://"+store, dir, b.lab.path("pack.flist"))
}

// peerPacks shows what the peers take for the generated tree.
func (b *bench) peerPacks(ctx context.Context) error {
	t := b.rep.table("Pack, peers: the tree grown")
	dir, err := b.trees.grown.open(ctx, b.lab)
	if err != nil {
		return err
	}
	for _, p := range b.peers {
		b.lab.say("pack grown: %s", p.name)
		made, out, err := p.image(ctx, b.lab, dir)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			b.rep.note("%s: %v", p.name, err)
			continue
		}
		stored, err := treeBytes(made)
		if err != nil {
			return err
		}
		t.add(p.name, figure("time", out.wall.Seconds(), seconds, nil), figure("peak memory", out.peak, byteSize, nil), figure("stored", stored, byteSize, nil))
		if err := removeTree(made); err != nil {
			return err
		}
	}
	return nil
}

// packAgain packs a tree to the hub, again unchanged, and again after changes.
func (b *bench) packAgain(ctx context.Context) error {
	t := b.rep.table("Pack again: to the hub, generated tree")
	dir, err := b.lab.mkdir("trees", "again")
	if err != nil {
		return err
	}
	if err := grow(dir, b.files/4, 8<<20, 4); err != nil {
		return err
	}
	// The pack cache does not trust files that changed just before a pack.
	if !wait(ctx, time.Now().Add(time.Second)) {
		return ctx.Err()
	}
	step := func(name string, args ...string) error {
		b.lab.say("pack again: %s", name)
		r, err := b.product.pack(ctx, append(args, dir, b.product.hub+"/bench/again:1")...)
		if err != nil {
			return err
		}
		t.add(name,
			figure("time", r.wall.Seconds(), seconds, nil), figure("peak memory", r.peak, byteSize, atMost(packMemory)),
			figure("read", r.BytesRead, byteSize, nil), figure("files not read", r.FromCache, count, nil),
			figure("look-ups", r.Lookups, count, nil), figure("sent", r.BytesSent, byteSize, nil),
		)
		return nil
	}
	if err := step("first"); err != nil {
		return err
	}
	if err := step("unchanged"); err != nil {
		return err
	}
	if err := step("unchanged, all read", "--no-cache"); err != nil {
		return err
	}
	if _, err := treetest.Mutate(dir, 1, 5); err != nil {
		return err
	}
	return step("1 % of files changed")
}
