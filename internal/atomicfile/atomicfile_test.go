package atomicfile

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zosfs/zosfs/errs"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// steps are those of a write that succeeds, as testdata/steps.golden has them.
var steps = []string{"create temp", "write", "sync temp", "close temp", "rename", "sync directory"}

const (
	oldText = "old"
	newText = "new, and longer than old"
)

// replace writes newText over oldText in a new directory, telling before of each step.
func replace(t *testing.T, dir string, before func(string) error) error {
	t.Helper()
	path := filepath.Join(dir, "file")
	if err := os.WriteFile(path, []byte(oldText), 0o600); err != nil {
		t.Fatal(err)
	}
	return writeFile(path, 0o640, func(w *os.File) error {
		if err := before("write"); err != nil {
			return err
		}
		_, err := io.WriteString(w, newText)
		return err
	}, before)
}

// list returns the names and contents in dir; temporary files are named "temp".
func list(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, e := range entries {
		p, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		name := e.Name()
		if IsTemp(name) {
			name = "temp"
		}
		got[name] = string(p)
	}
	return got
}

// TestSteps holds the order of steps, with what the directory looks like before each,
// against the golden file.
func TestSteps(t *testing.T) {
	dir := t.TempDir()
	var log strings.Builder
	err := replace(t, dir, func(step string) error {
		fmt.Fprintf(&log, "%-14s  %q\n", step, list(t, dir))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&log, "%-14s  %q\n", "end", list(t, dir))
	golden := filepath.Join("testdata", "steps.golden")
	if *update {
		if err := os.WriteFile(golden, []byte(log.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), log.String()); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
}

// TestFailure lets each step fail: the error comes through, the old or the new file is
// there, and no temporary one.
func TestFailure(t *testing.T) {
	for _, step := range steps {
		t.Run(step, func(t *testing.T) {
			dir := t.TempDir()
			err := replace(t, dir, func(s string) error {
				if s == step {
					return fmt.Errorf("at %s: %w", s, syscall.ENOSPC)
				}
				return nil
			})
			if !errors.Is(err, syscall.ENOSPC) || !errors.Is(err, errs.ErrFull) {
				t.Errorf("error %v, want %v as %v", err, syscall.ENOSPC, errs.ErrFull)
			}
			want := map[string]string{"file": oldText}
			if step == "sync directory" {
				want["file"] = newText
			}
			if diff := cmp.Diff(want, list(t, dir)); diff != "" {
				t.Errorf("directory (-want +got):\n%s", diff)
			}
		})
	}
}

// TestKill kills a process before each step: the file is whole.
func TestKill(t *testing.T) {
	const envDir, envStep = "ATOMICFILE_KILL_DIR", "ATOMICFILE_KILL_STEP"
	if dir := os.Getenv(envDir); dir != "" {
		err := replace(t, dir, func(step string) error {
			if step == os.Getenv(envStep) {
				return syscall.Kill(os.Getpid(), syscall.SIGKILL)
			}
			return nil
		})
		t.Fatalf("survived: %v", err)
	}
	for _, step := range steps {
		t.Run(step, func(t *testing.T) {
			dir := t.TempDir()
			child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKill$")
			child.Env = append(os.Environ(), envDir+"="+dir, envStep+"="+step)
			out, err := child.CombinedOutput()
			if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != -1 {
				t.Fatalf("child ended with %v, want it killed; it printed\n%s", err, out)
			}
			got := list(t, dir)
			delete(got, "temp")
			want := map[string]string{"file": oldText}
			if step == "sync directory" {
				want["file"] = newText
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("directory (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPanic(t *testing.T) {
	dir := t.TempDir()
	func() {
		defer func() { _ = recover() }()
		_ = Write(filepath.Join(dir, "file"), 0o600, func(io.Writer) error { panic("stop") })
	}()
	if diff := cmp.Diff(map[string]string{}, list(t, dir)); diff != "" {
		t.Errorf("directory (-want +got):\n%s", diff)
	}
}

func TestFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, strings.Repeat("n", 255))
	f, err := Create(path, 0o640)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("tail"), 4); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("head"), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before Commit Lstat = %v, want %v", err, fs.ErrNotExist)
	}
	if err := f.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := f.Abort(); err != nil {
		t.Errorf("Abort after Commit = %v, want nil", err)
	}
	if err := f.Commit(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Commit after Commit = %v, want %v", err, os.ErrClosed)
	}
	if diff := cmp.Diff(map[string]string{filepath.Base(path): "headtail"}, list(t, dir)); diff != "" {
		t.Errorf("directory (-want +got):\n%s", diff)
	}
	fi, err := os.Stat(path)
	if err != nil || fi.Mode() != 0o640 {
		t.Errorf("mode %v, %v, want 0640", fi.Mode(), err)
	}
}

func TestAbort(t *testing.T) {
	tests := []struct {
		name  string
		after func(*File) error // comes first
	}{
		{"at once", func(*File) error { return nil }},
		{"after Close", func(f *File) error { return f.Close() }},
		{"twice", (*File).Abort},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			f, err := Create(filepath.Join(dir, "file"), 0o600)
			if err != nil {
				t.Fatal(err)
			}
			if err := tt.after(f); err != nil {
				t.Fatal(err)
			}
			if err := f.Abort(); err != nil {
				t.Errorf("Abort = %v, want nil", err)
			}
			if diff := cmp.Diff(map[string]string{}, list(t, dir)); diff != "" {
				t.Errorf("directory (-want +got):\n%s", diff)
			}
			if err := f.Commit(); !errors.Is(err, os.ErrClosed) {
				t.Errorf("Commit after Abort = %v, want %v", err, os.ErrClosed)
			}
		})
	}
}

func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	if err := WriteFile(filepath.Join(dir, "file"), []byte(newText), 0o600); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"file": newText}, list(t, dir)); diff != "" {
		t.Errorf("directory (-want +got):\n%s", diff)
	}
	missing := filepath.Join(dir, "none", "file")
	if err := WriteFile(missing, nil, 0o600); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("WriteFile(%s) = %v, want %v", missing, err, fs.ErrNotExist)
	}
	// What is renamed over a directory fails, and the temporary file is gone.
	if err := os.Mkdir(filepath.Join(dir, "dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(filepath.Join(dir, "dir"), nil, 0o600); err == nil {
		t.Error("WriteFile over a directory = nil")
	}
	if err := os.Remove(filepath.Join(dir, "dir")); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"file": newText}, list(t, dir)); diff != "" {
		t.Errorf("directory (-want +got):\n%s", diff)
	}
}

func TestSweep(t *testing.T) {
	dir := t.TempDir()
	for name, age := range map[string]time.Duration{
		tempPrefix + "old": 25 * time.Hour, tempPrefix + "young": 23 * time.Hour, "file": 1000 * time.Hour,
	} {
		path, when := filepath.Join(dir, name), time.Now().Add(-age)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, when, when); err != nil {
			t.Fatal(err)
		}
	}
	Sweep(dir)
	if diff := cmp.Diff(map[string]string{"temp": "", "file": ""}, list(t, dir)); diff != "" {
		t.Errorf("directory (-want +got):\n%s", diff)
	}
	Sweep(filepath.Join(dir, "none"))
}

func TestCommitUnsynced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	var got []string
	f, err := create(path, 0o600, func(step string) error { got = append(got, step); return nil })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(f, newText); err != nil {
		t.Fatal(err)
	}
	if err := f.CommitUnsynced(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"create temp", "close temp", "rename"}, got); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
	if p, err := os.ReadFile(path); err != nil || string(p) != newText {
		t.Errorf("the file has %q, %v", p, err)
	}
	if err := f.CommitUnsynced(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("second commit: %v, want %v", err, os.ErrClosed)
	}
	broken := errors.New("broken")
	f, err = create(path, 0o600, func(step string) error {
		if step == "rename" {
			return broken
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.CommitUnsynced(); !errors.Is(err, broken) {
		t.Errorf("commit that cannot rename: %v, want %v", err, broken)
	}
	if diff := cmp.Diff(map[string]string{"file": newText}, list(t, filepath.Dir(path))); diff != "" {
		t.Errorf("files afterwards (-want +got):\n%s", diff)
	}
}
