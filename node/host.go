package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/zosfs/zosfs/internal/keeper"
	"github.com/zosfs/zosfs/mount"
	"github.com/zosfs/zosfs/mount/fusefs"
)

// host is what mode kernel needs, made when it is first asked for, and the keeper of its
// connection.
type host struct {
	dirs     Dirs
	log      *slog.Logger
	args     []string      // of the keeper; nil is none
	patience time.Duration // for one answer of the keeper

	// turn has a place for who makes the host or speaks to the keeper. Only he changes what follows,
	// and he alone uses stale and tried.
	turn  chan struct{}
	stale bool      // a keeper that does not answer may hold an old table of mounts
	tried time.Time // when a keeper was last looked for in vain

	mu     sync.Mutex
	host   *mount.Host
	keeper *keeper.Client // nil: the mounts do not survive the service
	note   string         // why there is no keeper
}

func newHost(o Options, log *slog.Logger) *host {
	h := &host{dirs: o.Dirs, log: log, args: o.Keeper, patience: o.keeperPatience, turn: make(chan struct{}, 1)}
	if h.patience == 0 {
		h.patience = keeperPatience
	}
	return h
}

func (h *host) options() mount.HostOptions {
	return mount.HostOptions{Content: h.dirs.content(), Images: h.dirs.images(), Log: h.log}
}

func (d Dirs) content() string { return filepath.Join(d.State, "content") }

// images is the directory of the metadata images as this service names it. They lie in the cache,
// which others may share; the name in the mount table tells its mounts from theirs.
func (d Dirs) images() string { return filepath.Join(d.State, "metadata") }

// linkImages makes images.
func (d Dirs) linkImages() error {
	target := filepath.Join(d.Cache, "metadata")
	if err := os.MkdirAll(target, 0o700); err != nil {
		return err
	}
	if now, err := os.Readlink(d.images()); err == nil && now == target {
		return nil
	}
	if err := os.Remove(d.images()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.Symlink(target, d.images())
}

// take waits for the turn; who has it calls give.
func (h *host) take(ctx context.Context) error {
	select {
	case h.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (h *host) give() { <-h.turn }

// now returns the host and the keeper, either of which may be nil.
func (h *host) now() (*mount.Host, *keeper.Client) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.host, h.keeper
}

func (h *host) set(made *mount.Host, c *keeper.Client, note string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.host, h.keeper, h.note = made, c, note
}

// get returns the host, and makes it if there is none.
func (h *host) get(ctx context.Context) (*mount.Host, error) {
	if made, _ := h.now(); made != nil {
		return made, nil
	}
	if err := h.take(ctx); err != nil {
		return nil, err
	}
	defer h.give()
	if made, _ := h.now(); made != nil {
		return made, nil
	}
	if err := h.dirs.linkImages(); err != nil {
		return nil, fmt.Errorf("directory of the metadata images: %w", err)
	}
	if err := mount.ClearContent(h.dirs.content()); err != nil {
		return nil, err
	}
	made, err := mount.NewHost(h.options())
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	h.host = made
	h.mu.Unlock()
	if time.Since(h.tried) > keeperRetry {
		// Who asked for a mount may go; the keeper is for all of them.
		_ = h.keep(context.WithoutCancel(ctx)) // the note and the log have it
	}
	return made, nil
}

// end closes the host; the keeper forgets it, and ends by itself. With left, mounts stay for
// the next service: no request is answered any more, so that none fails.
func (h *host) end(ctx context.Context, left bool) {
	if err := h.take(ctx); err != nil {
		h.log.Warn("content devices stay", "error", err)
		return
	}
	defer h.give()
	made, c := h.now()
	if made != nil && left && c != nil {
		made.Abandon(ctx)
	} else if made != nil {
		if err := made.Close(ctx); err != nil {
			h.log.Warn("content devices stay", "error", err)
		}
	}
	h.set(nil, nil, "")
	if c == nil {
		return
	}
	if !left {
		if err := h.drop(ctx, c, itemConnection, itemMounts, itemUnread); err != nil {
			h.log.Warn("the keeper stays", "error", err)
		}
	}
	_ = c.Close()
}

// keeps reports whether mounts survive the service.
func (h *host) keeps() bool {
	made, c := h.now()
	return made != nil && c != nil
}

// refresh finds out where the mounts in mode kernel are: who renames a directory above one does not
// tell.
func (h *host) refresh() {
	if made, _ := h.now(); made != nil {
		made.Refresh()
	}
}

// stats returns what the kernel asked for of all mounts in mode kernel, also those that have
// ended.
func (h *host) stats() fusefs.Stats {
	made, _ := h.now()
	if made == nil {
		return fusefs.Stats{}
	}
	return made.Stats()
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
