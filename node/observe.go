package node

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/zosfs/zosfs/cache"
	"github.com/zosfs/zosfs/image"
	"github.com/zosfs/zosfs/store/multi"
)

// tap is a log handler that pokes when something went wrong. What it was is not taken from the
// text but from the figures: see observe.
type tap struct {
	slog.Handler
	poke chan<- struct{} // with room for one
}

// Enabled implements slog.Handler: a warning pokes also where it is not wanted in the log.
func (t *tap) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn || t.Handler.Enabled(ctx, level)
}

// Handle implements slog.Handler.
func (t *tap) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		select {
		case t.poke <- struct{}{}:
		default:
		}
	}
	if !t.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	return t.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (t *tap) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &tap{t.Handler.WithAttrs(attrs), t.poke}
}

// WithGroup implements slog.Handler.
func (t *tap) WithGroup(name string) slog.Handler { return &tap{t.Handler.WithGroup(name), t.poke} }

// cacheInterval is how often somebody looks whether the cache is full, which is not logged.
const cacheInterval = 30 * time.Second

// observe turns what the figures tell into events until ctx is done.
func (s *service) observe(ctx context.Context) {
	tick := time.NewTicker(cacheInterval)
	defer tick.Stop()
	old := s.cache.Stats()
	for {
		select {
		case <-s.poked:
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		now := s.cache.Stats()
		if v, ok := cacheNews(old, now); ok {
			s.events.add(v)
		}
		old = now
		for _, m := range s.table.list() {
			s.look(m)
		}
	}
}

// cacheNews says what happened to a cache between old and now. One that is only read keeps
// nothing, which is in the notes.
func cacheNews(old, now cache.Stats) (Event, bool) {
	v := Event{Type: EventCacheFull, Count: uint64(max(0, now.PassedChunks-old.PassedChunks))}
	if n := now.WriteErrors - old.WriteErrors; n > 0 {
		v.Error = fmt.Sprintf("%d writes failed", n)
	}
	return v, v.Count > 0 && !now.ReadOnly
}

// look makes events of the failures of m since the last look.
func (s *service) look(m *mounted) {
	m.told.mu.Lock()
	defer m.told.mu.Unlock()
	s.lookLocked(m)
}

// lookLocked is look with told.mu.
func (s *service) lookLocked(m *mounted) {
	if m.image == nil {
		return
	}
	for _, v := range m.told.news(m.image.Stats().LastErrors, m.opened.Source.Stats()) {
		s.tell(m, v)
	}
}

// tell adds an event about m.
func (s *service) tell(m *mounted, v Event) {
	v.Ref, v.Dir, v.Mode = m.info.Ref, m.dir(), string(m.info.Mode)
	s.events.add(v)
}

// tellDetached tells that m is out of sight, unless it has ended meanwhile.
func (s *service) tellDetached(m *mounted) {
	m.told.mu.Lock()
	defer m.told.mu.Unlock()
	if !m.told.ended {
		s.tell(m, Event{Type: EventDetached})
	}
}

// tellEnd tells that m has ended, after all else that is to be told of it.
func (s *service) tellEnd(m *mounted, err error) {
	m.told.mu.Lock()
	defer m.told.mu.Unlock()
	s.lookLocked(m)
	m.told.ended = true
	v := Event{Type: EventUnmounted, By: ByOther}
	if m.ours.Load() {
		v.By = BySelf
	}
	if err != nil {
		v.Error = err.Error()
	}
	s.tell(m, v)
}

// told is what events have said of the failures of a mount.
type told struct {
	mu      sync.Mutex // held from the look at the figures until all is told
	last    image.ErrorInfo
	avoided []bool // by source
	ended   bool
}

// news returns what is new, oldest first. failed has the latest read errors, oldest first.
func (t *told) news(failed []image.ErrorInfo, sources []multi.SourceStats) []Event {
	var list []Event
	for _, e := range failed[slices.Index(failed, t.last)+1:] {
		list = append(list, Event{Type: EventReadError, Time: e.Time, Path: e.Path, Chunk: e.Chunk, Error: e.Text})
		t.last = e
	}
	if t.avoided == nil {
		t.avoided = make([]bool, len(sources))
	}
	for i, src := range sources {
		if src.Quarantined && !t.avoided[i] {
			list = append(list, Event{Type: EventQuarantined, Source: src.Name, Error: src.Reason})
		}
		t.avoided[i] = src.Quarantined
	}
	return list
}
