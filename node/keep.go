package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/internal/keeper"
	"github.com/zosfs/zosfs/mount"
	"github.com/zosfs/zosfs/mount/fusefs"
)

// What the keeper holds, by the names of its items. Later versions may add some.
const (
	itemConnection = "connection"    // descriptor of /dev/fuse, and a connection as JSON
	itemMounts     = "mounts"        // a savedTable as JSON
	itemUnread     = "mounts.unread" // such a one that a service could not read, put aside
)

const (
	// keeperPatience is how long a keeper may take for one answer; it needs microseconds. One that
	// takes longer, as a process that was stopped does, counts as dead: nobody must wait for it for
	// ever. To lose it for nothing costs most at the start, where it has twice the time.
	keeperPatience = 5 * time.Second
	// keeperStart is how long a new keeper may take to be ready.
	keeperStart = 10 * time.Second
	// keeperRetry is when another keeper is looked for where there is none, at the next change of
	// the mounts.
	keeperRetry = 30 * time.Second
)

// errSilent says that the keeper is there but does not answer.
var errSilent = fmt.Errorf("the keeper does not answer: %w", errs.ErrUnavailable)

// connection is what the keeper holds of the connection to the kernel.
type connection struct {
	Init  []byte `json:"init"`
	Reply []byte `json:"reply"`
}

// patient calls do, which asks the keeper, with a limit of n times the patience.
func (h *host) patient(ctx context.Context, n time.Duration, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, n*h.patience, errSilent)
	defer cancel()
	return do(ctx)
}

func (h *host) dial(ctx context.Context) (c *keeper.Client, err error) {
	err = h.patient(ctx, 1, func(ctx context.Context) error {
		c, err = keeper.Dial(ctx, h.dirs.keeper())
		return err
	})
	return c, err
}

func (h *host) put(ctx context.Context, c *keeper.Client, i keeper.Item) error {
	return h.patient(ctx, 1, func(ctx context.Context) error { return c.Put(ctx, i) })
}

func (h *host) drop(ctx context.Context, c *keeper.Client, names ...string) error {
	return h.patient(ctx, 1, func(ctx context.Context) error { return c.Delete(ctx, names...) })
}

// keep gives the connection to a keeper, which is started where none runs. The caller has the
// turn.
func (h *host) keep(ctx context.Context) error {
	made, _ := h.now()
	c, err := h.hand(ctx, made)
	if err != nil {
		h.lose(err)
		return err
	}
	h.set(made, c, "")
	return nil
}

// lose notes that there is no keeper, and why. The caller has the turn.
func (h *host) lose(err error) {
	made, _ := h.now()
	note := "mounts end with the service, for there is no keeper: " + err.Error()
	h.log.Warn(note)
	h.set(made, nil, note)
	h.tried = time.Now()
	h.stale = h.stale || errors.Is(err, errSilent)
}

func (h *host) hand(ctx context.Context, made *mount.Host) (*keeper.Client, error) {
	if h.args == nil {
		return nil, errors.New("none was asked for")
	}
	c, err := h.dial(ctx)
	if errors.Is(err, keeper.ErrNotRunning) {
		starting, cancel := context.WithTimeout(ctx, keeperStart)
		defer cancel()
		if err = start(starting, h.dirs, h.args); err == nil {
			c, err = h.dial(ctx)
		}
	}
	if err != nil {
		return nil, err
	}
	conn := made.Connection()
	data, err := json.Marshal(connection{conn.Init, conn.Reply})
	if err == nil {
		err = h.put(ctx, c, keeper.Item{Name: itemConnection, Data: data, FD: conn.FD})
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// save gives the table of mounts to the keeper, if there is one, and to another one if that has
// ended. stale says that a keeper may hold an older one: the file must say what is so.
func (h *host) save(ctx context.Context, data []byte) (stale bool, err error) {
	if err := h.take(ctx); err != nil {
		return true, err
	}
	defer h.give()
	made, c := h.now()
	if made == nil {
		return h.stale, nil
	}
	table := keeper.Item{Name: itemMounts, Data: data, FD: -1}
	switch {
	case c != nil:
		err = h.put(ctx, c, table)
		if !errors.Is(err, errs.ErrUnavailable) {
			break
		}
		if errors.Is(err, errSilent) {
			h.lose(errors.Join(err, c.Close()))
			return true, err
		}
		h.log.Warn("the keeper has ended, starting another", "error", errors.Join(err, c.Close()))
		fallthrough
	case h.args != nil && time.Since(h.tried) > keeperRetry:
		if err = h.keep(ctx); err != nil {
			return h.stale, err
		}
		_, c = h.now()
		err = h.put(ctx, c, table)
	default:
		return h.stale, nil
	}
	if err != nil { // it has none, rather than an old one
		err = errors.Join(err, h.drop(ctx, c, itemMounts))
	}
	h.stale = err != nil
	return h.stale, err
}

// putAside has the keeper hold a table of mounts that could not be read where it is not written
// over.
func (h *host) putAside(ctx context.Context, data []byte) error {
	if err := h.take(ctx); err != nil {
		return err
	}
	defer h.give()
	_, c := h.now()
	if c == nil {
		return nil // it is not written to
	}
	return h.put(ctx, c, keeper.Item{Name: itemUnread, Data: data, FD: -1})
}

// resume takes over from the keeper what a service has left there. It reports whether there
// was a keeper with a connection; data is the table of mounts that it holds, nil if it has none.
func (h *host) resume(ctx context.Context) (ok bool, data []byte, err error) {
	if err := h.take(ctx); err != nil {
		return false, nil, err
	}
	defer h.give()
	var c *keeper.Client
	var items []keeper.Item
	err = h.patient(ctx, 2, func(ctx context.Context) error {
		if c, err = keeper.Dial(ctx, h.dirs.keeper()); err != nil {
			return err
		}
		if items, err = c.Get(ctx); err != nil {
			return errors.Join(err, c.Close())
		}
		return nil
	})
	if errors.Is(err, keeper.ErrNotRunning) {
		return false, nil, nil
	}
	if err != nil {
		h.lose(err)
		return false, nil, err
	}
	fd := -1
	var saved connection
	for _, i := range items {
		switch i.Name {
		case itemConnection:
			fd = i.FD
			err = json.Unmarshal(i.Data, &saved)
		case itemMounts:
			data = i.Data
		default: // of a later version, or put aside
			closeItem(i)
		}
	}
	if fd < 0 {
		return false, data, errors.Join(err, c.Close())
	}
	var made *mount.Host
	if err == nil && hasEnded(fd) {
		err = errors.New("the connection to the kernel has ended")
	}
	if err == nil {
		err = h.dirs.linkImages()
	}
	if err == nil {
		made, err = mount.ResumeHost(h.options(), fusefs.Connection{FD: fd, Init: saved.Init, Reply: saved.Reply})
	}
	if err != nil {
		// Without a descriptor anywhere the mounts are dead, and can be made again; else they
		// would hang for ever.
		return false, data, errors.Join(fmt.Errorf("take over from the keeper: %w", err), unix.Close(fd), h.drop(ctx, c, itemConnection, itemMounts), c.Close())
	}
	h.set(made, c, "")
	return true, data, nil
}

// hasEnded reports whether nothing will come over the connection fd any more, as when its devices
// were unmounted while the keeper could not be told.
func hasEnded(fd int) bool {
	fds := []unix.PollFd{{Fd: int32(fd)}} // errors are always reported
	_, err := unix.Poll(fds, 0)
	return err == nil && fds[0].Revents&unix.POLLERR != 0
}

func closeItem(i keeper.Item) {
	if i.FD >= 0 {
		_ = unix.Close(i.FD)
	}
}
