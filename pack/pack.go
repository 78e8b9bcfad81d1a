package pack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/flist"
)

// Sizes of the pools, in bytes. With five blobs of 9 MiB, the rows in work and what the
// garbage collector leaves lying, a pack stays below 256 MiB.
const (
	smallPoolSize = 48 << 20
	largePoolSize = 48 << 20
	latePoolSize  = 16 << 20
	slabSize      = 2 << 20 // but at least the largest chunk
)

// A packer is what the stages of one pack share.
type packer struct {
	o    Options
	dst  Dest
	dirs *dirTable

	cutter  *chunk.Cutter
	items   chan *item  // everything, from the walker to gather
	small   chan *item  // files for the readers
	large   chan *item  // files for the lane
	batches chan *batch // from gather to the placer
	seals   chan *piece // from the placer to the sealers

	smallPool, largePool, latePool *pool

	hunger   hunger
	pending  atomic.Int64 // batches that gather has passed on and the placer has not done
	cacheOff atomic.Bool  // the pack cache is not worth asking
	notes    notes
	count    struct {
		read, dedup, fromCache, fresh, known, copied, blobs, sent, lookups atomic.Int64
	}
}

// Tree packs the directory dir, which may be a symlink to one, into blobs at dst and the
// flist out. When it returns nil, out is there and so is every blob that it names. What is
// wrong with the tree is a *fs.PathError with a path relative to dir, or a [ChangedError];
// errors of dst have their kinds. Several packs may run at once.
func Tree(ctx context.Context, dir string, dst Dest, out string, o Options) (Result, error) {
	res, err := tree(ctx, dir, dst, out, o)
	if err != nil {
		return Result{}, fmt.Errorf("pack %s: %w", dir, err)
	}
	return res, nil
}

func tree(ctx context.Context, dir string, dst Dest, out string, o Options) (_ Result, err error) {
	if o, err = o.withDefaults(out); err != nil {
		return Result{}, err
	}
	if _, err := os.Stat("/proc/self/fd"); err != nil {
		return Result{}, fmt.Errorf("extended attributes are read by way of /proc: %w", err)
	}
	w, err := flist.NewWriter(o.TempDir)
	if err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	cache := openCache(dir, o)
	defer cache.close()
	// From here on nothing is made that could change the tree, should it be made there.
	scan, root, err := newScanner(dir, o)
	if err != nil {
		return Result{}, err
	}
	defer scan.dirs.close()

	p := &packer{
		o: o, dst: dst, dirs: &scan.dirs,
		items: make(chan *item, 1024), small: make(chan *item, 256), large: make(chan *item, 256),
		batches: make(chan *batch, maxBatches), seals: make(chan *piece, 1024),
	}
	if p.cutter, err = chunk.NewCutter(o.Chunker); err != nil {
		return Result{}, err
	}
	p.hunger.poke = make(chan struct{}, 1)
	closePools, err := p.openPools()
	if err != nil {
		return Result{}, err
	}
	walk := &walker{packer: p, scan: scan, links: make(map[inode]*link), cache: cache.reader, attrs: xattrReader{buf: make([]byte, 64<<10)}}
	place := &placer{packer: p, w: w, cache: cache.writer, loose: make(map[chunk.Digest]spot), inPart: make(pieceSet)}
	place.rows.Dir = o.TempDir
	err = p.runAll(ctx, dir, walk, place, &root)
	closePools() // the flist is checked in the memory that this frees
	if err := errors.Join(err, place.rows.Close()); err != nil {
		return Result{}, err
	}
	if n := &p.notes; !o.AllowChanged && n.changed.Count+n.vanished.Count > 0 {
		return Result{}, &ChangedError{Changed: n.changed, Vanished: n.vanished}
	}
	for k, v := range o.Properties {
		w.SetProperty(k, v)
	}
	w.SetProperty(flist.PropertyChunker, o.Chunker.String())
	for _, s := range o.Sources {
		w.AddSource(s)
	}
	sum, err := w.Finish(out)
	if err != nil {
		return Result{}, fmt.Errorf("write %s: %w", out, err)
	}
	res := p.result(sum)
	if err := cache.commit(); err != nil {
		res.CacheError = err.Error()
	}
	return res, nil
}

// tell lets a test see, and break, what happens to the entry name of d.
func (p *packer) tell(event string, d *dir, name string) error {
	if p.o.hook == nil {
		return nil
	}
	return p.o.hook(event, d.join(name))
}

func (p *packer) openPools() (closeAll func(), err error) {
	size := max(slabSize, p.o.Chunker.Max)
	pools := []struct {
		at    **pool
		limit int
		h     *hunger
	}{{&p.smallPool, smallPoolSize, &p.hunger}, {&p.largePool, largePoolSize, &p.hunger}, {&p.latePool, latePoolSize, &hunger{poke: make(chan struct{}, 1)}}}
	closeAll = func() {
		for _, c := range pools {
			if *c.at != nil {
				(*c.at).close()
			}
		}
	}
	for _, c := range pools {
		if *c.at, err = newPool(c.limit, size, c.h); err != nil {
			closeAll()
			return nil, err
		}
	}
	return closeAll, nil
}

// runAll runs the stages until all have ended.
func (p *packer) runAll(ctx context.Context, dir string, walk *walker, place *placer, root *unix.Stat_t) error {
	g, ctx := errgroup.WithContext(ctx)
	gather := &gatherer{packer: p, spawn: g.Go}
	g.Go(func() error { return walk.run(ctx, root) })
	for range p.o.Workers {
		g.Go(func() error { return p.readers(ctx) })
		g.Go(p.sealers)
	}
	g.Go(func() error { return p.lane(ctx) })
	g.Go(func() error { return gather.run(ctx) })
	g.Go(func() error { return place.run(ctx) })
	if p.o.Count {
		g.Go(func() error { return count(ctx, dir, p.o) })
	}
	return g.Wait()
}

func (p *packer) result(s flist.Summary) Result {
	c := &p.count
	return Result{
		Digest: s.Digest, TreeDigest: s.TreeDigest, Counts: s.Counts, FlistSize: s.Size,
		BytesRead: c.read.Load(), BytesDedup: c.dedup.Load(), FromCache: c.fromCache.Load(),
		ChunksNew: c.fresh.Load(), ChunksKnown: c.known.Load(), ChunksCopy: c.copied.Load(),
		BlobsSent: c.blobs.Load(), BytesSent: c.sent.Load(), Lookups: c.lookups.Load(),
		Changed: p.notes.changed, Vanished: p.notes.vanished, Skipped: p.notes.skipped,
	}
}

// cacheFile returns where the pack cache of dir is.
func cacheFile(dir string, o Options) (string, [32]byte, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", [32]byte{}, err
	}
	key := cacheKey(abs, o.Chunker)
	return filepath.Join(o.CacheDir, fmt.Sprintf("%x.pack", key[:16])), key, nil
}
