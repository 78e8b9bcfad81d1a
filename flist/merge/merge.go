// Package merge lays the trees of several flists over each other, as overlayfs does.
//
// # Rules
//
// Layers come from below: the last one wins. Where two layers have a directory of one name,
// the result has what is in both, with the attributes of the upper one; anything else hides
// what lies below it. In an upper layer
//
//   - a character device 0:0 is a whiteout: there is nothing of this name;
//   - a directory with trusted.overlay.opaque = "y" hides what lies below it;
//   - trusted.overlay.redirect says under which name a directory, or the content of a file,
//     lies in the layers below: one name in the same directory, or a path from the root;
//   - a regular file with trusted.overlay.metacopy has its content there, its size included.
//
// So what overlayfs left in an upper directory can be packed as it is and merged onto what
// it was made from. The result shows what a mount of the layers shows: no whiteouts, and no
// trusted.overlay attributes but escaped ones (trusted.overlay.overlay.x becomes
// trusted.overlay.x). Files with several names in one layer have those of them that are not
// hidden.
package merge

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/flist"
)

// Attributes of overlayfs.
const (
	prefix   = "trusted.overlay."
	escape   = prefix + "overlay."
	opaque   = prefix + "opaque"
	redirect = prefix + "redirect"
	metacopy = prefix + "metacopy"
)

// maxLayers is as many as overlayfs takes.
const maxLayers = 500

// Options say what is recorded beside the tree.
type Options struct {
	// TempDir holds temporary files; "" is the system's directory.
	TempDir string
	// Properties are set in the result, over those of the layers.
	Properties map[string]string
}

// Layers writes the flist of layers, the lowest first, to path, whole or not at all. The
// result refers to the blobs of the layers and needs nothing from them; its properties and
// sources are those of all layers, and the upper one's where two differ. Equal layers give
// equal bytes. A metacopy whose content is nowhere is errs.ErrCorrupt.
func Layers(path string, layers []*flist.Reader, o Options) (_ flist.Summary, err error) {
	if len(layers) == 0 || len(layers) > maxLayers {
		return flist.Summary{}, fmt.Errorf("merge of %d layers, want 1 to %d", len(layers), maxLayers)
	}
	w, err := flist.NewWriter(o.TempDir)
	if err != nil {
		return flist.Summary{}, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	m := &merger{w: w, layers: layers, out: make(map[origin]flist.NodeID), blobs: make(map[flist.Blob]flist.BlobID)}
	if err := m.walk(); err != nil {
		return flist.Summary{}, err
	}
	m.describe(o)
	return w.Finish(path)
}

// merger writes the merged tree.
type merger struct {
	w      *flist.Writer
	layers []*flist.Reader
	out    map[origin]flist.NodeID     // of files with several names
	blobs  map[flist.Blob]flist.BlobID // in the result
}

// origin is a node of a layer.
type origin struct {
	layer int
	id    flist.NodeID
}

// spot is what lies at one place: a node and, if it is a directory, those that it is merged
// with, the upper first. path is where it is in the result.
type spot struct {
	nodes []origin
	out   flist.NodeID
	path  string
}

func (m *merger) node(o origin) flist.Node { return m.layers[o.layer].Node(o.id) }

// xattr returns an attribute of o, nil if it has none of that name.
func (m *merger) xattr(o origin, name string) []byte {
	n := m.node(o)
	for _, x := range m.layers[o.layer].Xattrs(n.Xattrs) {
		if x.Name == name {
			return append([]byte{}, x.Value...)
		}
	}
	return nil
}

// walk writes the tree in canonical order: all names of a directory, then its subdirectories
// one after another.
func (m *merger) walk() error {
	var roots []origin
	for i := range slices.Backward(m.layers) {
		roots = append(roots, origin{i, flist.Root})
		if string(m.xattr(origin{i, flist.Root}, opaque)) == "y" {
			break
		}
	}
	root := spot{nodes: roots}
	var err error
	if root.out, err = m.add(roots[0], roots[0]); err != nil {
		return err
	}
	for todo := []spot{root}; len(todo) > 0; {
		dir := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		below, err := m.directory(dir)
		if err != nil {
			return err
		}
		slices.Reverse(below)
		todo = append(todo, below...)
	}
	return nil
}

// directory writes the names in dir and returns its subdirectories in order.
func (m *merger) directory(dir spot) (below []spot, err error) {
	for _, name := range m.names(dir) {
		path := dir.path + "/" + name
		s, err := m.lookup(dir, name, path)
		if err != nil {
			return nil, err
		}
		if len(s.nodes) == 0 {
			continue
		}
		content := s.nodes[0]
		if n := m.node(content); n.Type() == flist.ModeRegular && m.xattr(content, metacopy) != nil {
			if content, err = m.content(dir, content, name, path); err != nil {
				return nil, err
			}
		}
		if s.out, err = m.add(s.nodes[0], content); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if err := m.w.AddEntry(dir.out, []byte(name), s.out); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if n := m.node(s.nodes[0]); n.Type() == flist.ModeDir {
			below = append(below, s)
		}
	}
	return below, nil
}

// names returns all names in the layers of dir, sorted.
func (m *merger) names(dir spot) []string {
	all := make(map[string]struct{})
	for _, o := range dir.nodes {
		for e := range m.layers[o.layer].Dir(o.id) {
			all[string(e.Name)] = struct{}{}
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// lookup returns what the result has under name in dir; no nodes if nothing.
func (m *merger) lookup(dir spot, name, path string) (spot, error) {
	s := spot{path: path}
	for i := 0; i < len(dir.nodes); i++ {
		id, ok := m.layers[dir.nodes[i].layer].Lookup(dir.nodes[i].id, []byte(name))
		if !ok {
			continue
		}
		o := origin{dir.nodes[i].layer, id}
		n := m.node(o)
		if whiteout(&n) {
			break
		}
		if n.Type() != flist.ModeDir {
			if len(s.nodes) == 0 {
				s.nodes = append(s.nodes, o)
			}
			break
		}
		s.nodes = append(s.nodes, o)
		if string(m.xattr(o, opaque)) == "y" {
			break
		}
		to := m.xattr(o, redirect)
		switch {
		case len(to) == 0:
		case to[0] != '/':
			name = string(to)
		default:
			rest, err := m.resolve(o.layer, string(to), path)
			s.nodes = append(s.nodes, rest...)
			return s, err
		}
	}
	return s, nil
}

// whiteout reports whether n says that there is nothing.
func whiteout(n *flist.Node) bool { return n.Type() == flist.ModeChar && n.Rdev == 0 }

// resolve returns the directories at the path to in the layers below one; none where there is
// no directory, which hides nothing and is no error, as in overlayfs.
func (m *merger) resolve(below int, to, path string) ([]origin, error) {
	at := spot{}
	for i := below - 1; i >= 0; i-- {
		at.nodes = append(at.nodes, origin{i, flist.Root})
	}
	for _, name := range strings.Split(strings.Trim(to, "/"), "/") {
		var err error
		if at, err = m.lookup(at, name, path); err != nil {
			return nil, err
		}
	}
	if len(at.nodes) > 0 {
		if n := m.node(at.nodes[0]); n.Type() != flist.ModeDir {
			at.nodes = nil
		}
	}
	return at.nodes, nil
}

// content returns the node that has the content of a metacopy at name in dir.
func (m *merger) content(dir spot, meta origin, name, path string) (origin, error) {
	for {
		at := spot{}
		switch to := m.xattr(meta, redirect); {
		case len(to) > 0 && to[0] == '/':
			parent, base := "/", strings.TrimPrefix(string(to), "/")
			if i := strings.LastIndexByte(string(to), '/'); i > 0 {
				parent, base = string(to[:i]), string(to[i+1:])
			}
			name = base
			if parent == "/" {
				for i := meta.layer - 1; i >= 0; i-- {
					at.nodes = append(at.nodes, origin{i, flist.Root})
				}
				break
			}
			nodes, err := m.resolve(meta.layer, parent, path)
			if err != nil {
				return origin{}, err
			}
			at.nodes = nodes
		default:
			if len(to) > 0 {
				name = string(to)
			}
			for _, o := range dir.nodes {
				if o.layer < meta.layer {
					at.nodes = append(at.nodes, o)
				}
			}
		}
		found, err := m.lookup(at, name, path)
		if err != nil {
			return origin{}, err
		}
		if len(found.nodes) == 0 {
			return origin{}, fmt.Errorf("%s: its content lies in a lower layer as %q, which is not there: %w", path, name, errs.ErrCorrupt)
		}
		o := found.nodes[0]
		if n := m.node(o); n.Type() != flist.ModeRegular {
			return origin{}, fmt.Errorf("%s: its content lies in a lower layer as %q, which is no regular file: %w", path, name, errs.ErrCorrupt)
		}
		if m.xattr(o, metacopy) == nil {
			return o, nil
		}
		meta, dir = o, at
	}
}

// add writes the node o, with the content of another, and returns its id in the result.
func (m *merger) add(o, content origin) (flist.NodeID, error) {
	n := m.node(o)
	linked := n.Type() != flist.ModeDir && n.Nlink > 1
	if linked {
		if id, met := m.out[o]; met {
			return id, nil
		}
	}
	set, err := m.w.AddXattrs(shown(m.layers[o.layer].Xattrs(n.Xattrs)))
	if err != nil {
		return 0, err
	}
	n.Xattrs = set
	if n.Type() == flist.ModeRegular {
		from := m.node(content)
		n.Size = from.Size
		if n.Object, err = m.object(content.layer, from.Object); err != nil {
			return 0, err
		}
	}
	id, err := m.w.AddNode(n)
	if linked {
		m.out[o] = id
	}
	return id, err
}

// shown returns what a mount shows of attributes.
func shown(set []flist.Xattr) []flist.Xattr {
	var out []flist.Xattr
	for _, x := range set {
		switch {
		case strings.HasPrefix(x.Name, escape):
			x.Name = prefix + strings.TrimPrefix(x.Name, escape)
		case strings.HasPrefix(x.Name, prefix):
			continue
		}
		out = append(out, flist.Xattr{Name: x.Name, Value: bytes.Clone(x.Value)})
	}
	return out
}

// object writes an object of a layer with its chunks and returns its id in the result.
func (m *merger) object(layer int, id flist.ObjectID) (flist.ObjectID, error) {
	if id == 0 {
		return 0, nil
	}
	r := m.layers[layer]
	o := r.Object(id)
	if id, met := m.w.FindObject(o.Digest); met {
		return id, nil
	}
	var extents []flist.Extent
	for e := range r.Extents(id) {
		c := r.Chunk(e.Chunk)
		to, met := m.w.FindChunk(c.Chunk)
		if !met {
			b := r.Blob(c.Blob)
			if m.blobs[b] == 0 {
				m.blobs[b] = m.w.AddBlob()
				m.w.SetBlob(m.blobs[b], b)
			}
			c.Blob = m.blobs[b]
			var err error
			if to, err = m.w.AddChunk(c); err != nil {
				return 0, err
			}
		}
		extents = append(extents, flist.Extent{Offset: e.Offset, Chunk: to})
	}
	return m.w.AddObject(o, extents)
}

// describe writes properties and sources.
func (m *merger) describe(o Options) {
	for _, r := range m.layers {
		for k, v := range r.Properties() {
			m.w.SetProperty(k, v)
		}
	}
	for k, v := range o.Properties {
		m.w.SetProperty(k, v)
	}
	sources := make(map[string]int)
	for _, r := range m.layers {
		for _, s := range r.Sources() {
			sources[s.URL] = s.Priority
		}
	}
	for _, url := range slices.Sorted(maps.Keys(sources)) {
		m.w.AddSource(flist.Source{URL: url, Priority: sources[url]})
	}
}
