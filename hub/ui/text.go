package ui

import (
	"fmt"
	"html/template"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

var functions = template.FuncMap{
	"text": Text, "size": size, "count": count, "date": date, "stamp": stamp, "short": short,
	"mode": modeString, "kind": kind, "tree": TreeURL, "crumbs": crumbs, "child": child, "ref": refText, "device": device, "saved": saved,
}

// Text returns s for people: bytes that are not UTF-8 and characters that cannot be seen or
// that change the order of others are written as escapes.
func Text(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case r == ' ' || unicode.IsPrint(r):
			b.WriteString(s[:n])
		case r < 0x80:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			fmt.Fprintf(&b, `\u{%x}`, r)
		}
		s = s[n:]
	}
	return b.String()
}

// TreeURL returns the path of the page of a file or directory, from names of arbitrary
// bytes. It ends in a slash.
func TreeURL(owner, name, ref string, path []string) string {
	u := "/" + owner + "/" + name + "/tree/" + ref + "/"
	for _, p := range path {
		u += url.PathEscape(p) + "/"
	}
	return u
}

// child returns the page of an entry of t.
func child(t Tree, name string) string {
	return TreeURL(t.Owner, t.Name, t.Ref, append(t.Path[:len(t.Path):len(t.Path)], name))
}

// A crumb is a directory above.
type crumb struct{ Name, URL string }

func crumbs(t Tree) []crumb {
	out := []crumb{{"/", TreeURL(t.Owner, t.Name, t.Ref, nil)}}
	for i, p := range t.Path {
		out = append(out, crumb{p, TreeURL(t.Owner, t.Name, t.Ref, t.Path[:i+1])})
	}
	return out
}

// refText is how owner/name goes on in a reference.
func refText(ref string) string {
	if strings.HasPrefix(ref, "@") {
		return ref
	}
	return ":" + ref
}

func size(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	v, i := float64(n)/1024, 0
	for v >= 999.95 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	return fmt.Sprintf("%.1f %ciB", v, units[i])
}

// count writes n with thin groups of thousands.
func count(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "\u202f" + s[i:]
	}
	return s
}

// saved is how much smaller the stored form is than the files, in percent.
func saved(v Version) string {
	if v.Bytes <= 0 || v.Stored >= v.Bytes {
		return ""
	}
	return fmt.Sprintf("%d %% smaller", int(100*(1-float64(v.Stored)/float64(v.Bytes))))
}

func date(t time.Time) string { return t.UTC().Format("2006-01-02 15:04") }

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func short(digest string) string { return digest[:min(12, len(digest))] }

// The types of st_mode.
const (
	typeMask, typeDir, typeLink         = 0o170000, 0o040000, 0o120000
	typeChar, typeBlock, typeFIFO       = 0o020000, 0o060000, 0o010000
	typeSocket, setUID, setGID, stickyT = 0o140000, 0o4000, 0o2000, 0o1000
)

// kind returns one word for the type of mode.
func kind(mode uint32) string {
	switch mode & typeMask {
	case typeDir:
		return "directory"
	case typeLink:
		return "symlink"
	case typeChar:
		return "character device"
	case typeBlock:
		return "block device"
	case typeFIFO:
		return "fifo"
	case typeSocket:
		return "socket"
	}
	return "file"
}

// modeString returns mode as ls -l has it.
func modeString(mode uint32) string {
	b := []byte("?rwxrwxrwx")
	b[0] = map[uint32]byte{typeDir: 'd', typeLink: 'l', typeChar: 'c', typeBlock: 'b', typeFIFO: 'p', typeSocket: 's'}[mode&typeMask]
	if b[0] == 0 {
		b[0] = '-'
	}
	for i := range 9 {
		if mode>>(8-i)&1 == 0 {
			b[1+i] = '-'
		}
	}
	for _, s := range []struct {
		bit uint32
		at  int
		on  byte
	}{{setUID, 3, 's'}, {setGID, 6, 's'}, {stickyT, 9, 't'}} {
		if mode&s.bit == 0 {
			continue
		}
		if b[s.at] == '-' {
			b[s.at] = s.on - 'a' + 'A'
		} else {
			b[s.at] = s.on
		}
	}
	return string(b)
}

// device returns major and minor number of the kernel's huge encoding.
func device(rdev uint64) string {
	major := rdev>>8&0xfff | rdev>>32&^0xfff
	minor := rdev&0xff | rdev>>12&0xffffff00
	return fmt.Sprintf("%d, %d", major, minor)
}
