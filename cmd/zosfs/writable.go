package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/commit"
	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/internal/credentials"
	"github.com/zosfs/zosfs/mount/overlay"
	"github.com/zosfs/zosfs/node"
	"github.com/zosfs/zosfs/pack"
	"github.com/zosfs/zosfs/ref"
	"github.com/zosfs/zosfs/writable"
)

// scratch is what --rw without a directory means: changes that go with the mount.
const scratch = "\x00"

func (a *app) writable() *writable.Table {
	return writable.New(filepath.Join(a.dirs.State, node.WritableDir))
}

// mountWritable shows the image s at dir with a layer over it that can be written to.
func (a *app) mountWritable(ctx context.Context, s, dir string, o mountOptions) (err error) {
	if os.Geteuid() != 0 {
		return errs.Textf(errs.ErrDenied, "mount --rw needs root: the overlay that is written to can be mounted by root alone; in a user namespace of your own you are root: unshare --user --map-root-user --mount")
	}
	changes := ""
	if o.rw != scratch {
		if changes, err = filepath.Abs(o.rw); err != nil {
			return err
		}
	}
	dir = plainPath(dir)
	r, err := a.writable().Begin(dir, changes)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.End())
		}
	}()
	info, err := a.askMount(ctx, s, r.Lower(), o)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.release(context.WithoutCancel(ctx), r.Lower()))
		}
	}()
	r.Ref, r.Digest = info.Ref, info.Digest
	if err := r.Save(); err != nil {
		return err
	}
	u, err := overlay.Open(r.Changes, r.Digest.String(), overlay.Options{Size: int64(o.rwSize)})
	if err != nil {
		return err
	}
	_, err = u.Mount(r.Lower(), dir)
	if err = errors.Join(err, u.Close()); err != nil {
		return err
	}
	info.Dir = dir
	if a.json {
		return a.emit("mount", struct {
			node.MountInfo
			Changes string `json:"changes"`
			Scratch bool   `json:"scratch"`
		}{info, r.Changes, r.Scratch})
	}
	if err := a.mounted(info, o); err != nil {
		return err
	}
	if r.Scratch {
		a.note("it can be written to; the changes go when it is unmounted, unless they are committed: zosfs commit %s DEST", dir)
	} else {
		a.note("it can be written to; the changes are kept in %s", r.Changes)
	}
	return nil
}

// unmountWritable ends a writable mount.
func (a *app) unmountWritable(ctx context.Context, r *writable.Record, lazy bool) error {
	if r.Mounted() {
		flags := unix.UMOUNT_NOFOLLOW
		if lazy {
			flags |= unix.MNT_DETACH
		}
		if err := unix.Unmount(r.Dir, flags); err != nil {
			return fmt.Errorf("unmount %s: %w", r.Dir, err)
		}
	}
	u, err := r.Upper()
	if err == nil {
		err = u.Close() // its disk
	}
	if err != nil && !lazy {
		return err
	}
	if err := a.release(ctx, r.Lower()); err != nil {
		return err
	}
	return r.End()
}

// release unmounts the image below a writable mount.
func (a *app) release(ctx context.Context, lower string) error {
	err := a.unmount(ctx, lower, true)
	if errors.Is(err, errs.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func (a *app) rollbackCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "rollback DIR",
		Short: "Throw the changes of a writable mount away",
		Long: `Throw away what was written to a mount that was made with --rw: it shows the image again.
Nobody may be using it meanwhile.

  zosfs rollback /mnt

Exit codes: 0 done, 1 busy or another failure, 2 usage, 4 no writable mount there, 5 denied.`,
		Args:              args(cobra.ExactArgs(1)),
		ValidArgsFunction: mountPoints,
		RunE:              func(_ *cobra.Command, given []string) error { return a.rollback(given[0]) },
	}
}

func (a *app) rollback(dir string) error {
	r, err := a.writable().Find(plainPath(dir))
	if err != nil {
		return err
	}
	if err := unix.Unmount(r.Dir, unix.UMOUNT_NOFOLLOW); err != nil {
		return fmt.Errorf("roll back %s: %w", r.Dir, whyNot(r.Dir, err))
	}
	u, err := r.Upper()
	if err != nil {
		return err
	}
	err = u.Reset()
	if err == nil {
		_, err = u.Mount(r.Lower(), r.Dir)
	}
	if err = errors.Join(err, u.Close()); err != nil {
		return fmt.Errorf("roll back %s: %w", r.Dir, err)
	}
	if a.json {
		return a.emit("rollback", map[string]any{"dir": r.Dir})
	}
	a.note("%s shows %s again", r.Dir, r.Ref)
	return nil
}

func (a *app) commitCmd() *cobra.Command {
	var o packOptions
	c := &cobra.Command{
		Use:   "commit DIR DEST",
		Short: "Make a new image of a writable mount",
		Long: `Make an image of what a mount that was made with --rw shows now. What was not written to is
neither read nor sent; the new flist names the one it was made from as its parent. The mount
goes on as it was, and may be in use: files that change meanwhile are listed.

  zosfs mount --rw acme/debian:12 /mnt
  chroot /mnt apt-get install -y nginx
  zosfs commit /mnt acme/debian:12-nginx
  zosfs commit --store file:///srv/blobs /mnt new.flist

Exit codes: 0 done, 1 failure, 2 usage, 3 data damaged, 4 no writable mount there, 5 denied, 6 store unavailable, 130 interrupted.`,
		Args:              args(cobra.ExactArgs(2)),
		ValidArgsFunction: mountPoints,
		RunE: func(c *cobra.Command, given []string) error {
			return a.commit(c.Context(), given[0], given[1], o)
		},
	}
	f := c.Flags()
	f.StringArrayVar(&o.stores, "store", nil, "URL of a store for the blobs, where DEST is a file; several make replicas")
	f.BoolVar(&o.public, "public", false, "make the repository readable without a token")
	f.StringVar(&o.author, "author", "", "who made the image")
	return c
}

// commit packs a writable mount as pack does a directory.
func (a *app) commit(ctx context.Context, dir, dest string, o packOptions) (err error) {
	r, err := a.writable().Find(plainPath(dir))
	if err != nil {
		return err
	}
	base, done, err := a.baseOf(ctx, r)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	o.noCache = true
	o.tree = func(ctx context.Context, dst pack.Dest, out string, po pack.Options) (pack.Result, error) {
		return commit.Tree(ctx, commit.Source{Dir: r.Dir, Upper: base.upper, Base: base.Flist}, dst, out, po)
	}
	return a.pack(ctx, r.Dir, dest, o)
}

// openBase is the image below a writable mount, and where its changes are.
type openBase struct {
	*ref.Opened
	upper string
}

// baseOf opens the flist that a writable mount was made from, which this node has.
func (a *app) baseOf(ctx context.Context, r *writable.Record) (*openBase, func() error, error) {
	creds, err := credentials.Load()
	if err != nil {
		return nil, nil, err
	}
	name, err := ref.Parse(r.Ref, creds.Default())
	if err != nil {
		return nil, nil, err
	}
	op, err := ref.Open(ctx, name, ref.Options{Dir: a.dirs.Cache, Credentials: creds, Digest: r.Digest, Log: a.log()})
	if err != nil {
		return nil, nil, fmt.Errorf("the image below %s: %w", r.Dir, err)
	}
	u, err := overlay.Find(r.Changes)
	if err != nil {
		return nil, nil, errors.Join(err, op.Close())
	}
	return &openBase{op, u}, op.Close, nil
}

// live returns the flist of what a writable mount shows now. Nothing of its content is kept
// anywhere.
func (a *app) live(ctx context.Context, r *writable.Record) (_ *flist.Reader, done func() error, err error) {
	base, closeBase, err := a.baseOf(ctx, r)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, closeBase()) }()
	tmp, err := a.tempDir()
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(tmp))
		}
	}()
	path := filepath.Join(tmp, "tree.flist")
	if _, err := commit.Tree(ctx, commit.Source{Dir: r.Dir, Upper: base.upper, Base: base.Flist}, newNowhere(base.Flist), path, pack.Options{}); err != nil {
		return nil, nil, err
	}
	f, err := flist.Open(path, flist.OpenOptions{TempDir: tmp})
	if err != nil {
		return nil, nil, err
	}
	return f, func() error { return errors.Join(f.Close(), os.RemoveAll(tmp)) }, nil
}

// nowhere is a pack.Dest that has what an image has, and keeps nothing.
type nowhere struct {
	chunks map[chunk.Digest]blob.Location
	blobs  map[blob.Digest]int64 // sizes
}

func newNowhere(r *flist.Reader) *nowhere {
	n := &nowhere{make(map[chunk.Digest]blob.Location, r.Counts().Chunks), make(map[blob.Digest]int64)}
	for _, c := range r.Chunks() {
		n.chunks[c.Chunk] = blob.Location{Blob: r.Blob(c.Blob).Digest, Ref: c.Ref}
	}
	for _, b := range r.Blobs() {
		n.blobs[b.Digest] = b.Size
	}
	return n
}

// Put implements store.Putter.
func (*nowhere) Put(context.Context, blob.Digest, []byte) error { return nil }

// Stat implements store.Stater.
func (n *nowhere) Stat(_ context.Context, id blob.Digest) (int64, error) {
	if size, ok := n.blobs[id]; ok {
		return size, nil
	}
	return 0, fmt.Errorf("blob %v: %w", id, errs.ErrNotFound)
}

// Locate implements store.Locator.
func (n *nowhere) Locate(_ context.Context, chunks []chunk.Digest) (map[chunk.Digest]blob.Location, error) {
	found := make(map[chunk.Digest]blob.Location)
	for _, d := range chunks {
		if l, ok := n.chunks[d]; ok {
			found[d] = l
		}
	}
	return found, nil
}
