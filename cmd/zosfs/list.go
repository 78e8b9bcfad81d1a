package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/image"
	"github.com/zosfs/zosfs/internal/term"
)

// entryJSON is one file of an image in JSON. A path that is not UTF-8 has its bytes, in
// base64, in path_bytes, and replacement characters in path.
type entryJSON struct {
	Path      string            `json:"path"`
	PathBytes []byte            `json:"path_bytes,omitempty"`
	Node      flist.NodeID      `json:"node"`
	Kind      string            `json:"kind"`
	Mode      string            `json:"mode"`
	UID       uint32            `json:"uid"`
	GID       uint32            `json:"gid"`
	Nlink     uint32            `json:"nlink"`
	Size      int64             `json:"size"`
	MTime     time.Time         `json:"mtime"`
	Device    string            `json:"device,omitempty"`
	Target    string            `json:"target,omitempty"`
	Digest    string            `json:"digest,omitempty"`
	Xattrs    map[string][]byte `json:"xattrs,omitempty"`
}

var kinds = map[uint32]string{
	flist.ModeSocket: "socket", flist.ModeSymlink: "symlink", flist.ModeRegular: "file", flist.ModeBlock: "block",
	flist.ModeDir: "directory", flist.ModeChar: "char", flist.ModeFIFO: "fifo",
}

func entry(r *flist.Reader, t *image.Tree, path string, id flist.NodeID) entryJSON {
	at := t.Attr(id)
	e := entryJSON{
		Path: strings.ToValidUTF8(path, "\uFFFD"), Node: id, Kind: kinds[at.Mode&flist.ModeType],
		Mode: fmt.Sprintf("%06o", at.Mode), UID: at.UID, GID: at.GID, Nlink: at.Nlink,
		Size: at.Size, MTime: time.Unix(0, at.MTime).UTC(), Target: strings.ToValidUTF8(t.Target(id), "\uFFFD"),
	}
	if !utf8.ValidString(path) {
		e.PathBytes = []byte(path)
	}
	if k := at.Mode & flist.ModeType; k == flist.ModeBlock || k == flist.ModeChar {
		e.Device = fmt.Sprintf("%d:%d", unix.Major(at.Rdev), unix.Minor(at.Rdev))
	}
	if at.Object != 0 {
		e.Digest = r.Object(at.Object).Digest.String()
	}
	for _, x := range t.Xattrs(id) {
		if e.Xattrs == nil {
			e.Xattrs = make(map[string][]byte)
		}
		e.Xattrs[x.Name] = x.Value
	}
	return e
}

// modeText writes a mode as ls does.
func modeText(mode uint32) string {
	b := []byte("?rwxrwxrwx")
	b[0] = map[uint32]byte{
		flist.ModeSocket: 's', flist.ModeSymlink: 'l', flist.ModeRegular: '-', flist.ModeBlock: 'b',
		flist.ModeDir: 'd', flist.ModeChar: 'c', flist.ModeFIFO: 'p',
	}[mode&flist.ModeType]
	for i := range 9 {
		if mode&(1<<(8-i)) == 0 {
			b[i+1] = '-'
		}
	}
	special := func(bit uint32, at int, set byte) {
		if mode&bit != 0 {
			if b[at] == '-' {
				set -= 'a' - 'A'
			}
			b[at] = set
		}
	}
	special(unix.S_ISUID, 3, 's')
	special(unix.S_ISGID, 6, 's')
	special(unix.S_ISVTX, 9, 't')
	return string(b)
}

// join appends a name to a path inside an image.
func join(dir, name string) string {
	if dir == "" || dir == "/" {
		return "/" + name
	}
	return dir + "/" + name
}

// place is a node that was asked for, under the name it was asked by.
type place struct {
	path string
	id   flist.NodeID
}

// treeOf opens REF for its metadata and finds the optional PATH in it.
func (a *app) treeOf(c *cobra.Command, given []string, o openOptions, use func(*flist.Reader, *image.Tree, place) error) (err error) {
	op, err := a.openRef(c.Context(), given[0], o)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := op.Close(); err == nil {
			err = cerr
		}
	}()
	t := image.NewTree(op.Flist)
	p := place{path: "/"}
	if len(given) > 1 {
		p.path = "/" + strings.Trim(given[1], "/")
	}
	if p.id, err = t.Resolve(p.path); err != nil {
		return err
	}
	return use(op.Flist, t, p)
}

func (a *app) refFlags(c *cobra.Command, o *openOptions) *cobra.Command {
	c.Flags().BoolVar(&o.offline, "offline", false, "ask no hub: use the version that is known here")
	c.Flags().StringArrayVar(&o.allow, "allow-source", nil, "host, or pattern of hosts, of a source named by the flist that may be followed")
	return c
}

func (a *app) lsCmd() *cobra.Command {
	var o openOptions
	var long bool
	c := &cobra.Command{
		Use:   "ls REF [PATH]",
		Short: "List a directory of an image",
		Long: `List a directory of an image, or one file. Only the flist is read.

  zosfs ls acme/debian:12
  zosfs ls -l ./tree.flist /usr/bin
  zosfs ls --json acme/debian:12 /etc     one object a line

Exit codes: 0 done, 1 failure, 2 usage, 3 flist damaged, 4 no such image or path, 5 denied, 6 hub unavailable, 130 interrupted.`,
		Args: args(cobra.RangeArgs(1, 2)),
		RunE: func(c *cobra.Command, given []string) error {
			return a.treeOf(c, given, o, func(r *flist.Reader, t *image.Tree, p place) error {
				return a.list(r, t, p, long)
			})
		},
	}
	c.Flags().BoolVarP(&long, "long", "l", false, "mode, links, owner, size and time too")
	return a.refFlags(c, &o)
}

func (a *app) list(r *flist.Reader, t *image.Tree, p place, long bool) error {
	places := []place{p}
	if t.Attr(p.id).Mode&flist.ModeType == flist.ModeDir {
		places = places[:0]
		for i := range t.DirLen(p.id) {
			name, id := t.DirEntry(p.id, i)
			places = append(places, place{join(p.path, name), id})
		}
	}
	if long && !a.json {
		return a.listLong(t, places)
	}
	for _, p := range places {
		var err error
		if a.json {
			err = a.emit("entry", entry(r, t, p.path, p.id))
		} else {
			_, err = fmt.Fprintln(a.out, term.Printable([]byte(base(p.path))))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// base returns the last name of a path inside an image.
func base(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

// listLong prints as ls -l does: numbers to the right, as wide as the widest.
func (a *app) listLong(t *image.Tree, places []place) error {
	const columns = 4
	rows := make([][columns]string, len(places))
	var width [columns]int
	for i, p := range places {
		at := t.Attr(p.id)
		what := fmt.Sprint(at.Size)
		if k := at.Mode & flist.ModeType; k == flist.ModeBlock || k == flist.ModeChar {
			what = fmt.Sprintf("%d, %d", unix.Major(at.Rdev), unix.Minor(at.Rdev))
		}
		rows[i] = [columns]string{fmt.Sprint(at.Nlink), fmt.Sprint(at.UID), fmt.Sprint(at.GID), what}
		for c, text := range rows[i] {
			width[c] = max(width[c], len(text))
		}
	}
	for i, p := range places {
		at := t.Attr(p.id)
		line := modeText(at.Mode)
		for c, text := range rows[i] {
			line += fmt.Sprintf(" %*s", width[c], text)
		}
		name := term.Printable([]byte(base(p.path)))
		if target := t.Target(p.id); target != "" {
			name += " -> " + term.Printable([]byte(target))
		}
		if _, err := fmt.Fprintf(a.out, "%s %s %s\n", line, time.Unix(0, at.MTime).UTC().Format("2006-01-02 15:04"), name); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) findCmd() *cobra.Command {
	var o openOptions
	c := &cobra.Command{
		Use:   "find REF [PATH]",
		Short: "Print every path below a directory of an image",
		Long: `Print a directory of an image and every path below it, one a line, directories before what
they hold, as find(1) does. The directory itself is one line more than the entries that other
commands count. Only the flist is read.

  zosfs find acme/debian:12 /etc
  zosfs find --json ./tree.flist          one object a line, with "path"

Exit codes: 0 done, 1 failure, 2 usage, 3 flist damaged, 4 no such image or path, 5 denied, 6 hub unavailable, 130 interrupted.`,
		Args: args(cobra.RangeArgs(1, 2)),
		RunE: func(c *cobra.Command, given []string) error {
			return a.treeOf(c, given, o, func(r *flist.Reader, t *image.Tree, p place) error {
				return walk(t, p, 0, func(p place, _ int, _ bool) error {
					if a.json {
						return a.emit("entry", entry(r, t, p.path, p.id))
					}
					_, err := fmt.Fprintln(a.out, term.Printable([]byte(p.path)))
					return err
				})
			})
		},
	}
	return a.refFlags(c, &o)
}

// walk visits p and all below it, or limit levels if that is not 0, depth first, with the depth
// and whether a node is the last of its directory.
func walk(t *image.Tree, p place, limit int, visit func(p place, depth int, last bool) error) error {
	type step struct {
		place
		depth int
		last  bool
	}
	todo := []step{{p, 0, true}}
	for len(todo) > 0 {
		s := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if err := visit(s.place, s.depth, s.last); err != nil {
			return err
		}
		if t.Attr(s.id).Mode&flist.ModeType != flist.ModeDir || limit > 0 && s.depth == limit {
			continue
		}
		n := t.DirLen(s.id)
		for i := n - 1; i >= 0; i-- {
			name, id := t.DirEntry(s.id, i)
			todo = append(todo, step{place{join(s.path, name), id}, s.depth + 1, i == n-1})
		}
	}
	return nil
}

func (a *app) treeCmd() *cobra.Command {
	var o openOptions
	var depth number
	c := &cobra.Command{
		Use:   "tree REF [PATH]",
		Short: "Draw the tree of an image",
		Long: `Draw the tree of an image with sizes, and say how much was drawn. Only the flist is read.

  zosfs tree --depth 2 acme/debian:12
  zosfs tree ./tree.flist /etc/apt

Exit codes: 0 done, 1 failure, 2 usage, 3 flist damaged, 4 no such image or path, 5 denied, 6 hub unavailable, 130 interrupted.`,
		Args: args(cobra.RangeArgs(1, 2)),
		RunE: func(c *cobra.Command, given []string) error {
			return a.treeOf(c, given, o, func(r *flist.Reader, t *image.Tree, p place) error {
				return a.draw(r, t, p, int(depth))
			})
		},
	}
	c.Flags().Var(&depth, "depth", "levels to draw; 0 is all")
	return a.refFlags(c, &o)
}

func (a *app) draw(r *flist.Reader, t *image.Tree, p place, limit int) error {
	var bars []bool // by depth: whether more of that directory follows
	files, dirs := 0, 0
	err := walk(t, p, limit, func(p place, depth int, last bool) error {
		bars = append(bars[:depth], !last)
		at := t.Attr(p.id)
		switch {
		case at.Mode&flist.ModeType != flist.ModeDir:
			files++
		case depth > 0: // where it begins is no entry
			dirs++
		}
		if a.json {
			return a.emit("entry", entry(r, t, p.path, p.id))
		}
		var line strings.Builder
		for d := 1; d < depth; d++ {
			line.WriteString(map[bool]string{true: "│  ", false: "   "}[bars[d]])
		}
		name := p.path
		if depth > 0 {
			line.WriteString(map[bool]string{true: "└─ ", false: "├─ "}[last])
			name = base(p.path)
		}
		line.WriteString(term.Printable([]byte(name)))
		switch at.Mode & flist.ModeType {
		case flist.ModeDir:
			if depth > 0 {
				line.WriteString("/")
			}
		case flist.ModeSymlink:
			line.WriteString(" -> " + term.Printable([]byte(t.Target(p.id))))
		case flist.ModeRegular:
			line.WriteString("  " + bytesText(at.Size))
		default:
			line.WriteString("  " + kinds[at.Mode&flist.ModeType])
		}
		_, err := fmt.Fprintln(a.out, line.String())
		return err
	})
	if err == nil && !a.json {
		_, err = fmt.Fprintf(a.out, "\n%s, %s\n", count(dirs, "directory"), count(files, "file"))
	}
	return err
}

func (a *app) statCmd() *cobra.Command {
	var o openOptions
	c := &cobra.Command{
		Use:   "stat REF PATH...",
		Short: "Show everything an image holds about a file",
		Long: `Show everything an image holds about a file: mode, owner, links, time, size, attributes,
digest, and the chunks and blobs its content lies in. Only the flist is read. A symlink is
shown itself, not what it points to.

  zosfs stat acme/debian:12 /bin/ls
  zosfs stat --json ./tree.flist /etc/passwd /etc/shadow

Exit codes: 0 done, 1 failure, 2 usage, 3 flist damaged, 4 no such image or path, 5 denied, 6 hub unavailable, 130 interrupted.`,
		Args: args(cobra.MinimumNArgs(2)),
		RunE: func(c *cobra.Command, given []string) error {
			return a.treeOf(c, given[:1], o, func(r *flist.Reader, t *image.Tree, _ place) error {
				for _, path := range given[1:] {
					path = "/" + strings.Trim(path, "/")
					id, err := t.Resolve(path)
					if err != nil {
						return err
					}
					if err := a.stat(r, t, place{path, id}); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	return a.refFlags(c, &o)
}

// statJSON adds where the content of a file lies.
type statJSON struct {
	entryJSON
	Chunks int   `json:"chunks"`
	Blobs  int   `json:"blobs"`
	Data   int64 `json:"data"`   // bytes that are no hole
	Stored int64 `json:"stored"` // bytes of the sealed chunks
}

func (a *app) stat(r *flist.Reader, t *image.Tree, p place) error {
	s := statJSON{entryJSON: entry(r, t, p.path, p.id)}
	if o := t.Attr(p.id).Object; o != 0 {
		blobs := make(map[flist.BlobID]bool)
		for e := range r.Extents(o) {
			ch := r.Chunk(e.Chunk)
			s.Chunks++
			s.Data += int64(ch.Size)
			s.Stored += int64(ch.Stored)
			blobs[ch.Blob] = true
		}
		s.Blobs = len(blobs)
	}
	if a.json {
		return a.emit("stat", s)
	}
	at := t.Attr(p.id)
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "path\t%s\n", term.Printable([]byte(p.path)))
	fmt.Fprintf(w, "kind\t%s, node %d, %s\n", s.Kind, s.Node, count(int64(s.Nlink), "link"))
	fmt.Fprintf(w, "mode\t%s  %s\n", modeText(at.Mode), s.Mode)
	fmt.Fprintf(w, "owner\t%d:%d\n", s.UID, s.GID)
	fmt.Fprintf(w, "modified\t%s\n", s.MTime.Format(time.RFC3339Nano))
	if s.Target != "" {
		fmt.Fprintf(w, "target\t%s\n", term.Printable([]byte(t.Target(p.id))))
	}
	if s.Device != "" {
		fmt.Fprintf(w, "device\t%s\n", s.Device)
	}
	if s.Kind == "file" {
		fmt.Fprintf(w, "size\t%d (%s)\n", s.Size, bytesText(s.Size))
	}
	if s.Digest != "" {
		fmt.Fprintf(w, "digest\t%s\n", s.Digest)
		fmt.Fprintf(w, "content\t%s in %s, %s stored in %s\n", bytesText(s.Data), count(s.Chunks, "chunk"), bytesText(s.Stored), count(s.Blobs, "blob"))
	}
	for _, x := range t.Xattrs(p.id) {
		fmt.Fprintf(w, "%s\t%s\n", term.Printable([]byte(x.Name)), term.Printable(x.Value))
	}
	return w.Flush()
}
