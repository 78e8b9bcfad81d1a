package mount_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/internal/treetest"
	"github.com/zosfs/zosfs/mount/kernel"
	"github.com/zosfs/zosfs/mount/mounttest"
	"github.com/zosfs/zosfs/store/dir"
)

// noise makes a tree of n files of size bytes each, and a store with them.
func noise(t *testing.T, n, size int) (ref, store, path string) {
	t.Helper()
	ref, store = testenv.TempDir(t), testenv.TempDir(t)
	rng := rand.NewChaCha8([32]byte{3})
	p := make([]byte, size)
	for i := range n {
		_, _ = rng.Read(p)
		if err := os.WriteFile(filepath.Join(ref, fmt.Sprint(i)), p, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	put, err := dir.New(store)
	if err != nil {
		t.Fatal(err)
	}
	return ref, store, mounttest.Pack(t, ref, put, 300_000)
}

// TestResume ends the process that serves again and again, each time with reads under way, by
// kill -9 and of its own will; the next one takes over. Readers of files and of mappings notice
// nothing but that it takes a moment.
func TestResume(t *testing.T) {
	const files, size, rounds = 8, 1 << 20, 4
	ref, store, path := noise(t, files, size)
	other := mounttest.Pack(t, small(t), must(dir.New(store)), 0)
	kill := func(_ *testing.T, p *hostProcess) { p.kill() }
	for how, c := range map[string]struct {
		rung kernel.Rung
		end  func(*testing.T, *hostProcess)
	}{
		"kill":      {"", kill},
		"kill loop": {kernel.Loop, kill},
		"abandon":   {"", func(t *testing.T, p *hostProcess) { p.tell(t, "abandon") }},
	} {
		t.Run(how, func(t *testing.T) {
			j := newJob(t, store, path, path, other)
			j.Stall, j.Rung = 5, c.rung
			host, first := startHost(t, j, nil)
			fd := host.descriptor(t, first.Connection.FD)
			j.Resume = &first
			r := startReader(t, readJob{Ref: ref, Dirs: []string{j.Mounts[0].Dir, j.Mounts[1].Dir}})
			for round := range rounds {
				host.stalled(t)
				c.end(t, host)
				switch round {
				case 1: // an operator unmounts while nobody is there
					if err := unix.Unmount(j.Mounts[2].Dir, 0); err != nil {
						t.Fatal(err)
					}
					j.Mounts[2].Gone = true
				case 2: // it has ended: nobody will hand it over again
					j.Mounts, j.Resume.Kernel = j.Mounts[:2], j.Resume.Kernel[:2]
				case rounds - 1:
					j.Stall = 0
				}
				host, _ = startHost(t, j, fd)
			}
			r.more(t, 50)
			r.stop(t)
			for _, m := range j.Mounts {
				treetest.Check(t, ref, m.Dir, treetest.CompareOptions{})
			}
			host.tell(t, "close")
			if left := j.left(t); len(left) > 0 {
				t.Errorf("mounts left: %v", left)
			}
		})
	}
}

// TestResumeWithoutImage: what cannot be opened again fails, and does not hang; it can be
// unmounted as any other.
func TestResumeWithoutImage(t *testing.T) {
	ref, store, path := noise(t, 2, 100_000)
	j := newJob(t, store, path)
	host, first := startHost(t, j, nil)
	fd := host.descriptor(t, first.Connection.FD)
	at := j.Mounts[0].Dir
	cached, err := os.ReadFile(filepath.Join(at, "0"))
	if err != nil {
		t.Fatal(err)
	}
	host.kill()
	j.Resume, j.NoImages = &first, true
	host, _ = startHost(t, j, fd)
	if _, err := os.ReadFile(filepath.Join(at, "1")); !errors.Is(err, unix.EIO) {
		t.Errorf("read of content: %v, want %v", err, unix.EIO)
	}
	want, err := os.ReadFile(filepath.Join(ref, "0"))
	if got, rerr := os.ReadFile(filepath.Join(at, "0")); errors.Join(err, rerr) != nil || !bytes.Equal(got, want) || !bytes.Equal(cached, want) {
		t.Errorf("what was read before differs, or %v, %v", err, rerr)
	}
	host.kill()
	j.NoImages = false
	host, _ = startHost(t, j, fd)
	treetest.Check(t, ref, at, treetest.CompareOptions{}) // it fails no longer than it must
	host.tell(t, "close")
	if left := j.left(t); len(left) > 0 {
		t.Errorf("mounts left: %v", left)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
