package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/internal/credentials"
	"github.com/zosfs/zosfs/internal/testenv"
)

// overWire sends err as the service does and returns what the client makes of it.
func overWire(t *testing.T, err error) (int, *Error) {
	t.Helper()
	status, body := encodeError(err)
	p, jerr := json.Marshal(body)
	if jerr != nil {
		t.Fatal(jerr)
	}
	var got ErrorBody
	if err := json.Unmarshal(p, &got); err != nil {
		t.Fatal(err)
	}
	return status, &Error{Info: got.Error}
}

func TestErrorsKeepTheirKind(t *testing.T) {
	all := append(errs.All(), fs.ErrExist, fs.ErrNotExist, fs.ErrPermission, fs.ErrInvalid, errors.ErrUnsupported,
		unix.EBUSY, unix.ENOTCONN, unix.ENOTDIR, context.Canceled, context.DeadlineExceeded, ErrNotRunning)
	for _, kind := range all {
		status, err := overWire(t, fmt.Errorf("some text: %w", kind))
		if status < 400 || status == http.StatusInternalServerError {
			t.Errorf("%v has the status %d", kind, status)
		}
		for _, other := range all {
			if got, want := errors.Is(err, other), errors.Is(kind, other); got != want {
				t.Errorf("after the wire, %v is %v: %t, want %t", kind, other, got, want)
			}
		}
		if err.Error() != "some text: "+kind.Error() {
			t.Errorf("text of %v = %q", kind, err)
		}
	}
	status, err := overWire(t, fmt.Errorf("%w and %w", errs.ErrUnavailable, errs.ErrCorrupt))
	if !errors.Is(err, errs.ErrUnavailable) || !errors.Is(err, errs.ErrCorrupt) || status != http.StatusUnprocessableEntity {
		t.Errorf("an error of two kinds = %v with status %d", err, status)
	}
	if status, err := overWire(t, errors.New("none")); status != http.StatusInternalServerError || len(err.Unwrap()) != 0 {
		t.Errorf("an error of no kind has the status %d and unwraps to %v", status, err.Unwrap())
	}
	if e := (&Error{Info: ErrorInfo{Kinds: []string{"of a later version", "busy"}}}); !errors.Is(e, unix.EBUSY) {
		t.Errorf("an error with an unknown kind unwraps to %v", e.Unwrap())
	}
}

// TestTableIdle follows the timer of an empty table.
func TestTableIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ended atomic.Bool
		tab := newTable(time.Minute, func() { ended.Store(true) })
		pass := func(d time.Duration, want bool) {
			t.Helper()
			time.Sleep(d) // in the bubble
			synctest.Wait()
			if ended.Load() != want {
				t.Fatalf("ended = %t, want %t", !want, want)
			}
		}
		pass(59*time.Second, false)
		if err := tab.reserve("/mnt"); err != nil {
			t.Fatal(err)
		}
		pass(time.Hour, false)
		m := &mounted{info: MountInfo{Dir: "/mnt"}}
		tab.add(m)
		tab.release("/mnt")
		pass(time.Hour, false)
		tab.remove(m)
		pass(59*time.Second, false)
		if err := tab.reserve("/other"); err != nil {
			t.Fatal(err)
		}
		tab.release("/other")
		pass(59*time.Second, false)
		pass(2*time.Second, true)
		if err := tab.reserve("/late"); !errors.Is(err, ErrNotRunning) {
			t.Errorf("reserve after the end = %v, want %v", err, ErrNotRunning)
		}
	})
}

func TestTableAt(t *testing.T) {
	tab := newTable(0, nil)
	old, young := &mounted{info: MountInfo{Dir: "/mnt", Since: time.Unix(1, 0)}}, &mounted{info: MountInfo{Dir: "/mnt", Since: time.Unix(2, 0)}}
	tab.add(old)
	old.detached.Store(true)
	if m, ok := tab.at("/mnt"); ok {
		t.Errorf("at = %v, though it is out of sight", m)
	}
	tab.add(young)
	if m, ok := tab.at("/mnt"); !ok || m != young {
		t.Errorf("at = %v, want the one to be seen", m)
	}
	if all := tab.list(); len(all) != 2 || all[0] != old {
		t.Errorf("list = %v, want the older one first", all)
	}
	tab.end()
	if err := tab.reserve("/x"); !errors.Is(err, ErrNotRunning) {
		t.Errorf("reserve after the end = %v, want %v", err, ErrNotRunning)
	}
}

func TestLogFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l, err := openLog(path, 100)
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0) // as a child has it
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stderr.Close() }()
	for i := range 50 {
		if n, err := fmt.Fprintf(l, "line %02d\n", i); err != nil || n != 8 {
			t.Fatalf("Write = %d, %v", n, err)
		}
	}
	if _, err := stderr.WriteString("panic\n"); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	got, old := read(t, path), read(t, path+".1")
	if len(got) > 106 || len(old) > 100 || !strings.HasSuffix(got, "line 49\npanic\n") {
		t.Errorf("the log has %d and %d bytes and ends with %q", len(got), len(old), got)
	}
	if both := old + got; !strings.Contains(both, "line 38\nline 39\n") || !strings.HasPrefix(old, "line ") {
		t.Errorf("lines are torn or lost between the files:\n%s", both)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("the log has mode %v, %v", info.Mode(), err)
	}
}

func TestLogFileLongLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l, err := openLog(path, maxLog)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := l.Write(make([]byte, 1<<20)); err != nil || n != 1<<20 {
		t.Errorf("Write = %d, %v", n, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got := read(t, path); len(got) > maxLine+10 || !strings.HasSuffix(got, " ...\n") {
		t.Errorf("a long line takes %d bytes", len(got))
	}
	if got := tail(path, maxLine-1, 3); got != "..\n" {
		t.Errorf("tail = %q", got)
	}
}

func TestLogFileIsNoSymlink(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := os.Symlink("/dev/null", path); err != nil {
		t.Fatal(err)
	}
	if _, err := openLog(path, maxLog); !errors.Is(err, unix.ELOOP) {
		t.Errorf("openLog of a symlink = %v, want %v", err, unix.ELOOP)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	p, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(p)
}

func TestDefaultDirs(t *testing.T) {
	for _, name := range []string{EnvCache, EnvState, "XDG_CACHE_HOME", "XDG_RUNTIME_DIR", "XDG_STATE_HOME"} {
		t.Setenv(name, "")
	}
	t.Setenv("HOME", "/home/u")
	root := os.Geteuid() == 0
	set := func(pairs ...string) {
		for i := 0; i < len(pairs); i += 2 {
			t.Setenv(pairs[i], pairs[i+1])
		}
	}
	want := func(forRoot, forOthers Dirs) {
		t.Helper()
		want := forOthers
		if root {
			want = forRoot
		}
		if diff := cmp.Diff(want, DefaultDirs()); diff != "" {
			t.Errorf("DefaultDirs() (-want +got):\n%s", diff)
		}
	}
	rootDirs := Dirs{"/var/cache/zosfs", "/run/zosfs"}
	want(rootDirs, Dirs{"/home/u/.cache/zosfs", "/home/u/.local/state/zosfs"})
	set("XDG_CACHE_HOME", "/c", "XDG_STATE_HOME", "/s")
	want(rootDirs, Dirs{"/c/zosfs", "/s/zosfs"})
	set("XDG_RUNTIME_DIR", "/r", "XDG_CACHE_HOME", "relative")
	want(rootDirs, Dirs{"/home/u/.cache/zosfs", "/r/zosfs"})
	set(EnvCache, "/x", EnvState, "/y")
	want(Dirs{"/x", "/y"}, Dirs{"/x", "/y"})
	if _, err := (Dirs{State: "/y"}).abs(); !errors.Is(err, fs.ErrInvalid) || !strings.Contains(err.Error(), EnvCache) {
		t.Errorf("abs without a cache directory = %v", err)
	}
	if err := Dial(Dirs{}).Ping(t.Context()); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("Ping without directories = %v, want %v", err, fs.ErrInvalid)
	}
}

func TestInside(t *testing.T) {
	for _, tt := range []struct {
		path, dir string
		want      bool
	}{
		{"/a", "/a", true}, {"/a/b", "/a", true}, {"/ab", "/a", false}, {"/a", "/a/b", false},
		{"/..a", "/", true}, {"/a/..b", "/a", true}, {"/x", "/", true}, {"/", "/x", false},
	} {
		if got := inside(tt.path, tt.dir); got != tt.want {
			t.Errorf("inside(%s, %s) = %t, want %t", tt.path, tt.dir, got, tt.want)
		}
	}
}

// serveHere runs a service without FUSE, for its API.
func serveHere(t *testing.T) Dirs {
	t.Helper()
	t.Setenv(credentials.EnvFile, filepath.Join(t.TempDir(), "none"))
	dir := testenv.TempDir(t)
	d := Dirs{Cache: filepath.Join(dir, "cache"), State: filepath.Join(dir, "state")}
	ctx, cancel := context.WithCancel(t.Context())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- Run(ctx, Options{Dirs: d, Ready: func() { close(ready) }}) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
	<-ready
	return d
}

// TestAPIRefuses sends what a Client would not send.
func TestAPIRefuses(t *testing.T) {
	testenv.NoLeaks(t)
	c := Dial(serveHere(t))
	tests := []struct {
		name, method, path string
		body               any
		want               error
		text               string
	}{
		{"unknown path", http.MethodGet, "nothing", nil, errors.ErrUnsupported, "no such request"},
		{"wrong method", http.MethodGet, "stop", nil, errors.ErrUnsupported, "no such request"},
		{"no body", http.MethodPost, "mount", nil, errs.ErrFormat, "request"},
		{"wrong type", http.MethodPost, "mount", []int{1}, errs.ErrFormat, "request"},
		{"unknown field", http.MethodPost, "mount", map[string]any{"ref": "/x.flist", "writable": true}, errs.ErrFormat, "writable"},
		{"large", http.MethodPost, "mount", map[string]any{"ref": strings.Repeat("x", 2<<20)}, errs.ErrFormat, "large"},
		{"relative reference", http.MethodPost, "mount", MountRequest{Ref: "./x.flist", Dir: "/x"}, errs.ErrFormat, "absolute"},
		{"relative mount point", http.MethodPost, "mount", MountRequest{Ref: "/x.flist", Dir: "x"}, errs.ErrFormat, "absolute"},
		{"relative unmount", http.MethodPost, "unmount", UnmountRequest{Dir: "x"}, errs.ErrFormat, "absolute"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := c.call(t.Context(), tt.method, tt.path, tt.body, &struct{}{})
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("%s %s = %v, want %v with %q", tt.method, tt.path, err, tt.want, tt.text)
			}
		})
	}
}

// TestPeer lets another user connect, who got past the modes of socket and directory.
func TestPeer(t *testing.T) {
	testenv.NoLeaks(t)
	testenv.NeedRoot(t)
	const nobody = 65534
	d := serveHere(t)
	got := make(chan string)
	go func() {
		runtime.LockOSThread() // and never unlocks: the thread ends with its user id
		got <- pingAs(nobody, d.socket())
	}()
	if answer := <-got; !strings.Contains(answer, "403") || !strings.Contains(answer, "user 65534") {
		t.Errorf("the service answers user %d: %s", nobody, answer)
	}
	if err := Dial(d).Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

// pingAs asks as another user; only the calling thread becomes that. Its file system user id
// stays root's, for which modes of files do not count.
func pingAs(uid uintptr, socket string) string {
	keep := ^uintptr(0)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, keep, uid, keep); errno != 0 {
		return "setresuid: " + errno.Error()
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETFSUID, 0, 0, 0); errno != 0 {
		return "setfsuid: " + errno.Error()
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: socket}); err != nil {
		return "connect: " + err.Error()
	}
	if _, err := unix.Write(fd, []byte("GET /v1/ping HTTP/1.0\r\n\r\n")); err != nil {
		return err.Error()
	}
	p := make([]byte, 4096)
	n := 0
	for n < len(p) {
		m, err := unix.Read(fd, p[n:])
		if err != nil || m == 0 {
			break
		}
		n += m
	}
	return string(p[:n])
}

func TestSocketMode(t *testing.T) {
	testenv.NoLeaks(t)
	d := serveHere(t)
	for path, want := range map[string]fs.FileMode{d.State: 0o700 | fs.ModeDir, d.socket(): 0o600 | fs.ModeSocket, d.Cache: 0o700 | fs.ModeDir} {
		if info, err := os.Stat(path); err != nil || info.Mode() != want {
			t.Errorf("%s has mode %v, %v; want %v", path, info.Mode(), err, want)
		}
	}
}

// TestProber asks a mount that does not answer, and one that does, several times at once.
func TestProber(t *testing.T) {
	testenv.NoLeaks(t)
	hung, release := make(chan struct{}), make(chan struct{})
	p := prober{probe: func(dir string) bool {
		if dir == "hung" {
			close(hung) // a second question would panic
			<-release
		}
		return dir != "dead"
	}}
	p.patience = time.Millisecond
	for range 2 {
		if p.answers("hung") {
			t.Error("a mount that does not answer does answer")
		}
	}
	p.patience = time.Minute
	if !p.answers("live") || p.answers("dead") {
		t.Error("answers of a live and of a dead mount are mixed up")
	}
	<-hung
	close(release)
}
