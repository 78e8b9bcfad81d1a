package fusefs

import (
	"strings"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/image"
)

// isACL reports whether name is one that the kernel turns into access control.
func isACL(name string) bool {
	return name == "system.posix_acl_access" || name == "system.posix_acl_default"
}

// GetXAttr declines once for all where no node has any, so that the kernel stops asking
// (it would, at each exec). ERANGE and the size is how the caller wants probing answered.
func (t *tree) GetXAttr(_ <-chan struct{}, h *fuse.InHeader, name string, dest []byte) (uint32, fuse.Status) {
	t.add(opGetXattr)
	set, st := t.xattrs(h)
	if !st.Ok() {
		return 0, st
	}
	for _, x := range set {
		if image.ShownXattr(x.Name) != name {
			continue
		}
		if len(x.Value) > len(dest) {
			return uint32(len(x.Value)), fuse.ERANGE
		}
		return uint32(copy(dest, x.Value)), fuse.OK
	}
	return 0, missing(name)
}

// missing is the answer for an attribute that a node does not have: Linux file systems tell
// names that they could hold from others.
func missing(name string) fuse.Status {
	for _, space := range []string{"user.", "trusted.", "security."} {
		if rest, ok := strings.CutPrefix(name, space); ok && rest == "" {
			return fuse.EINVAL
		} else if ok {
			return fuse.ENODATA
		}
	}
	if isACL(name) {
		return fuse.ENODATA
	}
	return fuse.ENOTSUP
}

// ListXAttr leaves the trusted names out for all but root, as other file systems do.
func (t *tree) ListXAttr(_ <-chan struct{}, h *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	t.add(opListXattr)
	set, st := t.xattrs(h)
	if !st.Ok() {
		return 0, st
	}
	size := 0
	for _, x := range set {
		name := image.ShownXattr(x.Name)
		if h.Uid != 0 && strings.HasPrefix(name, "trusted.") {
			continue
		}
		end := size + len(name) + 1
		if end <= len(dest) {
			dest[size+copy(dest[size:], name)] = 0
		}
		size = end
	}
	if size > len(dest) {
		return uint32(size), fuse.ERANGE
	}
	return uint32(size), fuse.OK
}

func (t *tree) xattrs(h *fuse.InHeader) ([]flist.Xattr, fuse.Status) {
	if !t.hasXattrs {
		return nil, fuse.ENOSYS
	}
	id, ok := t.node(h)
	if !ok {
		return nil, fuse.Status(syscall.ESTALE)
	}
	return t.nodes.Xattrs(id), fuse.OK
}
