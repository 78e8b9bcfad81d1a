package image

import (
	"iter"
	"strings"
	"unsafe"

	"github.com/zosfs/zosfs/flist"
)

// xattrs are the sets of extended attributes. Names repeat and are kept once; values lie one
// after another.
type xattrs struct {
	sets   []uint32 // where set i+1 begins in items, and the end
	items  []xattr
	names  []string
	values []byte
}

type xattr struct {
	name uint32 // in names
	size uint32
	at   uint64 // in values
}

func (x *xattrs) add(sets iter.Seq2[flist.XattrSetID, []flist.Xattr]) {
	known := map[string]uint32{}
	for _, set := range sets {
		x.sets = append(x.sets, uint32(len(x.items)))
		for _, a := range set {
			n, ok := known[a.Name]
			if !ok {
				n = uint32(len(x.names))
				known[a.Name] = n
				x.names = append(x.names, a.Name)
			}
			x.items = append(x.items, xattr{name: n, size: uint32(len(a.Value)), at: uint64(len(x.values))})
			x.values = append(x.values, a.Value...)
		}
	}
	x.sets = append(x.sets, uint32(len(x.items)))
}

func (x *xattrs) set(id flist.XattrSetID) []xattr {
	if id == 0 {
		return nil
	}
	return x.items[x.sets[id-1]:x.sets[id]]
}

// value returns the value of a, which must not be written to.
func (x *xattrs) value(a xattr) []byte {
	end := a.at + uint64(a.size)
	return x.values[a.at:end:end]
}

func (x *xattrs) bytes() int64 {
	n := 4*cap(x.sets) + cap(x.items)*int(unsafe.Sizeof(xattr{})) + cap(x.values)
	for _, name := range x.names {
		n += len(name) + int(unsafe.Sizeof(name))
	}
	return int64(n)
}

// Xattrs returns the extended attributes of a node in ascending order of names, nil where it
// has none. The slice is the caller's, the values are not to be written to.
func (t *Tree) Xattrs(id flist.NodeID) []flist.Xattr {
	set := t.attrs.set(t.node(id).xattrs)
	if len(set) == 0 {
		return nil
	}
	out := make([]flist.Xattr, len(set))
	for i, a := range set {
		out[i] = flist.Xattr{Name: t.attrs.names[a.name], Value: t.attrs.value(a)}
	}
	return out
}

// Xattr returns one extended attribute of a node, without allocating. The value is not to be
// written to.
func (t *Tree) Xattr(id flist.NodeID, name string) ([]byte, bool) {
	for _, a := range t.attrs.set(t.node(id).xattrs) {
		if t.attrs.names[a.name] == name {
			return t.attrs.value(a), true
		}
	}
	return nil, false
}

// overlayXattrs begins the attributes that overlayfs keeps its own state in.
const overlayXattrs = "trusted.overlay."

// ShownXattr returns the name under which a mount shows an attribute. Those that an overlay on
// top would take for its own state (that a directory hides what is below, that a file lies
// elsewhere) are escaped as overlayfs itself escapes them, from Linux 6.7 on: it shows them
// under their names again.
func ShownXattr(name string) string {
	if rest, ok := strings.CutPrefix(name, overlayXattrs); ok {
		return overlayXattrs + "overlay." + rest
	}
	return name
}
