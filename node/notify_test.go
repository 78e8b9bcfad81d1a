package node

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zosfs/zosfs/internal/testenv"
)

func TestTakeManager(t *testing.T) {
	tests := []struct {
		name     string
		env      map[string]string
		watchdog time.Duration
		notify   string
	}{
		{"none", nil, 0, ""},
		{"notify alone", map[string]string{"NOTIFY_SOCKET": "/run/x"}, 0, "/run/x"},
		{"watchdog", map[string]string{"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "3000000"}, 3 * time.Second, "@x"},
		{"watchdog of another", map[string]string{"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, 0, ""},
		{"nonsense", map[string]string{"WATCHDOG_USEC": "-3", "LISTEN_FDS": "many"}, 0, ""},
		{"for ever", map[string]string{"WATCHDOG_USEC": "9223372036854775807"}, 24 * time.Hour, ""},
		{"descriptors of another", map[string]string{"LISTEN_PID": "1", "LISTEN_FDS": "1"}, 0, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, name := range managerEnv {
				t.Setenv(name, tt.env[name])
			}
			m := takeManager()
			defer m.close()
			if m.watchdog != tt.watchdog || m.notify != tt.notify || len(m.files) != 0 {
				t.Errorf("takeManager = %+v, want watchdog %v, notify %q and no files", m, tt.watchdog, tt.notify)
			}
			for _, name := range managerEnv {
				if v, ok := os.LookupEnv(name); ok {
					t.Errorf("%s=%q is still in the environment", name, v)
				}
			}
		})
	}
}

// TestBeat tells the watchdog only of a service that answers in time.
func TestBeat(t *testing.T) {
	testenv.NoLeaks(t)
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	m := &manager{notify: path, watchdog: 20 * time.Millisecond}
	m.beat(t.Context(), log, func(context.Context) error { return errors.New("no") })
	m.beat(t.Context(), log, func(ctx context.Context) error {
		<-ctx.Done() // it hangs
		return ctx.Err()
	})
	if n := strings.Count(out.String(), "does not answer itself"); n != 2 {
		t.Errorf("the log tells of %d failures, want 2:\n%s", n, &out)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	m.beat(gone, log, func(ctx context.Context) error { return ctx.Err() })
	m.tell(log, "MARK=1", "MORE=2")
	m.beat(t.Context(), log, func(context.Context) error { return nil })
	for _, want := range []string{"MARK=1\nMORE=2", "WATCHDOG=1"} {
		p := make([]byte, 100)
		n, err := conn.Read(p)
		if err != nil || string(p[:n]) != want {
			t.Errorf("told %q, %v; want %q", p[:n], err, want)
		}
	}
}

// TestPingPassesLocks has a service that hangs, with each lock that requests need: it answers no
// ping.
func TestPingPassesLocks(t *testing.T) {
	testenv.NoLeaks(t)
	s := &service{
		log: slog.New(slog.DiscardHandler), table: newTable(0, nil), remains: newRemains(), totals: newTotals(),
		memory: newMemory(), events: newEvents(), dead: newProber(), host: newHost(Options{}, nil),
	}
	ping := func() chan int {
		answered := make(chan int, 1)
		go func() {
			ctx := context.WithValue(t.Context(), peerKey{}, os.Geteuid())
			w := httptest.NewRecorder()
			s.handler().ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/v1/ping", nil))
			answered <- w.Code
		}()
		return answered
	}
	for name, l := range map[string]sync.Locker{
		"table": &s.table.mu, "remains": &s.remains.mu, "totals": &s.totals.mu, "memory": &s.memory.mu, "events": &s.events.mu, "host": &s.host.mu, "dead": &s.dead.mu,
	} {
		l.Lock()
		answered := ping()
		select {
		case code := <-answered:
			t.Errorf("%s: status %d from a service that hangs", name, code)
			l.Unlock()
			continue
		case <-time.After(20 * time.Millisecond):
		}
		l.Unlock()
		if code := <-answered; code != http.StatusOK {
			t.Errorf("%s: status %d after that", name, code)
		}
	}
	s.host.turn <- struct{}{} // who waits for the keeper is no reason
	s.saving.Lock()
	defer s.saving.Unlock()
	if code := <-ping(); code != http.StatusOK {
		t.Errorf("status %d while the table is saved", code)
	}
}

// TestTellNobody goes on where the manager has gone, or never was.
func TestTellNobody(t *testing.T) {
	testenv.NoLeaks(t)
	for _, notify := range []string{"relative", "vsock:2:1", filepath.Join(t.TempDir(), "gone"), "@zosfs-nobody-listens"} {
		var out bytes.Buffer
		(&manager{notify: notify}).tell(slog.New(slog.NewTextHandler(&out, nil)), "READY=1")
		if !strings.Contains(out.String(), "the service manager is not told") || !strings.Contains(out.String(), "READY=1") {
			t.Errorf("NOTIFY_SOCKET %s: the log has %q", notify, &out)
		}
	}
}
