package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/zosfs/zosfs/cache"
	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/node"
)

func (a *app) cacheCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "cache",
		Short: "Look at the cache of this node, and make it smaller",
		Long: `Look at the cache of this node, which all its mounts share, and make it smaller.

  zosfs cache stats
  zosfs cache prune --to 5G

Exit codes: 0 done, 1 failure, 2 usage, and those of the commands below.`,
		Args: group,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.cacheStatsCmd(), a.cachePruneCmd(), a.cacheVerifyCmd())
	return c
}

// withCache opens the cache directory for use by a command. One that only looks makes no
// directory, and takes the place of no writer.
func (a *app) withCache(look bool, use func(*cache.Cache) error) (err error) {
	if _, serr := os.Stat(a.dirs.Cache); errors.Is(serr, fs.ErrNotExist) {
		look = true // there is nothing to change
		a.note("there is no cache in %s", a.dirs.Cache)
	}
	c, err := cache.Open(a.dirs.Cache, cache.Options{ReadOnly: look, Log: a.log()})
	if err != nil {
		return fmt.Errorf("cache %s: %w", a.dirs.Cache, err)
	}
	defer closing(c, &err)
	return use(c)
}

func (a *app) cacheStatsCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "stats",
		Short: "Show what the cache holds",
		Long: `Show what the cache holds, its limit, and, where a node service runs, its hits and misses.

  zosfs cache stats --json

Exit codes: 0 done, 1 failure, 2 usage, 5 directory not allowed, 6 the node service ended meanwhile.`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			st, err := a.cacheService(c.Context())
			if err != nil {
				return err
			}
			if st != nil {
				return a.cacheStats(st.Cache)
			}
			return a.withCache(true, func(c *cache.Cache) error { return a.cacheStats(c.Stats()) })
		},
	}
}

// cacheService returns the status of the node service if one runs that has this cache, else nil.
func (a *app) cacheService(ctx context.Context) (*node.Status, error) {
	st, err := node.Dial(a.dirs).Status(ctx)
	if errors.Is(err, node.ErrNotRunning) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if plainPath(st.Dirs.Cache) != plainPath(a.dirs.Cache) {
		return nil, nil
	}
	return &st, nil
}

func (a *app) cacheStats(s cache.Stats) error {
	if a.json {
		return a.emit("cache", s)
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "directory\t%s\n", a.dirs.Cache)
	fmt.Fprintf(w, "held\t%s of %s, %s in %s\n", bytesText(s.Bytes), bytesText(s.Limit), count(s.Chunks, "chunk"), count(s.Segments, "segment"))
	fmt.Fprintf(w, "memory\t%s of index, %s of recent chunks\n", bytesText(s.IndexBytes), bytesText(s.MemoryBytes))
	fmt.Fprintf(w, "used\t%s, %s\n", count(s.Hits, "hit"), count(s.Misses, "miss"))
	fmt.Fprintf(w, "evicted\t%s, %s\n", count(s.EvictedChunks, "chunk"), bytesText(s.EvictedBytes))
	fmt.Fprintf(w, "pinned\t%s, %s\n", count(s.Pins, "pin"), count(s.PinnedChunks, "chunk"))
	fmt.Fprintf(w, "trouble\t%s dropped, %s, %s not kept\n", count(s.Damaged, "damaged chunk"), count(s.WriteErrors, "failed write"), count(s.PassedChunks, "chunk"))
	return w.Flush()
}

func (a *app) cachePruneCmd() *cobra.Command {
	var to size
	c := &cobra.Command{
		Use:   "prune [--to SIZE]",
		Short: "Make the cache smaller",
		Long: `Make the cache smaller: what was used least recently goes first, what is pinned stays, and no
more goes than must. Only files of the cache are touched; mounts go on and fetch again what
they need.

  zosfs cache prune               everything that is not pinned
  zosfs cache prune --to 5G

Exit codes: 0 done, 1 failure, 2 usage, 5 directory not allowed, 6 another process writes the cache, 130 interrupted.`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			freed, err := a.prune(c.Context(), int64(to))
			if err != nil {
				return err
			}
			if a.json {
				return a.emit("prune", map[string]int64{"freed": freed})
			}
			_, err = fmt.Fprintf(a.out, "%s freed\n", bytesText(freed))
			return err
		},
	}
	c.Flags().Var(&to, "to", "size to shrink to (default 0)")
	return c
}

func (a *app) prune(ctx context.Context, to int64) (int64, error) {
	st, err := a.cacheService(ctx)
	if err != nil {
		return 0, err
	}
	if st != nil {
		return node.Dial(a.dirs).Prune(ctx, to)
	}
	var freed int64
	err = a.withCache(false, func(c *cache.Cache) error {
		if c.Stats().Bytes == 0 {
			return nil
		}
		freed, err = c.Prune(ctx, to)
		return err
	})
	return freed, err
}

func (a *app) cacheVerifyCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "verify",
		Short: "Read and verify all that the cache holds",
		Long: `Read all that the cache holds and compare each chunk with its digest. Damaged chunks are
dropped, so that they are fetched again when they are needed.

  zosfs cache verify

Exit codes: 0 all is well, 1 failure, 2 usage, 3 damage was found, 5 directory not allowed, 130 interrupted.`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withCache(false, func(cc *cache.Cache) error {
				r, err := cc.Verify(c.Context())
				if err != nil {
					return err
				}
				if a.json {
					err = a.emit("verify", r)
				} else {
					_, err = fmt.Fprintf(a.out, "good: %s, %s\n", count(r.Chunks, "chunk"), bytesText(r.Bytes))
				}
				if err == nil && r.Damaged > 0 {
					err = errs.Textf(errs.ErrCorrupt, "damaged, and dropped: %s", count(r.Damaged, "chunk"))
				}
				return err
			})
		},
	}
}
