package mount_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// readEnv makes the test binary read; its value is a readJob.
const readEnv = "ZOSFS_TEST_READ"

// readJob says what a process reads: files at random, past the page cache, half of the readers
// by calls and half by mappings, until its standard input ends. What it gets is compared. It
// prints a line for each file.
type readJob struct {
	Ref   string   // a directory of files
	Dirs  []string // which show the same
	Once  bool     // each reader reads every file once, and that is all
	Group string   // as in job
}

// runReader does the job.
func runReader(text string) error {
	var j readJob
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		return err
	}
	if err := enterGroup(j.Group); err != nil {
		return err
	}
	entries, err := os.ReadDir(j.Ref)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	group, ctx := errgroup.WithContext(ctx)
	for i := range 2 * len(j.Dirs) {
		group.Go(func() error {
			rng := rand.New(rand.NewPCG(uint64(i), 1))
			for n := 0; ctx.Err() == nil && (!j.Once || n < len(entries)); n++ {
				name := entries[rng.IntN(len(entries))].Name()
				if j.Once {
					name = entries[n].Name()
				}
				if err := compareFile(filepath.Join(j.Ref, name), filepath.Join(j.Dirs[i%len(j.Dirs)], name), i >= len(j.Dirs)); err != nil {
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

// compareFile compares the file got, which is dropped from the page cache before, with want.
func compareFile(want, got string, mapped bool) error {
	w, err := os.Open(want)
	if err != nil {
		return err
	}
	defer func() { _ = w.Close() }()
	f, err := os.Open(got)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return err
	}
	st, err := w.Stat()
	if err != nil {
		return err
	}
	var data io.ReaderAt = f
	if mapped {
		p, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_SHARED)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Munmap(p) }()
		data = bytes.NewReader(p)
	}
	a, b := make([]byte, 1<<20), make([]byte, 1<<20)
	for off := int64(0); off < st.Size(); off += int64(len(a)) {
		n := int(min(int64(len(a)), st.Size()-off))
		if _, err := w.ReadAt(a[:n], off); err != nil {
			return err
		}
		if _, err := data.ReadAt(b[:n], off); err != nil {
			return err
		}
		if !bytes.Equal(a[:n], b[:n]) {
			return fmt.Errorf("other content within %d bytes at %d", n, off)
		}
	}
	return nil
}

// readProcess is a process that reads.
type readProcess struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines *bufio.Reader
	files int // read so far
}

func startReader(t *testing.T, j readJob) *readProcess {
	t.Helper()
	text, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	r := &readProcess{cmd: exec.CommandContext(t.Context(), "/proc/self/exe")}
	// Who waits for a page of a mapping holds a processor of the Go runtime.
	r.cmd.Env = append(os.Environ(), readEnv+"="+string(text), "GOMAXPROCS=12")
	r.cmd.Stderr = t.Output()
	out, err := r.cmd.StdoutPipe()
	if err == nil {
		r.in, err = r.cmd.StdinPipe()
	}
	if err == nil {
		err = r.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	r.lines = bufio.NewReader(out)
	t.Cleanup(func() {
		_ = r.cmd.Process.Kill()
		_ = r.cmd.Wait()
	})
	return r
}

// more waits for n more files.
func (r *readProcess) more(t *testing.T, n int) {
	t.Helper()
	for range n {
		if _, err := r.lines.ReadString('\n'); err != nil {
			t.Fatalf("the readers end: %v", err)
		}
		r.files++
	}
}

// stop ends the readers.
func (r *readProcess) stop(t *testing.T) {
	t.Helper()
	if err := r.in.Close(); err != nil {
		t.Error(err)
	}
	r.wait(t)
}

// wait waits for the end of the readers, none of which may have failed.
func (r *readProcess) wait(t *testing.T) {
	t.Helper()
	for {
		_, err := r.lines.ReadString('\n')
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		r.files++
	}
	if err := r.cmd.Wait(); err != nil {
		t.Errorf("readers: %v", err)
	}
	t.Logf("%d files were read", r.files)
}
