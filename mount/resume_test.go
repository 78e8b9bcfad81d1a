package mount_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/internal/treetest"
	"github.com/zosfs/zosfs/mount/mounttest"
	"github.com/zosfs/zosfs/store/dir"
)

// readEnv makes the test binary read: a tree of files, and mounts that show the same, with colons
// between.
const readEnv = "ZOSFS_TEST_READ"

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
	for how, end := range map[string]func(*testing.T, *hostProcess){
		"kill":    func(_ *testing.T, p *hostProcess) { p.kill() },
		"abandon": func(t *testing.T, p *hostProcess) { p.tell(t, "abandon") },
	} {
		t.Run(how, func(t *testing.T) {
			j := newJob(t, store, path, path, other)
			j.Stall = 5
			host, first := startHost(t, j, nil)
			fd := host.descriptor(t, first.Connection.FD)
			j.Resume = &first
			r := readers(t, ref, j.Mounts[0].Dir, j.Mounts[1].Dir)
			for round := range rounds {
				host.stalled(t)
				end(t, host)
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

// readLoad is a process that reads and never rests.
type readLoad struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines *bufio.Reader
	files int
}

// readers begins to read all files of ref at both mounts, past the page cache, by calls and by
// mappings. What they get is compared.
func readers(t *testing.T, ref string, dirs ...string) *readLoad {
	t.Helper()
	l := &readLoad{cmd: exec.CommandContext(t.Context(), "/proc/self/exe")}
	// Who waits for a page of a mapping holds a processor of the Go runtime.
	l.cmd.Env = append(os.Environ(), readEnv+"="+strings.Join(append([]string{ref}, dirs...), ":"), "GOMAXPROCS=12")
	l.cmd.Stderr = t.Output()
	out, err := l.cmd.StdoutPipe()
	if err == nil {
		l.in, err = l.cmd.StdinPipe()
	}
	if err == nil {
		err = l.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	l.lines = bufio.NewReader(out)
	t.Cleanup(func() {
		_ = l.cmd.Process.Kill()
		_ = l.cmd.Wait()
	})
	return l
}

// runReader reads until its standard input ends, and prints a line for each file.
func runReader(args string) error {
	ref, dirs := strings.Split(args, ":")[0], strings.Split(args, ":")[1:]
	entries, err := os.ReadDir(ref)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	group, ctx := errgroup.WithContext(ctx)
	for i := range 2 * len(dirs) {
		group.Go(func() error {
			rng := rand.New(rand.NewPCG(uint64(i), 1))
			for ctx.Err() == nil {
				name := entries[rng.IntN(len(entries))].Name()
				want, err := os.ReadFile(filepath.Join(ref, name))
				if err == nil {
					err = readAndMap(filepath.Join(dirs[i%len(dirs)], name), want, i >= len(dirs))
				}
				if err != nil {
					return fmt.Errorf("reader %d, file %s: %w", i, name, err)
				}
				_, _ = fmt.Println(name)
			}
			return nil
		})
	}
	go func() { // ends with the process
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	return group.Wait()
}

// readAndMap compares a file with want, and drops it from the page cache before.
func readAndMap(path string, want []byte, mapped bool) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return err
	}
	got := make([]byte, len(want))
	if mapped {
		p, err := unix.Mmap(int(f.Fd()), 0, len(want), unix.PROT_READ, unix.MAP_SHARED)
		if err != nil {
			return err
		}
		copy(got, p)
		if err := unix.Munmap(p); err != nil {
			return err
		}
	} else if _, err := f.ReadAt(got, 0); err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return errors.New("other content")
	}
	return nil
}

// more waits for n more files.
func (l *readLoad) more(t *testing.T, n int) {
	t.Helper()
	for range n {
		if _, err := l.lines.ReadString('\n'); err != nil {
			t.Fatalf("the readers end: %v", err)
		}
		l.files++
	}
}

// stop ends the readers, none of which may have failed.
func (l *readLoad) stop(t *testing.T) {
	t.Helper()
	if err := l.in.Close(); err != nil {
		t.Error(err)
	}
	for {
		if _, err := l.lines.ReadString('\n'); err != nil {
			break
		}
		l.files++
	}
	if err := l.cmd.Wait(); err != nil {
		t.Errorf("readers: %v", err)
	}
	t.Logf("%d files were read", l.files)
}
