package keeper_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/internal/keeper"
	"github.com/zosfs/zosfs/internal/testenv"
)

// start runs a keeper for the test, at whose end no goroutine and no descriptor may be left.
func start(t *testing.T, log *slog.Logger) (path string) {
	t.Helper()
	testenv.NoLeaks(t)
	noOpenFiles(t)
	path = filepath.Join(t.TempDir(), "run", "keeper.sock")
	ctx, stop := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- keeper.Run(ctx, path, keeper.Options{Ready: func() { close(ready) }, Log: log})
	}()
	select {
	case <-ready:
	case err := <-ended:
		stop()
		t.Fatalf("Run = %v before it was ready", err)
	}
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
	})
	return path
}

// noOpenFiles fails the test if it ends with other open files than it begins with.
func noOpenFiles(t *testing.T) {
	t.Helper()
	_, err := new(net.Dialer).DialContext(t.Context(), "unix", filepath.Join(t.TempDir(), "none"))
	if !errors.Is(err, fs.ErrNotExist) { // and the runtime has opened what it opens at first use
		t.Fatal(err)
	}
	before := openFiles(t)
	t.Cleanup(func() {
		if diff := cmp.Diff(before, openFiles(t)); diff != "" {
			t.Errorf("open files (-before +after):\n%s", diff)
		}
	})
}

func openFiles(t *testing.T) map[string]string {
	t.Helper()
	const dir = "/proc/self/fd"
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	open := make(map[string]string)
	for _, n := range names {
		// The directory itself is closed by now.
		if target, err := os.Readlink(filepath.Join(dir, n.Name())); err == nil {
			open[n.Name()] = target
		}
	}
	return open
}

// dial connects for the duration of the test.
func dial(t *testing.T, path string) *keeper.Client {
	t.Helper()
	c, err := keeper.Dial(t.Context(), path)
	if err != nil {
		t.Fatalf("Dial: %v", err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return c
}

func put(t *testing.T, c *keeper.Client, i keeper.Item) {
	t.Helper()
	if err := c.Put(t.Context(), i); err != nil {
		t.Fatalf("Put(%q): %v", i.Name, err)
	}
}

// get returns what the keeper holds; the descriptors are closed when the test ends.
func get(t *testing.T, c *keeper.Client) []keeper.Item {
	t.Helper()
	items, err := c.Get(t.Context())
	if err != nil {
		t.Fatalf("Get: %v", err)
	}
	for _, i := range items {
		if i.FD >= 0 {
			t.Cleanup(func() { _ = unix.Close(i.FD) })
		}
	}
	return items
}

// plain is an item without a descriptor.
func plain(name, data string) keeper.Item {
	return keeper.Item{Name: name, Data: []byte(data), FD: -1}
}

// text has what names and data items have, and if they have descriptors.
func text(items []keeper.Item) []string {
	var out []string
	for _, i := range items {
		line := i.Name + "=" + string(i.Data)
		if i.FD >= 0 {
			line += " fd"
		}
		out = append(out, line)
	}
	return out
}

// file returns a descriptor of a new file in memory, open for the duration of the test.
func file(t *testing.T, content string) int {
	t.Helper()
	fd, err := memfd([]byte(content))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

func identity(t *testing.T, fd int) [2]uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		t.Fatalf("fstat %d: %v", fd, err)
	}
	return [2]uint64{st.Dev, st.Ino}
}

func TestRoundTrip(t *testing.T) {
	path := start(t, nil)
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	want := identity(t, pipe[0])
	odd, big := "\xff\x00 /\n", strings.Repeat("0123456789abcdef", keeper.MaxData/16)
	long := strings.Repeat("n", keeper.MaxName)

	c := dial(t, path)
	put(t, c, keeper.Item{Name: "pipe", Data: []byte("read end"), FD: pipe[0]})
	put(t, c, plain(odd, ""))
	put(t, c, keeper.Item{Name: long, Data: []byte(big), FD: pipe[1]})
	if got := identity(t, pipe[0]); got != want {
		t.Errorf("after Put the caller's descriptor is of file %v, want %v", got, want)
	}
	for _, fd := range pipe {
		if err := unix.Close(fd); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}

	items := get(t, dial(t, path))
	if diff := cmp.Diff([]string{long + "=" + big + " fd", "pipe=read end fd", odd + "="}, text(items)); diff != "" {
		t.Fatalf("Get (-want +got):\n%s", diff)
	}
	if items[2].Data != nil {
		t.Errorf("empty data is %v, want nil", items[2].Data)
	}
	if got := identity(t, items[1].FD); got != want {
		t.Errorf("Get has file %v, want %v", got, want)
	}
	for _, i := range items[:2] {
		if flags, err := unix.FcntlInt(uintptr(i.FD), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("%.10s: flags of the descriptor = %#x, %v, want close-on-exec", i.Name, flags, err)
		}
	}
	if _, err := unix.Write(items[0].FD, []byte("through")); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 16)
	if n, err := unix.Read(items[1].FD, p); err != nil || string(p[:n]) != "through" {
		t.Errorf("read from the pipe = %q, %v, want %q", p[:max(n, 0)], err, "through")
	}
}

// TestReplaceAndDelete sees from the other end of a pipe that the keeper closes what it does
// not hold any more.
func TestReplaceAndDelete(t *testing.T) {
	drop := map[string]func(*keeper.Client) error{
		"replaced by a file": func(c *keeper.Client) error {
			return c.Put(t.Context(), keeper.Item{Name: "b", Data: []byte("new"), FD: 0})
		},
		"replaced by none": func(c *keeper.Client) error { return c.Put(t.Context(), plain("b", "new")) },
		"deleted":          func(c *keeper.Client) error { return c.Delete(t.Context(), "x", "b", "b") },
	}
	want := map[string][]string{
		"replaced by a file": {"a=1", "b=new fd", "c=3"},
		"replaced by none":   {"a=1", "b=new", "c=3"},
		"deleted":            {"a=1", "c=3"},
	}
	for name, f := range drop {
		t.Run(name, func(t *testing.T) {
			c := dial(t, start(t, nil))
			var pipe [2]int
			if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = unix.Close(pipe[0]) })
			put(t, c, plain("c", "3"))
			put(t, c, plain("a", "1"))
			put(t, c, keeper.Item{Name: "b", Data: []byte("2"), FD: pipe[1]})
			if err := unix.Close(pipe[1]); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{"a=1", "b=2 fd", "c=3"}, textAndClose(t, c)); diff != "" {
				t.Fatalf("before (-want +got):\n%s", diff)
			}
			if err := f(c); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want[name], textAndClose(t, c)); diff != "" {
				t.Errorf("after (-want +got):\n%s", diff)
			}
			if n, err := unix.Read(pipe[0], make([]byte, 1)); n != 0 || err != nil {
				t.Errorf("read = %d, %v, want the end of the pipe", n, err)
			}
		})
	}
}

// textAndClose is text of Get without a descriptor left open.
func textAndClose(t *testing.T, c *keeper.Client) []string {
	t.Helper()
	items, err := c.Get(t.Context())
	if err != nil {
		t.Fatalf("Get: %v", err)
	}
	defer func() {
		for _, i := range items {
			if i.FD >= 0 {
				_ = unix.Close(i.FD)
			}
		}
	}()
	return text(items)
}

func TestLimits(t *testing.T) {
	c := dial(t, start(t, nil))
	closed, err := memfd(nil)
	if err == nil {
		err = unix.Close(closed)
	}
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		item keeper.Item
		want error
	}{
		{"no name", plain("", "x"), fs.ErrInvalid},
		{"long name", plain(strings.Repeat("n", keeper.MaxName+1), ""), fs.ErrInvalid},
		{"much data", plain("x", strings.Repeat("d", keeper.MaxData+1)), errs.ErrFull},
		{"closed descriptor", keeper.Item{Name: "x", FD: closed}, unix.EBADF},
	}
	for _, tt := range tests {
		if err := c.Put(t.Context(), tt.item); !errors.Is(err, tt.want) {
			t.Errorf("%s: Put = %v, want %v", tt.name, err, tt.want)
		}
	}
	for name, names := range map[string][]string{
		"no name": {"a", ""}, "long name": {strings.Repeat("n", keeper.MaxName+1)},
		"many names": make([]string, keeper.MaxItems+1),
	} {
		if err := c.Delete(t.Context(), names...); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%s: Delete = %v, want %v", name, err, fs.ErrInvalid)
		}
	}
	if got := get(t, c); len(got) != 0 {
		t.Errorf("Get = %q, want nothing", text(got))
	}
}

func TestManyItems(t *testing.T) {
	c := dial(t, start(t, nil))
	var names, want []string
	for i := range keeper.MaxItems {
		name := fmt.Sprintf("%0*d", keeper.MaxName, i)
		put(t, c, plain(name, "x"))
		names, want = append(names, name), append(want, name+"=x")
	}
	err := c.Put(t.Context(), keeper.Item{Name: "more", FD: 0})
	if !errors.Is(err, errs.ErrFull) || !strings.Contains(err.Error(), "4096") {
		t.Errorf("Put of one more = %v, want %v with the limit", err, errs.ErrFull)
	}
	want[7] = names[7] + "=y"
	put(t, c, plain(names[7], "y"))
	if diff := cmp.Diff(want, text(get(t, c))); diff != "" {
		t.Errorf("Get (-want +got):\n%s", diff)
	}
	slices.Reverse(names)
	if err := c.Delete(t.Context(), names...); err != nil {
		t.Fatalf("Delete of all: %v", err)
	}
	if got := get(t, c); len(got) != 0 {
		t.Errorf("after Delete of all %d are held", len(got))
	}
}

// TestConcurrent has clients, and goroutines on one client, change and read the same items:
// each that is read is one that was put.
func TestConcurrent(t *testing.T) {
	path := start(t, nil)
	shared := dial(t, path)
	var all sync.WaitGroup
	for n := range 8 {
		c := shared
		if n%2 == 0 {
			c = dial(t, path)
		}
		letter := string(rune('a' + n))
		fd := file(t, letter)
		all.Go(func() {
			for i := range 30 {
				item := keeper.Item{Name: fmt.Sprint(i % 3), Data: []byte(strings.Repeat(letter, 100_000*(i%2)+1)), FD: fd}
				if err := c.Put(t.Context(), item); err != nil {
					t.Errorf("Put: %v", err)
				}
				if err := checkWhole(t.Context(), c); err != nil {
					t.Errorf("Get: %v", err)
				}
				if err := c.Delete(t.Context(), fmt.Sprint((i+1)%3)); err != nil {
					t.Errorf("Delete: %v", err)
				}
			}
		})
	}
	all.Wait()
}

// checkWhole gets items that have one letter as all of their data and in their file.
func checkWhole(ctx context.Context, c *keeper.Client) error {
	items, err := c.Get(ctx)
	for _, i := range items {
		p := make([]byte, 2)
		n, rerr := unix.Pread(i.FD, p, 0)
		if rerr != nil || n != 1 || len(i.Data) == 0 || !bytes.Equal(i.Data, bytes.Repeat(p[:1], len(i.Data))) {
			err = errors.Join(err, fmt.Errorf("item %s: %d bytes of %.3q with a file of %q, %w", i.Name, len(i.Data), i.Data, p[:max(n, 0)], rerr))
		}
		err = errors.Join(err, unix.Close(i.FD))
	}
	return err
}

func TestContext(t *testing.T) {
	c := dial(t, start(t, nil))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Put(ctx, plain("x", "")); !errors.Is(err, context.Canceled) {
		t.Errorf("Put with an ended context = %v, want %v", err, context.Canceled)
	}
	if got := get(t, c); len(got) != 0 {
		t.Errorf("Get = %q, want nothing", text(got))
	}
}

// TestInterrupted ends the context of a call that a keeper does not answer.
func TestInterrupted(t *testing.T) {
	testenv.NoLeaks(t)
	ctx, cancel := context.WithCancel(t.Context())
	asked := make(chan struct{})
	c := dialFake(t, func(conn *net.UnixConn) {
		if _, err := conn.Read(make([]byte, 8)); err != nil {
			t.Errorf("read: %v", err)
		}
		close(asked)
	})
	go func() { <-asked; cancel() }()
	if _, err := c.Get(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Get = %v, want %v", err, context.Canceled)
	}
	if _, err := c.Get(t.Context()); !errors.Is(err, errs.ErrUnavailable) {
		t.Errorf("Get after one that was interrupted = %v, want %v", err, errs.ErrUnavailable)
	}
}

// dialFake connects to a keeper that answers the ping of Dial, does f, and then leaves the
// connection open until the test ends.
func dialFake(t *testing.T, f func(*net.UnixConn)) *keeper.Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sock")
	ln, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	over, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		conn, err := ln.Accept()
		if err != nil {
			t.Errorf("accept: %v", err)
			return
		}
		defer conn.Close()
		if _, err := conn.Read(make([]byte, 8)); err != nil {
			t.Errorf("read: %v", err)
		}
		if _, err := conn.Write(request(128, 0, "", nil)); err != nil {
			t.Errorf("write: %v", err)
		}
		f(conn.(*net.UnixConn))
		<-over
	}()
	t.Cleanup(func() {
		close(over)
		<-done
		_ = ln.Close()
	})
	return dial(t, path)
}

// TestBadAnswers has keepers that do not keep to the protocol.
func TestBadAnswers(t *testing.T) {
	item := request(129, 1, "x", nil)
	tests := []struct {
		name   string
		answer []byte
		fds    []int
		want   error
	}{
		{"other kind", request(2, 0, "", nil), nil, errs.ErrFormat},
		{"other version", append([]byte{2}, request(129, 0, "x", nil)[1:]...), nil, errs.ErrFormat},
		{"two descriptors", item, []int{0, 0}, errs.ErrFormat},
		{"no descriptor", item, nil, errs.ErrFormat},
		{"item, then too much", append(item, 1, 129, 0, 0, 255, 255, 255, 255), []int{0}, errs.ErrFull},
		{"refused, unknown word", request(130, 0, "moon", []byte("is full")), nil, nil},
		{"refused, later version", append([]byte{7}, request(130, 0, "full", []byte("is full"))[1:]...), nil, errs.ErrFull},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			noOpenFiles(t)
			c := dialFake(t, func(conn *net.UnixConn) {
				if _, _, err := conn.WriteMsgUnix(tt.answer, rights(tt.fds), nil); err != nil {
					t.Errorf("answer: %v", err)
				}
			})
			if items, err := c.Get(t.Context()); err == nil || (tt.want != nil && !errors.Is(err, tt.want)) {
				t.Errorf("Get = %q, %v, want %v", text(items), err, tt.want)
			}
		})
	}
}

func rights(fds []int) []byte {
	if len(fds) == 0 {
		return nil
	}
	return unix.UnixRights(fds...)
}

// TestKeeperEnds has the keeper end while a client is connected.
func TestKeeperEnds(t *testing.T) {
	noOpenFiles(t)
	path := filepath.Join(t.TempDir(), "sock")
	ctx, stop := context.WithCancel(t.Context())
	var c *keeper.Client
	err := keeper.Run(ctx, path, keeper.Options{Ready: func() {
		c = dial(t, path)
		put(t, c, keeper.Item{Name: "x", FD: 0})
		stop()
	}})
	if err != nil {
		t.Errorf("Run = %v, want nil", err)
	}
	if _, err := c.Get(t.Context()); !errors.Is(err, errs.ErrUnavailable) {
		t.Errorf("Get = %v, want %v", err, errs.ErrUnavailable)
	}
	if err := c.Close(); err != nil {
		t.Errorf("Close = %v", err)
	}
	if err := c.Put(t.Context(), plain("x", "")); !errors.Is(err, errs.ErrUnavailable) {
		t.Errorf("Put after Close = %v, want %v", err, errs.ErrUnavailable)
	}
	if _, err := keeper.Dial(t.Context(), path); !errors.Is(err, keeper.ErrNotRunning) {
		t.Errorf("Dial = %v, want %v", err, keeper.ErrNotRunning)
	}
}
