package node_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/mount"
	"github.com/zosfs/zosfs/mount/kernel"
	"github.com/zosfs/zosfs/node"
)

// wantNothing fails unless the service holds nothing of any mount.
func (s *service) wantNothing() {
	s.t.Helper()
	until(s.t, "no mount is listed", func() bool { return len(s.status().Mounts) == 0 })
	if left, err := os.ReadDir(filepath.Join(s.dirs.State, "content")); err != nil || len(left) != 0 {
		s.t.Errorf("content devices that nobody uses: %v, %v", left, err)
	}
	path := filepath.Join(s.dirs.State, "mounts.json")
	until(s.t, "the table on disk is gone", func() bool {
		_, err := os.Stat(path)
		return errors.Is(err, os.ErrNotExist)
	})
}

func device(t *testing.T, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Dev
}

// TestSharedSuperblock has two mounts of one image. The first, which serves both, ends while the
// second reads.
func TestSharedSuperblock(t *testing.T) {
	testenv.NoLeaks(t)
	needKernel(t)
	w := newWorld(t)
	tree := growBig(t, 60)
	ref := w.publish(tree, "shared")
	s := serve(t, node.Options{})
	show := func() node.MountInfo {
		t.Helper()
		info, err := s.Mount(t.Context(), node.MountRequest{Ref: ref, Dir: point(t), Mode: "kernel", Token: w.token})
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	one, two := show(), show()
	if a, b := device(t, one.Dir), device(t, two.Dir); a != b || one.Rung != two.Rung || two.Rung == "" {
		t.Errorf("the mounts have st_dev %d and %d, rung %q and %q; want the same", a, b, one.Rung, two.Rung)
	}
	reached, release := w.stall()
	r := readLater(t, filepath.Join(two.Dir, "big-0"))
	<-reached
	if err := s.Unmount(t.Context(), one.Dir, false); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(one.Dir); err != nil || len(left) != 0 {
		t.Errorf("where the first mount was: %v, %v", left, err)
	}
	release()
	r.want(t, filepath.Join(tree, "big-0"))
	until(t, "the first mount has ended", func() bool { return len(s.status().Mounts) == 1 })
	if m := s.only(); m.Dir != two.Dir || m.Detached || m.Kernel.ReadErrors != 0 {
		t.Errorf("the second mount: %+v", m)
	}
	check(t, tree, two.Dir)
	if err := s.Unmount(t.Context(), two.Dir, false); err != nil {
		t.Fatal(err)
	}
	s.wantNothing()
}

// TestOperatorUnmountsKernel has somebody take mounts away, of which the kernel tells.
func TestOperatorUnmountsKernel(t *testing.T) {
	testenv.NoLeaks(t)
	needKernel(t)
	testenv.NeedTool(t, "umount")
	w := newWorld(t)
	tree := growBig(t, 61)
	ref := w.publish(tree, "operator")
	s := serve(t, node.Options{})
	a := s.listen(t, 0)
	umount := func(args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), "umount", args...).CombinedOutput(); err != nil {
			t.Fatalf("umount %v: %v: %s", args, err, out)
		}
	}
	ended := func(dir string) {
		t.Helper()
		if v := a.next(node.EventUnmounted); v.Dir != dir || v.By != node.ByOther || v.Error != "" {
			t.Errorf("heard %+v, want the end of %s by somebody else", v, dir)
		}
	}
	dir := s.mountAs(w, ref, mount.Kernel).Dir
	umount(dir)
	ended(dir)
	s.wantNothing()

	dir = s.mountAs(w, ref, mount.Kernel).Dir
	f, err := os.Open(filepath.Join(dir, "big-0"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	umount("-l", dir)
	until(t, "the mount is listed as detached", func() bool { return s.only().Detached })
	got := make([]byte, 3<<20)
	want, err := os.ReadFile(filepath.Join(tree, "big-0"))
	if err == nil {
		_, err = f.ReadAt(got, 0)
	}
	if err = errors.Join(err, same(f.Name(), got, want)); err != nil {
		t.Errorf("read from the detached mount: %v", err)
	}
	if _, err := s.Mount(t.Context(), node.MountRequest{Ref: ref, Dir: dir, Mode: "kernel", Token: w.token}); err != nil {
		t.Errorf("Mount where it was: %v", err)
	}
	check(t, tree, dir)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	umount(dir)
	ended(dir)
	ended(dir)
	s.wantNothing()
}

// tmpfs mounts a file system in memory at dir, which is made.
func tmpfs(t *testing.T, dir, options string) {
	t.Helper()
	testenv.Mounted(t, dir)
	if err := errors.Join(os.MkdirAll(dir, 0o700), unix.Mount("none", dir, "tmpfs", 0, options)); err != nil {
		t.Fatal(err)
	}
}

// TestCacheInMemory has the cache directory on tmpfs, over whose files EROFS cannot be mounted
// but through loop devices.
func TestCacheInMemory(t *testing.T) {
	testenv.NoLeaks(t)
	needKernel(t)
	w := newWorld(t)
	tree := growBig(t, 62)
	dirs := newDirs(t)
	tmpfs(t, dirs.Cache, "size=64m")
	s := serve(t, node.Options{Dirs: dirs})
	info := s.mount(w, w.publish(tree, "memory"))
	if info.Mode != mount.Kernel || info.Rung != kernel.FileBacked && info.Rung != kernel.Loop || info.Reason != "" {
		t.Errorf("Mount = %+v, want mode kernel", info)
	}
	if m := s.only(); m.Rung != info.Rung || m.Mode != info.Mode {
		t.Errorf("status = %+v, want mode and rung of %+v", m, info)
	}
	check(t, tree, info.Dir)
	if err := s.Unmount(t.Context(), info.Dir, false); err != nil {
		t.Fatal(err)
	}
	s.wantNothing()
}

// TestKernelRefuses has what keeps mode kernel from working: asked for, it fails; else mode fuse
// is taken and the reason told.
func TestKernelRefuses(t *testing.T) {
	tests := []struct {
		name    string
		prepare func(t *testing.T, d node.Dirs)
		want    error
		text    string
	}{
		{"disk full", func(t *testing.T, d node.Dirs) {
			tmpfs(t, filepath.Join(d.Cache, "metadata"), "size=8k")
		}, errs.ErrFull, "no space left on device"},
		{"no directory for images", func(t *testing.T, d node.Dirs) {
			if err := errors.Join(os.MkdirAll(d.Cache, 0o700), os.WriteFile(filepath.Join(d.Cache, "metadata"), nil, 0o600)); err != nil {
				t.Fatal(err)
			}
		}, unix.ENOTDIR, "metadata"},
		{"no directory for content", func(t *testing.T, d node.Dirs) {
			if err := errors.Join(os.MkdirAll(d.State, 0o700), os.WriteFile(filepath.Join(d.State, "content"), nil, 0o600)); err != nil {
				t.Fatal(err)
			}
		}, unix.ENOTDIR, "content"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			testenv.NoLeaks(t)
			needKernel(t)
			w := newWorld(t)
			tree := grow(t, 63)
			ref := w.publish(tree, "refused")
			dirs := newDirs(t)
			tt.prepare(t, dirs)
			s := serve(t, node.Options{Dirs: dirs})
			_, err := s.Mount(t.Context(), node.MountRequest{Ref: ref, Dir: point(t), Mode: "kernel", Token: w.token})
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) || !strings.Contains(err.Error(), "try mode fuse") {
				t.Errorf("Mount in mode kernel = %v, want %v with %q", err, tt.want, tt.text)
			}
			info := s.mount(w, ref)
			if got := s.only(); got.Mode != mount.FUSE || got.Rung != "" || !strings.Contains(got.Reason, tt.text) || got.Reason != info.Reason {
				t.Errorf("in mode auto: mode %s, rung %q, reason %q; want fuse because of %q", got.Mode, got.Rung, got.Reason, tt.text)
			}
			check(t, tree, info.Dir)
			if left, err := os.ReadDir(filepath.Join(dirs.Cache, "metadata")); err == nil && len(left) != 0 {
				t.Errorf("what is left of the metadata image: %v", left)
			}
		})
	}
}

// TestRefuseOwn starts services of which a part lies on a mount of zosfs.
func TestRefuseOwn(t *testing.T) { eachMode(t, testRefuseOwn) }

func testRefuseOwn(t *testing.T, mode mount.Mode) {
	testenv.NoLeaks(t)
	w := newWorld(t)
	tree := growProgram(t)
	if err := os.Mkdir(filepath.Join(tree, "cache"), 0o700); err != nil {
		t.Fatal(err)
	}
	s := serve(t, node.Options{})
	dir := s.mountAs(w, w.publish(tree, "own"), mode).Dir
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dirs := newDirs(t)
	over := overlay(t, overlay(t, dir))
	tests := []struct{ name, program, cache, state, text string }{
		{"program", filepath.Join(dir, "program"), dirs.Cache, dirs.State, "the program of the node service"},
		{"cache", exe, filepath.Join(dir, "cache"), dirs.State, "the cache directory of the node service"},
		{"program on an overlay", filepath.Join(over, "program"), dirs.Cache, dirs.State, "the program of the node service"},
		{"cache on an overlay", exe, filepath.Join(over, "cache"), dirs.State, "the cache directory of the node service"},
		{"state on an overlay", exe, dirs.Cache, filepath.Join(over, "state"), "the state directory of the node service"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			// Not from here: who starts a program stands still until its first page has come.
			cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", `exec "$0" 1ms`, tt.program)
			cmd.Env = append(os.Environ(), envChild+"=serve", node.EnvCache+"="+tt.cache, node.EnvState+"="+tt.state)
			out, err := cmd.CombinedOutput()
			if cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), tt.text) || !strings.Contains(string(out), dir) {
				t.Errorf("the service ended with %v and %q, want %q with %s", err, out, tt.text, dir)
			}
		})
	}
}

// overlay mounts a writable overlay over lower.
func overlay(t *testing.T, lower string) string {
	t.Helper()
	testenv.NeedRoot(t)
	testenv.NeedOverlay(t)
	work := testenv.TempDir(t)
	for _, name := range []string{"merged", "upper", "work"} {
		if err := os.Mkdir(filepath.Join(work, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	merged := filepath.Join(work, "merged")
	testenv.Mounted(t, merged)
	if err := unix.Mount("overlay", merged, "overlay", 0, fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%[2]s/work", lower, work)); err != nil {
		t.Fatal(err)
	}
	return merged
}

// TestLockProgram has a program whose name is hard to find in a list, and gone.
func TestLockProgram(t *testing.T) {
	testenv.NeedRoot(t)
	p, err := os.ReadFile(must(os.Executable()))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"plain", "with a blank", "with\na line"} {
		path := filepath.Join(testenv.TempDir(t), name)
		if err := os.WriteFile(path, p, 0o755); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), path)
		cmd.Env = append(os.Environ(), envChild+"=locked")
		out, err := cmd.CombinedOutput()
		_, rest, _ := strings.Cut(string(out), "\nVmLck:")
		line, _, _ := strings.Cut(rest, "\n")
		n, aerr := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(line), " kB"))
		if err := errors.Join(err, aerr); err != nil || n<<10 < len(p)/2 {
			t.Errorf("%q: %d KiB are locked of a program of %d bytes, %v\n%s", name, n, len(p), err, out)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
