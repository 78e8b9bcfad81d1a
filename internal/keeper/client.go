package keeper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/errs"
)

// A Client is a connection to a keeper, which does not end while it is there. Its methods may
// be called at once; one call after another is served.
//
// A refusal of the keeper is errs.ErrFull (a limit), errs.ErrDenied, errs.ErrFormat or
// errors.ErrUnsupported (an older keeper). A connection that broke is errs.ErrUnavailable; so
// is every later call, and so are those after one whose context ended while it was under
// way: close the client and dial again. A change whose call failed in such a way may have
// been made, but is not made any more once the client is closed.
type Client struct {
	conn   *net.UnixConn
	turn   chan struct{} // has a place for the one call under way, which owns broken
	broken error
	close  func() error
}

// Dial connects to the keeper at the unix socket path, and returns when that has answered.
// Where there is none, it is [ErrNotRunning]; one of a user who is neither root nor this one
// is errs.ErrDenied, and so is being refused.
func Dial(ctx context.Context, path string) (*Client, error) {
	c, err := dial(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("keeper %s: %w", path, err)
	}
	return c, nil
}

func dial(ctx context.Context, path string) (*Client, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", path)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ECONNREFUSED):
		return nil, ErrNotRunning
	case errors.Is(err, unix.EAGAIN):
		return nil, fmt.Errorf("too many wait for it: %w", errs.ErrUnavailable)
	case err != nil:
		return nil, err
	}
	c := newClient(conn.(*net.UnixConn)) //nolint:forcetypeassert // what net returns for "unix"
	err = checkPeer(c.conn)
	if err == nil {
		err = c.call(ctx, newMessage(kindPing), nil)
	}
	if errors.Is(err, errLost) { // it ended as we came
		err = ErrNotRunning
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func newClient(conn *net.UnixConn) *Client {
	return &Client{conn: conn, turn: make(chan struct{}, 1), close: sync.OnceValue(conn.Close)}
}

// Close ends the connection, and with it calls under way (net.ErrClosed). The keeper goes on.
// Closing again changes nothing.
func (c *Client) Close() error { return c.close() }

// Put has the keeper hold i, in place of the item of that name if there is one: also its
// descriptor, where i has none. i.Data and i.FD stay the caller's; the keeper has a descriptor
// of its own for the same open file. A limit is errs.ErrFull, a bad name fs.ErrInvalid.
func (c *Client) Put(ctx context.Context, i Item) error {
	err := i.check()
	if err == nil {
		m := newMessage(kindPut)
		m.name, m.data, m.fd = i.Name, i.Data, max(i.FD, -1)
		err = c.call(ctx, m, nil)
	}
	if err != nil {
		return fmt.Errorf("keeper: put %q: %w", i.Name, err)
	}
	return nil
}

// Get returns what the keeper holds at one moment, in the order of the names. The descriptors
// are new ones, close-on-exec, and the caller closes them. unix.EMFILE says that this
// process may not have so many.
func (c *Client) Get(ctx context.Context) ([]Item, error) {
	var items []Item
	err := c.call(ctx, newMessage(kindGet), func(m *message) error {
		if m.lost {
			return fmt.Errorf("%q: did not get its descriptor, too many are open: %w", m.name, unix.EMFILE)
		}
		items = append(items, Item{Name: m.name, Data: m.data, FD: m.takeFD()})
		return nil
	})
	if err != nil {
		for _, i := range items {
			closeFD(i.FD)
		}
		return nil, fmt.Errorf("keeper: get: %w", err)
	}
	return items, nil
}

// Delete has the keeper drop the items of these names, all at once. One that it does not
// hold is no error. There may be MaxItems names.
func (c *Client) Delete(ctx context.Context, names ...string) error {
	err := checkNames(names)
	if err == nil {
		m := newMessage(kindDelete)
		m.data = packNames(names)
		err = c.call(ctx, m, nil)
	}
	if err != nil {
		return fmt.Errorf("keeper: delete: %w", err)
	}
	return nil
}

// checkNames sees to it that the names fit into MaxData.
func checkNames(names []string) error {
	if len(names) > MaxItems {
		return fmt.Errorf("%d names, the limit is %d: %w", len(names), MaxItems, fs.ErrInvalid)
	}
	i := slices.IndexFunc(names, func(name string) bool { return checkName(name) != nil })
	if i < 0 {
		return nil
	}
	return checkName(names[i])
}

// errLost says that the keeper is not there any more.
var errLost = fmt.Errorf("connection lost: %w", errs.ErrUnavailable)

// call sends m and gives the items of the answer to item, which may take their descriptors.
func (c *Client) call(ctx context.Context, m message, item func(*message) error) error {
	select {
	case c.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-c.turn }()
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if c.broken != nil {
		return fmt.Errorf("%w (an earlier call: %w)", errs.ErrUnavailable, c.broken)
	}
	err := c.interruptible(ctx, func() error { return c.exchange(m, item) })
	if _, refused := errors.AsType[*refusal](err); err == nil || refused {
		return err
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	c.broken = err
	return err
}

// interruptible calls f, whose reads and writes fail when ctx ends.
func (c *Client) interruptible(ctx context.Context, f func() error) error {
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(interrupted)
		_ = c.conn.SetDeadline(time.Unix(1, 0)) // fails only if it is closed
	})
	err := f()
	if stop() {
		return err
	}
	<-interrupted
	return errors.Join(err, c.conn.SetDeadline(time.Time{}))
}

// exchange is one request and all of its answer.
func (c *Client) exchange(m message, item func(*message) error) error {
	// Who is refused before being heard cannot send, but can be told why.
	serr := lost(send(c.conn, m))
	if serr != nil && !errors.Is(serr, errLost) {
		return serr
	}
	for {
		a, err := receive(c.conn)
		if err == nil {
			var done bool
			done, err = a.asAnswer(item)
			a.close()
			if done && err == nil {
				return serr
			}
		}
		if err != nil {
			return lost(err)
		}
	}
}

// asAnswer takes one message of an answer, and reports whether it is the last one.
func (m *message) asAnswer(item func(*message) error) (done bool, err error) {
	switch {
	case m.kind == kindRefused:
		return true, parseRefusal(*m)
	case m.kind == kindDone:
		return true, nil
	case m.version == version && m.kind == kindItem && item != nil:
		return false, item(m)
	}
	return true, fmt.Errorf("answer of version %d, kind %d: %w", m.version, m.kind, errs.ErrFormat)
}

// lost translates what says that the keeper is not there any more.
func lost(err error) error {
	for _, sign := range []error{io.EOF, io.ErrUnexpectedEOF, unix.EPIPE, unix.ECONNRESET} {
		if errors.Is(err, sign) {
			return fmt.Errorf("%w: %w", errLost, err)
		}
	}
	return err
}
