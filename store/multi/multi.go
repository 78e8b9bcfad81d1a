package multi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/store"
)

// Source is a place to read from. Name is for people, in errors, statistics and logs, and
// carries no credentials.
type Source struct {
	Name   string
	Getter store.Getter
}

// Defaults of [Options].
const (
	DefaultSlowMin    = 100 * time.Millisecond
	DefaultSlowMax    = 2 * time.Second
	DefaultQuarantine = 10 * time.Minute
)

// Options for a Store. The zero value means the defaults.
type Options struct {
	SlowMin    time.Duration // a source is not slow before that ...
	SlowMax    time.Duration // ... and always after that, the time for the bytes not counted
	Quarantine time.Duration // how long a source that served wrong bytes is avoided

	// Report, if not nil, is told of each source that is quarantined, and why. It is called
	// by the goroutine of a caller of the Store.
	Report func(source string, reason error)
}

// Store reads from several sources.
type Store struct {
	sources []*source
	opts    Options
	buffers sync.Pool // of *[]byte

	mu     sync.Mutex
	closed bool
	group  sync.WaitGroup // Add under mu, while not closed
	stop   chan struct{}  // closed by Close
}

var (
	_ store.Getter  = (*Store)(nil)
	_ store.Checker = (*Store)(nil)
)

// New returns a Store of the sources, in order of preference. Close does not close them.
func New(sources []Source, o Options) *Store {
	o.SlowMin = cmp.Or(o.SlowMin, DefaultSlowMin)
	o.SlowMax = max(cmp.Or(o.SlowMax, DefaultSlowMax), o.SlowMin)
	o.Quarantine = cmp.Or(o.Quarantine, DefaultQuarantine)
	m := &Store{opts: o, stop: make(chan struct{})}
	for i, s := range sources {
		m.sources = append(m.sources, &source{name: s.Name, getter: s.Getter, place: i})
	}
	return m
}

// Close makes calls fail with fs.ErrClosed, those under way too, and returns when all
// goroutines have ended. Readers that Get returned stay usable.
func (m *Store) Close() error {
	m.mu.Lock()
	if !m.closed {
		m.closed = true
		close(m.stop)
	}
	m.mu.Unlock()
	m.group.Wait()
	return nil
}

// start counts a goroutine in, false after Close.
func (m *Store) start() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	m.group.Add(1)
	return true
}

// order returns the sources in the order in which they should be asked for n bytes.
func (m *Store) order(n int64) []*source {
	type standing struct {
		*source
		quarantined bool
		distance    time.Duration
	}
	all := make([]standing, len(m.sources))
	for i, s := range m.sources {
		q, d := s.standing(n)
		all[i] = standing{s, q, d}
	}
	slices.SortStableFunc(all, func(a, b standing) int {
		if a.quarantined != b.quarantined {
			if b.quarantined {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.distance, b.distance)
	})
	out := make([]*source, len(all))
	for i, s := range all {
		out[i] = s.source
	}
	return out
}

// Get implements [store.Getter]: the first source that begins to answer is read. What goes
// wrong after that is for the caller to notice; GetChecked does better.
func (m *Store) Get(ctx context.Context, id blob.Digest, off, n int64) (io.ReadCloser, error) {
	q := query{id, off, n}
	won, err := race(ctx, m, q, runner[*body]{
		try:    func(ctx context.Context, s *source) (*body, error) { return open(ctx, s, q) },
		accept: func(*entry[*body]) error { return nil },
		drop:   func(b *body) { _ = b.Close() }, // nobody reads it
	})
	if err != nil {
		return nil, err
	}
	won.value.cancel = won.cancel
	return won.value, nil
}

// GetChecked implements [store.Checker].
func (m *Store) GetChecked(ctx context.Context, id blob.Digest, off int64, p []byte, check func([]byte) error) error {
	if len(p) == 0 {
		return check(p)
	}
	q := query{id, off, int64(len(p))}
	var verdict error // of check, where that is not about the bytes
	won, err := race(ctx, m, q, runner[*[]byte]{
		try: func(ctx context.Context, s *source) (*[]byte, error) { return m.fetch(ctx, s, q) },
		accept: func(e *entry[*[]byte]) error {
			copy(p, *e.value)
			m.buffers.Put(e.value)
			if verdict = check(p); errors.Is(verdict, errs.ErrCorrupt) {
				e.sum = chunk.Sum(p)
				return verdict
			}
			return nil
		},
		drop:  func(buf *[]byte) { m.buffers.Put(buf) },
		bytes: q.n,
	})
	if err != nil {
		return err
	}
	won.cancel()
	return verdict
}

// suspect is a source that served wrong bytes.
type suspect struct {
	source *source
	err    error
	sum    chunk.Digest // of the bytes; zero if the source itself said that they are damaged
}

// judge quarantines the suspects, unless no source had the right bytes and all served the
// same wrong ones.
func (m *Store) judge(right bool, suspects []suspect) {
	if !right && len(suspects) > 1 && !suspects[0].sum.IsZero() &&
		!slices.ContainsFunc(suspects, func(s suspect) bool { return s.sum != suspects[0].sum }) {
		return
	}
	for _, s := range suspects {
		s.source.quarantine(m.opts.Quarantine, s.err)
		if m.opts.Report != nil {
			m.opts.Report(s.source.name, s.err)
		}
	}
}

// errClosed is the error of calls after Close.
var errClosed = fmt.Errorf("sources: %w", fs.ErrClosed)
