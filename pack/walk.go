package pack

import (
	"context"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/flist"
)

// smallFile is the largest file that a reader takes as a whole, in bytes. It is at most
// what a slab holds.
const smallFile = 512 << 10

// A walker sends the items of the tree in canonical order.
type walker struct {
	*packer
	scan  *scanner
	links map[inode]*link
	cache *cacheReader
	attrs xattrReader
}

// A link is an inode with several names of which not all were met.
type link struct {
	inode *placed
	left  uint64
}

func (w *walker) run(ctx context.Context, root *unix.Stat_t) error {
	defer close(w.items)
	defer close(w.small)
	defer close(w.large)
	defer w.smallPool.done()
	fd, err := w.scan.dirs.borrow(w.scan.root)
	if err != nil {
		return err
	}
	defer w.scan.dirs.release(w.scan.root)
	it := &item{node: nodeOf(root), inode: new(placed), dir: w.scan.root}
	if it.xattrs, err = w.attrs.read(fd, "."); err != nil {
		return &fs.PathError{Op: "read attributes", Path: ".", Err: err}
	}
	if err := send(ctx, w.items, it); err != nil {
		return err
	}
	return w.scan.walk(ctx, func(d *dir) ([]*dir, error) { return w.block(ctx, d) })
}

// block sends the entries of d.
func (w *walker) block(ctx context.Context, d *dir) ([]*dir, error) {
	if w.cache != nil {
		w.cache.enter(d.path())
	}
	var subs []*dir
	var fatal error // of a visit, as opposed to those of reading d
	changed, err := w.scan.each(d, func(fd int, e *entry) error {
		var keep bool
		if keep, fatal = w.visit(ctx, d, fd, e); keep && e.dir != nil {
			subs = append(subs, e.dir)
		}
		return fatal
	})
	switch {
	case fatal != nil:
		return nil, fatal
	case err != nil:
		_, err = w.judge("read directory", d.path(), err)
		return nil, err
	case changed:
		w.notes.add(verdictChanged, d.path())
	}
	return subs, nil
}

// visit sends one entry. It reports whether the entry is kept.
func (w *walker) visit(ctx context.Context, d *dir, fd int, e *entry) (bool, error) {
	if err := w.tell("visit", d, e.name); err != nil && e.err == nil {
		e.err = err
	}
	if e.err != nil {
		_, err := w.judge("stat", d.join(e.name), e.err)
		return false, err
	}
	it := &item{parent: d, name: e.name, dir: e.dir, node: nodeOf(&e.st)}
	if e.dir == nil && w.linked(it, &e.st) {
		return true, send(ctx, w.items, it)
	}
	if err := w.describe(it, fd); err != nil {
		_, err = w.judge("read", it.path(), err)
		return false, err
	}
	it.inode = new(placed)
	if e.dir == nil && e.st.Nlink > 1 {
		w.links[inodeOf(&e.st)] = &link{it.inode, uint64(e.st.Nlink) - 1}
	}
	if it.node.Type() == flist.ModeRegular && it.node.Size > 0 {
		if err := w.content(ctx, it, &e.st); err != nil {
			return false, err
		}
	}
	return true, send(ctx, w.items, it)
}

// linked makes it a further link if its inode was met before.
func (w *walker) linked(it *item, st *unix.Stat_t) bool {
	if st.Nlink <= 1 {
		return false
	}
	l, met := w.links[inodeOf(st)]
	if !met {
		return false
	}
	it.link, it.inode = true, l.inode
	if l.left--; l.left == 0 {
		delete(w.links, inodeOf(st))
	}
	return true
}

// describe adds what stat does not tell. A directory must be one that can be read.
func (w *walker) describe(it *item, fd int) (err error) {
	switch it.node.Type() {
	case flist.ModeSymlink:
		if it.node.Target, err = readlinkat(fd, it.name); err != nil {
			return err
		}
		it.node.Size = int64(len(it.node.Target))
	case flist.ModeDir:
		if _, err := w.scan.dirs.borrow(it.dir); err != nil {
			return err
		}
		w.scan.dirs.release(it.dir)
	}
	it.xattrs, err = w.attrs.read(fd, it.name)
	return err
}

// content sees to it that the parts of a regular file come, unless it is known.
func (w *walker) content(ctx context.Context, it *item, st *unix.Stat_t) error {
	f := &file{ident: identOf(st), sparse: isSparse(st)}
	it.file = f
	if w.o.Known != nil {
		if c := w.o.Known(it.path(), st); c != nil && c.Size == f.ident.size && len(c.Chunks) <= maxKnown {
			f.cached = c.known()
			return nil
		}
	}
	if w.cache != nil && !w.cacheOff.Load() {
		if f.cached = w.cache.find(it.name, f.ident); f.cached != nil {
			return nil
		}
	}
	if f.ident.size > smallFile || f.sparse {
		f.parts = make(chan *part)
		return send(ctx, w.large, it)
	}
	f.parts = make(chan *part, 1) // so that readers never wait
	var err error
	if f.room, err = w.smallPool.take(ctx, int(f.ident.size)); err != nil {
		return err
	}
	return send(ctx, w.small, it)
}

// known returns c as the pack cache has it.
func (c *Content) known() *known {
	k := &known{digest: c.Digest, pieces: make([]piece, len(c.Chunks))}
	for i, e := range c.Chunks {
		k.pieces[i] = piece{off: e.Offset, size: e.Size, digest: e.Digest}
	}
	return k
}

// judge records what became of the entry at path, and returns the error if it ends the pack.
func (p *packer) judge(op, path string, err error) (verdict, error) {
	v := verdictOf(err)
	if v == verdictOK || v == verdictUnreadable && !p.o.SkipUnreadable {
		return v, &fs.PathError{Op: op, Path: path, Err: err}
	}
	p.notes.add(v, path)
	return v, nil
}

func send[T any](ctx context.Context, ch chan<- T, v T) error {
	select {
	case ch <- v:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
