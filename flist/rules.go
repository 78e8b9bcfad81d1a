package flist

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/zosfs/zosfs/errs"
)

// corrupt makes an errs.ErrCorrupt.
func corrupt(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, errs.ErrCorrupt)...)
}

func checkName(name []byte) error {
	switch {
	case len(name) == 0 || len(name) > MaxName:
		return corrupt("name %.300q of %d bytes, want 1 to %d", name, len(name), MaxName)
	case string(name) == "." || string(name) == "..":
		return corrupt("name %q", name)
	case bytes.IndexByte(name, '/') >= 0 || bytes.IndexByte(name, 0) >= 0:
		return corrupt("name %q has a slash or NUL", name)
	}
	return nil
}

func checkXattr(name string, value []byte) error {
	if len(name) == 0 || len(name) > MaxXattrName || strings.IndexByte(name, 0) >= 0 {
		return corrupt("extended attribute %.300q: no such name", name)
	}
	if len(value) > MaxXattrValue {
		return corrupt("extended attribute %q: %d bytes, want at most %d", name, len(value), MaxXattrValue)
	}
	return nil
}

// checkNode checks what can be seen from the node alone.
func checkNode(n *Node) error {
	t := n.Type()
	switch t {
	case ModeSocket, ModeSymlink, ModeRegular, ModeBlock, ModeDir, ModeChar, ModeFIFO:
	default:
		return corrupt("mode %#o: no such type of file", n.Mode)
	}
	switch {
	case n.Mode > 0o177777:
		return corrupt("mode %#o: more than 16 bits", n.Mode)
	case n.Rdev != 0 && t != ModeBlock && t != ModeChar:
		return corrupt("device number %#x, mode %#o", n.Rdev, n.Mode)
	case t == ModeRegular && (n.Size < 0 || (n.Size > 0) != (n.Object != 0)):
		return corrupt("regular file of %d bytes with object %d", n.Size, n.Object)
	case t == ModeSymlink && (len(n.Target) == 0 || len(n.Target) > MaxTarget || n.Size != int64(len(n.Target)) || bytes.IndexByte(n.Target, 0) >= 0):
		return corrupt("symlink of %d bytes with a target of %d", n.Size, len(n.Target))
	case t != ModeRegular && n.Object != 0:
		return corrupt("object %d, mode %#o", n.Object, n.Mode)
	case t != ModeSymlink && len(n.Target) != 0:
		return corrupt("symlink target, mode %#o", n.Mode)
	case t != ModeRegular && t != ModeSymlink && n.Size != 0:
		return corrupt("size %d, mode %#o", n.Size, n.Mode)
	}
	return nil
}
