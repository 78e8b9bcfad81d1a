package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/cache"
	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/internal/credentials"
	"github.com/zosfs/zosfs/mount"
	"github.com/zosfs/zosfs/node"
	"github.com/zosfs/zosfs/ref"
)

// mountOptions are the flags of mount.
type mountOptions struct {
	openOptions
	mode       string
	foreground bool
	hides      bool   // there is something in the directory
	rw         string // directory of the changes, or scratch; "" is read-only
	rwSize     size
}

func (a *app) mountCmd() *cobra.Command {
	var o mountOptions
	c := &cobra.Command{
		Use:   "mount REF DIR",
		Short: "Mount an image; content is fetched when it is read",
		Long: `Mount an image. The whole tree is there at once; content is fetched when it is
read, verified, and kept in the cache that all mounts of this node share. The node service
holds the mount; it is started when none runs, and ends a minute after its last mount.

  zosfs mount http://127.0.0.1:8080/acme/debian:12 /mnt
  zosfs mount --offline acme/debian:12 /mnt       from what is here
  zosfs mount --foreground ./tree.flist /mnt      no service; Ctrl-C unmounts
  zosfs mount --rw acme/debian:12 /mnt            to write to; the changes go at the unmount
  zosfs mount --rw=/srv/web acme/debian:12 /mnt   ... or are kept here, and found next time

An image itself never changes: with --rw, an overlay of the kernel keeps what is written in a
directory of this node. Changes of mode, owner, time or name copy no content; --rw-size bounds
them. "zosfs commit" makes a new image of them, "zosfs rollback" throws them away.

A read that no source serves within the deadline fails with EIO; "zosfs status" says which
chunk, and what each source answered. It works again when a source is back.

The cache, --cache and --cache-size, belongs to the service: they count when this command starts
it, or with --foreground.

Exit codes: 0 mounted, 1 failure, 2 usage, 3 flist damaged, 4 no such image or directory, 5 denied, 6 hub unavailable, 130 interrupted.`,
		Args: args(cobra.ExactArgs(2)),
		RunE: func(c *cobra.Command, given []string) error {
			dir, err := filepath.Abs(given[1])
			if err != nil {
				return err
			}
			if _, err := mount.ParseMode(o.mode); err != nil {
				return badWords(c.CommandPath(), err)
			}
			if err := a.checkFree(c.Context(), dir); err != nil {
				return err
			}
			o.hides = isFilled(dir)
			switch {
			case o.rw == "" && o.rwSize > 0:
				return usage(c, errors.New("--rw-size bounds the changes of a mount with --rw"))
			case o.rw != "" && o.foreground:
				return usage(c, errors.New("--foreground mounts read-only: leave it out, or --rw"))
			case o.rw != "":
				return a.mountWritable(c.Context(), given[0], dir, o)
			}
			if o.foreground {
				return a.mountHere(c.Context(), given[0], dir, o)
			}
			return a.mountByNode(c.Context(), given[0], dir, o)
		},
	}
	f := c.Flags()
	f.StringVar(&o.mode, "mode", "auto", "how to serve it: auto, kernel or fuse")
	completeFlag(c, "mode", "auto", "kernel", "fuse")
	f.BoolVar(&o.foreground, "foreground", false, "serve from this process until a signal or an unmount")
	f.StringVar(&o.rw, "rw", "", "make it writable; with =DIR, keep the changes there")
	f.Lookup("rw").NoOptDefVal = scratch
	f.Var(&o.rwSize, "rw-size", "limit of the changes, such as 2G; kept in a disk image of that size")
	f.Var(&o.limit, "cache-size", "limit of the cache (default 20G)")
	a.contentFlags(c, &o.openOptions)
	return a.refFlags(c, &o.openOptions)
}

func (a *app) mountByNode(ctx context.Context, s, dir string, o mountOptions) error {
	info, err := a.askMount(ctx, s, dir, o)
	if err != nil {
		return err
	}
	if err := a.mounted(info, o); err != nil {
		return err
	}
	a.noteCache(ctx, o)
	return nil
}

// askMount has the node service mount s at dir, and starts it where none runs.
func (a *app) askMount(ctx context.Context, s, dir string, o mountOptions) (node.MountInfo, error) {
	r, creds, err := a.ref(s)
	if err != nil {
		return node.MountInfo{}, err
	}
	req := node.MountRequest{
		Ref: r.String(), Dir: dir, Mode: o.mode, Deadline: o.deadline, Offline: o.offline, Allow: o.allow, Token: creds.Token(r.Hub),
	}
	info, err := node.Dial(a.dirs).Mount(ctx, req)
	if errors.Is(err, node.ErrNotRunning) {
		if err := node.StartDetached(ctx, a.dirs, a.nodeArgs(o)); err != nil {
			return info, err
		}
		info, err = node.Dial(a.dirs).Mount(ctx, req)
	}
	if errors.Is(err, fs.ErrExist) {
		err = cmp.Or(a.checkFree(ctx, dir), err) // it knows by now what is there
	}
	if err != nil {
		err = refused(ctx, r, creds, err)
	}
	return info, err
}

// refused says which token was refused if that was the one in the environment: the service,
// which was given it, cannot know.
func refused(ctx context.Context, r ref.Ref, creds *credentials.File, err error) error {
	if !errors.Is(err, errs.ErrDenied) || creds.TokenName(r.Hub) == "" {
		return err
	}
	client, cerr := ref.Client(r, creds)
	if cerr != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	if _, werr := client.Whoami(ctx); errors.Is(werr, errs.ErrDenied) {
		return fmt.Errorf("open %v: %w", r, werr)
	}
	return err
}

// noteCache says so where a service that runs has another cache than the command line asks for.
func (a *app) noteCache(ctx context.Context, o mountOptions) {
	st, err := node.Dial(a.dirs).Status(ctx)
	if err != nil {
		return // the mount is there, which is what was asked for
	}
	const change = `"zosfs node stop" unmounts all and ends it, and the next mount starts another`
	if o.limit > 0 && st.Cache.Limit != int64(o.limit) {
		a.note("--cache-size has no effect: the node service runs already, with a cache of %s; %s", bytesText(st.Cache.Limit), change)
	}
	if dir, err := filepath.Abs(a.dirs.Cache); err == nil && st.Dirs.Cache != dir {
		a.note("the node service runs already, with its cache in %s and not in %s; %s", st.Dirs.Cache, dir, change)
	}
}

// checkFree fails if a mount of ours that answers is at dir. One that a service left is for the
// next one, which is started for this mount, to bring back to life.
func (a *app) checkFree(ctx context.Context, dir string) error {
	dir = plainPath(dir)
	all, err := mount.List()
	if err != nil {
		return err
	}
	for _, m := range slices.Backward(all) {
		if m.Dir != dir {
			continue
		}
		image, serving := a.imageAt(ctx, m)
		if !serving {
			return nil
		}
		return errs.Textf(fs.ErrExist, "%s shows %s already; unmount it first: zosfs umount %s", dir, image, dir)
	}
	return nil
}

// imageAt names the image of a mount, as well as that is known, and reports whether somebody
// answers for it.
func (a *app) imageAt(ctx context.Context, m mount.Info) (image string, serving bool) {
	st, err := node.Dial(a.dirs).Status(ctx)
	for _, s := range st.Mounts {
		if s.Dir == m.Dir {
			return s.Ref, true
		}
	}
	if errors.Is(err, node.ErrNotRunning) {
		left, _ := node.Left(a.dirs) // what cannot be read is not known
		for _, l := range left {
			if l.Dir == m.Dir {
				return l.Ref, false
			}
		}
	}
	return imageText(m), mount.Served(m)
}

// imageText names the image of a mount by what the mount table says.
func imageText(m mount.Info) string {
	if m.Mode == mount.Kernel {
		name, _, _ := strings.Cut(filepath.Base(m.Image), ".")
		return "flist " + name
	}
	return m.Source
}

// plainPath returns dir as the mount table has it, as far as that can be told.
func plainPath(dir string) string {
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	if plain, err := filepath.EvalSymlinks(dir); err == nil {
		return plain
	}
	return dir
}

// isFilled reports whether a mount hides something.
func isFilled(dir string) bool {
	f, err := os.Open(dir)
	if err != nil {
		return false // mounting says it better
	}
	defer func() { _ = f.Close() }()
	names, _ := f.Readdirnames(1)
	return len(names) > 0
}

// nodeArgs is the command line of a service that is started for a mount.
func (a *app) nodeArgs(o mountOptions) []string {
	args := []string{"node", "--idle", "1m", "--cache", a.dirs.Cache}
	if o.limit > 0 {
		args = append(args, "--cache-size", fmt.Sprint(int64(o.limit)))
	}
	return args
}

func (a *app) mounted(info node.MountInfo, o mountOptions) error {
	if a.json {
		return a.emit("mount", info)
	}
	if info.Stale {
		a.note("the hub cannot be reached; this is the version it had last")
	}
	for _, why := range info.Refused {
		a.note("%s", why)
	}
	if info.Reason != "" {
		a.note("mode %s: %s", info.Mode, info.Reason)
	}
	if info.Shared != "" {
		a.note("--deadline has no effect: the image is mounted at %s already, and reads of both wait as they do there; their errors are in the status of that mount", info.Shared)
	}
	a.note("mounted %s at %s: %s, %s", info.Ref, info.Dir, count(info.Counts.Entries, "entry"), bytesText(info.Counts.Size))
	if o.hides {
		a.note("%s was not empty; what is in it is hidden until the image is unmounted", info.Dir)
	}
	return nil
}

// mountHere serves a mount from this process.
func (a *app) mountHere(ctx context.Context, s, dir string, o mountOptions) (err error) {
	im, err := a.openImage(ctx, s, o.openOptions, cache.Options{Limit: int64(o.limit)})
	if err != nil {
		return err
	}
	defer closing(im, &err)
	host := &ownHost{images: filepath.Join(a.dirs.Cache, "metadata"), log: a.serviceLog()}
	defer closing(host, &err)
	m, err := mount.Mount(ctx, im.im, dir, mount.Options{Mode: mount.Mode(o.mode), Host: host.get, Source: im.Ref.String(), Log: host.log})
	if err != nil {
		return err
	}
	if err := a.mounted(node.MountInfo{Ref: im.Ref.String(), Dir: dir, Mode: m.Mode(), Reason: m.Why(), Digest: im.Flist.Digest(), TreeDigest: im.Flist.TreeDigest(), Counts: im.Flist.Counts(), Stale: im.Stale}, o); err != nil {
		return errors.Join(err, m.Unmount(context.WithoutCancel(ctx), false))
	}
	if err := a.flush(); err != nil {
		return errors.Join(err, m.Unmount(context.WithoutCancel(ctx), true))
	}
	select {
	case <-m.Done(): // by umount(8)
		return nil
	case <-ctx.Done():
		// In use or not, this process ends: what still reads gets errors.
		err := m.Unmount(context.WithoutCancel(ctx), false)
		if errors.Is(err, unix.EBUSY) {
			a.note("%s is in use; it is detached", dir)
			err = m.Unmount(context.WithoutCancel(ctx), true)
		}
		return err
	}
}

func (a *app) umountCmd() *cobra.Command {
	var lazy bool
	c := &cobra.Command{
		Use:     "umount DIR...",
		Aliases: []string{"unmount"},
		Short:   "Unmount images",
		Long: `Unmount images. A mount that is in use is left alone, unless --lazy: then it goes out of the
tree at once and ends when its last user does. Of several, one that cannot be unmounted does not
keep the others; the exit code is that of the first failure. umount(8) does as well.

  zosfs umount /mnt

Exit codes: 0 done, 1 busy or another failure, 2 usage, 4 nothing of ours is mounted there, 5 denied, 6 the node service ended meanwhile, 130 interrupted.`,
		Args:              args(cobra.MinimumNArgs(1)),
		ValidArgsFunction: mountPoints,
		RunE: func(c *cobra.Command, given []string) error {
			var failed several
			for _, dir := range given {
				dir, err := filepath.Abs(dir)
				if err == nil {
					err = a.umount(c.Context(), dir, lazy)
				}
				if err != nil {
					failed = append(failed, err)
				}
			}
			if len(failed) > 0 {
				return failed
			}
			return nil
		},
	}
	c.Flags().BoolVar(&lazy, "lazy", false, "detach now, end when it is no longer in use")
	return c
}

// umount asks the service that holds the mount; a mount of another process, or of one that
// died, is ended here.
func (a *app) umount(ctx context.Context, dir string, lazy bool) error {
	r, err := a.writable().Find(plainPath(dir))
	switch {
	case err == nil:
		err = a.unmountWritable(ctx, r, lazy)
	case errors.Is(err, errs.ErrNotFound):
		err = a.unmount(ctx, dir, lazy)
	}
	if err != nil {
		return whyNot(dir, err)
	}
	if a.json {
		return a.emit("umount", map[string]any{"dir": dir})
	}
	a.note("unmounted %s", dir)
	return nil
}

// unmount unmounts an image.
func (a *app) unmount(ctx context.Context, dir string, lazy bool) error {
	err := a.revived(ctx, func() error { return node.Dial(a.dirs).Unmount(ctx, dir, lazy) })
	if errors.Is(err, node.ErrNotRunning) || errors.Is(err, fs.ErrNotExist) {
		err = mount.Unmount(ctx, dir, lazy)
	}
	return err
}

// whyNot says why dir could not be unmounted, where more is known than err says.
func whyNot(dir string, err error) error {
	if _, lerr := os.Lstat(dir); errors.Is(lerr, fs.ErrNotExist) {
		return errs.Textf(fs.ErrNotExist, "unmount %s: no such directory", dir)
	}
	inside, lerr := mount.Beneath(dir)
	if !errors.Is(err, unix.EBUSY) || lerr != nil || len(inside) == 0 {
		return err
	}
	return errs.Textf(unix.EBUSY, "unmount %s: unmount first what is mounted inside it: %s", dir, strings.Join(inside, ", "))
}

// revived calls ask, which asks the node service. Where that has died, and its mounts are still
// to be given back, another one is started for it.
func (a *app) revived(ctx context.Context, ask func() error) error {
	err := ask()
	if !errors.Is(err, node.ErrNotRunning) || !node.Kept(ctx, a.dirs) {
		return err
	}
	if err := node.StartDetached(ctx, a.dirs, a.nodeArgs(mountOptions{})); err != nil {
		return err
	}
	return ask()
}
