package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/internal/treetest"
)

func testLab(t *testing.T) *lab {
	t.Helper()
	l, err := newLab(testenv.TempDir(t), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(l.dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("stat of a closed lab = %v, want it gone", err)
		}
	})
	return l
}

func TestParse(t *testing.T) {
	o, err := parse([]string{"-quick", "-only", "pack,link", "-rate", "8"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if o.files != 8_000 || o.big != 256<<20 || o.line.rate != 1e6 || slices.Contains(o.entries, 1_000_000) {
		t.Errorf("quick options = %+v", o)
	}
	for _, args := range [][]string{{"-only", "tea"}, {"-n", "0"}, {"more"}, {"-no-such"}} {
		if _, err := parse(args, io.Discard); err == nil {
			t.Errorf("parse(%q) = nil, want an error", args)
		}
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	l := testLab(t)
	ctx, cancel := context.WithCancel(t.Context())
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	done := make(chan error, 1)
	go func() {
		_, err := l.run(ctx, command{args: []string{"sh", "-c", "echo running; while :; do sleep 1; done"}, out: w})
		done <- err
	}()
	if _, err := r.Read(make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("run = %v, want context.Canceled", err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestRunTellsOfErrorsAndMemory(t *testing.T) {
	l := testLab(t)
	_, err := l.run(t.Context(), command{args: []string{"sh", "-c", "echo why >&2; exit 3"}})
	if err == nil || !bytes.Contains([]byte(err.Error()), []byte("why")) {
		t.Errorf("run = %v, want an error with what the program said", err)
	}
	out, err := l.run(t.Context(), command{args: []string{"cat"}, in: bytes.NewReader([]byte("tea"))})
	if err != nil || string(out.stdout) != "tea" || out.wall <= 0 {
		t.Errorf("run(cat) = %q, %v, %v, want tea", out.stdout, out.wall, err)
	}
	if own := memory(os.Getpid(), "VmHWM"); own < 1<<20 {
		t.Errorf("memory of this process = %d, want megabytes", own)
	}
}

func TestService(t *testing.T) {
	l := testLab(t)
	s, err := l.start("sleeper", command{args: []string{"sleep", "1000"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.await(t.Context(), func() bool { return memory(s.pid(), "VmRSS") > 0 }); err != nil {
		t.Fatal(err)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if err := s.await(t.Context(), func() bool { return false }); err == nil {
		t.Error("await of a service that has ended = nil, want an error")
	}
}

func TestRemoveTreeLeavesMountedContent(t *testing.T) {
	testenv.NeedRoot(t)
	l, keep := testLab(t), t.TempDir()
	if err := os.WriteFile(filepath.Join(keep, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	dir, err := l.mkdir("tree", "mnt")
	if err != nil {
		t.Fatal(err)
	}
	testenv.Mounted(t, dir)
	if _, err := l.run(t.Context(), command{args: []string{"mount", "--bind", keep, dir}}); err != nil {
		t.Fatal(err)
	}
	if got := mountsBelow(l.dir); !slices.Equal(got, []string{dir}) {
		t.Errorf("mountsBelow = %v, want %v", got, []string{dir})
	}
	if err := removeTree(l.path("tree")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(keep, "file")); err != nil {
		t.Errorf("content of a mount was removed: %v", err)
	}
}

func TestWorkloads(t *testing.T) {
	l := testLab(t)
	dir, err := l.mkdir("trees", "grown")
	if err != nil {
		t.Fatal(err)
	}
	if err := makeGrown(dir, 200); err != nil {
		t.Fatal(err)
	}
	if err := writeBig(t.Context(), filepath.Join(dir, bigName), 1<<20+17, 0.6); err != nil {
		t.Fatal(err)
	}
	names, err := smallFiles(dir, 50)
	if err != nil || len(names) != 50 {
		t.Fatalf("smallFiles = %d names, %v, want 50", len(names), err)
	}
	ctx := t.Context()
	big := filepath.Join(dir, bigName)
	if fi, err := os.Stat(big); err != nil || fi.Size() != 1<<20+17 {
		t.Errorf("big file: %v, %v, want %d bytes", fi, err, 1<<20+17)
	}
	for name, run := range map[string]func() (float64, error){
		"walk":   func() (float64, error) { d, err := walkStat(ctx, l, dir); return d.Seconds(), err },
		"du":     func() (float64, error) { d, err := du(ctx, l, dir); return d.Seconds(), err },
		"tar":    func() (float64, error) { d, err := tar(ctx, l, dir); return d.Seconds(), err },
		"xattr":  func() (float64, error) { d, err := listXattrs(ctx, l, dir); return d.Seconds(), err },
		"files":  func() (float64, error) { d, err := readFiles(ctx, dir, names); return d.Seconds(), err },
		"stat":   func() (float64, error) { d, err := statLatency(ctx, dir, names); return d.Seconds(), err },
		"open":   func() (float64, error) { d, err := openLatency(ctx, dir, names); return d.Seconds(), err },
		"whole":  func() (float64, error) { d, err := readWhole(ctx, big); return d.Seconds(), err },
		"random": func() (float64, error) { d, err := readRandom(ctx, big, 10); return d.Seconds(), err },
		"mapped": func() (float64, error) { d, err := touchMapped(ctx, big); return d.Seconds(), err },
		"alone":  func() (float64, error) { d, err := alone(ctx, dir, 2); return d.Seconds(), err },
	} {
		if d, err := run(); err != nil || d <= 0 {
			t.Errorf("%s = %v s, %v, want a time", name, d, err)
		}
	}
	if _, err := readFiles(ctx, dir, []string{"not there"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("readFiles of a missing file = %v, want it to tell", err)
	}
}

func TestMutateCountsWhatIsNew(t *testing.T) {
	dir := t.TempDir()
	if err := grow(dir, 100, 1<<20, 1); err != nil {
		t.Fatal(err)
	}
	before, err := treetest.Scan(dir)
	if err != nil {
		t.Fatal(err)
	}
	size, err := treeBytes(dir)
	if err != nil {
		t.Fatal(err)
	}
	news, err := mutate(dir, 10, 1)
	if err != nil {
		t.Fatal(err)
	}
	after, err := treetest.Scan(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(before.Diff(after, treetest.CompareOptions{})) == 0 {
		t.Fatal("nothing was changed")
	}
	if news <= 0 || news > size {
		t.Errorf("mutate = %d bytes, want some, at most %d", news, size)
	}
}

func TestSealedSize(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, append(randomBytes(pieceSize), make([]byte, pieceSize)...), 0o644); err != nil {
		t.Fatal(err)
	}
	s, err := blob.NewSealer()
	if err != nil {
		t.Fatal(err)
	}
	n, err := sealedSize(s, path)
	if err != nil || n < pieceSize || n > pieceSize+1000 {
		t.Errorf("sealedSize of noise and zeros = %d, %v, want a little more than %d", n, err, pieceSize)
	}
}

func TestResidentPages(t *testing.T) {
	path := filepath.Join(testenv.TempDir(t), "file")
	page := os.Getpagesize()
	if err := os.WriteFile(path, make([]byte, 3*page+1), 0o644); err != nil {
		t.Fatal(err)
	}
	pages, err := residentPages(path, 3*page+1)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range pages {
		if p&1 == 0 {
			t.Errorf("page %d of a file just written is not resident", i)
		}
	}
	if len(pages) != 4 {
		t.Errorf("residentPages = %d pages, want 4", len(pages))
	}
}
