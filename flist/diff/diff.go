// Package diff compares the trees of two flists, by their metadata alone: content is equal
// where the digests of objects are.
package diff

import (
	"bytes"
	"iter"
	"slices"
	"strings"

	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/flist"
)

// Field is a set of things in which two nodes differ.
type Field uint16

// What may differ. A node of another type differs in Type alone: it is another thing.
const (
	Type    Field = 1 << iota
	Content       // of a regular file
	Mode          // permission bits, setuid, setgid, sticky
	Owner         // user or group
	MTime
	Xattrs
	Target // of a symlink
	Device // number of a device node
	Links  // a name of the same file is another one, or there are more or fewer
)

var fieldNames = []string{"type", "content", "mode", "owner", "mtime", "xattrs", "target", "device", "links"}

// Names returns the names of the fields in f, in the order of the constants.
func (f Field) Names() []string {
	var names []string
	for i, name := range fieldNames {
		if f&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return names
}

// String joins the names with commas.
func (f Field) String() string { return strings.Join(f.Names(), ",") }

// Change is one path that differs.
type Change struct {
	Path     string       // from the root, without a slash at its beginning; "" is the root
	Old, New flist.NodeID // in the first and the second flist; 0: not there
	Fields   Field        // what differs, where it is in both
}

// Trees yields what differs between the trees of a and b, in walk order: a directory before
// what is in it, names in ascending byte order. All that lies in a directory which only one
// of them has is yielded as well. It takes memory for the files with several names.
func Trees(a, b *flist.Reader) iter.Seq[Change] {
	return func(yield func(Change) bool) {
		c := comparer{a: a, b: b, sets: make(map[[2]flist.XattrSetID]bool), first: [2]map[flist.NodeID]string{names(a), names(b)}, yield: yield}
		if c.node(flist.Root, flist.Root) {
			c.walk()
		}
	}
}

// comparer walks two trees side by side, with a stack of its own: trees may be deeper than
// a stack of calls should be.
type comparer struct {
	a, b  *flist.Reader
	sets  map[[2]flist.XattrSetID]bool // whether two sets of attributes are equal
	first [2]map[flist.NodeID]string   // of files with several names, the first
	yield func(Change) bool
	path  []byte
	stack []frame
}

// frame is a directory that is walked: what is left of its entries on both sides, and the
// length of its path.
type frame struct {
	old, new []flist.Entry
	path     int
}

func (c *comparer) walk() {
	for len(c.stack) > 0 {
		f := &c.stack[len(c.stack)-1]
		c.path = c.path[:f.path]
		if len(f.old)+len(f.new) == 0 {
			c.stack = c.stack[:len(c.stack)-1]
			continue
		}
		var name []byte
		var oldID, newID flist.NodeID
		order := 0
		switch {
		case len(f.new) == 0:
			order = -1
		case len(f.old) == 0:
			order = 1
		default:
			order = bytes.Compare(f.old[0].Name, f.new[0].Name)
		}
		if order <= 0 {
			name, oldID, f.old = f.old[0].Name, f.old[0].Node, f.old[1:]
		}
		if order >= 0 {
			name, newID, f.new = f.new[0].Name, f.new[0].Node, f.new[1:]
		}
		c.path = appendName(c.path, name)
		if !c.node(oldID, newID) {
			return
		}
	}
}

// node compares what lies at c.path on both sides, 0 for nothing, and has directories walked
// next. It reports whether to go on.
func (c *comparer) node(oldID, newID flist.NodeID) bool {
	var fields Field
	if oldID != 0 && newID != 0 {
		fields = c.fields(oldID, newID)
	}
	if (oldID == 0 || newID == 0 || fields != 0) && !c.yield(Change{string(c.path), oldID, newID, fields}) {
		return false
	}
	f := frame{old: entries(c.a, oldID), new: entries(c.b, newID), path: len(c.path)}
	if len(f.old)+len(f.new) > 0 {
		c.stack = append(c.stack, f)
	}
	return true
}

// entries returns what is in a directory, nothing for 0 and for what is none.
func entries(r *flist.Reader, id flist.NodeID) []flist.Entry {
	if id == 0 {
		return nil
	}
	if n := r.Node(id); n.Type() != flist.ModeDir {
		return nil
	}
	return slices.Collect(r.Dir(id))
}

func (c *comparer) fields(oldID, newID flist.NodeID) (f Field) {
	x, y := c.a.Node(oldID), c.b.Node(newID)
	if x.Type() != y.Type() {
		return Type
	}
	set := func(field Field, differs bool) {
		if differs {
			f |= field
		}
	}
	set(Content, x.Type() == flist.ModeRegular && (x.Size != y.Size || object(c.a, &x) != object(c.b, &y)))
	set(Mode, x.Mode != y.Mode)
	set(Owner, x.UID != y.UID || x.GID != y.GID)
	set(MTime, x.MTime != y.MTime)
	set(Xattrs, !c.sameXattrs(x.Xattrs, y.Xattrs))
	set(Target, !bytes.Equal(x.Target, y.Target))
	set(Device, x.Rdev != y.Rdev)
	set(Links, x.Type() != flist.ModeDir && (x.Nlink != y.Nlink || c.first[0][oldID] != c.first[1][newID]))
	return f
}

func object(r *flist.Reader, n *flist.Node) (d chunk.Digest) {
	if n.Object != 0 {
		d = r.Object(n.Object).Digest
	}
	return d
}

func (c *comparer) sameXattrs(x, y flist.XattrSetID) bool {
	if x == 0 || y == 0 {
		return x == y
	}
	key := [2]flist.XattrSetID{x, y}
	same, known := c.sets[key]
	if !known {
		same = slices.EqualFunc(c.a.Xattrs(x), c.b.Xattrs(y), func(p, q flist.Xattr) bool {
			return p.Name == q.Name && bytes.Equal(p.Value, q.Value)
		})
		c.sets[key] = same
	}
	return same
}

// names returns the first name, in walk order, of each file that has several.
func names(r *flist.Reader) map[flist.NodeID]string {
	first := make(map[flist.NodeID]string)
	var path []byte
	stack := []frame{{old: entries(r, flist.Root)}}
	for len(stack) > 0 {
		f := &stack[len(stack)-1]
		if len(f.old) == 0 {
			stack = stack[:len(stack)-1]
			continue
		}
		e := f.old[0]
		f.old = f.old[1:]
		path = appendName(path[:f.path], e.Name)
		n := r.Node(e.Node)
		if n.Type() == flist.ModeDir {
			stack = append(stack, frame{old: entries(r, e.Node), path: len(path)})
		} else if _, met := first[e.Node]; n.Nlink > 1 && !met {
			first[e.Node] = string(path)
		}
	}
	return first
}

func appendName(path, name []byte) []byte {
	if len(path) > 0 {
		path = append(path, '/')
	}
	return append(path, name...)
}

// Summary counts changes by kind.
type Summary struct {
	Added    int64 `json:"added"`
	Removed  int64 `json:"removed"`
	Modified int64 `json:"modified"`
	// Fields counts the modified ones by what differs.
	Fields map[string]int64 `json:"fields"`
}

// Add counts a change.
func (s *Summary) Add(c Change) {
	switch {
	case c.Old == 0:
		s.Added++
	case c.New == 0:
		s.Removed++
	default:
		s.Modified++
		if s.Fields == nil {
			s.Fields = make(map[string]int64)
		}
		for _, name := range c.Fields.Names() {
			s.Fields[name]++
		}
	}
}
