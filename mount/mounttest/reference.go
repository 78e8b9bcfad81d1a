package mounttest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/internal/treetest"
)

// What the reference holds beside the odd tree, in which tests do not know names.
const (
	odd   = "odd"         // treetest.Odd
	plain = "plain"       // what every tool can copy
	hello = "plain/hello" // "hello, world\n"
	large = "plain/large" // largeSize bytes of noise
	huge  = "huge"        // hugeSize bytes, all but some of them a hole
	many  = "many"        // suite.entries empty files

	largeSize = 3<<20 + 17
	hugeSize  = 4<<30 + 400_321
)

// hugeMarks are the places in the huge file where mark lies: at the begin, across 4 GiB, past
// it, and at the end.
var hugeMarks = []int64{0, 4<<30 - 5, 4<<30 + 12_345, hugeSize - int64(len(mark))}

const mark = "0123456789abcdef"

func makeReference(t *testing.T, entries int) string {
	t.Helper()
	dir := testenv.TempDir(t)
	m := &maker{t: t, dir: dir}
	m.mkdir(odd, 0o755)
	treetest.Odd(t, filepath.Join(dir, odd), treetest.Options{Seed: 1})
	m.plain()
	m.access()
	m.huge()
	m.mkdir(many, 0o755)
	for i := range entries {
		m.must(unix.Mknod(m.path(fmt.Sprintf("%s/entry-%d", many, i)), unix.S_IFREG|0o644, 0))
	}
	return dir
}

// maker makes the reference; its methods fail the test.
type maker struct {
	t   *testing.T
	dir string
}

func (m *maker) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatalf("make reference tree: %v", err)
	}
}

func (m *maker) path(name string) string { return filepath.Join(m.dir, name) }

func (m *maker) mkdir(name string, mode uint32) {
	m.t.Helper()
	m.must(os.Mkdir(m.path(name), 0o700))
	m.must(unix.Chmod(m.path(name), mode))
}

func (m *maker) file(name string, data []byte, mode uint32) {
	m.t.Helper()
	m.must(os.WriteFile(m.path(name), data, 0o600))
	m.must(unix.Chmod(m.path(name), mode))
}

func (m *maker) plain() {
	m.mkdir(plain, 0o755)
	m.file(hello, []byte("hello, world\n"), 0o644)
	noise := make([]byte, largeSize)
	rng := rand.NewChaCha8([32]byte{1})
	_, _ = rng.Read(noise)
	m.file(large, noise, 0o644)
	m.must(os.Link(m.path(hello), m.path("plain/hello-too")))
	m.must(os.Symlink("hello", m.path("plain/symlink")))
	m.file("plain/script", []byte("#!/bin/sh\necho script $1\n"), 0o755)
	m.mkdir("plain/sub", 0o755)
	m.mkdir("plain/sub/empty", 0o755)
	m.must(unix.Setxattr(m.path(hello), "user.greeting", []byte("hello"), 0))
	m.must(unix.Setxattr(m.path(hello), "user.empty", nil, 0))

	program, err := exec.LookPath("echo")
	m.must(err)
	elf, err := os.ReadFile(program)
	m.must(err)
	m.file("plain/program", elf, 0o755)
}

// access makes names that are not open to all.
func (m *maker) access() {
	m.mkdir("access", 0o755)
	for _, mode := range []uint32{0, 0o400, 0o040, 0o004, 0o111, 0o644, 0o751} {
		if mode&0o400 == 0 && !root() {
			continue // could not be packed
		}
		m.file(fmt.Sprintf("access/file-%03o", mode), []byte("content"), mode)
	}
	for _, mode := range []uint32{0o700, 0o750, 0o711, 0o744, 0o1777} {
		name := fmt.Sprintf("access/dir-%04o", mode)
		m.mkdir(name, mode)
		m.file(name+"/file", []byte("content"), 0o644)
	}
	if !root() {
		return
	}
	m.file("access/of-group", []byte("content"), 0o640)
	m.must(os.Chown(m.path("access/of-group"), 0, 2000))
	// rw for its owner, r for user 1000 alone, nothing for the others.
	m.file("access/acl", []byte("content"), 0o600)
	m.must(unix.Setxattr(m.path("access/acl"), "system.posix_acl_access", []byte(""+
		"\x02\x00\x00\x00"+
		"\x01\x00\x06\x00\xff\xff\xff\xff"+ // owner rw-
		"\x02\x00\x04\x00\xe8\x03\x00\x00"+ // user 1000 r--
		"\x04\x00\x00\x00\xff\xff\xff\xff"+ // group ---
		"\x10\x00\x04\x00\xff\xff\xff\xff"+ // mask r--
		"\x20\x00\x00\x00\xff\xff\xff\xff"), 0)) // others ---
}

func (m *maker) huge() {
	f, err := os.Create(m.path(huge))
	m.must(err)
	m.must(f.Truncate(hugeSize))
	for _, off := range hugeMarks {
		_, err := f.WriteAt([]byte(mark), off)
		m.must(err)
	}
	m.must(f.Close())
}

// hugeAt returns what the huge file has in [off, off+n).
func hugeAt(off int64, n int) []byte {
	p := make([]byte, n)
	for _, at := range hugeMarks {
		for i := range int64(len(mark)) {
			if j := at + i - off; j >= 0 && j < int64(n) {
				p[j] = mark[i]
			}
		}
	}
	return p[:max(0, min(int64(n), hugeSize-off))]
}

// differAt returns where a and b differ first, -1 if nowhere.
func differAt(a, b []byte) int {
	if bytes.Equal(a, b) {
		return -1
	}
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}
