package ref_test

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/ref"
)

// flistFile writes an flist of the user's own and returns a reference to it, and its digest.
func flistFile(t testing.TB, sources ...string) (ref.Ref, flist.Digest) {
	t.Helper()
	p, d := makeFlist(t, sources...)
	path := filepath.Join(t.TempDir(), "tree.flist")
	write(t, path, p)
	return ref.Ref{Path: path}, d
}

func write(t testing.TB, path string, p []byte) {
	t.Helper()
	if err := os.WriteFile(path, p, 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	p, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// openDigest opens r, sees that it is d, and closes it.
func openDigest(t testing.TB, r ref.Ref, o ref.Options, d flist.Digest) {
	t.Helper()
	op, err := ref.Open(t.Context(), r, o)
	if err != nil {
		t.Fatalf("Open(%v) = %v", r, err)
	}
	if op.Flist.Digest() != d || op.Ref.Digest != d || op.Flist.Counts().Nodes != 1 {
		t.Errorf("Open has %v, want %v", op.Flist.Digest(), d)
	}
	if err := op.Close(); err != nil {
		t.Errorf("Close = %v", err)
	}
}

// inode returns what a file is known by, and sees that no other file is known by that until
// the test ends. A copy is never written to, but replaced after each whole check: an Open that
// leaves it the same file has used it.
func inode(t testing.TB, path string) os.FileInfo {
	t.Helper()
	if err := os.Link(path, filepath.Join(t.TempDir(), "pinned")); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func TestCheckedHub(t *testing.T) {
	testenv.NoLeaks(t)
	p, d := makeFlist(t)
	h := newHub(t, p, d)
	o := ref.Options{Dir: t.TempDir()}
	openDigest(t, h.ref(), o, d)
	kept := filepath.Join(o.Dir, "flists", d.String())
	first := inode(t, kept+".checked")
	write(t, kept+".flist", []byte("nothing that could be checked"))
	o.Offline = true
	openDigest(t, h.ref(), o, d)
	if !os.SameFile(first, inode(t, kept+".checked")) {
		t.Error("the second Open wrote another copy")
	}
}

func TestCheckedPath(t *testing.T) {
	testenv.NoLeaks(t)
	r, d := flistFile(t)
	o := ref.Options{Dir: t.TempDir()}
	openDigest(t, r, o, d)
	kept := filepath.Join(o.Dir, "flists", d.String()+".checked")
	first := inode(t, kept)
	openDigest(t, r, o, d)
	if !os.SameFile(first, inode(t, kept)) {
		t.Error("the second Open did not use the copy")
	}
	// The file is asked each time what it is.
	p, other := makeFlist(t, "https://mirror.example")
	write(t, r.Path, p)
	openDigest(t, r, o, other)
	write(t, r.Path, p[:len(p)-1])
	if op, err := ref.Open(t.Context(), r, o); !errors.Is(err, errs.ErrCorrupt) {
		t.Errorf("Open of a file that was cut = %v, %v; want %v", op, err, errs.ErrCorrupt)
	}
	if n := len(files(t, o.Dir)); n != 2 {
		t.Errorf("%d files are kept, want the copies of two flists", n)
	}
	if err := os.Remove(r.Path); err != nil {
		t.Fatal(err)
	}
	if op, err := ref.Open(t.Context(), r, o); !errors.Is(err, errs.ErrNotFound) {
		t.Errorf("Open of a file that is gone = %v, %v; want %v", op, err, errs.ErrNotFound)
	}
}

// TestCheckedPipe has an flist that can be read only once.
func TestCheckedPipe(t *testing.T) {
	testenv.NoLeaks(t)
	p, d := makeFlist(t)
	r := ref.Ref{Path: filepath.Join(t.TempDir(), "pipe")}
	if err := unix.Mkfifo(r.Path, 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- os.WriteFile(r.Path, p, 0o600) }()
	openDigest(t, r, ref.Options{Dir: t.TempDir()}, d)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestCheckedDamaged has copies of no use: the flist itself is opened, and they are replaced.
func TestCheckedDamaged(t *testing.T) {
	testenv.NoLeaks(t)
	r, d := flistFile(t)
	o := ref.Options{Dir: t.TempDir()}
	openDigest(t, r, o, d)
	kept := filepath.Join(o.Dir, "flists", d.String()+".checked")
	good := read(t, kept)
	foreign, fd := flistFile(t, "https://evil.example")
	openDigest(t, foreign, o, fd)
	other := read(t, filepath.Join(o.Dir, "flists", fd.String()+".checked"))
	flip := func(at int) []byte {
		p := bytes.Clone(good)
		p[at] ^= 1
		return p
	}
	for name, bad := range map[string][]byte{
		"flipped bit": flip(5000), "flipped at the end": flip(len(good) - 1), "torn": good[:len(good)/2], "empty": nil,
		"that of another flist": other, "an flist": read(t, r.Path),
	} {
		write(t, kept, bad)
		was := inode(t, kept)
		openDigest(t, r, o, d)
		if os.SameFile(was, inode(t, kept)) || !bytes.Equal(good, read(t, kept)) {
			t.Errorf("%s: the copy was not replaced", name)
		}
	}
	if err := os.Chmod(kept, 0o666); err != nil {
		t.Fatal(err)
	}
	was := inode(t, kept)
	openDigest(t, r, o, d)
	if now := inode(t, kept); os.SameFile(was, now) || now.Mode().Perm() != 0o600 {
		t.Errorf("a copy that everybody may write to was used, or %v is made", now.Mode())
	}
}

// TestCheckedUnwritable has a place for the copy where none can be written.
func TestCheckedUnwritable(t *testing.T) {
	testenv.NoLeaks(t)
	r, d := flistFile(t)
	var log strings.Builder
	o := ref.Options{Dir: t.TempDir(), Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	if err := os.MkdirAll(filepath.Join(o.Dir, "flists", d.String()+".checked", "child"), 0o700); err != nil {
		t.Fatal(err)
	}
	openDigest(t, r, o, d)
	if !strings.Contains(log.String(), "no checked copy is kept") || strings.Contains(log.String(), "WARN") {
		t.Errorf("log:\n%s\nwant one line of debugging about it", &log)
	}
}

// TestCheckedFull has room for the private copy of an flist, and none for a checked one.
func TestCheckedFull(t *testing.T) {
	testenv.NeedRoot(t)
	r, d := flistFile(t)
	o := ref.Options{Dir: t.TempDir()}
	openDigest(t, r, o, d)
	need := inode(t, filepath.Join(o.Dir, "flists", d.String()+".checked")).Size()
	o.Dir = t.TempDir()
	if err := unix.Mount("tmpfs", o.Dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	testenv.Mounted(t, o.Dir)
	write(t, filepath.Join(o.Dir, "filler"), make([]byte, 1<<20-need-8192))
	openDigest(t, r, o, d)
	if left := files(t, o.Dir); len(left) != 1 {
		t.Errorf("Open on a full disk left %v", left)
	}
}

// TestCheckedRace opens one flist for the first time in many places at once.
func TestCheckedRace(t *testing.T) {
	testenv.NoLeaks(t)
	r, d := flistFile(t)
	o := ref.Options{Dir: t.TempDir()}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 4 {
				op, err := ref.Open(t.Context(), r, o)
				if err != nil {
					t.Errorf("Open = %v", err)
					return
				}
				if op.Flist.Digest() != d {
					t.Errorf("Open has %v, want %v", op.Flist.Digest(), d)
				}
				if err := op.Close(); err != nil {
					t.Errorf("Close = %v", err)
				}
			}
		})
	}
	wg.Wait()
	if left := files(t, o.Dir); len(left) != 1 {
		t.Errorf("what is left: %v", left)
	}
}
