package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/mount"
	"github.com/zosfs/zosfs/node"
)

// mountOptions are the flags of mount.
type mountOptions struct {
	openOptions
	mode       string
	foreground bool
}

func (a *app) mountCmd() *cobra.Command {
	var o mountOptions
	c := &cobra.Command{
		Use:   "mount REF DIR",
		Short: "Mount an image; content is fetched when it is read",
		Long: `Mount an image read-only. The whole tree is there at once; content is fetched when it is
read, verified, and kept in the cache that all mounts of this node share. The node service
holds the mount; it is started when none runs, and ends a minute after its last mount.

  zosfs mount http://127.0.0.1:8080/acme/debian:12 /mnt
  zosfs mount --offline acme/debian:12 /mnt       from what is here
  zosfs mount --foreground ./tree.flist /mnt      no service; Ctrl-C unmounts

A read that no source serves within the deadline fails with EIO; "zosfs status" says which
chunk, and what each source answered. It works again when a source is back.

Exit codes: 0 mounted, 1 failure, 2 usage, 3 flist damaged, 4 no such image, 5 denied, 6 hub unavailable, 130 interrupted.`,
		Args: args(cobra.ExactArgs(2)),
		RunE: func(c *cobra.Command, given []string) error {
			dir, err := filepath.Abs(given[1])
			if err != nil {
				return err
			}
			if _, err := mount.ParseMode(o.mode); err != nil {
				return badWords(c.CommandPath(), err)
			}
			a.warnHidden(dir)
			if o.foreground {
				return a.mountHere(c.Context(), given[0], dir, o)
			}
			return a.mountByNode(c.Context(), given[0], dir, o)
		},
	}
	f := c.Flags()
	_ = c.RegisterFlagCompletionFunc("mode", cobra.FixedCompletions([]string{"auto", "kernel", "fuse"}, cobra.ShellCompDirectiveNoFileComp))
	f.StringVar(&o.mode, "mode", "auto", "how to serve it: auto, kernel or fuse")
	f.BoolVar(&o.foreground, "foreground", false, "serve from this process until a signal or an unmount")
	a.contentFlags(c, &o.openOptions)
	return a.refFlags(c, &o.openOptions)
}

func (a *app) mountByNode(ctx context.Context, s, dir string, o mountOptions) error {
	r, creds, err := a.ref(s)
	if err != nil {
		return err
	}
	req := node.MountRequest{
		Ref: r.String(), Dir: dir, Mode: o.mode, Deadline: o.deadline, Offline: o.offline, Allow: o.allow, Token: creds.Token(r.Hub),
	}
	info, err := node.Dial(a.dirs).Mount(ctx, req)
	if errors.Is(err, node.ErrNotRunning) {
		if err := node.StartDetached(ctx, a.dirs, a.nodeArgs(o)); err != nil {
			return err
		}
		info, err = node.Dial(a.dirs).Mount(ctx, req)
	}
	if err != nil {
		return err
	}
	return a.mounted(info)
}

// warnHidden says that a mount hides what is in the directory.
func (a *app) warnHidden(dir string) {
	f, err := os.Open(dir)
	if err != nil {
		return // mounting says it better
	}
	defer func() { _ = f.Close() }()
	if names, _ := f.Readdirnames(1); len(names) > 0 {
		a.note("%s is not empty; what is in it is hidden until the image is unmounted", dir)
	}
}

// nodeArgs is the command line of a service that is started for a mount.
func (a *app) nodeArgs(o mountOptions) []string {
	args := []string{"node", "--idle", "1m", "--cache", a.dirs.Cache}
	if o.limit > 0 {
		args = append(args, "--cache-size", fmt.Sprint(int64(o.limit)))
	}
	return args
}

func (a *app) mounted(info node.MountInfo) error {
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
	a.note("mounted %s at %s: %d entries, %s", info.Ref, info.Dir, info.Counts.Entries, bytesText(info.Counts.Size))
	return nil
}

// mountHere serves a mount from this process.
func (a *app) mountHere(ctx context.Context, s, dir string, o mountOptions) (err error) {
	im, err := a.openImage(ctx, s, o.openOptions)
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
	if err := a.mounted(node.MountInfo{Ref: im.Ref.String(), Dir: dir, Mode: m.Mode(), Reason: m.Why(), Digest: im.Flist.Digest(), TreeDigest: im.Flist.TreeDigest(), Counts: im.Flist.Counts(), Stale: im.Stale}); err != nil {
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
tree at once and ends when its last user does. umount(8) does as well.

  zosfs umount /mnt

Exit codes: 0 done, 1 busy or another failure, 2 usage, 4 nothing of ours is mounted there, 5 denied.`,
		Args:              args(cobra.MinimumNArgs(1)),
		ValidArgsFunction: mountPoints,
		RunE: func(c *cobra.Command, given []string) error {
			for _, dir := range given {
				dir, err := filepath.Abs(dir)
				if err != nil {
					return err
				}
				if err := a.umount(c.Context(), dir, lazy); err != nil {
					return err
				}
			}
			return nil
		},
	}
	c.Flags().BoolVar(&lazy, "lazy", false, "detach now, end when it is no longer in use")
	return c
}

// mountPoints completes with the directories of our mounts.
func mountPoints(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	all, err := mount.List()
	if err != nil {
		return nil, cobra.ShellCompDirectiveDefault
	}
	var dirs []cobra.Completion
	for _, m := range all {
		dirs = append(dirs, m.Dir)
	}
	return dirs, cobra.ShellCompDirectiveNoFileComp
}

// umount asks the service that holds the mount; a mount of another process, or of one that
// died, is ended here.
func (a *app) umount(ctx context.Context, dir string, lazy bool) error {
	err := a.revived(ctx, func() error { return node.Dial(a.dirs).Unmount(ctx, dir, lazy) })
	if errors.Is(err, node.ErrNotRunning) || errors.Is(err, fs.ErrNotExist) {
		err = mount.Unmount(ctx, dir, lazy)
	}
	if err != nil {
		return err
	}
	if a.json {
		return a.emit("umount", map[string]any{"dir": dir})
	}
	a.note("unmounted %s", dir)
	return nil
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
