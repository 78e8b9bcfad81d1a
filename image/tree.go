package image

import (
	"slices"
	"sort"
	"strings"
	"unsafe"

	"github.com/zosfs/zosfs/flist"
)

// Tree is the metadata of an flist: nodes and names, attributes, symlink targets and
// extended attributes. It is immutable, holds nothing of the Reader it was made from, and
// has no pointer per node, so that the garbage collector passes over it at once. It takes
// 40 bytes a node, 12 an entry and 12 a directory, and the names ([Tree.Bytes]).
//
// Node ids are those of the flist, 1 to [Tree.Len]; any other id panics.
type Tree struct {
	nodes  []node         // by id, from 1
	dirs   []dir          // by ascending id of their nodes, and one more that ends the last
	child  []flist.NodeID // of each entry, by parent and then name
	nameAt []uint64       // where the name of each entry begins in names, and the end
	names  string

	targetAt []uint64 // where the target of each symlink begins in targets, and the end
	targets  string
	attrs    xattrs
}

type node struct {
	mtime  int64
	size   int64 // of a device node: its device number
	mode   uint32
	uid    uint32
	gid    uint32
	nlink  uint32
	aux    uint32 // of a regular file the object, of a directory the index in dirs, of a symlink that in targetAt
	xattrs flist.XattrSetID
}

type dir struct {
	self   flist.NodeID
	parent flist.NodeID
	first  uint32 // entry in child; the next dir's first ends the list
}

// NewTree returns the tree of r.
func NewTree(r *flist.Reader) *Tree {
	t := &Tree{}
	t.addNodes(r)
	t.addEntries(r)
	t.attrs.add(r.XattrSets())
	return t
}

func (t *Tree) addNodes(r *flist.Reader) {
	c := r.Counts()
	t.nodes = make([]node, 0, c.Nodes)
	t.dirs = make([]dir, 0, c.Dirs+1)
	t.targetAt = make([]uint64, 0, c.Symlinks+1)
	var targets strings.Builder
	for id, n := range r.Nodes() {
		v := node{mtime: n.MTime, size: n.Size, mode: n.Mode, uid: n.UID, gid: n.GID, nlink: n.Nlink, xattrs: n.Xattrs}
		switch n.Type() {
		case flist.ModeDir:
			v.aux = uint32(len(t.dirs))
			t.dirs = append(t.dirs, dir{self: id, parent: flist.Root})
		case flist.ModeSymlink:
			v.aux = uint32(len(t.targetAt))
			t.targetAt = append(t.targetAt, uint64(targets.Len()))
			targets.Write(n.Target)
		case flist.ModeBlock, flist.ModeChar:
			v.size = int64(n.Rdev)
		default:
			v.aux = uint32(n.Object)
		}
		t.nodes = append(t.nodes, v)
	}
	t.dirs = append(t.dirs, dir{}) // begins after all entries, see addEntries
	t.targetAt = append(t.targetAt, uint64(targets.Len()))
	t.targets = strings.Clone(targets.String()) // without the Builder's spare room
}

// addEntries relies on the order of Entries: by parent, and parents ascend as dirs does.
func (t *Tree) addEntries(r *flist.Reader) {
	n := r.Counts().Entries
	t.child = make([]flist.NodeID, 0, n)
	t.nameAt = make([]uint64, 0, n+1)
	var names strings.Builder
	names.Grow(int(n) * 16)
	begun := 0 // dirs whose first is set
	for e := range r.Entries() {
		for at := int(t.node(e.Parent).aux); begun <= at; begun++ {
			t.dirs[begun].first = uint32(len(t.child))
		}
		if c := t.node(e.Node); c.mode&flist.ModeType == flist.ModeDir {
			t.dirs[c.aux].parent = e.Parent
		}
		t.child = append(t.child, e.Node)
		t.nameAt = append(t.nameAt, uint64(names.Len()))
		names.Write(e.Name)
	}
	for ; begun < len(t.dirs); begun++ {
		t.dirs[begun].first = uint32(len(t.child))
	}
	t.nameAt = append(t.nameAt, uint64(names.Len()))
	t.names = strings.Clone(names.String())
}

func (t *Tree) node(id flist.NodeID) *node { return &t.nodes[id-1] }

func (t *Tree) isType(id flist.NodeID, typ uint32) bool { return t.node(id).mode&flist.ModeType == typ }

// Len returns the number of nodes.
func (t *Tree) Len() int { return len(t.nodes) }

// Attr returns the attributes of a node.
func (t *Tree) Attr(id flist.NodeID) Attr {
	n := t.node(id)
	a := Attr{Mode: n.mode, UID: n.uid, GID: n.gid, Nlink: n.nlink, MTime: n.mtime, Size: n.size, Xattrs: n.xattrs}
	switch n.mode & flist.ModeType {
	case flist.ModeRegular:
		a.Object = flist.ObjectID(n.aux)
	case flist.ModeBlock, flist.ModeChar:
		a.Size, a.Rdev = 0, uint64(n.size)
	}
	return a
}

// entries returns the range in child of the entries of dir; it is empty for other nodes.
func (t *Tree) entries(id flist.NodeID) (lo, hi int) {
	n := t.node(id)
	if n.mode&flist.ModeType != flist.ModeDir {
		return 0, 0
	}
	return int(t.dirs[n.aux].first), int(t.dirs[n.aux+1].first)
}

func (t *Tree) name(i int) string { return t.names[t.nameAt[i]:t.nameAt[i+1]] }

// Lookup returns the node that name means in dir. It does not know "." and "..". A node
// that is no directory has no names.
func (t *Tree) Lookup(dir flist.NodeID, name string) (flist.NodeID, bool) {
	lo, end := t.entries(dir)
	hi := end
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if t.name(mid) < name {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo == end || t.name(lo) != name {
		return 0, false
	}
	return t.child[lo], true
}

// Parent returns the directory that holds the directory dir; the root is its own parent, and
// of nodes that are no directories, too.
func (t *Tree) Parent(dir flist.NodeID) flist.NodeID {
	if !t.isType(dir, flist.ModeDir) {
		return flist.Root
	}
	return t.dirs[t.node(dir).aux].parent
}

// DirLen returns how many entries dir has; 0 where it is no directory.
func (t *Tree) DirLen(dir flist.NodeID) int {
	lo, hi := t.entries(dir)
	return hi - lo
}

// DirEntry returns entry i of dir, 0 <= i < DirLen, in ascending byte order of names. The
// name is a part of the Tree and costs no allocation.
func (t *Tree) DirEntry(dir flist.NodeID, i int) (name string, id flist.NodeID) {
	lo, hi := t.entries(dir)
	at := t.child[lo:hi:hi][i]
	return t.name(lo + i), at
}

// Target returns the target of a symlink, any bytes but NUL; "" for other nodes.
func (t *Tree) Target(id flist.NodeID) string {
	n := t.node(id)
	if n.mode&flist.ModeType != flist.ModeSymlink {
		return ""
	}
	return t.targets[t.targetAt[n.aux]:t.targetAt[n.aux+1]]
}

// Path returns a path of the node, without a slash in front; "" for the root. Of several
// hard links it is always the same one. It looks through all entries: about 0.1 ms a level
// for 100,000 of them, which is for messages, not for serving.
func (t *Tree) Path(id flist.NodeID) string {
	var parts []string
	for id != flist.Root {
		i := slices.Index(t.child, id)
		if i < 0 {
			break
		}
		parts = append(parts, t.name(i))
		id = t.entryParent(i)
	}
	slices.Reverse(parts)
	return strings.Join(parts, "/")
}

// entryParent returns the directory that holds entry i: the last one that begins at or before
// it, since an empty directory begins where the next one does.
func (t *Tree) entryParent(i int) flist.NodeID {
	d := sort.Search(len(t.dirs), func(d int) bool { return int(t.dirs[d].first) > i })
	return t.dirs[d-1].self
}

// Bytes returns how much memory the Tree takes, in bytes.
func (t *Tree) Bytes() int64 {
	n := cap(t.nodes)*int(unsafe.Sizeof(node{})) + cap(t.dirs)*int(unsafe.Sizeof(dir{})) +
		cap(t.child)*int(unsafe.Sizeof(flist.NodeID(0))) + 8*(cap(t.nameAt)+cap(t.targetAt)) +
		len(t.names) + len(t.targets)
	return int64(n) + t.attrs.bytes()
}
