package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/internal/keeper"
	"github.com/zosfs/zosfs/mount"
	"github.com/zosfs/zosfs/mount/fusefs"
)

// What the keeper holds, by the names of its items. Later versions may add some.
const (
	itemConnection = "connection" // descriptor of /dev/fuse, and a connection as JSON
	itemMounts     = "mounts"     // a savedTable as JSON
)

// keeperPatience is how long a keeper may take to start and answer.
const keeperPatience = 10 * time.Second

// connection is what the keeper holds of the connection to the kernel.
type connection struct {
	Init  []byte `json:"init"`
	Reply []byte `json:"reply"`
}

// host is what mode kernel needs, made when it is first asked for.
type host struct {
	dirs Dirs
	log  *slog.Logger
	args []string // of the keeper; nil is none

	mu     sync.Mutex
	host   *mount.Host
	keeper *keeper.Client // nil: the mounts do not survive the service
	note   string         // why there is no keeper
}

func (h *host) options() mount.HostOptions {
	return mount.HostOptions{Content: filepath.Join(h.dirs.State, "content"), Images: filepath.Join(h.dirs.Cache, "metadata"), Log: h.log}
}

// get returns the host, and makes it if there is none.
func (h *host) get(ctx context.Context) (*mount.Host, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.host != nil {
		return h.host, nil
	}
	if err := clearDead(ctx, h.options().Content); err != nil {
		return nil, err
	}
	made, err := mount.NewHost(h.options())
	if err != nil {
		return nil, err
	}
	protect(h.log)
	h.host = made
	// Who asked for a mount may go; the keeper is for all of them.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keeperPatience)
	defer cancel()
	if err := h.keep(ctx); err != nil {
		h.note = "mounts end with the service, for there is no keeper: " + err.Error()
		h.log.Warn(h.note)
	}
	return made, nil
}

// clearDead takes away what a service left at the directory of the content devices whose keeper
// has died as well.
func clearDead(ctx context.Context, dir string) error {
	for {
		var st unix.Statfs_t
		err := unix.Statfs(dir, &st)
		if err == nil && st.Type != unix.FUSE_SUPER_MAGIC || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if err := fusefs.Unmount(ctx, dir, true); err != nil {
			return fmt.Errorf("take away what an earlier service has left: %w", err)
		}
	}
}

// keep gives the connection to a keeper, which is started for it.
func (h *host) keep(ctx context.Context) error {
	if h.args == nil {
		return errors.New("none was asked for")
	}
	c, err := keeper.Dial(ctx, h.dirs.keeper())
	if errors.Is(err, keeper.ErrNotRunning) {
		if err = start(ctx, h.dirs, h.args); err == nil {
			c, err = keeper.Dial(ctx, h.dirs.keeper())
		}
	}
	if err != nil {
		return err
	}
	conn := h.host.Connection()
	data, err := json.Marshal(connection{conn.Init, conn.Reply})
	if err == nil {
		err = c.Put(ctx, keeper.Item{Name: itemConnection, Data: data, FD: conn.FD})
	}
	if err != nil {
		return errors.Join(err, c.Close())
	}
	h.keeper = c
	return nil
}

// resume takes over from the keeper what a service has left there. It reports whether there
// was a keeper with a connection; data is the table of mounts that it holds.
func (h *host) resume(ctx context.Context) (ok bool, data []byte, err error) {
	c, err := keeper.Dial(ctx, h.dirs.keeper())
	if errors.Is(err, keeper.ErrNotRunning) {
		return false, nil, nil
	}
	if err != nil {
		return false, nil, err
	}
	items, err := c.Get(ctx)
	if err != nil {
		return false, nil, errors.Join(err, c.Close())
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
		default: // of a later version
			closeItem(i)
		}
	}
	if fd < 0 {
		return false, data, errors.Join(err, c.Close())
	}
	if err == nil {
		h.host, err = mount.ResumeHost(h.options(), fusefs.Connection{FD: fd, Init: saved.Init, Reply: saved.Reply})
	}
	if err != nil {
		// Without a descriptor anywhere the mounts are dead, and can be made again; else they
		// would hang for ever.
		return false, data, errors.Join(fmt.Errorf("take over from the keeper: %w", err), unix.Close(fd), c.Delete(ctx, itemConnection, itemMounts), c.Close())
	}
	protect(h.log)
	h.keeper = c
	return true, data, nil
}

// save gives the table of mounts to the keeper, if there is one, and to another one if that has
// ended. A keeper that does not take it has none: the file is true then.
func (h *host) save(ctx context.Context, data []byte) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.keeper == nil {
		return nil
	}
	table := keeper.Item{Name: itemMounts, Data: data, FD: -1}
	err := h.keeper.Put(ctx, table)
	if errors.Is(err, errs.ErrUnavailable) {
		h.log.Warn("the keeper has ended, starting another", "error", errors.Join(err, h.keeper.Close()))
		h.keeper = nil
		if err = h.keep(ctx); err == nil {
			err = h.keeper.Put(ctx, table)
		} else {
			h.note = "mounts end with the service, for there is no keeper: " + err.Error()
		}
	}
	if err != nil && h.keeper != nil {
		err = errors.Join(err, h.keeper.Delete(ctx, itemMounts))
	}
	return err
}

// end closes the host; the keeper forgets it, and ends by itself. With left, mounts stay for
// the next service: no request is taken any more, so that none fails.
func (h *host) end(ctx context.Context, left bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.host != nil && left && h.keeper != nil {
		h.host.Abandon(ctx)
	} else if h.host != nil {
		if err := h.host.Close(ctx); err != nil {
			h.log.Warn("content devices stay", "error", err)
		}
	}
	if h.keeper == nil {
		return
	}
	if !left {
		if err := h.keeper.Delete(ctx, itemConnection, itemMounts); err != nil {
			h.log.Warn("the keeper stays", "error", err)
		}
	}
	_ = h.keeper.Close()
}

// keeps reports whether mounts survive the service.
func (h *host) keeps() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.host != nil && h.keeper != nil
}

// stats returns what the kernel asked for of all mounts in mode kernel, also those that have
// ended.
func (h *host) stats() fusefs.Stats {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.host == nil {
		return fusefs.Stats{}
	}
	return h.host.Stats()
}

// notes returns what a person should know.
func (h *host) notes() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.note != "":
		return []string{h.note}
	case h.keeper != nil:
		return h.host.Notes()
	}
	return nil
}

func closeItem(i keeper.Item) {
	if i.FD >= 0 {
		_ = unix.Close(i.FD)
	}
}
