package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/flist/merge"
	"github.com/zosfs/zosfs/internal/credentials"
	"github.com/zosfs/zosfs/ref"
	"github.com/zosfs/zosfs/store"
)

// mergedJSON is what merge has made.
type mergedJSON struct {
	Dest string `json:"dest"`
	flist.Summary
	BlobsCopied int   `json:"blobs_copied"` // that the hub did not have
	BytesCopied int64 `json:"bytes_copied"`
}

func (a *app) mergeCmd() *cobra.Command {
	var o openOptions
	c := &cobra.Command{
		Use:   "merge REF... DEST",
		Short: "Lay images over each other",
		Long: `Make an image of several layers, the lowest first: the last one wins. Layers may be what
overlayfs leaves in an upper directory, packed: whiteouts, opaque directories, redirects and
files with changed metadata alone are understood, and the result is what overlayfs would show.
No content is read; blobs that a hub given as DEST lacks are copied to it.

  zosfs merge acme/debian:12 acme/layer:python acme/debian:12-python
  zosfs merge base.flist layer1.flist layer2.flist all.flist

Exit codes: 0 done, 1 failure, 2 usage, 3 data damaged, 4 no such image, 5 denied, 6 hub unavailable, 130 interrupted.`,
		Args: args(cobra.MinimumNArgs(2)),
		RunE: func(c *cobra.Command, given []string) error {
			refs, dest := given[:len(given)-1], given[len(given)-1]
			to, creds, err := a.ref(dest)
			if err != nil {
				return err
			}
			if !to.Digest.IsZero() {
				return &usageError{cmd: c.CommandPath(), err: errors.New("DEST is a file, or OWNER/NAME:TAG of a hub")}
			}
			return a.withRefs(c, refs, o, func(layers []*ref.Opened) error { return a.merge(c.Context(), layers, to, creds) })
		},
	}
	return a.refFlags(c, &o)
}

func (a *app) merge(ctx context.Context, layers []*ref.Opened, to ref.Ref, creds *credentials.File) error {
	readers := make([]*flist.Reader, len(layers))
	for i := range layers {
		readers[i] = layers[i].Flist
	}
	out := mergedJSON{Dest: to.String()}
	var err error
	if to.IsPath() {
		out.Summary, err = merge.Layers(to.Path, readers, merge.Options{TempDir: filepath.Dir(to.Path)})
	} else {
		err = a.mergeToHub(ctx, layers, readers, to, creds, &out)
	}
	if err != nil {
		return err
	}
	if a.json {
		return a.emit("merged", out)
	}
	a.note("merged %s into %s: %s", count(len(layers), "layer"), out.Dest, count(out.Counts.Entries, "entry"))
	if out.BlobsCopied > 0 {
		a.note("copied %s, %s, that the hub did not have", count(out.BlobsCopied, "blob"), bytesText(out.BytesCopied))
	}
	_, err = fmt.Fprintln(a.out, out.Digest)
	return err
}

func (a *app) mergeToHub(ctx context.Context, layers []*ref.Opened, readers []*flist.Reader, to ref.Ref, creds *credentials.File, out *mergedJSON) (err error) {
	client, err := ref.Client(to, creds)
	if err != nil {
		return err
	}
	defer closing(client, &err)
	if err := mayWrite(ctx, client, to); err != nil {
		return err
	}
	tmp, err := a.tempDir()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	path := filepath.Join(tmp, "tree.flist")
	if out.Summary, err = merge.Layers(path, readers, merge.Options{TempDir: tmp}); err != nil {
		return err
	}
	if err := a.copyBlobs(ctx, layers, path, a.patient(client), out); err != nil {
		return err
	}
	return publish(ctx, client, to, path)
}

// copyBlobs brings the blobs that the flist at path names and dst lacks there, from the
// layers that have them.
func (a *app) copyBlobs(ctx context.Context, layers []*ref.Opened, path string, dst store.Store, out *mergedJSON) (err error) {
	r, err := flist.Open(path, flist.OpenOptions{TempDir: filepath.Dir(path)})
	if err != nil {
		return err
	}
	defer closing(r, &err)
	from := make(map[flist.Blob]store.Getter)
	for _, l := range layers {
		for _, b := range l.Flist.Blobs() {
			from[b] = l.Source
		}
	}
	bar := a.progress("copy", "blobs")
	defer bar.Abort()
	for _, b := range r.Blobs() {
		_, err := dst.Stat(ctx, b.Digest)
		if err == nil {
			continue
		}
		if !errors.Is(err, errs.ErrNotFound) {
			return err
		}
		data := make([]byte, b.Size)
		if err = store.ReadRange(ctx, from[b], b.Digest, 0, data); err == nil {
			err = dst.Put(ctx, b.Digest, data)
		}
		if err != nil {
			return fmt.Errorf("copy blob %v: %w", b.Digest, err)
		}
		out.BlobsCopied++
		out.BytesCopied += b.Size
		bar.Set(int64(out.BlobsCopied), out.BytesCopied, 0)
	}
	bar.Done()
	return nil
}
