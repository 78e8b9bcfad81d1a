package pack

import (
	"cmp"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/moby/patternmatcher"

	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/store"
)

// Dest is where blobs go, and what is asked for chunks that it already holds.
type Dest interface {
	store.Putter
	store.Stater
	store.Locator
}

// Options tune [Tree]. The zero value works.
type Options struct {
	Chunker       chunk.Params // zero: chunk.DefaultParams
	Workers       int          // readers and sealers, each; 0: one a CPU
	Exclude       []string     // patterns with the rules of .dockerignore, on paths below the root
	OneFileSystem bool         // keep directories on other file systems, but empty
	// SkipUnreadable leaves out, and lists, what cannot be opened or read. AllowChanged keeps
	// files that change meanwhile as they were read, and leaves out names that vanish.
	SkipUnreadable, AllowChanged bool
	// CacheDir holds the pack cache: what is known of files by their inodes, so that they
	// need not be read again. Empty: none.
	CacheDir string
	// Start is when the caller began, by the clock that stamps files. A file that changed
	// less than 100 ms before, or later, is not kept in the pack cache, since a change after
	// its reading could carry the same time stamp. Zero: nothing is kept.
	Start time.Time
	// Known, if not nil, tells the content of a file without its being read: by its path,
	// relative to the root, and what stat says of it. A nil answer is no answer; others are
	// relied on, if their size is right. It is asked from one goroutine, in walk order.
	Known      func(path string, st *unix.Stat_t) *Content
	TempDir    string // of the flist in the making; empty: the directory of the flist
	Properties map[string]string
	Sources    []flist.Source
	Progress   *Progress // counts while the pack runs; nil: not wanted
	Count      bool      // walk the tree a second time, beside, to count the totals of Progress

	hook func(event, path string) error // tests watch and break the reading of files with it
}

// Content is what a file holds. What lies between its chunks is holes.
type Content struct {
	Digest chunk.Digest // of all of it
	Size   int64        // bytes
	Chunks []Extent     // ascending, as the chunker of the pack would cut them
}

// Extent is one chunk of a Content.
type Extent struct {
	Offset int64 // in the file
	Size   uint32
	Digest chunk.Digest
}

func (o Options) withDefaults(out string) (Options, error) {
	if o.Chunker == (chunk.Params{}) {
		o.Chunker = chunk.DefaultParams()
	}
	if err := o.Chunker.Validate(); err != nil {
		return o, err
	}
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.TempDir == "" {
		o.TempDir = filepath.Dir(out)
	}
	if o.Progress == nil {
		o.Progress = new(Progress)
	}
	return o, nil
}

// CheckExclude checks patterns for [Options].Exclude. One that makes no sense is errs.ErrFormat.
func CheckExclude(patterns []string) error {
	for _, p := range patterns {
		if _, err := patternmatcher.New([]string{p}); err != nil {
			return fmt.Errorf("exclude pattern %q: %w: %w", p, err, errs.ErrFormat)
		}
	}
	return nil
}

// Progress counts what a pack has done so far. It is safe for concurrent use. The totals
// grow while a second walk counts, ahead of the first; they are final once Counted is set.
type Progress struct {
	Files, Bytes           atomic.Int64 // regular files that are placed, and their bytes with holes
	TotalFiles, TotalBytes atomic.Int64
	Counted                atomic.Bool
	DedupBytes             atomic.Int64 // plaintext that was not sent, because the store or this tree had it
	SentBytes              atomic.Int64 // of blobs
}

// A Result says what a pack did.
type Result struct {
	Digest      flist.Digest     `json:"digest"`
	TreeDigest  flist.TreeDigest `json:"tree_digest"`
	Counts      flist.Counts     `json:"counts"`
	FlistSize   int64            `json:"flist_size"`    // bytes of the flist as shipped
	BytesRead   int64            `json:"bytes_read"`    // of file content
	BytesDedup  int64            `json:"bytes_dedup"`   // plaintext that was not sent, because the store or this tree had it
	FromCache   int64            `json:"from_cache"`    // files that were not read, since their content is known
	ChunksNew   int64            `json:"chunks_new"`    // distinct chunks that were stored
	ChunksKnown int64            `json:"chunks_known"`  // distinct chunks that the store had; with ChunksNew, all of the tree
	ChunksCopy  int64            `json:"chunks_copied"` // of both, those stored again to keep a file together
	BlobsSent   int64            `json:"blobs_sent"`
	BytesSent   int64            `json:"bytes_sent"`            // of these blobs
	Lookups     int64            `json:"lookups"`               // round trips that asked for chunks
	Changed     List             `json:"changed"`               // kept as they were read
	Vanished    List             `json:"vanished"`              // left out
	Skipped     List             `json:"skipped"`               // unreadable, left out
	CacheError  string           `json:"cache_error,omitempty"` // why the pack cache was not kept
}

// listMax bounds the paths of a List.
const listMax = 100

// A List names paths, at most 100 of them, in ascending order. Count counts all.
type List struct {
	Count int64    `json:"count"`
	Paths []string `json:"paths,omitempty"` // relative to the root
}

func (l *List) add(path string) {
	l.Count++
	if len(l.Paths) < listMax {
		at, _ := slices.BinarySearch(l.Paths, path)
		l.Paths = slices.Insert(l.Paths, at, path)
	}
}

// A ChangedError says that the tree changed while it was packed. Pack a snapshot of it, or
// allow changes.
type ChangedError struct{ Changed, Vanished List }

// Error implements error.
func (e *ChangedError) Error() string {
	first := slices.Concat(e.Changed.Paths, e.Vanished.Paths)[0]
	return fmt.Sprintf("the tree changed while it was packed: %d changed, %d vanished, such as %q; pack a snapshot of it or allow changes",
		e.Changed.Count, e.Vanished.Count, first)
}

// verdict is what became of an entry while it was packed.
type verdict int

const (
	verdictOK verdict = iota
	verdictChanged
	verdictVanished
	verdictUnreadable
)

// notes collects verdicts.
type notes struct {
	mu                         sync.Mutex
	changed, vanished, skipped List
}

func (n *notes) add(v verdict, path string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch path = cmp.Or(path, "."); v {
	case verdictChanged:
		n.changed.add(path)
	case verdictVanished:
		n.vanished.add(path)
	case verdictUnreadable:
		n.skipped.add(path)
	}
}
