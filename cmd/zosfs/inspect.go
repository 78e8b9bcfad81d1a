package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/internal/term"
	"github.com/zosfs/zosfs/ref"
)

// inspectJSON is what an flist says of itself.
type inspectJSON struct {
	Ref        string            `json:"ref"`
	Digest     flist.Digest      `json:"digest"`
	TreeDigest flist.TreeDigest  `json:"tree_digest"`
	Counts     flist.Counts      `json:"counts"`
	Properties map[string]string `json:"properties"`
	Sources    []sourceJSON      `json:"sources"`
	Refused    []string          `json:"refused_sources,omitempty"`
}

type sourceJSON struct {
	URL      string `json:"url"`
	Priority int    `json:"priority"`
}

func (a *app) inspectCmd() *cobra.Command {
	var o openOptions
	c := &cobra.Command{
		Use:   "inspect REF",
		Short: "Show digests, sums and properties of an image",
		Long: `Show what an flist says of itself: its digests, how many files, chunks and blobs, how many
bytes they are plain, deduplicated and stored, its properties and sources. Entries are names:
a file with two counts as one file and one hard link, and the root has none.

  zosfs inspect acme/debian:12
  zosfs inspect --json ./tree.flist | jq .counts

Exit codes: 0 done, 1 failure, 2 usage, 3 flist damaged, 4 no such image, 5 denied, 6 hub unavailable, 130 interrupted.`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, given []string) (err error) {
			op, err := a.openRef(c.Context(), given[0], o)
			if err != nil {
				return err
			}
			defer closing(op, &err)
			return a.inspect(op)
		},
	}
	return a.refFlags(c, &o)
}

func (a *app) inspect(op *ref.Opened) error {
	r := op.Flist
	v := inspectJSON{Ref: op.Ref.String(), Digest: r.Digest(), TreeDigest: r.TreeDigest(), Counts: r.Counts(), Properties: r.Properties(), Sources: []sourceJSON{}, Refused: op.Refused}
	for _, s := range r.Sources() {
		v.Sources = append(v.Sources, sourceJSON(s))
	}
	if a.json {
		return a.emit("image", v)
	}
	n := v.Counts
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "image\t%s\n", term.Printable([]byte(v.Ref)))
	fmt.Fprintf(w, "flist digest\t%s\n", v.Digest)
	fmt.Fprintf(w, "tree digest\t%s\n", v.TreeDigest)
	fmt.Fprintf(w, "entries\t%d: %s\n", n.Entries, entriesText(n))
	fmt.Fprintf(w, "content\t%s in files, %s without duplicates and holes, %s stored\n", bytesText(n.Size), bytesText(n.Unique), bytesText(n.Stored))
	fmt.Fprintf(w, "made of\t%s, %s, %s\n", count(n.Objects, "object"), count(n.Chunks, "chunk"), count(n.Blobs, "blob"))
	for _, k := range slices.Sorted(maps.Keys(v.Properties)) {
		fmt.Fprintf(w, "%s\t%s\n", term.Printable([]byte(k)), term.Printable([]byte(v.Properties[k])))
	}
	for _, s := range v.Sources {
		fmt.Fprintf(w, "source\t%s\n", term.Printable([]byte(s.URL)))
	}
	return w.Flush()
}

// entriesText says what the names of a tree are; the root is none, and a further name of a file
// is a hard link.
func entriesText(n flist.Counts) string {
	var parts []string
	for _, k := range []struct {
		n    int64
		what string
	}{
		{n.Files, "file"}, {n.Dirs - 1, "directory"}, {n.Symlinks, "symlink"},
		{n.Nodes - n.Files - n.Dirs - n.Symlinks, "other"}, {n.Entries - (n.Nodes - 1), "hard link"},
	} {
		if k.n > 0 {
			parts = append(parts, count(k.n, k.what))
		}
	}
	if len(parts) == 0 {
		return "the root alone"
	}
	return strings.Join(parts, ", ")
}

// closing closes c at the end of a function and keeps the first error.
func closing(c interface{ Close() error }, err *error) {
	if cerr := c.Close(); *err == nil {
		*err = cerr
	}
}
