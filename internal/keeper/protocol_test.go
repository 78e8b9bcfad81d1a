package keeper_test

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/internal/keeper"
)

// raw connects without a client, for the duration of the test.
func raw(t *testing.T, path string) *net.UnixConn {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn.(*net.UnixConn)
}

// part is what one system call sends.
type part struct {
	bytes []byte
	fds   []int
}

func sendParts(t *testing.T, conn *net.UnixConn, parts ...part) {
	t.Helper()
	for _, p := range parts {
		if _, _, err := conn.WriteMsgUnix(p.bytes, rights(p.fds), nil); err != nil {
			t.Fatalf("send: %v", err)
		}
	}
}

// answer reads one message.
func answer(t *testing.T, conn *net.UnixConn) (version, kind byte, name string) {
	t.Helper()
	head := make([]byte, 8)
	if _, err := io.ReadFull(conn, head); err != nil {
		t.Fatalf("answer: %v", err)
	}
	rest := make([]byte, int(head[3])+int(head[4])+int(head[5])<<8+int(head[6])<<16)
	if _, err := io.ReadFull(conn, rest); err != nil {
		t.Fatalf("answer: %v", err)
	}
	return head[0], head[1], string(rest[:head[3]])
}

// TestMalformed sends what breaks the rules: the connection is told why and ends, and nothing
// else happens.
func TestMalformed(t *testing.T) {
	one, two := []int{0}, []int{0, 0}
	whole := func(kind, flags byte, name, data string, fds ...int) []part {
		return []part{{request(kind, flags, name, []byte(data)), fds}}
	}
	put := request(2, 1, "new", []byte("data"))
	tests := []struct {
		name  string
		parts []part
		word  string
	}{
		{"put without a name", whole(2, 0, "", "data"), "format"},
		{"unknown flag", whole(2, 2, "new", "data"), "format"},
		{"unknown flag and descriptor", whole(2, 3, "new", "data", 0), "format"},
		{"descriptor announced only", whole(2, 1, "new", "data"), "format"},
		{"descriptor not announced", whole(2, 0, "new", "data", 0), "format"},
		{"two descriptors", whole(2, 1, "new", "data", 0, 0), "format"},
		{"descriptor with the name", []part{{request(2, 0, "new", nil)[:8], nil}, {[]byte("new"), one}}, "format"},
		{"descriptor with the data", []part{{put[:11], one}, {put[11:], one}}, "format"},
		{"two descriptors with the data", []part{{put[:11], one}, {put[11:], two}}, "format"},
		{"a descriptor with each part of the header", []part{{put[:4], one}, {put[4:], one}}, "format"},
		{"ping with a name", whole(1, 0, "new", ""), "format"},
		{"get with data", whole(3, 0, "", "data"), "format"},
		{"get with a descriptor", whole(3, 1, "", "", 0), "format"},
		{"delete with a name", whole(4, 0, "kept", ""), "format"},
		{"delete of no name", whole(4, 0, "", "\x04kept\x00"), "format"},
		{"delete of a cut name", whole(4, 0, "", "\x04kept\x04ke"), "format"},
		{"too much data", []part{{[]byte{1, 2, 1, 3, 1, 0, 16, 0}, one}}, "full"},
		{"all the data there is", []part{{[]byte{1, 2, 0, 3, 255, 255, 255, 255}, nil}}, "full"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			logged := make(lines, 10)
			path := start(t, logged.logger())
			c := dial(t, path)
			fd := file(t, "kept")
			if err := c.Put(t.Context(), keeper.Item{Name: "kept", FD: fd}); err != nil {
				t.Fatal(err)
			}
			conn := raw(t, path)
			sendParts(t, conn, tt.parts...)
			if version, kind, word := answer(t, conn); version != 1 || kind != 130 || word != tt.word {
				t.Errorf("answer = version %d, kind %d, %q, want 1, 130, %q", version, kind, word, tt.word)
			}
			if n, err := conn.Read(make([]byte, 1)); n != 0 || (!errors.Is(err, io.EOF) && !errors.Is(err, unix.ECONNRESET)) {
				t.Errorf("after the answer Read = %d, %v, want the end", n, err)
			}
			logged.await(t, "level=WARN")
			if diff := cmp.Diff([]string{"kept= fd"}, text(get(t, c))); diff != "" {
				t.Errorf("held (-want +got):\n%s", diff)
			}
		})
	}
}

// TestUnknown asks for what only a later keeper knows, and goes on.
func TestUnknown(t *testing.T) {
	conn := raw(t, start(t, nil))
	later := bytes.Clone(request(2, 0xff, "name", []byte("data")))
	later[0] = 2
	tests := []struct {
		name string
		part part
	}{
		{"version 2", part{later, []int{0}}},
		{"version 0", part{append([]byte{0}, request(1, 0, "", nil)[1:]...), nil}},
		{"kind 0", part{request(0, 0, "", nil), nil}},
		{"kind 5", part{request(5, 1, "name", []byte("data")), []int{0}}},
		{"kind of an answer", part{request(128, 0, "", nil), nil}},
	}
	for _, tt := range tests {
		sendParts(t, conn, tt.part)
		if version, kind, word := answer(t, conn); version != 1 || kind != 130 || word != "unsupported" {
			t.Errorf("%s: answer = version %d, kind %d, %q, want 1, 130, unsupported", tt.name, version, kind, word)
		}
		sendParts(t, conn, part{request(1, 0, "", nil), nil})
		if _, kind, _ := answer(t, conn); kind != 128 {
			t.Errorf("%s: answer to a ping after it = kind %d, want 128", tt.name, kind)
		}
	}
}

// TestUnsupported has the client of a newer service meet an older keeper.
func TestUnsupported(t *testing.T) {
	c := dialFake(t, func(conn *net.UnixConn) {
		if _, err := conn.Write(request(130, 0, "unsupported", []byte("request of kind 2"))); err != nil {
			t.Errorf("answer: %v", err)
		}
	})
	if err := c.Put(t.Context(), plain("x", "")); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Put = %v, want %v", err, errors.ErrUnsupported)
	}
}

// TestInPieces sends a request byte by byte, and two at once.
func TestInPieces(t *testing.T) {
	path := start(t, nil)
	conn := raw(t, path)
	fds := []int{0}
	for _, b := range request(2, 1, "new", []byte("data")) {
		sendParts(t, conn, part{[]byte{b}, fds})
		fds = nil
	}
	if _, kind, word := answer(t, conn); kind != 128 {
		t.Fatalf("answer = kind %d %q, want 128", kind, word)
	}
	sendParts(t, conn, part{append(request(2, 0, "a", nil), request(2, 0, "b", nil)...), nil})
	for range 2 {
		if _, kind, word := answer(t, conn); kind != 128 {
			t.Errorf("answer = kind %d %q, want 128", kind, word)
		}
	}
	if diff := cmp.Diff([]string{"a=", "b=", "new=data fd"}, text(get(t, dial(t, path)))); diff != "" {
		t.Errorf("held (-want +got):\n%s", diff)
	}
}

// TestTooManyOpen has the process at its limit of descriptors: keeper and client say so, and
// go on when there are more again.
func TestTooManyOpen(t *testing.T) {
	logged := make(lines, 100)
	path := start(t, logged.logger())
	c, other := dial(t, path), dial(t, path)
	fd := file(t, "x")
	waiting, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	more := noMoreFiles(t)

	if err := c.Put(t.Context(), keeper.Item{Name: "x", FD: fd}); !errors.Is(err, errs.ErrFull) {
		t.Errorf("Put = %v, want %v", err, errs.ErrFull)
	}
	if err := unix.Connect(waiting, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	logged.await(t, "cannot accept")
	more()
	conn := wrap(t, waiting)
	sendParts(t, conn, part{request(1, 0, "", nil), nil})
	if _, kind, _ := answer(t, conn); kind != 128 {
		t.Errorf("answer to a client that waited = kind %d, want 128", kind)
	}
	if err := c.Put(t.Context(), keeper.Item{Name: "x", FD: fd}); err != nil {
		t.Errorf("Put after that = %v", err)
	}

	more = noMoreFiles(t)
	_, err = other.Get(t.Context())
	more()
	if !errors.Is(err, unix.EMFILE) {
		t.Errorf("Get = %v, want %v", err, unix.EMFILE)
	}
	if diff := cmp.Diff([]string{"x= fd"}, text(get(t, c))); diff != "" {
		t.Errorf("held (-want +got):\n%s", diff)
	}
}

// noMoreFiles sets the limit of open files to those that are open, until the function that it
// returns is called.
func noMoreFiles(t *testing.T) (more func()) {
	t.Helper()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	free, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 0)
	if err == nil {
		err = unix.Close(free)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(free), Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	more = func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Errorf("restore the limit: %v", err)
		}
	}
	t.Cleanup(more)
	return more
}

// wrap returns the connection of a socket, which it takes over.
func wrap(t *testing.T, fd int) *net.UnixConn {
	t.Helper()
	f := os.NewFile(uintptr(fd), "socket")
	conn, err := net.FileConn(f)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn.(*net.UnixConn)
}

// lines is a log as a channel of its lines.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	select {
	case l <- string(p):
	default: // nobody waits for so many
	}
	return len(p), nil
}

func (l lines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// await waits for a line that has what.
func (l lines) await(t *testing.T, what string) {
	t.Helper()
	for {
		select {
		case line := <-l:
			if bytes.Contains([]byte(line), []byte(what)) {
				return
			}
		case <-t.Context().Done():
			t.Fatalf("no line with %q in the log", what)
		}
	}
}
