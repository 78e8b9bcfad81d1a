package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/internal/term"
	"github.com/zosfs/zosfs/mount"
	"github.com/zosfs/zosfs/mount/kernel"
	"github.com/zosfs/zosfs/node"
	"github.com/zosfs/zosfs/writable"
)

func (a *app) statusCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "status [DIR]",
		Short: "Show mounts, what they read and fetched, and what went wrong",
		Long: `Show the node service: its cache and its mounts, or the one at DIR: mode and why, reads and
what came from the cache, bytes and requests per source, the last errors with the chunk and
what each source answered. Mounts of other processes, and what a service left that was killed,
are shown with who answers for them, and what to do if nobody does.

  zosfs status
  zosfs status --json /mnt

Exit codes: 0 done, 1 failure, 2 usage, 4 nothing of ours is mounted at DIR, 5 the service is of somebody else, 6 it ended
meanwhile. That no service runs is no failure.`,
		Args:              args(cobra.MaximumNArgs(1)),
		ValidArgsFunction: mountPoints,
		RunE:              func(c *cobra.Command, given []string) error { return a.status(c.Context(), given) },
	}
}

// otherMount is a mount that the service does not have, or that is there without one.
type otherMount struct {
	mount.Info
	Ref    string `json:"ref"`
	Served bool   `json:"served"` // a process answers
	State  string `json:"state"`  // for people, with what to do
}

func (a *app) status(ctx context.Context, given []string) error {
	st, err := node.Dial(a.dirs).Status(ctx)
	running := err == nil
	if err != nil && !errors.Is(err, node.ErrNotRunning) {
		return err
	}
	others, err := a.others(ctx, running, st)
	if err != nil {
		return err
	}
	rw, err := a.showWritable(st, others)
	if err != nil {
		return err
	}
	if len(given) > 0 {
		dir := plainPath(given[0])
		st.Mounts = slices.DeleteFunc(st.Mounts, func(m node.MountInfo) bool { return m.Dir != dir })
		others = slices.DeleteFunc(others, func(m otherMount) bool { return m.Dir != dir })
		if len(st.Mounts)+len(others) == 0 {
			return errs.Textf(fs.ErrNotExist, "%s: no image is mounted there", given[0])
		}
	}
	switch {
	case a.json && running:
		return a.emit("status", struct {
			Running bool `json:"running"`
			node.Status
			Others   []otherMount                `json:"others"`
			Writable map[string]*writable.Record `json:"writable"`
		}{true, st, others, rw})
	case a.json:
		return a.emit("status", map[string]any{"running": false, "mounts": []any{}, "others": others, "writable": rw})
	case !running && len(others) == 0:
		a.note("no node service runs, and nothing is mounted")
		return nil
	case !running:
		a.note("no node service runs")
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	first := true
	next := func() { // blocks have a blank line between them
		if !first {
			fmt.Fprintln(w)
		}
		first = false
	}
	if running && len(given) == 0 {
		next()
		serviceStatus(w, st)
	}
	for _, m := range st.Mounts {
		next()
		mountStatus(w, m)
		if r := rw[m.Dir]; r != nil {
			fmt.Fprintf(w, "changes\t%s\n", term.Printable([]byte(changesText(r))))
		}
	}
	for _, m := range others {
		next()
		fmt.Fprintf(w, "mount\t%s\nimage\t%s\nmode\t%s\nstate\t%s\n", term.Printable([]byte(m.Dir)), term.Printable([]byte(m.Ref)), m.Mode, term.Printable([]byte(m.State)))
	}
	return w.Flush()
}

// showWritable gives images below writable mounts the directories that users know, and returns
// the records of all writable mounts by these.
func (a *app) showWritable(st node.Status, others []otherMount) (map[string]*writable.Record, error) {
	all, err := a.writable().All()
	if err != nil {
		return nil, err
	}
	rw := make(map[string]*writable.Record, len(all))
	for _, r := range all {
		rw[r.Dir] = r
		lower := plainPath(r.Lower())
		for i := range st.Mounts {
			if st.Mounts[i].Dir == lower {
				st.Mounts[i].Dir = r.Dir
			}
		}
		for i := range others {
			if others[i].Dir == lower {
				others[i].Dir = r.Dir
			}
		}
	}
	return rw, nil
}

func changesText(r *writable.Record) string {
	text := r.Changes
	if r.Scratch {
		text = "go with the mount"
	}
	if !r.Mounted() {
		text += "; not mounted any more: zosfs umount " + r.Dir + " clears up"
	}
	return text
}

func serviceStatus(w *tabwriter.Writer, st node.Status) {
	fmt.Fprintf(w, "service\tpid %d, since %s\n", st.PID, st.Since.Format(time.DateTime))
	c := st.Cache
	fmt.Fprintf(w, "cache\t%s of %s in %s, %s, %s, %s\n", bytesText(c.Bytes), bytesText(c.Limit), st.Dirs.Cache, count(c.Chunks, "chunk"), count(c.Hits, "hit"), count(c.Misses, "miss"))
	if c.Damaged+c.WriteErrors > 0 {
		fmt.Fprintf(w, "\t%s dropped, %s\n", count(c.Damaged, "damaged chunk"), count(c.WriteErrors, "failed write"))
	}
	for _, n := range st.Notes {
		fmt.Fprintf(w, "note\t%s\n", term.Printable([]byte(n)))
	}
}

// others returns the mounts that are not of the service, if one runs, and those that are dead.
func (a *app) others(ctx context.Context, running bool, st node.Status) ([]otherMount, error) {
	all, err := mount.List()
	if err != nil {
		return nil, err
	}
	others := []otherMount{}
	told := map[string]bool{}
	for _, m := range st.Mounts {
		told[m.Dir] = true
	}
	for _, d := range st.Dead {
		told[d.Dir] = true
		others = append(others, otherMount{Info: d.Info, Ref: cmp.Or(d.Ref, imageText(d.Info)), State: "dead, " + d.Reason + "; try: " + d.Try})
	}
	left := map[string]node.LeftMount{}
	kept := false
	if !running {
		table, err := node.Left(a.dirs)
		if err != nil {
			a.note("%v", err)
		}
		for _, m := range table {
			left[m.Dir] = m
		}
		kept = len(left) > 0 && node.Kept(ctx, a.dirs)
	}
	for _, m := range all {
		if told[m.Dir] {
			continue
		}
		o := otherMount{Info: m, Ref: imageText(m)}
		was, ours := left[m.Dir]
		if ours {
			o.Ref = was.Ref
		}
		o.Served, o.State = stateOf(m, ours, kept)
		others = append(others, o)
	}
	return others, nil
}

// stateOf says who answers for a mount that no service of this node tells of: ours says that the
// last service had it, kept that a keeper holds it for the next one.
func stateOf(m mount.Info, ours, kept bool) (served bool, state string) {
	take := "zosfs umount " + m.Dir + " takes it away"
	switch {
	case ours && kept && m.Mode == mount.Kernel:
		return false, "no service answers: names are there, reads wait; zosfs node, or any zosfs mount, goes on with it, " + take
	case ours && m.Mode == mount.Kernel:
		return false, "dead, no service answers: names are there, what is not in memory cannot be read; zosfs node, or any zosfs mount, mounts it anew, " + take
	case !mount.Served(m) && ours:
		return false, "dead, no service answers; zosfs node, or any zosfs mount, mounts it anew, " + take
	case !mount.Served(m):
		return false, "dead, the process that served it has gone; " + take
	}
	return true, "served by a process of its own (zosfs mount --foreground), or by the service of another state directory"
}

func mountStatus(w *tabwriter.Writer, m node.MountInfo) {
	fmt.Fprintf(w, "mount\t%s\n", term.Printable([]byte(m.Dir)))
	fmt.Fprintf(w, "image\t%s\n", term.Printable([]byte(m.Ref)))
	fmt.Fprintf(w, "digest\t%s\n", m.Digest)
	fmt.Fprintf(w, "tree\t%s, %s\n", count(m.Counts.Entries, "entry"), bytesText(m.Counts.Size))
	fmt.Fprintf(w, "mode\t%s\n", servedText(m))
	i := m.Image
	fmt.Fprintf(w, "read\t%s in %s, %s from the cache\n", bytesText(i.BytesRead), count(i.Reads, "read"), count(i.ChunksCached, "chunk"))
	fmt.Fprintf(w, "fetched\t%s in %s, %s; %s\n", bytesText(i.BytesFetched), count(i.Requests, "request"), count(i.ChunksFetched, "chunk"), shareText(i.BytesFetched, m.Counts.Stored))
	for _, s := range m.Sources {
		text := fmt.Sprintf("%s: %s, %s", s.Name, count(s.Requests, "request"), bytesText(s.Bytes))
		if s.Errors > 0 {
			text += ", " + count(s.Errors, "error")
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
		text := brief(fmt.Sprintf("%s %s: %s (chunk %v)", e.Time.Format(time.TimeOnly), e.Path, e.Text, e.Chunk))
		fmt.Fprintf(w, "error\t%s\n", term.Printable([]byte(text)))
	}
}

// shareText sets what was fetched against the image. It can be more than that, as what was
// evicted is fetched again.
func shareText(fetched, stored int64) string {
	if fetched > stored {
		return "the image has " + bytesText(stored)
	}
	return fmt.Sprintf("%.1f %% of the image", 100*float64(fetched)/float64(max(stored, 1)))
}

// servedText says which path a mount uses, and why, and what is special about it.
func servedText(m node.MountInfo) string {
	text := string(m.Mode)
	switch m.Rung {
	case kernel.FileBacked:
		text += ", EROFS mounted from files"
	case kernel.Loop:
		text += ", EROFS on loop devices"
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
