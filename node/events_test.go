package node

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zosfs/zosfs/cache"
	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/image"
	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/store/multi"
)

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestEventRing(t *testing.T) {
	e := newEvents()
	const total = keptEvents + 44
	more := e.changed()
	for range total {
		e.add(Event{Type: EventMounted})
	}
	if !closed(more) {
		t.Error("nobody was told of the first event")
	}
	tests := []struct {
		name   string
		since  uint64
		missed uint64
		first  uint64 // event after what is missed; 0: none
	}{
		{"all", 0, 44, 45},
		{"some missed", 43, 1, 45},
		{"none missed", 44, 0, 45},
		{"the last", total - 1, 0, total},
		{"up to date", total, 0, 0},
		{"of an earlier service", total + 1, 44, 45},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			list, more := e.after(tt.since)
			if more == nil || closed(more) {
				t.Error("there are more events already, or never")
			}
			if tt.missed > 0 {
				if v := list[0]; v.Type != EventMissed || v.Count != tt.missed || v.Seq != 44 {
					t.Errorf("first of the list = %+v, want %d missed up to 44", v, tt.missed)
				}
				list = list[1:]
			}
			if tt.first == 0 {
				if len(list) != 0 {
					t.Errorf("after(%d) = %d events, want none", tt.since, len(list))
				}
				return
			}
			if got, want := len(list), int(total-tt.first+1); got != want {
				t.Fatalf("after(%d) = %d events, want %d", tt.since, got, want)
			}
			for i, v := range list {
				if v.Seq != tt.first+uint64(i) || v.Type != EventMounted || v.Time.IsZero() {
					t.Fatalf("event %d = %+v, want seq %d", i, v, tt.first+uint64(i))
				}
			}
		})
	}
	more = e.changed()
	e.end()
	e.end()
	e.add(Event{})
	if list, next := e.after(total); !closed(more) || next != nil || len(list) != 0 {
		t.Errorf("after the end: %d events, more %v", len(list), next)
	}
}

func TestToldNews(t *testing.T) {
	at := time.Now()
	fail := func(n int) image.ErrorInfo {
		return image.ErrorInfo{Time: at.Add(time.Duration(n)), Path: fmt.Sprint(n), Text: "no"}
	}
	source := func(bad bool) []multi.SourceStats {
		s := []multi.SourceStats{{Name: "good"}, {Name: "bad"}}
		if bad {
			s[1].Quarantined, s[1].Reason = true, "wrong bytes"
		}
		return s
	}
	var told told
	for i, step := range []struct {
		failed []image.ErrorInfo
		bad    bool
		want   string
	}{
		{nil, false, ""},
		{[]image.ErrorInfo{fail(1), fail(2)}, false, "1 2"},
		{[]image.ErrorInfo{fail(1), fail(2)}, true, "bad"},
		{[]image.ErrorInfo{fail(2), fail(3)}, true, "3"},
		{[]image.ErrorInfo{fail(2), fail(3)}, false, ""},
		{[]image.ErrorInfo{fail(7), fail(8)}, true, "7 8 bad"}, // the ring has turned
	} {
		var got []string
		for _, v := range told.news(step.failed, source(step.bad)) {
			switch v.Type {
			case EventReadError:
				if v.Error != "no" || !v.Time.After(at) {
					t.Errorf("step %d: %+v", i, v)
				}
				got = append(got, v.Path)
			case EventQuarantined:
				if v.Error != "wrong bytes" {
					t.Errorf("step %d: %+v", i, v)
				}
				got = append(got, v.Source)
			default:
				t.Errorf("step %d: %+v", i, v)
			}
		}
		if got := strings.Join(got, " "); got != step.want {
			t.Errorf("step %d: told %q, want %q", i, got, step.want)
		}
	}
}

func TestCacheNews(t *testing.T) {
	old := cache.Stats{PassedChunks: 3, WriteErrors: 1}
	for _, tt := range []struct {
		now  cache.Stats
		want Event
		ok   bool
	}{
		{old, Event{}, false},
		{cache.Stats{PassedChunks: 5, WriteErrors: 1}, Event{Count: 2}, true},
		{cache.Stats{PassedChunks: 4, WriteErrors: 3}, Event{Count: 1, Error: "2 writes failed"}, true},
		{cache.Stats{PassedChunks: 5, WriteErrors: 1, ReadOnly: true}, Event{}, false},
	} {
		v, ok := cacheNews(old, tt.now)
		if ok != tt.ok || ok && (v.Type != EventCacheFull || v.Count != tt.want.Count || v.Error != tt.want.Error) {
			t.Errorf("cacheNews(%+v) = %+v, %t; want %+v, %t", tt.now, v, ok, tt.want, tt.ok)
		}
	}
}

func TestTap(t *testing.T) {
	var out bytes.Buffer
	poked := make(chan struct{}, 1)
	root := slog.New(&tap{slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelError}), poked})
	log := root.With("a", 1).WithGroup("g")
	log.Info("quiet")
	if len(poked) != 0 {
		t.Error("an information pokes")
	}
	log.Warn("quiet too")
	log.Warn("nobody waits for the poke")
	if len(poked) != 1 || out.Len() != 0 {
		t.Errorf("a warning that is not wanted in the log: %d pokes, %q in the log", len(poked), &out)
	}
	<-poked
	log.Error("loud", "b", 2)
	if len(poked) != 1 || !strings.Contains(out.String(), "msg=loud a=1 g.b=2") {
		t.Errorf("an error: %d pokes, %q in the log", len(poked), &out)
	}
}

// oneConn is a listener that has one connection.
type oneConn struct {
	conns chan net.Conn
	over  chan struct{}
	once  sync.Once
}

func (l *oneConn) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.over:
		return nil, net.ErrClosed
	}
}

func (l *oneConn) Close() error {
	l.once.Do(func() { close(l.over) })
	return nil
}

func (l *oneConn) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// stream serves the events of a service that does nothing else over a connection that holds
// nothing: each byte that is written waits for its reader. served is closed when the handler
// has returned.
func stream(t *testing.T) (s *service, conn net.Conn, served <-chan struct{}) {
	t.Helper()
	s = &service{events: newEvents(), over: make(chan struct{}), log: slog.New(slog.DiscardHandler)}
	done := make(chan struct{})
	conn, theirs := net.Pipe()
	ln := &oneConn{conns: make(chan net.Conn, 1), over: make(chan struct{})}
	ln.conns <- theirs
	srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(done)
		if err := s.handleEvents(w, r); err != nil {
			t.Error(err)
		}
	})}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = srv.Serve(ln) // until it is closed
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		_ = srv.Close()
		<-ended
		<-done
	})
	if _, err := io.WriteString(conn, "GET /?since=0 HTTP/1.1\r\nHost: node\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	return s, conn, done
}

// flood adds more than is kept.
func flood(e *events) (total uint64) {
	const n = 10 * keptEvents
	text := strings.Repeat("x", 1000)
	for range n {
		e.add(Event{Type: EventReadError, Error: text})
	}
	return n
}

// TestSlowReader reads when all is over: what is kept, and how many were missed.
func TestSlowReader(t *testing.T) {
	testenv.NoLeaks(t)
	s, conn, served := stream(t)
	s.events.add(Event{Type: EventServing})
	reader := bufio.NewReader(conn)
	resp, err := http.ReadResponse(reader, nil) // comes with the first event at the latest
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	total := 1 + flood(s.events) // and nobody reads
	var seq, missed uint64
	for dec := json.NewDecoder(resp.Body); seq < total; {
		var v Event
		if err := dec.Decode(&v); err != nil {
			t.Fatalf("after %d: %v", seq, err)
		}
		step := uint64(1)
		if v.Type == EventMissed {
			step = v.Count
			missed += v.Count
		}
		if v.Seq != seq+step {
			t.Fatalf("after %d there is %d (%s, count %d)", seq, v.Seq, v.Type, v.Count)
		}
		seq = v.Seq
	}
	if missed == 0 || missed > total-keptEvents {
		t.Errorf("missed %d of %d events, want some, but not those that are kept", missed, total)
	}
	s.events.end()
	if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) > 1 {
		t.Errorf("after the end: %q, %v; want the end of the stream", rest, err)
	}
	<-served
}

// TestStuckReader does not hold up the end of the service.
func TestStuckReader(t *testing.T) {
	testenv.NoLeaks(t)
	s, _, served := stream(t)
	flood(s.events)
	s.events.end()
	select {
	case <-served:
	case <-time.After(10 * lastWords):
		t.Error("the stream goes on after the end, though nobody reads")
	}
}

// TestReaderGone ends the stream of a reader who goes away.
func TestReaderGone(t *testing.T) {
	testenv.NoLeaks(t)
	_, conn, served := stream(t)
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	<-served
}

func TestEventsRefuse(t *testing.T) {
	testenv.NoLeaks(t)
	c := Dial(serveHere(t))
	for _, since := range []string{"x", "-1", "1.5", "99999999999999999999999"} {
		if err := c.call(t.Context(), http.MethodGet, "events?since="+since, nil, &Event{}); !errors.Is(err, errs.ErrFormat) {
			t.Errorf("events since %s = %v, want %v", since, err, errs.ErrFormat)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	for v, err := range c.Events(ctx, 0) {
		switch n++; {
		case n == 1 && (err != nil || v.Type != EventServing || v.Seq != 1):
			t.Errorf("the first event = %+v, %v", v, err)
		case n == 2 && !errors.Is(err, context.Canceled):
			t.Errorf("after the cancellation: %+v, %v", v, err)
		}
		cancel()
	}
	if n != 2 {
		t.Errorf("%d pairs came, want an event and the cancellation", n)
	}
}
