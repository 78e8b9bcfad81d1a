package cache

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/errs"
)

const (
	defaultLimit   = 20 << 30
	defaultSegment = 64 << 20
	defaultMemory  = 8 << 20
	minSegment     = 4 << 10
	// maxSegments bounds the descriptors: one a segment.
	maxSegments = 1000
)

// ErrReadOnly says that another process writes to the directory. It is errs.ErrUnavailable.
var ErrReadOnly = fmt.Errorf("cache is written by another process: %w", errs.ErrUnavailable)

// Options of a [Cache]; the zero value is good.
type Options struct {
	// Limit is how many bytes of files the cache may take; 0 means 20 GiB. It may be
	// exceeded by one segment for a short time.
	Limit int64
	// SegmentSize is the size in bytes at which a segment is full; 0 means 64 MiB, or 1/16 of
	// Limit if that is less. It is brought into the range from 1/1000 to 1/4 of Limit. A
	// chunk that is larger gets a segment of its own.
	SegmentSize int64
	// Log is told of damage and write errors; nil means nobody is.
	Log *slog.Logger
	// Memory is how many bytes of recently stored plaintext are kept in memory too; 0 means
	// 8 MiB, less than 0 none.
	Memory int64
	// ReadOnly makes a reader for good, which writes nothing, makes no directory, and takes no
	// writer's place; where there is no cache, it holds nothing.
	ReadOnly bool
}

func (o Options) withDefaults() Options {
	if o.Limit <= 0 {
		o.Limit = defaultLimit
	}
	if o.SegmentSize <= 0 {
		o.SegmentSize = min(defaultSegment, o.Limit/16)
	}
	o.SegmentSize = min(o.SegmentSize, o.Limit/4)
	o.SegmentSize = min(max(o.SegmentSize, o.Limit/maxSegments, minSegment), maxSegmentSize)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Memory == 0 {
		o.Memory = defaultMemory
	}
	return o
}

// Cache is an open cache directory. All methods are safe for concurrent use.
type Cache struct {
	opts    Options
	dir     string // of the segments
	pinDir  string
	lock    *os.File
	index   *index
	recent  *memory
	flights flights
	counters

	// turn holds a token while somebody appends, evicts or re-reads the directory. The
	// fields below are theirs.
	turn   chan struct{}
	order  []*segment // all but the active one, the next under the hand first
	active *segment   // of the writer; nil until there is something to append
	held   []entry    // of the active segment
	next   uint32     // number of the next segment
	rest   int64      // bytes that pass through before the hand moves again
	buf    []byte     // for records to write
	closed bool

	mu   sync.RWMutex
	segs []*segment // by slot; nil is free
	pins map[string]*pin
}

type counters struct {
	readOnly                                          atomic.Bool
	bytes, segments                                   atomic.Int64
	hits, misses, evictedChunks, evictedBytes, passed atomic.Int64
	damaged, writeErrors                              atomic.Int64
}

// Open opens the cache in dir, which is made if need be (mode 0700). If another process has
// it open for writing, the result is a reader ([Stats].ReadOnly): it serves what the writer
// stored. A cache is at any time larger than its limit by at most one segment; Open evicts
// down to a limit that became smaller. The caller closes the Cache.
func Open(dir string, o Options) (*Cache, error) {
	c := &Cache{
		opts:   o.withDefaults(),
		dir:    filepath.Join(dir, "segments"),
		pinDir: filepath.Join(dir, "pins"),
		index:  newIndex(),
		turn:   make(chan struct{}, 1),
		pins:   map[string]*pin{},
	}
	c.recent = newMemory(c.opts.Memory)
	c.flights.m = map[chunk.Digest]*flight{}
	if o.ReadOnly {
		c.readOnly.Store(true)
		if err := c.load(); err != nil {
			return nil, errors.Join(fmt.Errorf("open cache %s: %w", dir, err), c.Close())
		}
		return c, nil
	}
	for _, d := range []string{c.dir, c.pinDir} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("open cache: %w", err)
		}
	}
	if err := c.open(dir); err != nil {
		return nil, errors.Join(fmt.Errorf("open cache %s: %w", dir, err), c.Close())
	}
	return c, nil
}

func (c *Cache) open(dir string) (err error) {
	if c.lock, err = os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return err
	}
	writer, err := c.tryLock()
	if err != nil {
		return err
	}
	c.readOnly.Store(!writer)
	return c.load()
}

func (c *Cache) tryLock() (bool, error) {
	err := syscall.Flock(int(c.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}

// Close ends the use of the cache. Downloads under way may finish after it, unstored; reads
// find nothing. A second Close does nothing.
func (c *Cache) Close() error {
	_ = c.take(context.Background())
	defer c.give()
	if c.closed {
		return nil
	}
	c.closed = true
	c.clear()
	c.recent.clear()
	c.clearPins()
	if c.lock == nil {
		return nil
	}
	return c.lock.Close() // and unlocks
}

// take waits for the turn; give passes it on.
func (c *Cache) take(ctx context.Context) error {
	select {
	case c.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *Cache) give() { <-c.turn }
