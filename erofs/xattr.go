package erofs

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// bodyHeader is what lies before the attributes of an inode, in bytes.
const bodyHeader = 12

// prefixes are the namespaces of the format; those with a whole name come first.
var prefixes = []struct {
	text  string
	index byte
	whole bool
}{
	{"system.posix_acl_access", 2, true},
	{"system.posix_acl_default", 3, true},
	{"user.", 1, false},
	{"trusted.", 4, false},
	{"security.", 6, false},
}

// sharedXattrs are all attributes of a tree, each distinct one once. An inode names those it
// has by their places.
type sharedXattrs struct {
	entries [][]byte
	size    int64    // of all entries, in bytes
	starts  []uint32 // by set less 1, where its places begin; and the end
	places  []uint32 // in units of 4 bytes
}

func (x *sharedXattrs) collect(t Tree) error {
	known := make(map[string]uint32)
	for set, attrs := range t.Xattrs() {
		if int(set) != len(x.starts)+1 {
			return fmt.Errorf("set of attributes %d where %d is next", set, len(x.starts)+1)
		}
		if len(attrs) > 255 {
			return fmt.Errorf("%d extended attributes on a file: %w", len(attrs), ErrUnsupported)
		}
		x.starts = append(x.starts, uint32(len(x.places)))
		for _, a := range attrs {
			p, err := encodeXattr(a)
			if err != nil {
				return err
			}
			at, ok := known[string(p)]
			if !ok {
				at = uint32(x.size / 4)
				known[string(p)] = at
				x.entries = append(x.entries, p)
				x.size += int64(len(p))
			}
			x.places = append(x.places, at)
		}
	}
	x.starts = append(x.starts, uint32(len(x.places)))
	return nil
}

func encodeXattr(a Xattr) ([]byte, error) {
	for _, p := range prefixes {
		rest, ok := strings.CutPrefix(a.Name, p.text)
		if !ok || p.whole != (rest == "") {
			continue
		}
		if len(rest) > 255 || len(a.Value) > 0xffff {
			return nil, fmt.Errorf("extended attribute %q of %d bytes: %w", a.Name, len(a.Value), ErrUnsupported)
		}
		b := append(make([]byte, 0, 8+len(rest)+len(a.Value)), byte(len(rest)), p.index)
		b = binary.LittleEndian.AppendUint16(b, uint16(len(a.Value)))
		b = append(append(b, rest...), a.Value...)
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
		return b, nil
	}
	return nil, fmt.Errorf("extended attribute %q: %w", a.Name, ErrUnsupported)
}

func (x *sharedXattrs) of(set uint32) []uint32 {
	if set == 0 {
		return nil
	}
	return x.places[x.starts[set-1]:x.starts[set]]
}

// body returns how many bytes an inode with this set needs for it.
func (x *sharedXattrs) body(set uint32) (int, error) {
	if int(set) >= len(x.starts) && set != 0 {
		return 0, fmt.Errorf("no set of attributes %d", set)
	}
	if set == 0 {
		return 0, nil
	}
	return bodyHeader + 4*len(x.of(set)), nil
}

func (x *sharedXattrs) appendBody(b []byte, set uint32) []byte {
	if set == 0 {
		return b
	}
	places := x.of(set)
	b = append(b, 0, 0, 0, 0, byte(len(places)), 0, 0, 0, 0, 0, 0, 0)
	for _, p := range places {
		b = binary.LittleEndian.AppendUint32(b, p)
	}
	return b
}
