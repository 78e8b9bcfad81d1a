package node_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// hello is what a copy of the test binary says that is run from an image.
const hello = "hello from the image\n"

// load reads the mount mnt of tree round after round, until standard input ends, and says so
// after each. It is a process of its own: a Go program in which one goroutine waits for a page
// cannot collect garbage, and comes to a halt.
func load(kind, tree, mnt string) error {
	read := map[string]func(want []byte, path string) error{"pread": readWhole, "mmap": readMapped, "exec": runFile}[kind]
	var stop atomic.Bool
	go func() { // ends with the process
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop.Store(true)
	}()
	for round := 1; !stop.Load(); round++ {
		err := filepath.WalkDir(tree, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			want, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(tree, path)
			if err != nil {
				return err
			}
			return read(want, filepath.Join(mnt, rel))
		})
		if err != nil {
			return err
		}
		fmt.Println("round", round)
	}
	return nil
}

// opened opens path with none of it in the page cache.
func opened(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return f, unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
}

func same(path string, got, want []byte) error {
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%s: %d bytes, which are not those of the tree; want %d", path, len(got), len(want))
	}
	return nil
}

func readWhole(want []byte, path string) error {
	f, err := opened(path)
	if err != nil {
		return err
	}
	got, err := io.ReadAll(f)
	return errors.Join(err, f.Close(), same(path, got, want))
}

func readMapped(want []byte, path string) error {
	f, err := opened(path)
	if err != nil || len(want) == 0 {
		return errors.Join(err, f.Close())
	}
	got, err := unix.Mmap(int(f.Fd()), 0, len(want), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	return errors.Join(same(path, got, want), unix.Munmap(got), f.Close())
}

func runFile(_ []byte, path string) error {
	f, err := opened(path)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	cmd := exec.CommandContext(context.Background(), path)
	cmd.Env = append(os.Environ(), envChild+"=hello")
	got, err := cmd.CombinedOutput()
	return errors.Join(err, same(path, got, []byte(hello)))
}

// reader is a process under load.
type reader struct {
	t      *testing.T
	kind   string
	cmd    *exec.Cmd
	stdin  io.Closer
	rounds chan string // closed when the process has nothing more to say
	stderr strings.Builder
}

// read starts a reader of a mount. The site ends it.
func (s *site) read(kind, tree, mnt string) *reader {
	s.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	r := &reader{t: s.t, kind: kind, cmd: exec.Command(exe, kind, tree, mnt), rounds: make(chan string, 1000)} //nolint:noctx // s.end ends it
	r.cmd.Env = append(os.Environ(), envChild+"=load")
	r.cmd.Stderr = &r.stderr
	stdin, err := r.cmd.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	stdout, err := r.cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	r.stdin = stdin
	go func() { // ends with the process
		defer close(r.rounds)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			r.rounds <- lines.Text()
		}
	}()
	s.readers = append(s.readers, r)
	return r
}

// await returns after n more rounds.
func (r *reader) await(n int) {
	r.t.Helper()
	for range n {
		select {
		case _, ok := <-r.rounds:
			if !ok {
				_ = r.cmd.Wait()
				r.t.Fatalf("%s: %v\n%s", r.kind, r.cmd.ProcessState, r.stderr.String())
			}
		case <-r.t.Context().Done():
			return
		}
	}
}

// progress returns how many rounds nobody has waited for yet, and forgets them.
func (r *reader) progress() int {
	for n := 0; ; n++ {
		select {
		case <-r.rounds:
		default:
			return n
		}
	}
}

// end ends the reader, which must not have seen an error.
func (r *reader) end() {
	r.t.Helper()
	if err := r.stdin.Close(); err != nil {
		r.t.Error(err)
	}
	for range r.rounds { // until the process has ended
	}
	if err := r.cmd.Wait(); err != nil {
		r.t.Errorf("%s: %v\n%s", r.kind, err, r.stderr.String())
	}
}
