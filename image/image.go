package image

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/store"
)

// A Cache keeps verified plaintext chunks and sees to it that each is downloaded once at a
// time, also where several images share it. It is safe for concurrent use.
type Cache interface {
	// Read fills p with the bytes of chunk d from off on and reports whether it could.
	Read(d chunk.Digest, p []byte, off int) bool
	// Has reports whether d is held.
	Has(d chunk.Digest) bool
	// Claim joins or begins the one download of d. When finish is not nil, the caller has
	// the duty: it must call finish exactly once, from any goroutine, with the verified
	// plaintext, which then belongs to the cache, or with an error. wait returns what
	// finish was given, to be read only, or the error of ctx; any number may call it.
	Claim(d chunk.Digest) (wait func(context.Context) ([]byte, error), finish func([]byte, error))
}

// A Linker is a store.Getter that knows its link: the time from a request to the first byte
// of its answer and the rate of the bytes that follow. Either is 0 while it is not known.
type Linker interface {
	Link() (delay time.Duration, bytesPerSec float64)
}

// DefaultDeadline is the deadline where Options has none.
const DefaultDeadline = 30 * time.Second

// Options tune an Image; the zero value is good.
type Options struct {
	// Cache is where chunks are kept; nil is one of 32 MiB in memory.
	Cache Cache
	// Deadline is how long a read waits without any of its chunks arriving before it
	// fails; 0 is DefaultDeadline, and a negative one waits for ever.
	Deadline time.Duration
	// Log gets a line per failed read; nil logs nothing.
	Log *slog.Logger
}

// errClosed is what reads of a closed Image get.
var errClosed = fmt.Errorf("image: %w", fs.ErrClosed)

// Image is a tree and its content. See the package comment.
type Image struct {
	r        *flist.Reader
	src      store.Getter
	tree     func() *Tree // made at its first use
	cache    Cache
	deadline time.Duration
	log      *slog.Logger

	treeBytes atomic.Int64
	order     func() *order // made at the first miss
	gate      *gate
	failures  failures
	streams   streams
	runs      runs
	ahead     ahead
	stats     counters

	// ctx is the lifetime of downloads: they are shared, so no reader's context may end
	// them. It is cancelled by Close with errClosed.
	ctx    context.Context
	cancel context.CancelCauseFunc

	mu     sync.Mutex
	closed bool
	wg     sync.WaitGroup // of everything that spawn began
}

// New returns the image of r with content from src, which may be a [store.Checker] and a
// [Linker] as well. Both stay the caller's and must live until Close has returned.
func New(r *flist.Reader, src store.Getter, o Options) (*Image, error) {
	im := &Image{
		r: r, src: src, cache: o.Cache, deadline: o.Deadline, log: o.Log, gate: newGate(),
		order: sync.OnceValue(func() *order { return newOrder(r) }),
	}
	if im.cache == nil {
		im.cache = newMemory(memoryLimit)
	}
	if im.deadline == 0 {
		im.deadline = DefaultDeadline
	}
	if im.log == nil {
		im.log = slog.New(slog.DiscardHandler)
	}
	im.tree = sync.OnceValue(func() *Tree {
		t := NewTree(r)
		if err := r.Release(); err != nil { // what was read is in the tree now
			im.log.Debug("the flist stays in memory", "error", err)
		}
		im.treeBytes.Store(t.Bytes())
		return t
	})
	if err := r.Release(); err != nil { // the check went through all of it
		return nil, err
	}
	im.stats.ahead = newBitmap(r.Counts().Chunks)
	im.ctx, im.cancel = context.WithCancelCause(context.Background())
	return im, nil
}

// Flist returns the flist of the image.
func (im *Image) Flist() *flist.Reader { return im.r }

// Tree returns the metadata. The first call makes it, from all rows of the flist.
func (im *Image) Tree() *Tree { return im.tree() }

// TreeBytes returns how much memory the Tree takes, in bytes; 0 before its first use.
func (im *Image) TreeBytes() int64 { return im.treeBytes.Load() }

// Close ends the downloads under way and waits for them; reads that need one fail with
// fs.ErrClosed. Closing again does nothing.
func (im *Image) Close() error {
	im.mu.Lock()
	im.closed = true
	im.mu.Unlock()
	im.cancel(errClosed)
	im.wg.Wait()
	return nil
}

// spawn runs f in a goroutine that Close waits for; after Close it reports false instead.
func (im *Image) spawn(f func()) bool {
	im.mu.Lock()
	defer im.mu.Unlock()
	if im.closed {
		return false
	}
	im.wg.Go(f)
	return true
}
