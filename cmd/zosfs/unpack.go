package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/zosfs/zosfs/unpack"
)

func (a *app) unpackCmd() *cobra.Command {
	var o openOptions
	var u unpack.Options
	var owners bool
	var workers number
	c := &cobra.Command{
		Use:   "unpack REF DIR",
		Short: "Restore an image in a directory",
		Long: `Restore everything an image holds in a directory: content with its holes, modes, times,
hard links, attributes, devices, and owners when run as root. The directory is made when it
is not there; one that is not empty is refused, unless --over. What the node's cache holds is
taken from there; what is fetched is not kept in it, as only mounts fill it.

  zosfs unpack acme/debian:12 /srv/root
  zosfs unpack --over ./tree.flist .

Exit codes: 0 done, 1 failure, 2 usage, 3 data damaged, 4 no such image, 5 denied, 6 unavailable, 130 interrupted.`,
		Args: args(cobra.ExactArgs(2)),
		RunE: func(c *cobra.Command, given []string) error {
			if c.Flags().Changed("owners") {
				u.Owners = unpack.OwnersIgnore
				if owners {
					u.Owners = unpack.OwnersKeep
				}
			}
			u.Workers = int(workers)
			return a.unpack(c.Context(), given[0], given[1], o, u)
		},
	}
	f := c.Flags()
	f.BoolVar(&u.Over, "over", false, "unpack over what is there; files in the way are replaced")
	f.BoolVar(&owners, "owners", false, "restore owners or fail; --owners=false leaves them (default: as root)")
	f.Var(&workers, "workers", "how many files are filled at once (default 16)")
	a.contentFlags(c, &o)
	return a.refFlags(c, &o)
}

// unpackedJSON is the result of an unpack.
type unpackedJSON struct {
	Ref string `json:"ref"`
	Dir string `json:"dir"`
	unpack.Result
}

func (a *app) unpack(ctx context.Context, s, dir string, o openOptions, u unpack.Options) (err error) {
	im, err := a.openImage(ctx, s, o, readsCache)
	if err != nil {
		return err
	}
	defer closing(im, &err)
	bar := a.progress("unpack", "")
	u.Progress = new(unpack.Progress)
	stop := bar.Follow(func() {
		bar.Set(u.Progress.Files.Load(), u.Progress.Bytes.Load(), u.Progress.TotalBytes.Load())
	})
	res, err := unpack.Tree(ctx, im.im, dir, u)
	stop()
	if err != nil {
		bar.Abort()
		if errors.Is(err, fs.ErrExist) && !u.Over {
			err = fmt.Errorf("%w; --over unpacks over what is there", err)
		}
		return err
	}
	bar.Done()
	if a.json {
		return a.emit("unpack", unpackedJSON{im.Ref.String(), dir, res})
	}
	for _, l := range []struct {
		what string
		unpack.List
	}{{"left out, only root makes devices", res.Devices}, {"without some attributes, which are not allowed here", res.Xattrs}, {"without setuid and setgid, as the owner is another", res.Modes}} {
		a.noteList(l.what, l.Paths, l.Count)
	}
	_, err = fmt.Fprintf(a.out, "%s and %s restored in %s\n", count(res.Entries, "entry"), bytesText(res.Bytes), dir)
	return err
}
