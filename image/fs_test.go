package image_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/image"
)

func TestFS(t *testing.T) {
	specs := slices.DeleteFunc(odd(), func(s spec) bool {
		// What TestFS cannot take: names that are not UTF-8, nodes that open but do not
		// read, links that lead nowhere.
		return !fs.ValidPath(s.path) || strings.HasPrefix(s.path, "dev") || s.path == "loop" || s.path == "usr/bin/gone"
	})
	w := build(t, packing{}, specs...)
	fsys := w.open(t, nil, image.Options{}).FS()
	if err := fstest.TestFS(fsys, "usr/bin/sh", "usr/bin/zsh", "etc/passwd", "etc/empty", "zz/a/b/c", "empty1"); err != nil {
		t.Error(err)
	}
}

func TestFSFollowsInside(t *testing.T) {
	w := build(t, packing{}, odd()...)
	fsys := w.open(t, nil, image.Options{}).FS()
	for name, want := range map[string]string{"bin/abs": "usr/bin/sh", "usr/bin/up/passwd": "etc/passwd"} {
		if got, err := fs.ReadFile(fsys, name); err != nil || !bytes.Equal(got, w.content[want]) {
			t.Errorf("ReadFile(%q) = %d bytes, %v, want those of %s", name, len(got), err, want)
		}
	}
	if got, err := fs.ReadLink(fsys, "usr/bin/up"); err != nil || got != "../../../../etc/" {
		t.Errorf("ReadLink(up) = %q, %v", got, err)
	}
	if _, err := fs.ReadLink(fsys, "etc"); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("ReadLink(etc) = %v, want %v", err, fs.ErrInvalid)
	}
	if _, err := fs.ReadFile(fsys, "usr/bin/gone"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("ReadFile(gone) = %v, want %v", err, fs.ErrNotExist)
	}
	for _, name := range []string{"dev/null", "dev/fifo", "etc"} {
		if _, err := fs.ReadFile(fsys, name); err == nil {
			t.Errorf("ReadFile(%q) succeeds, want an error: it is no regular file", name)
		}
	}
	if _, err := fs.ReadDir(fsys, "etc/passwd"); err == nil {
		t.Error("ReadDir(etc/passwd) succeeds, want an error")
	}
}

func TestFSInfo(t *testing.T) {
	w := build(t, packing{}, odd()...)
	im := w.open(t, nil, image.Options{})
	for name, want := range map[string]fs.FileMode{
		".":           fs.ModeDir | 0o751,
		"usr/bin/sh":  fs.ModeSetuid | 0o755,
		"dev/null":    fs.ModeDevice | fs.ModeCharDevice | 0o666,
		"dev/sda":     fs.ModeDevice | 0o660,
		"dev/fifo":    fs.ModeNamedPipe | 0o600,
		"dev/sock":    fs.ModeSocket | 0o600,
		"bin":         fs.ModeSymlink | 0o777,
		"empty1":      fs.ModeDir | fs.ModeSticky | 0o777,
		"empty2":      fs.ModeDir | fs.ModeSetgid | 0o755,
		"usr/bin/zsh": fs.ModeSetuid | 0o755,
	} {
		i, err := fs.Lstat(im.FS(), name)
		if err != nil || i.Mode() != want {
			t.Errorf("Lstat(%q) has mode %v, %v, want %v", name, i.Mode(), err, want)
			continue
		}
		if a, ok := i.Sys().(image.Attr); !ok || a != im.Tree().Attr(find(t, im, name)) {
			t.Errorf("Lstat(%q).Sys() = %+v, want the Attr of the node", name, i.Sys())
		}
	}
	i, err := fs.Stat(im.FS(), "usr/bin/sh")
	if err != nil || !i.ModTime().Equal(time.Unix(0, -5)) || i.Size() != 5000 {
		t.Errorf("Stat(sh) = %v, %v, want size 5000 and 5 ns before 1970", i, err)
	}
}

func TestFile(t *testing.T) {
	data := noise(1, 100_000)
	w := build(t, packing{chunk: 30_000}, whole("f", data))
	im := w.open(t, nil, image.Options{})
	f, err := im.FS().Open("f")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(io.NewSectionReader(f.(io.ReaderAt), 29_990, 20)); err != nil || !bytes.Equal(got, data[29_990:30_010]) {
		t.Errorf("section = %x, %v, want %x", got, err, data[29_990:30_010])
	}
	s := f.(io.ReadSeeker)
	if pos, err := s.Seek(-10, io.SeekEnd); err != nil || pos != 99_990 {
		t.Errorf("Seek(-10, end) = %d, %v, want 99990", pos, err)
	}
	if got, err := io.ReadAll(s); err != nil || !bytes.Equal(got, data[99_990:]) {
		t.Errorf("ReadAll at the end = %x, %v, want %x", got, err, data[99_990:])
	}
	if pos, err := s.Seek(-1, io.SeekStart); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("Seek(-1) = %d, %v, want %v", pos, err, fs.ErrInvalid)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if _, err := f.Read(make([]byte, 1)); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("Read after Close = %v, want %v", err, fs.ErrClosed)
	}
	if err := f.Close(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("second Close = %v, want %v", err, fs.ErrClosed)
	}
	d, err := im.FS().Open(".")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Read(make([]byte, 1)); err == nil {
		t.Error("Read of a directory succeeds")
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

func TestReadAtRules(t *testing.T) {
	data := noise(1, 1000)
	w := build(t, packing{}, whole("f", data), spec{path: "empty"}, spec{path: "hole", size: 5000},
		spec{path: "fifo", node: flist.Node{Mode: flist.ModeFIFO}})
	im := w.open(t, nil, image.Options{})
	tests := []struct {
		path string
		off  int64
		n    int
		want []byte
		err  error
	}{
		{"f", 0, 1000, data, nil},
		{"f", 990, 20, data[990:], io.EOF},
		{"f", 1000, 1, nil, io.EOF},
		{"f", 1 << 62, 1, nil, io.EOF},
		{"f", 5, 0, nil, nil},
		{"f", -1, 1, nil, fs.ErrInvalid},
		{"empty", 0, 1, nil, io.EOF},
		{"hole", 4990, 20, make([]byte, 10), io.EOF},
		{"fifo", 0, 1, nil, fs.ErrInvalid},
		{".", 0, 1, nil, fs.ErrInvalid},
	}
	for _, tt := range tests {
		p := bytes.Repeat([]byte{0xaa}, tt.n)
		n, err := im.ReadAt(t.Context(), find(t, im, tt.path), p, tt.off)
		if !bytes.Equal(p[:n], tt.want) || !errors.Is(err, tt.err) || (err == nil) != (tt.err == nil) {
			t.Errorf("ReadAt(%s, %d bytes at %d) = %d bytes, %v, want %d, %v", tt.path, tt.n, tt.off, n, err, len(tt.want), tt.err)
		}
	}
}
