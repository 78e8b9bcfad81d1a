package image

import (
	"path"

	"github.com/zosfs/zosfs/flist"
)

// find returns the first node that has the object, and a path of it without a slash in front. It
// looks through all nodes and entries, which is for messages, not for serving.
func find(r *flist.Reader, object flist.ObjectID) (flist.NodeID, string) {
	var node flist.NodeID
	for id, n := range r.Nodes() {
		if n.Object == object {
			node = id
			break
		}
	}
	type place struct {
		dir  flist.NodeID
		name string
	}
	dirs := map[flist.NodeID]place{} // those that were met so far; a directory has a lower id than what is in it
	for e := range r.Entries() {
		if e.Node != node {
			if n := r.Node(e.Node); n.Type() == flist.ModeDir {
				dirs[e.Node] = place{e.Parent, string(e.Name)}
			}
			continue
		}
		p := string(e.Name)
		for at := e.Parent; at != flist.Root; at = dirs[at].dir {
			p = path.Join(dirs[at].name, p)
		}
		return node, p
	}
	return 0, ""
}
