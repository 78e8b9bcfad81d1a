package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/flist/diff"
	"github.com/zosfs/zosfs/internal/term"
	"github.com/zosfs/zosfs/ref"
)

// errDiffer ends diff --exit-code where there is a difference.
var errDiffer = errors.New("the trees differ")

// changeJSON is one path that differs.
type changeJSON struct {
	Path      string   `json:"path"`
	PathBytes []byte   `json:"path_bytes,omitempty"` // where Path is not UTF-8
	Change    string   `json:"change"`               // added, removed or modified
	Fields    []string `json:"fields,omitempty"`     // what differs, of a modified one
	OldSize   *int64   `json:"old_size,omitempty"`   // bytes of a regular file
	NewSize   *int64   `json:"new_size,omitempty"`
}

func (a *app) diffCmd() *cobra.Command {
	var o openOptions
	var code, summary bool
	c := &cobra.Command{
		Use:   "diff A B",
		Short: "Show what differs between two images",
		Long: `Show what differs between the trees of two images, one path a line: + for what B alone has, -
for what A alone has, ~ for what differs, and in what: type, content, mode, owner, mtime,
xattrs, target, device, links. Only the flists are read. A and B may be directories where images
are mounted with --rw: then what they show now is compared.

  zosfs diff acme/debian:12 acme/debian:12.1
  zosfs diff --summary acme/debian:12 ./new.flist
  zosfs diff acme/debian:12 /mnt                         what was written to a mount
  zosfs diff --json acme/debian:12 acme/debian:12.1      one object a line, then the sums
  zosfs diff --exit-code --summary acme/debian:12 ./again.flist

Exit codes: 0 done, 1 failure, or the trees differ and --exit-code is given, 2 usage, 3 flist damaged, 4 no such image, 5 denied, 6 hub unavailable, 130 interrupted.`,
		Args: args(cobra.ExactArgs(2)),
		RunE: func(c *cobra.Command, given []string) error {
			return a.withTrees(c, given, o, func(t []shownTree) error {
				differ, err := a.diff(t[0].flist, t[1].flist, summary)
				if err == nil && differ && code {
					err = errDiffer
				}
				return err
			})
		},
	}
	c.Flags().BoolVar(&code, "exit-code", false, "end with 1 if the trees differ")
	c.Flags().BoolVar(&summary, "summary", false, "print the sums alone")
	return a.refFlags(c, &o)
}

// withRefs opens several images for their metadata.
func (a *app) withRefs(c *cobra.Command, given []string, o openOptions, use func([]*ref.Opened) error) (err error) {
	var all []*ref.Opened
	defer func() {
		for _, op := range all {
			closing(op, &err)
		}
	}()
	for _, s := range given {
		op, err := a.openRef(c.Context(), s, o)
		if err != nil {
			return err
		}
		all = append(all, op)
	}
	return use(all)
}

// shownTree is an image, or what a writable mount shows.
type shownTree struct {
	name  string
	flist *flist.Reader
}

// withTrees opens images and writable mounts for their metadata.
func (a *app) withTrees(c *cobra.Command, given []string, o openOptions, use func([]shownTree) error) (err error) {
	var trees []shownTree
	var opened []func() error
	defer func() {
		for _, done := range opened {
			err = errors.Join(err, done())
		}
	}()
	for _, s := range given {
		t, done, err := a.openTree(c.Context(), s, o)
		if err != nil {
			return err
		}
		trees, opened = append(trees, t), append(opened, done)
	}
	return use(trees)
}

func (a *app) openTree(ctx context.Context, s string, o openOptions) (shownTree, func() error, error) {
	r, err := a.writable().Find(plainPath(s))
	if err == nil {
		live, done, err := a.live(ctx, r)
		return shownTree{r.Dir, live}, done, err
	}
	if !errors.Is(err, errs.ErrNotFound) {
		return shownTree{}, nil, err
	}
	op, err := a.openRef(ctx, s, o)
	if err != nil {
		return shownTree{}, nil, err
	}
	return shownTree{op.Ref.String(), op.Flist}, op.Close, nil
}

func (a *app) diff(x, y *flist.Reader, summary bool) (differ bool, err error) {
	var sums diff.Summary
	if x.TreeDigest() == y.TreeDigest() {
		return false, a.diffSums(sums)
	}
	for c := range diff.Trees(x, y) {
		sums.Add(c)
		if summary {
			continue
		}
		if err := a.diffLine(x, y, c); err != nil {
			return true, err
		}
	}
	return true, a.diffSums(sums)
}

func (a *app) diffLine(x, y *flist.Reader, c diff.Change) error {
	v := changeJSON{Path: "/" + strings.ToValidUTF8(c.Path, "\uFFFD"), Change: "modified", Fields: c.Fields.Names()}
	if !utf8.ValidString(c.Path) {
		v.PathBytes = []byte("/" + c.Path)
	}
	mark := "~"
	switch {
	case c.Old == 0:
		mark, v.Change = "+", "added"
	case c.New == 0:
		mark, v.Change = "-", "removed"
	}
	v.OldSize, v.NewSize = fileSize(x, c.Old), fileSize(y, c.New)
	if a.json {
		return a.emit("change", v)
	}
	fields := ""
	if len(v.Fields) > 0 {
		fields = "  (" + strings.Join(v.Fields, ", ") + ")"
	}
	_, err := fmt.Fprintf(a.out, "%s %s%s\n", mark, term.Printable([]byte("/"+c.Path)), fields)
	return err
}

// fileSize returns the size of a regular file, nil for others and for 0.
func fileSize(r *flist.Reader, id flist.NodeID) *int64 {
	if id == 0 {
		return nil
	}
	n := r.Node(id)
	if n.Type() != flist.ModeRegular {
		return nil
	}
	return &n.Size
}

func (a *app) diffSums(s diff.Summary) error {
	if a.json {
		return a.emit("summary", s)
	}
	_, err := fmt.Fprintf(a.out, "%d added, %d removed, %d modified\n", s.Added, s.Removed, s.Modified)
	return err
}

// usageJSON is what one image takes.
type usageJSON struct {
	Ref    string       `json:"ref"`
	Digest flist.Digest `json:"digest"`
	diff.Usage
}

func (a *app) duCmd() *cobra.Command {
	var o openOptions
	c := &cobra.Command{
		Use:   "du REF...",
		Short: "Show what images take, and what they share",
		Long: `Show what the content of images takes, alone and together: bytes in files, bytes stored after
deduplication and compression, and the part of these that no other of the images named has.
Only the flists are read. Directories where images are mounted with --rw stand for what they
show now.

  zosfs du acme/debian:12
  zosfs du acme/debian:11 acme/debian:12 acme/debian:12.1

Exit codes: 0 done, 1 failure, 2 usage, 3 flist damaged, 4 no such image, 5 denied, 6 hub unavailable, 130 interrupted.`,
		Args: args(cobra.MinimumNArgs(1)),
		RunE: func(c *cobra.Command, given []string) error { return a.withTrees(c, given, o, a.du) },
	}
	return a.refFlags(c, &o)
}

func (a *app) du(trees []shownTree) error {
	readers := make([]*flist.Reader, len(trees))
	for i := range trees {
		readers[i] = trees[i].flist
	}
	usage, total := diff.Du(readers...)
	if a.json {
		for i, u := range usage {
			if err := a.emit("usage", usageJSON{trees[i].name, readers[i].Digest(), u}); err != nil {
				return err
			}
		}
		return a.emit("total", total)
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "in files\tstored\tunique\tshared\t\n")
	line := func(logical string, stored, unique int64, name string) {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t  %s\n", logical, bytesText(stored), bytesText(unique), bytesText(stored-unique), name)
	}
	var alone, unique int64
	for i, u := range usage {
		line(bytesText(u.Logical), u.Stored, u.Unique, term.Printable([]byte(trees[i].name)))
		alone += u.Stored
		unique += u.Unique
	}
	if len(trees) > 1 {
		line("", total.Stored, unique, fmt.Sprintf("together, in place of %s", bytesText(alone)))
	}
	return w.Flush()
}
