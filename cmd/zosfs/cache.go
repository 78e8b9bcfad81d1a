package main

import (
	"context"
	"errors"
	"fmt"
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
		Args:  args(cobra.NoArgs),
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.cacheStatsCmd(), a.cachePruneCmd(), a.cacheVerifyCmd())
	return c
}

// withCache opens the cache directory for use by a command.
func (a *app) withCache(use func(*cache.Cache) error) (err error) {
	c, err := cache.Open(a.dirs.Cache, cache.Options{Log: a.log()})
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

Exit codes: 0 done, 1 failure, 2 usage, 5 directory not allowed.`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			st, err := node.Dial(a.dirs).Status(c.Context())
			if err == nil {
				return a.cacheStats(st.Cache)
			}
			if !errors.Is(err, node.ErrNotRunning) {
				return err
			}
			return a.withCache(func(c *cache.Cache) error { return a.cacheStats(c.Stats()) })
		},
	}
}

func (a *app) cacheStats(s cache.Stats) error {
	if a.json {
		return a.emit("cache", s)
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "directory\t%s\n", a.dirs.Cache)
	fmt.Fprintf(w, "held\t%s of %s, %d chunks in %d segments\n", bytesText(s.Bytes), bytesText(s.Limit), s.Chunks, s.Segments)
	fmt.Fprintf(w, "memory\t%s of index, %s of recent chunks\n", bytesText(s.IndexBytes), bytesText(s.MemoryBytes))
	fmt.Fprintf(w, "used\t%d hits, %d misses\n", s.Hits, s.Misses)
	fmt.Fprintf(w, "evicted\t%d chunks, %s\n", s.EvictedChunks, bytesText(s.EvictedBytes))
	fmt.Fprintf(w, "pinned\t%d pins, %d chunks\n", s.Pins, s.PinnedChunks)
	fmt.Fprintf(w, "trouble\t%d damaged chunks dropped, %d failed writes, %d chunks not kept\n", s.Damaged, s.WriteErrors, s.PassedChunks)
	return w.Flush()
}

func (a *app) cachePruneCmd() *cobra.Command {
	var to size
	c := &cobra.Command{
		Use:   "prune [--to SIZE]",
		Short: "Make the cache smaller",
		Long: `Make the cache smaller: what was used least recently goes first, what is pinned stays. Only
files of the cache are touched; mounts go on and fetch again what they need.

  zosfs cache prune               everything that is not pinned
  zosfs cache prune --to 5G

Exit codes: 0 done, 1 failure, 2 usage, 5 directory not allowed.`,
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
	freed, err := node.Dial(a.dirs).Prune(ctx, to)
	if !errors.Is(err, node.ErrNotRunning) {
		return freed, err
	}
	err = a.withCache(func(c *cache.Cache) error {
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

Exit codes: 0 all is well, 2 usage, 3 damage was found, 5 directory not allowed.`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withCache(func(cc *cache.Cache) error {
				r, err := cc.Verify(c.Context())
				if err != nil {
					return err
				}
				if a.json {
					err = a.emit("verify", r)
				} else {
					_, err = fmt.Fprintf(a.out, "%d chunks, %s are good\n", r.Chunks, bytesText(r.Bytes))
				}
				if err == nil && r.Damaged > 0 {
					err = fmt.Errorf("%d chunks were damaged: %w", r.Damaged, errs.ErrCorrupt)
				}
				return err
			})
		},
	}
}
