package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"

	"github.com/zosfs/zosfs/errs"
)

// maxRequest bounds the body of a request, in bytes.
const maxRequest = 1 << 20

// route is one request of the API; docs/node-api.md tells of all.
type route struct {
	pattern string
	handler http.Handler
}

func (s *service) routes() []route {
	return []route{
		{"GET /v1/ping", answer(s, s.handlePing)},
		{"GET /v1/status", answer(s, func(context.Context, struct{}) (Status, error) { return s.status(), nil })},
		{"GET /v1/events", raw(s, s.handleEvents)},
		{"GET /v1/metrics", raw(s, s.handleMetrics)},
		{"POST /v1/mount", answer(s, s.mount)},
		{"POST /v1/unmount", answer(s, s.handleUnmount)},
		{"POST /v1/prune", answer(s, s.handlePrune)},
		{"POST /v1/stop", answer(s, s.handleStop)},
	}
}

// handler returns the API.
func (s *service) handler() http.Handler {
	mux := http.NewServeMux()
	for _, r := range s.routes() {
		mux.Handle(r.pattern, r.handler)
	}
	mux.Handle("/", answer(s, func(context.Context, struct{}) (struct{}, error) {
		return struct{}{}, fmt.Errorf("no such request: %w", errors.ErrUnsupported)
	}))
	return mux
}

func (s *service) handlePing(context.Context, struct{}) (Pong, error) {
	s.passLocks()
	return Pong{Version: s.opts.Version, PID: os.Getpid()}, nil
}

// passLocks takes the locks that requests need, one after the other: a ping of a service in which
// somebody keeps one gets no answer, so that a watchdog notices. Who has the turn of the host or
// saves the table may take long, and holds up nobody who only looks.
func (s *service) passLocks() {
	for _, l := range []sync.Locker{&s.table.mu, &s.remains.mu, &s.totals.mu, &s.memory.mu, &s.events.mu, &s.host.mu, &s.dead.mu} {
		pass(l)
	}
	s.host.stats()
}

func pass(l sync.Locker) {
	l.Lock()
	defer l.Unlock()
}

// answer makes a handler of do, which takes the body of a POST. It admits the user of the
// service and root alone.
func answer[In, Out any](s *service, do func(context.Context, In) (Out, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out, err := func() (out Out, err error) {
			defer func() {
				if v := recover(); v != nil {
					s.log.Error("request panicked", "path", r.URL.Path, "panic", v, "stack", string(debug.Stack()))
					err = errors.New("the node service has failed, its log says how")
				}
			}()
			if err := checkPeer(r.Context()); err != nil {
				return out, err
			}
			var in In
			if r.Method == http.MethodPost {
				if err := decode(http.MaxBytesReader(w, r.Body, maxRequest), &in); err != nil {
					return out, err
				}
			}
			return do(r.Context(), in)
		}()
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		s.write(w, http.StatusOK, out)
	})
}

// raw makes a handler of do, which writes an answer of its own, or nothing and returns an
// error. It admits the user of the service and root alone.
func raw(s *service, do func(http.ResponseWriter, *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := checkPeer(r.Context())
		if err == nil {
			err = do(w, r)
		}
		if err != nil {
			s.refuse(w, r, err)
		}
	})
}

func (s *service) refuse(w http.ResponseWriter, r *http.Request, err error) {
	s.log.Info("request failed", "path", r.URL.Path, "error", err)
	status, body := encodeError(err)
	s.write(w, status, body)
}

// decode reads one JSON value, all of whose fields must be known.
func decode(r io.Reader, v any) error {
	dec := json.NewDecoder(r)
	dec.DisallowUnknownFields()
	err := dec.Decode(v)
	if err == nil && dec.More() {
		err = errors.New("more than one value")
	}
	if err != nil {
		return fmt.Errorf("request: %w: %w", errs.ErrFormat, err)
	}
	return nil
}

func (s *service) write(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		s.log.Debug("answer not delivered", "error", err)
	}
}

// status tells of the service.
func (s *service) status() Status {
	st := Status{
		Version: s.opts.Version, PID: os.Getpid(), Since: s.since,
		Dirs:  StatusDirs{Cache: s.dirs.Cache, State: s.dirs.State},
		Cache: s.cache.Stats(), Notes: s.notes(), Mounts: []MountInfo{}, Dead: s.deadMounts(),
	}
	for _, m := range s.table.list() {
		st.Mounts = append(st.Mounts, m.status())
	}
	return st
}

// handleUnmount ends a mount of this service, also a dead one of a service before. What it does
// not know is fs.ErrNotExist: the client looks what else is there, with its own rights.
func (s *service) handleUnmount(ctx context.Context, r UnmountRequest) (struct{}, error) {
	if !filepath.IsAbs(r.Dir) {
		return struct{}{}, fmt.Errorf("mount point %q: want an absolute path: %w", r.Dir, errs.ErrFormat)
	}
	s.host.refresh()
	m, ok := s.table.at(filepath.Clean(r.Dir))
	if !ok {
		m, ok = s.table.at(resolve(r.Dir))
	}
	if !ok {
		return struct{}{}, s.forget(ctx, r.Dir)
	}
	return struct{}{}, s.unmount(ctx, m, r.Lazy)
}

func (s *service) handlePrune(ctx context.Context, r PruneRequest) (PruneResult, error) {
	if r.Bytes < 0 {
		return PruneResult{}, fmt.Errorf("prune to %d bytes: want 0 or more: %w", r.Bytes, errs.ErrFormat)
	}
	freed, err := s.cache.Prune(ctx, r.Bytes)
	return PruneResult{Freed: freed}, err
}

// handleStop begins the end, and answers when everything is unmounted.
func (s *service) handleStop(context.Context, struct{}) (struct{}, error) {
	s.asked.Store(true)
	s.table.end()
	s.stop()
	<-s.drained
	return struct{}{}, nil
}
