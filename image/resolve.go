package image

import (
	"io/fs"
	"strings"
	"syscall"

	"github.com/zosfs/zosfs/flist"
)

// maxLinks is how many symlinks one path may follow, as on Linux (MAXSYMLINKS).
const maxLinks = 40

// follow says which symlinks a path follows.
type follow int

const (
	followNone  follow = iota // none: one on the way is as good as a missing file
	followOnWay               // those before the last name, as lstat(2) does
	followAll                 // as stat(2) does
)

// Resolve returns the node at path: names of any bytes with slashes between, from the root,
// which is "" or "/". Empty names and "." are passed over, ".." is the parent, of the root
// the root. No symlink is followed. A path that is not there is a [*fs.PathError] with
// fs.ErrNotExist.
func (t *Tree) Resolve(path string) (flist.NodeID, error) {
	return t.resolveAs("resolve", path, followNone)
}

// ResolveLink is Resolve, but follows symlinks before the last name, as lstat(2) does. See
// [Tree.ResolveFollow].
func (t *Tree) ResolveLink(path string) (flist.NodeID, error) {
	return t.resolveAs("resolve", path, followOnWay)
}

// ResolveFollow is Resolve, but follows symlinks, never out of the image: an absolute target
// begins at its root. More than 40 of them are syscall.ELOOP.
func (t *Tree) ResolveFollow(path string) (flist.NodeID, error) {
	return t.resolveAs("resolve", path, followAll)
}

func (t *Tree) resolveAs(op, path string, f follow) (flist.NodeID, error) {
	id, err := t.resolve(path, f)
	if err != nil {
		return 0, &fs.PathError{Op: op, Path: path, Err: err}
	}
	return id, nil
}

func (t *Tree) resolve(path string, f follow) (flist.NodeID, error) {
	at, links := flist.Root, 0
	for {
		path = strings.TrimLeft(path, "/")
		if path == "" {
			return at, nil
		}
		name, rest, more := strings.Cut(path, "/")
		next, ok := t.step(at, name)
		if !ok {
			return 0, fs.ErrNotExist
		}
		switch {
		case t.isType(next, flist.ModeSymlink) && (f == followAll || f == followOnWay && more):
			if links++; links > maxLinks {
				return 0, syscall.ELOOP
			}
			target := t.Target(next)
			if strings.HasPrefix(target, "/") {
				at = flist.Root
			}
			if path = target; more {
				path += "/" + rest
			}
		case more && !t.isType(next, flist.ModeDir):
			return 0, fs.ErrNotExist
		default:
			at, path = next, rest
		}
	}
}

func (t *Tree) step(at flist.NodeID, name string) (flist.NodeID, bool) {
	switch name {
	case ".":
		return at, true
	case "..":
		return t.Parent(at), true
	}
	return t.Lookup(at, name)
}
