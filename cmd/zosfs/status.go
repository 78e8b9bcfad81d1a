package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/internal/term"
	"github.com/zosfs/zosfs/mount"
	"github.com/zosfs/zosfs/mount/kernel"
	"github.com/zosfs/zosfs/node"
)

func (a *app) statusCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "status [DIR]",
		Short: "Show mounts, what they read and fetched, and what went wrong",
		Long: `Show the node service: its cache and its mounts, or the one at DIR: mode and why, reads and
what came from the cache, bytes and requests per source, the last errors with the chunk and
what each source answered.

  zosfs status
  zosfs status --json /mnt

Exit codes: 0 done, 1 failure, 2 usage, 4 nothing of ours is mounted at DIR. When no service
runs there are no mounts, and that is no failure.`,
		Args:              args(cobra.MaximumNArgs(1)),
		ValidArgsFunction: mountPoints,
		RunE:              func(c *cobra.Command, given []string) error { return a.status(c.Context(), given) },
	}
}

func (a *app) status(ctx context.Context, given []string) error {
	st, err := node.Dial(a.dirs).Status(ctx)
	if errors.Is(err, node.ErrNotRunning) && len(given) == 0 {
		return a.statusAlone()
	}
	if err != nil {
		return err
	}
	if len(given) > 0 {
		if st.Mounts, err = mountAt(st.Mounts, given[0]); err != nil {
			return err
		}
	}
	if a.json {
		return a.emit("status", struct {
			Running bool `json:"running"`
			node.Status
		}{true, st})
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	if len(given) == 0 {
		fmt.Fprintf(w, "service\tpid %d, since %s\n", st.PID, st.Since.Format(time.DateTime))
		fmt.Fprintf(w, "cache\t%s of %s in %s, %d chunks, %d hits, %d misses\n", bytesText(st.Cache.Bytes), bytesText(st.Cache.Limit), st.Dirs.Cache, st.Cache.Chunks, st.Cache.Hits, st.Cache.Misses)
		if c := st.Cache; c.Damaged+c.WriteErrors > 0 {
			fmt.Fprintf(w, "\t%d chunks were damaged and dropped, %d writes failed\n", c.Damaged, c.WriteErrors)
		}
		for _, n := range st.Notes {
			fmt.Fprintf(w, "note\t%s\n", term.Printable([]byte(n)))
		}
		for _, d := range st.Dead {
			fmt.Fprintf(w, "dead\t%s: %s; try: %s\n", term.Printable([]byte(d.Dir)), term.Printable([]byte(d.Reason)), term.Printable([]byte(d.Try)))
		}
	}
	for _, m := range st.Mounts {
		mountStatus(w, m)
	}
	return w.Flush()
}

// statusAlone is the status where no service runs: mounts that are there are of processes of
// their own, or of services that died.
func (a *app) statusAlone() error {
	left, err := mount.List()
	if err != nil {
		return err
	}
	if a.json {
		return a.emit("status", map[string]any{"running": false, "mounts": []any{}, "others": append([]mount.Info{}, left...)})
	}
	if len(left) == 0 {
		a.note("no node service runs, and nothing is mounted")
		return nil
	}
	a.note("no node service of this user runs")
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	for _, m := range left {
		state := "served by another process"
		if err := unix.Statfs(m.Dir, new(unix.Statfs_t)); errors.Is(err, unix.ENOTCONN) {
			state = "dead, its service is gone: zosfs umount " + m.Dir
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", term.Printable([]byte(m.Dir)), term.Printable([]byte(m.Source)), term.Printable([]byte(state)))
	}
	return w.Flush()
}

func mountAt(all []node.MountInfo, dir string) ([]node.MountInfo, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if target, err := filepath.EvalSymlinks(abs); err == nil {
		abs = target
	}
	for _, m := range all {
		if m.Dir == abs {
			return []node.MountInfo{m}, nil
		}
	}
	return nil, fmt.Errorf("%s: no image is mounted there: %w", dir, fs.ErrNotExist)
}

func mountStatus(w *tabwriter.Writer, m node.MountInfo) {
	fmt.Fprintf(w, "\nmount\t%s\n", term.Printable([]byte(m.Dir)))
	fmt.Fprintf(w, "image\t%s\n", term.Printable([]byte(m.Ref)))
	fmt.Fprintf(w, "digest\t%s\n", m.Digest)
	fmt.Fprintf(w, "tree\t%d entries, %s\n", m.Counts.Entries, bytesText(m.Counts.Size))
	fmt.Fprintf(w, "mode\t%s\n", servedText(m))
	i := m.Image
	fmt.Fprintf(w, "read\t%s in %d reads, %d chunks from the cache\n", bytesText(i.BytesRead), i.Reads, i.ChunksCached)
	share := 0.0
	if m.Counts.Stored > 0 {
		share = 100 * float64(i.BytesFetched) / float64(m.Counts.Stored)
	}
	fmt.Fprintf(w, "fetched\t%s in %d requests, %d chunks: %.1f %% of the image\n", bytesText(i.BytesFetched), i.Requests, i.ChunksFetched, share)
	for _, s := range m.Sources {
		text := fmt.Sprintf("%s: %d requests, %s", s.Name, s.Requests, bytesText(s.Bytes))
		if s.Errors > 0 {
			text += fmt.Sprintf(", %d errors", s.Errors)
		}
		if s.Quarantined {
			text += ", QUARANTINED: it served wrong bytes"
		}
		fmt.Fprintf(w, "source\t%s\n", term.Printable([]byte(text)))
	}
	for _, r := range m.Refused {
		fmt.Fprintf(w, "refused\t%s\n", term.Printable([]byte(r)))
	}
	for _, e := range i.LastErrors {
		fmt.Fprintf(w, "error\t%s %s: chunk %v: %s\n", e.Time.Format(time.TimeOnly), term.Printable([]byte(e.Path)), e.Chunk, term.Printable([]byte(e.Text)))
	}
}

// servedText says which path a mount uses, and why, and what is special about it.
func servedText(m node.MountInfo) string {
	text := string(m.Mode)
	switch m.Rung {
	case kernel.FileBacked:
		text += ", EROFS over its two files"
	case kernel.Loop:
		text += ", EROFS over loop devices"
	}
	if m.Reason != "" {
		text += ": " + m.Reason
	}
	for _, v := range []struct {
		is   bool
		what string
	}{{m.Offline, "offline"}, {m.Stale, "stale: the hub could not be reached"}, {m.Detached, "detached, still in use"}} {
		if v.is {
			text += "; " + v.what
		}
	}
	return text
}
