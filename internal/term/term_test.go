package term

import (
	"bytes"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPrintable(t *testing.T) {
	tests := []struct{ name, want string }{
		{"", ""},
		{"plain name.txt", "plain name.txt"},
		{"caf\u00e9 \u65e5\u672c \U0001f600", "caf\u00e9 \u65e5\u672c \U0001f600"},
		{"a\nb\tc\r", `a\nb\tc\r`},
		{"\x1b[31mred\x1b[0m\a", `\x1b[31mred\x1b[0m\a`},
		{"\x00\x7f", `\x00\x7f`},
		{"\x9b31m", `\x9b31m`},     // CSI as a byte
		{"\u009b31m", `\u009b31m`}, // CSI as a rune
		{"\xff\xfe/\xe9", `\xff\xfe/\xe9`},
		{"cut \xe2\x82", `cut \xe2\x82`},
		{"\u202egnp.exe", `\u202egnp.exe`}, // right-to-left override
		{"zero\u200bwidth\ufeff", `zero\u200bwidth\ufeff`},
		{"\ufffd", "\ufffd"},
		{`quotes ' " \`, `quotes ' " \`},
	}
	for _, tt := range tests {
		if got := Printable([]byte(tt.name)); got != tt.want {
			t.Errorf("Printable(%q) = %s, want %s", tt.name, got, tt.want)
		}
	}
}

func FuzzPrintable(f *testing.F) {
	for _, s := range []string{"", "a", "\x1b[2J", "\xff\n", "\u202e", "\u0085"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, name []byte) {
		got := Printable(name)
		if again := Printable([]byte(got)); again != got {
			t.Errorf("Printable(%q) = %q, which is not printable itself", name, got)
		}
		for i := range len(got) {
			if c := got[i]; c < ' ' || c == 0x7f {
				t.Errorf("Printable(%q) has the control character %#x", name, c)
			}
		}
	})
}

func TestTerminal(t *testing.T) {
	_, tty := openPTY(t, 132)
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	type facts struct {
		Terminal, Color bool
		Width           int
	}
	look := func(w *os.File) facts { return facts{IsTerminal(w), Color(w), Width(w)} }
	tests := []struct {
		name          string
		term, noColor string
		w             *os.File
		want          facts
	}{
		{"terminal", "xterm", "", tty, facts{true, true, 132}},
		{"NO_COLOR", "xterm", "1", tty, facts{true, false, 132}},
		{"dumb", "dumb", "", tty, facts{true, false, 132}},
		{"file", "xterm", "", file, facts{false, false, 80}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("TERM", tt.term)
			t.Setenv("NO_COLOR", tt.noColor)
			if diff := cmp.Diff(tt.want, look(tt.w)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	if IsTerminal(new(bytes.Buffer)) {
		t.Error("IsTerminal(bytes.Buffer) = true")
	}
}
