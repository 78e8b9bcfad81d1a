package main

import (
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/zosfs/zosfs/node"
)

func (a *app) nodeCmd() *cobra.Command {
	var limit size
	var idle time.Duration
	c := &cobra.Command{
		Use:   "node",
		Short: "Run the node service: mounts and the cache they share",
		Long: `Run the node service in the foreground: one process that holds all mounts of this user and
the cache they share. "zosfs mount" starts one by itself when none runs. SIGTERM unmounts
everything and ends it.

  zosfs node --cache-size 100G

ZOSFS_STATE names the directory of its socket, ZOSFS_CACHE that of the cache.

Exit codes: 0 done, 1 failure (one runs already), 2 usage.`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			return node.Run(c.Context(), node.Options{Dirs: a.dirs, CacheLimit: int64(limit), Log: a.serviceLog(), Idle: idle, Version: version})
		},
	}
	c.Flags().Var(&limit, "cache-size", "limit of the cache (default 20G)")
	c.Flags().DurationVar(&idle, "idle", 0, "end after this time without a mount; 0 is never")
	c.AddCommand(a.nodeStopCmd())
	return c
}

func (a *app) nodeStopCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "stop",
		Short: "Unmount everything and end the node service",
		Long: `Unmount everything and end the node service. Mounts in use are detached: what still reads
from them gets errors.

  zosfs node stop

Exit codes: 0 done, or none ran; 1 failure, 2 usage.`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			err := node.Dial(a.dirs).Stop(c.Context())
			if err != nil && !errors.Is(err, node.ErrNotRunning) {
				return err
			}
			if a.json {
				return a.emit("node", map[string]any{"running": false, "stopped": err == nil})
			}
			if err != nil {
				a.note("no node service runs")
			}
			return nil
		},
	}
}
