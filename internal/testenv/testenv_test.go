package testenv

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// recorder is a test that notes what would happen to it.
type recorder struct {
	testing.TB
	outcome string
	cleanup []func()
}

func (r *recorder) Helper()                   {}
func (r *recorder) Cleanup(f func())          { r.cleanup = append(r.cleanup, f) }
func (r *recorder) Skipf(f string, a ...any)  { r.outcome = "skip: " + fmt.Sprintf(f, a...) }
func (r *recorder) Fatalf(f string, a ...any) { r.outcome = "fail: " + fmt.Sprintf(f, a...) }
func (r *recorder) Errorf(f string, a ...any) { r.outcome = "fail: " + fmt.Sprintf(f, a...) }
func (r *recorder) Fatal(a ...any)            { r.outcome = "fail: " + fmt.Sprint(a...) }

// end runs the clean-up as the end of a test does.
func (r *recorder) end() {
	for i := len(r.cleanup) - 1; i >= 0; i-- {
		r.cleanup[i]()
	}
}

func TestNeed(t *testing.T) {
	missing := errors.New("no such thing")
	tests := []struct {
		name, env, word string
		err             error
		want            string
	}{
		{"met", "", "fuse", nil, ""},
		{"met and declared", "fuse", "fuse", nil, ""},
		{"missing", "", "fuse", missing, "skip: needs fuse: no such thing"},
		{"another declared", "root, tools", "fuse", missing, "skip: needs fuse: no such thing"},
		{"declared", "root, fuse", "fuse", missing, "fail: ZOSFS_NEED declares fuse, but: no such thing"},
		{"all declared", "all", "erofs", missing, "fail: ZOSFS_NEED declares erofs, but: no such thing"},
		{"unknown word", "foos", "fuse", nil, `fail: ZOSFS_NEED: "foos" is none of root, fuse, overlay, erofs, memory, tools, all`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv(Env, tt.env)
			r := &recorder{TB: t}
			need(r, tt.word, tt.err)
			if diff := cmp.Diff(tt.want, r.outcome); diff != "" {
				t.Errorf("need(%q, %v) with %s=%q (-want +got):\n%s", tt.word, tt.err, Env, tt.env, diff)
			}
		})
	}
}

func TestNeedTool(t *testing.T) {
	t.Setenv(Env, "")
	r := &recorder{TB: t}
	NeedTool(r, "sh")
	if r.outcome != "" {
		t.Errorf("NeedTool(sh): %s", r.outcome)
	}
	NeedTool(r, "sh", "no-such-program")
	if !strings.HasPrefix(r.outcome, "skip: needs tools: ") {
		t.Errorf("NeedTool(no-such-program): %q, want a skip", r.outcome)
	}
}

// TestProbes fails where a need is declared that is not met: the probes speak for themselves.
func TestProbes(t *testing.T) {
	for name, need := range map[string]func(testing.TB){
		"root": NeedRoot, "fuse": NeedFUSE, "overlay": NeedOverlay, "erofs": NeedEROFS,
	} {
		t.Run(name, func(t *testing.T) { need(t) })
	}
}

func TestTempDir(t *testing.T) {
	r := &recorder{TB: t}
	dir := TempDir(r)
	if err := suits(dir); err != nil {
		t.Errorf("TempDir() = %s, which %v", dir, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "left"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r.end()
	for _, gone := range []string{dir, filepath.Dir(dir)} {
		if _, err := os.Stat(gone); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("after the test Stat(%s) = %v, want %v", gone, err, os.ErrNotExist)
		}
	}
}

func TestTempDirNotInMemory(t *testing.T) {
	NeedRoot(t)
	mem := t.TempDir()
	Mounted(t, mem)
	if err := unix.Mount("none", mem, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", mem)
	if dir := TempDir(t); strings.HasPrefix(dir, mem) {
		t.Errorf("TempDir() = %s, which lies in memory", dir)
	}
}

func TestMounted(t *testing.T) {
	NeedRoot(t)
	dir := TempDir(t)
	r := &recorder{TB: t}
	Mounted(r, dir)
	for range 2 { // one above the other
		if err := unix.Mount("none", dir, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
	}
	busy, err := os.Create(filepath.Join(dir, "busy"))
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	r.end()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil || st.Type == unix.TMPFS_MAGIC || r.outcome != "" {
		t.Errorf("after the test %s is of type %#x (%v), %s; want it unmounted", dir, st.Type, err, r.outcome)
	}
}

func TestNoLeaks(t *testing.T) {
	r := &recorder{TB: t}
	NoLeaks(r)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { <-stop; close(stopped) }()
	r.end()
	if !strings.Contains(r.outcome, "goroutines left") {
		t.Errorf("with a goroutine left: %q", r.outcome)
	}
	close(stop)
	<-stopped
	r = &recorder{TB: t}
	NoLeaks(r)
	r.end()
	if r.outcome != "" {
		t.Errorf("with none left: %q", r.outcome)
	}
}
