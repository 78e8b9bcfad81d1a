package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/zosfs/zosfs/internal/term"
	"github.com/zosfs/zosfs/node"
)

func (a *app) nodeCmd() *cobra.Command {
	var limit size
	var idle time.Duration
	var keep bool
	c := &cobra.Command{
		Use:   "node",
		Short: "Run the node service: mounts and the cache they share",
		Long: `Run the node service in the foreground: one process that holds all mounts of this user and
the cache they share. "zosfs mount" starts one by itself when none runs. SIGTERM unmounts
everything and ends it.

  zosfs node --cache-size 100G
  zosfs node --keep-mounts            SIGTERM leaves the mounts to the next service

Mounts in mode kernel survive the service: when it is killed, a keeper process holds the
connection to the kernel, reads wait, and the next service goes on with them. That is how it
is upgraded. Mounts that died with the keeper are mounted again; status says which could not.

ZOSFS_STATE names the directory of its socket, ZOSFS_CACHE that of the cache. Under a service
manager it takes its socket from it and says when it is ready; units for systemd are in
contrib/systemd.

Exit codes: 0 done, also after a signal, 1 failure, 2 usage, 5 directory not allowed, 6 one runs already.`,
		Args: group,
		RunE: func(c *cobra.Command, _ []string) error {
			return node.Run(c.Context(), node.Options{Dirs: a.dirs, CacheLimit: int64(limit), Log: a.serviceLog(), Idle: idle, Version: version, Keeper: []string{"node", "keeper"}, KeepMounts: keep})
		},
	}
	c.Flags().Var(&limit, "cache-size", "limit of the cache (default 20G)")
	c.Flags().DurationVar(&idle, "idle", 0, "end after this time without a mount; 0 is never")
	c.Flags().BoolVar(&keep, "keep-mounts", false, "on SIGTERM leave mounts in mode kernel to the next service")
	c.AddCommand(a.nodeKeeperCmd(), a.nodeStopCmd(), a.nodeEventsCmd(), a.nodeMetricsCmd())
	return c
}

// nodeKeeperCmd is run by the service itself.
func (a *app) nodeKeeperCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "keeper",
		Short: "Hold the kernel's connection for the node service",
		Long: `Hold the descriptor of the FUSE connection and the table of mounts of the node service, so
that it can be killed and started anew while its mounts go on. The service starts it by
itself; it ends ten seconds after nothing is held any more.

  zosfs node keeper

Exit codes: 0 done, 1 failure, 2 usage, 6 one runs already.`,
		Hidden: true,
		Args:   args(cobra.NoArgs),
		RunE:   func(c *cobra.Command, _ []string) error { return node.RunKeeper(c.Context(), a.dirs) },
	}
}

func (a *app) nodeEventsCmd() *cobra.Command {
	var since uint64
	c := &cobra.Command{
		Use:   "events",
		Short: "Show what happens in the node service, as it happens",
		Long: `Show what happens in the node service: mounts that come and go, reads that fail, sources
that served wrong bytes, a full cache. It begins with the last 256 events and goes on until
the service ends, or until it is interrupted.

  zosfs node events
  zosfs node events --since 17 --json     what came after number 17, one object a line

A service numbers its events ("seq") from 1. Whoever reads too slowly is told how many he
missed.

Exit codes: 0 the service has ended, 1 failure, 2 usage, 5 the service is of somebody else, 6 no service runs, 130 interrupted.`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			for v, err := range node.Dial(a.dirs).Events(c.Context(), since) {
				if err == nil {
					err = a.event(v)
				}
				if err != nil {
					return err
				}
			}
			return nil
		},
	}
	c.Flags().Uint64Var(&since, "since", 0, "number of the last event that is known already")
	return c
}

// event prints one event at once.
func (a *app) event(v node.Event) error {
	if a.json {
		if err := json.NewEncoder(a.out).Encode(v); err != nil {
			return err
		}
		return a.flush()
	}
	words := []string{v.Time.Local().Format(time.DateTime), v.Type}
	for _, w := range []struct{ name, value string }{
		{"", v.Dir}, {"", v.Ref}, {"mode", v.Mode}, {"by", v.By}, {"path", v.Path}, {"source", v.Source},
	} {
		switch {
		case w.value == "":
		case w.name == "":
			words = append(words, w.value)
		default:
			words = append(words, w.name+" "+w.value)
		}
	}
	if !v.Chunk.IsZero() {
		words = append(words, "chunk "+v.Chunk.String())
	}
	if v.Count > 0 {
		words = append(words, fmt.Sprintf("count %d", v.Count))
	}
	if v.Error != "" {
		words = append(words, "error "+v.Error)
	}
	if _, err := fmt.Fprintf(a.out, "%s\n", term.Printable([]byte(strings.Join(words, "  ")))); err != nil {
		return err
	}
	return a.flush()
}

func (a *app) nodeMetricsCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "metrics",
		Short: "Print the figures of the node service for Prometheus",
		Long: `Print the figures of the node service in the text format of Prometheus: bytes read and
fetched, hits, errors and latency per source, the cache, mounts, memory. Counters begin with
the service and never go back.

  zosfs node metrics | grep ^zosfs_source

With --json the same text is the "text" of one object.

Exit codes: 0 done, 1 failure, 2 usage, 5 the service is of somebody else, 6 no service runs.`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			text, err := node.Dial(a.dirs).Metrics(c.Context())
			if err != nil {
				return err
			}
			if a.json {
				return a.emit("metrics", map[string]string{"text": string(text)})
			}
			_, err = a.out.Write(text)
			return err
		},
	}
}

func (a *app) nodeStopCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "stop",
		Short: "Unmount everything and end the node service",
		Long: `Unmount everything and end the node service. Mounts in use are detached: what still reads
from them gets errors.

  zosfs node stop

Exit codes: 0 done, or none ran, 1 failure, 2 usage, 5 the service is of somebody else.`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return a.nodeStop(c.Context()) },
	}
}

func (a *app) nodeStop(ctx context.Context) error {
	client := node.Dial(a.dirs)
	var st node.Status
	err := a.revived(ctx, func() (err error) {
		st, err = client.Status(ctx)
		return err
	})
	if err == nil {
		err = client.Stop(ctx)
	}
	if err != nil && !errors.Is(err, node.ErrNotRunning) {
		return err
	}
	unmounted := []string{}
	for _, m := range st.Mounts {
		if !m.Detached {
			unmounted = append(unmounted, m.Dir)
		}
	}
	switch {
	case a.json:
		return a.emit("node", map[string]any{"running": false, "stopped": err == nil, "pid": st.PID, "unmounted": unmounted})
	case err != nil:
		a.note("no node service runs")
		return nil
	}
	for _, dir := range unmounted {
		a.note("unmounted %s", dir)
	}
	a.note("the node service with pid %d has ended", st.PID)
	return nil
}
