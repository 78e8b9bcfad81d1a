package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/hub/api"
	"github.com/zosfs/zosfs/internal/credentials"
	"github.com/zosfs/zosfs/internal/term"
	"github.com/zosfs/zosfs/pack"
	"github.com/zosfs/zosfs/ref"
	"github.com/zosfs/zosfs/store/remote"
)

// packOptions are the flags of pack.
type packOptions struct {
	pack.Options
	stores  []string
	public  bool
	noCache bool
	author  string
	workers number
	// tree packs what is to be packed, if that is not a directory.
	tree func(context.Context, pack.Dest, string, pack.Options) (pack.Result, error)
}

func (a *app) packCmd() *cobra.Command {
	var o packOptions
	c := &cobra.Command{
		Use:   "pack SOURCE DEST",
		Short: "Pack a directory into an flist and blobs",
		Long: `Pack a directory. DEST is a place on a hub, which then gets the blobs too, or the path of an
flist, with --store for the blobs. Chunks that the store holds are not sent again. Files
that did not change since the last pack of the same directory are not read again.

  zosfs pack ./debian http://127.0.0.1:8080/acme/debian:12
  zosfs pack --store file:///srv/blobs ./debian debian.flist
  zosfs pack --exclude 'var/cache/**' / acme/host:today --one-file-system

A file that changes or vanishes while it is packed, or cannot be read, makes the pack fail
at its end, and no flist is left, unless --allow-changed or --skip-unreadable is given.

Exit codes: 0 done, 1 failure, 2 usage, 3 data damaged, 4 no such directory, 5 denied, 6 store unavailable, 130 interrupted.`,
		Args: args(cobra.ExactArgs(2)),
		RunE: func(c *cobra.Command, given []string) error { return a.pack(c.Context(), given[0], given[1], o) },
	}
	f := c.Flags()
	f.StringArrayVar(&o.stores, "store", nil, "URL of a store for the blobs (file:///DIR, http://HUB); several make replicas")
	f.StringArrayVar(&o.Exclude, "exclude", nil, "leave out what matches this pattern, with the rules of .dockerignore")
	f.BoolVar(&o.SkipUnreadable, "skip-unreadable", false, "leave out what cannot be read, and list it")
	f.BoolVar(&o.AllowChanged, "allow-changed", false, "keep files that change meanwhile as they were read")
	f.BoolVar(&o.OneFileSystem, "one-file-system", false, "keep directories where other file systems are mounted empty")
	f.Var(&o.workers, "workers", "how many files are read at once (default: one a CPU)")
	f.BoolVar(&o.noCache, "no-cache", false, "read all files, also those that did not change since the last pack")
	f.BoolVar(&o.public, "public", false, "make the repository readable without a token")
	f.StringVar(&o.author, "author", "", "who made the image")
	return c
}

func (a *app) pack(ctx context.Context, source, dest string, o packOptions) error {
	if err := pack.CheckExclude(o.Exclude); err != nil {
		return badWords("zosfs pack", err)
	}
	o.Workers = int(o.workers)
	r, creds, err := a.ref(dest)
	if err != nil {
		return err
	}
	if r.Path != "" && len(o.stores) == 0 {
		return &usageError{cmd: "zosfs pack", err: fmt.Errorf("%s is a file: say with --store where the blobs go, such as --store file:///srv/blobs", dest)}
	}
	if r.Path == "" && (len(o.stores) > 0 || !r.Digest.IsZero()) {
		return &usageError{cmd: "zosfs pack", err: errors.New("a hub keeps the blobs itself and names the version: give OWNER/NAME:TAG and no --store")}
	}
	// Large trees would let the heap double before garbage goes; what they keep is far less.
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(packHeap)
	}
	o.Start = a.now()
	if o.author != "" {
		o.Properties = map[string]string{flist.PropertyAuthor: o.author}
	}
	if !o.noCache {
		o.CacheDir = filepath.Join(a.dirs.Cache, "pack")
	}
	if r.Path != "" {
		return a.packToFile(ctx, source, r.Path, o, creds)
	}
	return a.packToHub(ctx, source, r, o, creds)
}

func (a *app) packToFile(ctx context.Context, source, out string, o packOptions, creds *credentials.File) (err error) {
	dst, err := a.openStores(ctx, o.stores, creds)
	if err != nil {
		return err
	}
	defer closing(dst, &err)
	for i, url := range dst.urls {
		o.Sources = append(o.Sources, flist.Source{URL: url, Priority: i})
	}
	res, err := a.packTree(ctx, source, dst, out, o)
	if err != nil {
		return err
	}
	return a.packed(res, out)
}

func (a *app) packToHub(ctx context.Context, source string, r ref.Ref, o packOptions, creds *credentials.File) (err error) {
	client, err := ref.Client(r, creds)
	if err != nil {
		return err
	}
	defer closing(client, &err)
	if err := mayWrite(ctx, client, r); err != nil {
		return err
	}
	tmp, err := a.tempDir()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	out := filepath.Join(tmp, "tree.flist")
	res, err := a.packTree(ctx, source, a.patient(client), out, o)
	if err != nil {
		return err
	}
	if err := publish(ctx, client, r, out); err != nil {
		return err
	}
	if o.public {
		if err := client.SetPublic(ctx, r.Owner, r.Name, true); err != nil {
			return fmt.Errorf("make %s/%s public: %w", r.Owner, r.Name, err)
		}
	}
	return a.packed(res, r.String())
}

// packHeap is a soft limit for the heap of a pack, in bytes. Content lies outside of it, in
// about 100 MiB; together they stay below 256 MiB.
const packHeap = 96 << 20

const packTemp = "pack-" // begins the names of our temporary directories in the cache

// tempDir makes a directory for what a command makes before it is sent. The caller removes it.
func (a *app) tempDir() (string, error) {
	if err := os.MkdirAll(a.dirs.Cache, 0o700); err != nil {
		return "", err
	}
	a.sweep()
	return os.MkdirTemp(a.dirs.Cache, packTemp)
}

// publish makes the flist in the file path what r names on its hub.
func publish(ctx context.Context, client *remote.Client, r ref.Ref, path string) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer closing(f, &err)
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if _, err := client.Publish(ctx, r.Owner, r.Name, r.Tag, f, fi.Size()); err != nil {
		return fmt.Errorf("publish %s: %w", r, err)
	}
	return nil
}

// sweep removes what packs that were killed more than a day ago have left.
func (a *app) sweep() {
	left, _ := filepath.Glob(filepath.Join(a.dirs.Cache, packTemp+"*"))
	for _, dir := range left {
		if st, err := os.Stat(dir); err == nil && a.now().Sub(st.ModTime()) > 24*time.Hour {
			_ = os.RemoveAll(dir) // it is tried again by the next pack
		}
	}
}

// mayWrite asks before anything is read or sent whether there is a hub, and whether it will
// take the image in the end.
func mayWrite(ctx context.Context, client *remote.Client, r ref.Ref) error {
	who, err := client.Whoami(ctx)
	if _, ok := errors.AsType[*remote.UnreachableError](err); ok {
		return err
	}
	if err != nil {
		return fmt.Errorf("pack to %s: %w", r, err)
	}
	if who.Scope == api.ScopeRead || who.Scope == api.ScopeWrite && who.User != r.Owner {
		return errs.Textf(errs.ErrDenied, "pack to %s: the token of %s may %s, and write to %s/… at most", r, who.User, who.Scope, who.User)
	}
	return nil
}

func (a *app) packTree(ctx context.Context, source string, dst pack.Dest, out string, o packOptions) (pack.Result, error) {
	bar := a.progress("pack", "")
	o.Progress = new(pack.Progress)
	o.Count = bar.Shown()
	stop := bar.Follow(func() { followPack(bar, o.Progress) })
	tree := o.tree
	if tree == nil {
		tree = func(ctx context.Context, dst pack.Dest, out string, o pack.Options) (pack.Result, error) {
			return pack.Tree(ctx, source, dst, out, o)
		}
	}
	res, err := tree(ctx, dst, out, o.Options)
	stop()
	if err != nil {
		bar.Abort()
		return res, err
	}
	bar.Done()
	return res, nil
}

// packedJSON is the result of a pack.
type packedJSON struct {
	Dest string `json:"dest"`
	pack.Result
}

func (a *app) packed(res pack.Result, dest string) error {
	if a.json {
		return a.emit("pack", packedJSON{Dest: dest, Result: res})
	}
	for _, l := range []struct {
		what string
		pack.List
	}{{"changed while it was packed", res.Changed}, {"vanished while it was packed", res.Vanished}, {"left out, not readable", res.Skipped}} {
		a.noteList(l.what, l.Paths, l.Count)
	}
	if res.CacheError != "" {
		a.note("the next pack will read all files again: %s", res.CacheError)
	}
	n := res.Counts
	a.note("packed %s with %s: %s without duplicates and holes, %s", count(n.Entries, "entry"), bytesText(n.Size), bytesText(n.Unique), count(n.Chunks, "chunk"))
	a.note("sent %s in %s: %s new, %d were there", bytesText(res.BytesSent), count(res.BlobsSent, "blob"), count(res.ChunksNew, "chunk"), res.ChunksKnown)
	a.note("wrote %s", dest)
	_, err := fmt.Fprintln(a.out, res.Digest)
	return err
}

// followPack shows how far a pack is. The total is shown once it is known.
func followPack(bar *term.Progress, p *pack.Progress) {
	total := int64(0)
	if p.Counted.Load() {
		total = p.TotalBytes.Load()
	}
	bar.Set(p.Files.Load(), p.Bytes.Load(), total)
	bar.Deduped.Store(p.DedupBytes.Load())
}
