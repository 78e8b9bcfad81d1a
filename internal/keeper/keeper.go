package keeper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/errs"
)

var (
	// ErrRunning says that another keeper serves the socket. It is errs.ErrUnavailable.
	ErrRunning = fmt.Errorf("another keeper is running: %w", errs.ErrUnavailable)
	// ErrNotRunning says that no keeper serves the socket. It is errs.ErrUnavailable.
	ErrNotRunning = fmt.Errorf("no keeper is running: %w", errs.ErrUnavailable)
)

const (
	// MaxConns is how many clients are served at once. With the items and what is under way
	// for each client, that bounds the descriptors of the keeper.
	MaxConns = 64
	// Patience is how long the rest of a message may take to come after its first byte, and
	// the client to take a message of an answer. A connection between requests may be silent
	// for ever.
	Patience = 30 * time.Second

	// acceptPause and acceptPauseMax bound the time before connections are accepted again
	// after that went wrong, as for want of descriptors.
	acceptPause    = 10 * time.Millisecond
	acceptPauseMax = time.Second
)

// Options configure [Run]. The zero value works.
type Options struct {
	Idle  time.Duration // how long to go on with nothing held and nobody connected; 0: for ever
	After time.Duration // the same once something was held; 0: Idle
	Ready func()        // called once, when the keeper answers; may be nil
	Log   *slog.Logger  // nil: says nothing
}

// keeper is a running keeper.
type keeper struct {
	log      *slog.Logger
	table    *table
	patience time.Duration
}

// Run serves a keeper at the unix socket path until ctx ends or it has been idle, then closes
// what it holds and returns nil. The socket is only for its user (mode 0600). Its directory is
// made where it is not there (0700); one of another user, or that others may write to, is
// fs.ErrPermission. Who holds the lock of the file path + ".lock" owns the socket: a second
// keeper is [ErrRunning], and a socket that a dead one has left is replaced.
//
// Run is meant to be all that a process does, in a session of its own. While it runs, the
// process does not die of writing to a standard output or error that nobody reads any more.
func Run(ctx context.Context, path string, o Options) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("keeper: %w", err)
		}
	}()
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if err := checkDir(filepath.Dir(path)); err != nil {
		return err
	}
	held, err := lock(path + ".lock")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, held.Close()) }()
	ln, err := listen(ctx, path)
	if err != nil {
		return err
	}
	pipes := make(chan os.Signal, 1) // never read: to be notified is enough to survive
	signal.Notify(pipes, unix.SIGPIPE)
	defer signal.Stop(pipes)
	k := &keeper{log: o.Log, table: newTable(o.Idle, o.After), patience: Patience}
	return k.run(ctx, ln, o.Ready)
}

// run serves ln, and returns when all that it started has ended.
func (k *keeper) run(parent context.Context, ln *net.UnixListener, ready func()) error {
	ctx, stop := context.WithCancel(parent)
	defer stop()
	var handlers sync.WaitGroup
	handlers.Go(func() { k.accept(ctx, ln, &handlers) })
	if ready != nil {
		ready()
	}
	k.await(ctx)
	stop()
	err := ln.Close() // removes the socket
	k.table.end()
	handlers.Wait()
	k.table.clear()
	return err
}

// await returns when the keeper is to end.
func (k *keeper) await(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.table.quiet.C:
			if k.table.endIdle() {
				return
			}
		}
	}
}

// accept serves connections until ln is closed. Nothing else ends it: what is held must not be
// lost because the system is short of something.
func (k *keeper) accept(ctx context.Context, ln *net.UnixListener, handlers *sync.WaitGroup) {
	free := make(chan struct{}, MaxConns)
	pause := acceptPause
	for {
		select {
		case free <- struct{}{}:
		case <-ctx.Done():
			return
		}
		conn, err := ln.AcceptUnix()
		if err == nil {
			pause = acceptPause
			handlers.Go(func() {
				defer func() { <-free }()
				k.serve(conn)
			})
			continue
		}
		<-free
		if errors.Is(err, net.ErrClosed) {
			return
		}
		k.log.Warn("cannot accept a connection, trying again", "error", err, "after", pause)
		select {
		case <-time.After(pause):
			pause = min(2*pause, acceptPauseMax)
		case <-ctx.Done():
			return
		}
	}
}

// serve serves one connection to its end.
func (k *keeper) serve(conn *net.UnixConn) {
	defer func() { _ = conn.Close() }() // the end of the keeper may have been first
	if !k.table.connect(conn) {
		return
	}
	defer k.table.disconnect(conn)
	err := k.talk(conn)
	switch {
	case err == nil, errors.Is(err, errGone), errors.Is(err, net.ErrClosed):
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, unix.EPIPE), errors.Is(err, unix.ECONNRESET):
		k.log.Info("a client has ended in the middle of a message", "error", err)
	default:
		k.log.Warn("a connection is closed", "error", err)
	}
}
