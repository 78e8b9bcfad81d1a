// Package term speaks to people at a terminal: it knows whether one is there, makes names
// safe to show, and shows the progress of long work.
package term

import (
	"io"
	"os"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/term"
)

// defaultWidth is that of a terminal which does not tell its width.
const defaultWidth = 80

// IsTerminal reports whether v, a reader or writer, is a terminal.
func IsTerminal(v any) bool {
	f, ok := v.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Width returns the columns of the terminal w; 80 where w is none or does not tell.
func Width(w io.Writer) int {
	if f, ok := w.(*os.File); ok {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
			return width
		}
	}
	return defaultWidth
}

// Color reports whether what is written to w may have colours: where w is a terminal that
// obeys escape sequences, and NO_COLOR (no-color.org) is not set.
func Color(w io.Writer) bool {
	return os.Getenv("NO_COLOR") == "" && obeys(w)
}

// obeys reports whether w is a terminal that knows escape sequences.
func obeys(w io.Writer) bool {
	return os.Getenv("TERM") != "dumb" && IsTerminal(w)
}

// Printable returns name with all that a terminal could obey, and all that is not UTF-8,
// written as Go writes it in a string: \n, \x1b, \xff, \u202e. It is one line, for people:
// a name that has such an escape itself looks the same.
func Printable(name []byte) string {
	var s strings.Builder
	s.Grow(len(name))
	for len(name) > 0 {
		r, n := utf8.DecodeRune(name)
		switch {
		case r == utf8.RuneError && n == 1:
			s.WriteString(`\x`)
			s.WriteString(strconv.FormatUint(uint64(name[0]), 16))
		case unicode.IsPrint(r):
			s.WriteRune(r)
		default:
			q := strconv.QuoteRune(r)
			s.WriteString(q[1 : len(q)-1])
		}
		name = name[n:]
	}
	return s.String()
}
