package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"strings"
	"time"
)

// notifyPatience is how long a message may take: a manager that is stuck holds nothing up.
const notifyPatience = time.Second

// tell sends lines to the service manager, in one message, as sd_notify(3) has it.
func (m *manager) tell(log *slog.Logger, lines ...string) {
	if m.notify == "" {
		return
	}
	if err := m.send(strings.Join(lines, "\n")); err != nil {
		log.Warn("the service manager is not told", "message", lines[0], "error", err)
	}
}

func (m *manager) send(text string) (err error) {
	if !strings.HasPrefix(m.notify, "/") && !strings.HasPrefix(m.notify, "@") { // the latter is abstract, also to package net
		return fmt.Errorf("NOTIFY_SOCKET %q: want a path or @NAME: %w", m.notify, fs.ErrInvalid)
	}
	ctx, cancel := context.WithTimeout(context.Background(), notifyPatience)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unixgram", m.notify)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if err := conn.SetWriteDeadline(time.Now().Add(notifyPatience)); err != nil {
		return err
	}
	_, err = conn.Write([]byte(text))
	return err
}

// statusLine says in one line how many mounts there are.
func (s *service) statusLine() string {
	switch n := len(s.table.list()); n {
	case 0:
		return "STATUS=no mounts"
	case 1:
		return "STATUS=1 mount"
	default:
		return fmt.Sprintf("STATUS=%d mounts", n)
	}
}

// follow tells the service manager of mounts that come and go, and that the service is well,
// until ctx is done.
func (m *manager) follow(ctx context.Context, s *service) {
	if m.notify == "" {
		return
	}
	ping := func(ctx context.Context) error { return Dial(s.dirs).Ping(ctx) }
	beat := make(<-chan time.Time)
	if m.watchdog > 0 {
		tick := time.NewTicker(m.watchdog / 2)
		defer tick.Stop()
		beat = tick.C
	}
	said := ""
	for {
		changed := s.events.changed()
		if s.events.ended() { // nothing is mounted any more, and the API is about to end
			return
		}
		if text := s.statusLine(); text != said {
			said = text
			m.tell(s.log, text)
		}
		select {
		case <-changed:
		case <-beat:
			m.beat(ctx, s.log, ping)
		case <-ctx.Done():
			return
		}
	}
}

// beat tells the watchdog that the service is well, if ping gets an answer in time.
func (m *manager) beat(ctx context.Context, log *slog.Logger, ping func(context.Context) error) {
	limited, cancel := context.WithTimeout(ctx, m.watchdog/2)
	defer cancel()
	err := ping(limited)
	switch {
	case err == nil:
		m.tell(log, "WATCHDOG=1")
	case ctx.Err() == nil:
		log.Warn("the service does not answer itself, the watchdog is not told", "error", err)
	}
}
