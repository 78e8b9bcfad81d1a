package unpack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/image"
)

const (
	// defaultWorkers hides the delay of a store: so many files wait for it at a time.
	defaultWorkers = 16
	// bufferSize is how much of a file is read at once, in bytes. Memory is a buffer a worker.
	bufferSize = 1 << 20
)

// An unpacker is what the walks and workers of one call share.
type unpacker struct {
	im     *image.Image
	tree   *image.Tree
	root   int // descriptor of the directory
	owners bool
	over   bool
	o      Options

	lists   lists
	entries int64
	files   atomic.Int64
	bytes   atomic.Int64

	// Of inodes with several names, for the walks alone.
	first     map[flist.NodeID]place
	refused   map[flist.NodeID]bool
	lastDir   flist.NodeID
	lastNames []string
}

// Tree restores the tree of im in the directory dir, which must be empty or not exist
// (unless [Options.Over]); its parent must exist. dir itself may be a symlink to a
// directory, and gets the attributes of the image's root. What fails is a *fs.PathError with
// the path in the image, around the error of the kernel or of [image.Image.ReadAt]; a full
// disk is errs.ErrFull, a directory that is not empty fs.ErrExist.
func Tree(ctx context.Context, im *image.Image, dir string, o Options) (Result, error) {
	res, err := tree(ctx, im, dir, o)
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		err = fmt.Errorf("%w: %w", err, errs.ErrFull)
	}
	if err != nil {
		return Result{}, fmt.Errorf("unpack to %s: %w", dir, err)
	}
	return res, nil
}

func tree(ctx context.Context, im *image.Image, dir string, o Options) (_ Result, err error) {
	if o.Workers <= 0 {
		o.Workers = defaultWorkers
	}
	if o.Progress == nil {
		o.Progress = new(Progress)
	}
	if _, err := os.Stat("/proc/self/fd"); err != nil {
		return Result{}, fmt.Errorf("attributes are set by way of /proc: %w", err)
	}
	root, undo, err := target(dir, o.Over)
	if err != nil {
		return Result{}, err
	}
	defer func() {
		_ = unix.Close(root)
		if err != nil {
			err = errors.Join(err, undo())
		}
	}()
	u := &unpacker{
		im: im, tree: im.Tree(), root: root, over: o.Over, o: o,
		owners: o.Owners == OwnersKeep || o.Owners == OwnersAuto && os.Geteuid() == 0,
		first:  make(map[flist.NodeID]place), refused: make(map[flist.NodeID]bool),
	}
	u.total()
	if err := takeOver(root); err != nil {
		return Result{}, pathError(u.tree, "open", flist.Root, err)
	}
	if err := u.fill(ctx); err != nil {
		return Result{}, err
	}
	if len(u.first) > 0 {
		if err := walk(ctx, u.tree, root, linker{u}); err != nil {
			return Result{}, err
		}
	}
	if err := walk(ctx, u.tree, root, finisher{u}); err != nil {
		return Result{}, err
	}
	return Result{
		Entries: u.entries, Files: u.files.Load(), Bytes: u.bytes.Load(),
		Devices: u.lists.devices, Xattrs: u.lists.xattrs, Modes: u.lists.modes,
	}, nil
}

// target opens the directory dir and makes it if need be. undo brings it back to how it was,
// where it is known how that was.
func target(dir string, over bool) (fd int, undo func() error, err error) {
	created := true
	if err := os.Mkdir(dir, 0o700); errors.Is(err, fs.ErrExist) {
		created = false
	} else if err != nil {
		return -1, nil, err
	}
	fd, err = retry(func() (int, error) { return unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return -1, nil, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	if created {
		return fd, func() error { return os.RemoveAll(dir) }, nil
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && !over {
		err = mustBeEmpty(dir)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, nil, err
	}
	if over {
		return fd, func() error { return nil }, nil
	}
	return fd, func() error { return errors.Join(empty(dir), os.Chmod(dir, fs.FileMode(st.Mode&0o777))) }, nil
}

func mustBeEmpty(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	switch _, err := f.Readdirnames(1); {
	case err == nil:
		return errs.Textf(fs.ErrExist, "it is not empty")
	case !errors.Is(err, io.EOF):
		return err
	}
	return nil
}

// empty removes what is in dir.
func empty(dir string) error {
	r, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	list, err := fs.ReadDir(r.FS(), ".")
	for _, e := range list {
		err = errors.Join(err, r.RemoveAll(e.Name()))
	}
	return err
}

func (u *unpacker) total() {
	for id := flist.Root; int(id) <= u.tree.Len(); id++ {
		if a := u.tree.Attr(id); a.Type() == flist.ModeRegular {
			u.o.Progress.TotalFiles.Add(1)
			u.o.Progress.TotalBytes.Add(a.Size)
		}
	}
}

// fill makes the tree, with the content of files.
func (u *unpacker) fill(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	files := make(chan job, 2*u.o.Workers)
	g.Go(func() error {
		defer close(files)
		return walk(ctx, u.tree, u.root, &maker{unpacker: u, files: files})
	})
	for range u.o.Workers {
		g.Go(func() error {
			var buf []byte
			for j := range files {
				err := u.file(ctx, j, &buf)
				if e := unix.Close(j.fd); err == nil {
					err = e
				}
				if err != nil {
					return pathError(u.tree, "write", j.id, err)
				}
			}
			return nil
		})
	}
	err := g.Wait()
	for j := range files { // what no worker took
		_ = unix.Close(j.fd)
	}
	return err
}

// file writes the content of a file, then what else the image says of it.
func (u *unpacker) file(ctx context.Context, j job, buf *[]byte) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	a := u.tree.Attr(j.id)
	holes := a.Size
	if a.Size > 0 {
		if err := unix.Ftruncate(j.fd, a.Size); err != nil {
			return err
		}
		if *buf == nil {
			*buf = make([]byte, bufferSize)
		}
		for off, n := range u.im.Data(j.id, 0) {
			if err := u.run(ctx, j, off, n, *buf); err != nil {
				return err
			}
			holes -= n
		}
	}
	if err := u.restore(handle(j.fd), j.id, &a); err != nil {
		return err
	}
	u.files.Add(1)
	u.o.Progress.Files.Add(1)
	u.o.Progress.Bytes.Add(holes)
	return nil
}

// run copies n bytes of a file at off.
func (u *unpacker) run(ctx context.Context, j job, off, n int64, buf []byte) error {
	for n > 0 {
		p := buf[:min(n, int64(len(buf)))]
		if k, err := u.im.ReadAt(ctx, j.id, p, off); k < len(p) {
			return err
		}
		for rest := p; len(rest) > 0; {
			k, err := retry(func() (int, error) { return unix.Pwrite(j.fd, rest, off) })
			if err != nil {
				return err
			}
			rest, off = rest[k:], off+int64(k)
		}
		n -= int64(len(p))
		u.bytes.Add(int64(len(p)))
		u.o.Progress.Bytes.Add(int64(len(p)))
	}
	return nil
}

// pathError says at which node err happened; nil stays nil, and what already says where, or
// is about no place, stays as it is.
func pathError(t *image.Tree, op string, id flist.NodeID, err error) error {
	var has *fs.PathError
	if err == nil || errors.As(err, &has) || errors.Is(err, context.Canceled) {
		return err
	}
	path := t.Path(id)
	if path == "" {
		path = "."
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}
