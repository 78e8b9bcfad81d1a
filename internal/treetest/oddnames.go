package treetest

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// longest is the largest length of a name, in bytes.
const longest = 255

func (b *odd) names() {
	d := b.mkdir("names")
	for _, name := range []string{
		"new\nline", "carriage\rreturn", "tab\t", "nul-less\x01\x02\x7f", "\x1b[31mred\x1b[0m", "bell\a",
		`"double"`, `'single'`, `back\slash`, "`tick`", "$HOME", "$(true)", "%s%n", "*", "?", "[a]", "a;b", "#hash", "~",
		"-", "--", "-rf", "--help", " ", " lead", "trail ", "...", "..a", ".hidden", ":", "con", "a.",
		"\xff\xfe", "latin1-\xe9", "cut-\xe2\x82", "overlong-\xc0\xaf", "surrogate-\xed\xa0\x80",
		"\u00e9", "e\u0301", "\u65e5\u672c\u8a9e", "\U0001f600", "\u202eright-to-left", "\u200b", "\ufeffbom",
		"Case", "case", "CASE",
		strings.Repeat("n", longest), strings.Repeat("\xff", longest), strings.Repeat("\u00e9", longest/2),
	} {
		b.text(d+name, name)
	}
	// Every byte that can be a name; the order of names is that of bytes.
	d = b.mkdir("names/bytes")
	for c := 1; c < 256; c++ {
		if c != '/' && c != '.' {
			b.text(d+string([]byte{byte(c)}), "")
		}
	}
	d = b.mkdir("names/\xffdir\n")
	b.text(d+"file", "in a directory with an odd name")
}

func (b *odd) symlinks() {
	d := b.mkdir("symlinks")
	b.text(d+"file", "target")
	for name, target := range map[string]string{
		"relative": "file", "dangling": "no/such/file", "absolute": "/etc/passwd", "self": "self",
		"loop-a": "loop-b", "loop-b": "loop-a", "root": "/", "dot": ".", "dotdot": "..", "up": "../../../../../../..",
		"slashes": "//file///", "space": " ", "not-utf8": "\xff\xfe/\n", "directory": "../empty/directory",
		"longest": strings.Repeat("t/", 2047) + "t", // 4095 bytes
		"inline":  strings.Repeat("i", 59),          // the longest that ext4 keeps in the inode
		"outline": strings.Repeat("o", 60),
	} {
		b.symlink(d+name, target)
	}
}

// deep makes directories whose path is longer than PATH_MAX, and some that are many.
func (b *odd) deep() {
	b.chain(b.mkdir("deep/long"), strings.Repeat("d", longest), 20)
	b.chain(b.mkdir("deep/levels"), "d", 300)
}

// chain makes n directories of that name one in the other below d, with a file in the last.
func (b *odd) chain(d, name string, n int) {
	dir, err := openat(unix.AT_FDCWD, b.path(d), unix.O_DIRECTORY)
	b.must(err)
	for range n {
		b.must(unix.Mkdirat(int(dir.Fd()), name, 0o755))
		next, err := openat(int(dir.Fd()), name, unix.O_DIRECTORY)
		b.must(errors.Join(err, dir.Close()))
		dir = next
	}
	fd, err := unix.Openat(int(dir.Fd()), "file", unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
	b.must(err)
	f := os.NewFile(uintptr(fd), "file")
	_, err = f.WriteString("at the bottom")
	b.must(errors.Join(err, unix.Fsetxattr(fd, "user.depth", []byte("deep"), 0), f.Close()))
	b.must(unix.Symlinkat("file", int(dir.Fd()), "symlink"))
	b.must(dir.Close())
}

// many makes a directory of n entries, most of them empty files.
func (b *odd) many(n int) {
	d := b.mkdir(fmt.Sprintf("many-%d", n))
	for i := range n {
		name := fmt.Sprintf("%sentry-%d%s", d, i, strings.Repeat("-", i%40))
		switch i % 50 {
		case 7:
			b.symlink(name, "entry-0")
		case 8:
			b.mkdir(name)
		case 9:
			b.text(name, name)
		default:
			b.mknod(name, unix.S_IFREG|0o644, 0)
		}
	}
}
