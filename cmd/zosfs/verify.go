package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/store"
)

func (a *app) verifyCmd() *cobra.Command {
	var o openOptions
	var deep bool
	c := &cobra.Command{
		Use:   "verify REF",
		Short: "Check an image and that all of its content is there",
		Long: `Check every rule of the flist, and that each blob it names is there with the right size
and the end of a blob.
With --deep all content is read from its source, not from the cache, and each chunk and
each object is compared with its digest. All damage is listed, not only the first.

  zosfs verify acme/debian:12
  zosfs verify --deep ./tree.flist

Exit codes: 0 all is well, 1 failure, 2 usage, 3 data damaged, 4 no such image, or blobs are missing, 5 denied, 6 unavailable, 130 interrupted.`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, given []string) error {
			if deep {
				return a.verifyDeep(c.Context(), given[0], o)
			}
			return a.verify(c.Context(), given[0], o)
		},
	}
	c.Flags().BoolVar(&deep, "deep", false, "read and verify all content")
	a.contentFlags(c, &o)
	return a.refFlags(c, &o)
}

// verifyJSON is the result of a check that found nothing wrong.
type verifyJSON struct {
	Digest flist.Digest `json:"digest"`
	Deep   bool         `json:"deep"`
	Blobs  int64        `json:"blobs"`
	Bytes  int64        `json:"bytes"` // of content that was read
}

func (a *app) verify(ctx context.Context, s string, o openOptions) (err error) {
	op, err := a.openRef(ctx, s, o)
	if err != nil {
		return err
	}
	defer closing(op, &err)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for _, b := range op.Flist.Blobs() {
		g.Go(func() error {
			foot := make([]byte, blob.FooterSize)
			return store.ReadChecked(gctx, op.Source, b.Digest, b.Size-blob.FooterSize, foot, func(p []byte) error {
				_, err := blob.ParseFooter(p, b.Size)
				return err
			})
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	n := op.Flist.Counts()
	return a.verified(verifyJSON{Digest: op.Flist.Digest(), Blobs: n.Blobs})
}

func (a *app) verified(v verifyJSON) error {
	if a.json {
		return a.emit("verified", v)
	}
	how := "all blobs are there"
	if v.Deep {
		how = bytesText(v.Bytes) + " of sealed content verified"
	}
	_, err := fmt.Fprintf(a.out, "%s is good: %s, %s\n", v.Digest, count(v.Blobs, "blob"), how)
	return err
}
