package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/image"
)

func (a *app) catCmd() *cobra.Command {
	var o openOptions
	c := &cobra.Command{
		Use:   "cat REF PATH...",
		Short: "Print files of an image",
		Long: `Print files of an image. Only the chunks of these files are fetched and verified. What the
node's cache holds is taken from there; what is fetched is not kept in it, as only mounts fill
it. Symlinks are followed inside the image. With --json too the bytes are printed as they are.

  zosfs cat acme/debian:12 /etc/os-release
  zosfs cat ./tree.flist /usr/bin/busybox > busybox

Exit codes: 0 done, 1 failure, 2 usage, 3 data damaged, 4 no such image or path, 5 denied, 6 unavailable, 130 interrupted.`,
		Args: args(cobra.MinimumNArgs(2)),
		RunE: func(c *cobra.Command, given []string) (err error) {
			im, err := a.openImage(c.Context(), given[0], o, readsCache)
			if err != nil {
				return err
			}
			defer closing(im, &err)
			for _, path := range given[1:] {
				if err := a.cat(c, im, path); err != nil {
					return err
				}
			}
			return nil
		},
	}
	a.contentFlags(c, &o)
	return a.refFlags(c, &o)
}

func (a *app) cat(c *cobra.Command, im *opened, path string) error {
	t := im.im.Tree()
	id, err := t.ResolveFollow("/" + strings.Trim(path, "/"))
	if err != nil {
		return err
	}
	if t.Attr(id).Mode&flist.ModeType != flist.ModeRegular {
		return fmt.Errorf("cat %s: it is a %s, not a file", path, kinds[t.Attr(id).Mode&flist.ModeType])
	}
	buf := make([]byte, 1<<20)
	for off := int64(0); ; {
		n, err := im.im.ReadAt(c.Context(), id, buf, off)
		if _, werr := a.out.Write(buf[:n]); werr != nil {
			return fmt.Errorf("write output: %w", werr)
		}
		off += int64(n)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if r, ok := errors.AsType[*image.ReadError](err); ok {
			return fmt.Errorf("cat %s: %w (chunk %v)", path, r.Err, r.Chunk)
		}
		if err != nil {
			return fmt.Errorf("cat %s: %w", path, err)
		}
	}
}

// contentFlags are those of commands that read content.
func (a *app) contentFlags(c *cobra.Command, o *openOptions) {
	c.Flags().DurationVar(&o.deadline, "deadline", 0, "fail a read that cannot be served in this time (default 30s; negative: never)")
}
