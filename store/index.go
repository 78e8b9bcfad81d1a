package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"sync"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/internal/atomicfile"
)

// Index makes a plain store a [Locator]. It knows the tables at the ends of the store's
// blobs and keeps them in one local file, sorted and mapped into memory, so that a store of
// ten million chunks costs no heap. Blobs with [blob.FlagCopy] and what is no blob at all
// are passed over.
//
// The file is a cache: one that is missing, damaged or of another store is made anew from
// the blobs, at one request a blob, or two. It is replaced whole, so several
// processes can use one path; the last to write wins and the others lose nothing but time.
// The tables are taken at their word, as they were written by somebody who may write to the
// store: where that is not the same as trusting him, whoever takes in blobs verifies them
// ([blob.Verify]), as the hub does.
//
// What goes through the Index to the store is known at once, what others put or delete after
// the next Refresh. An Index is safe for concurrent use.
type Index struct {
	Store  // what the Index is of
	path   string
	tuning tuning

	// slot is held by who replaces the file. It is taken before mu.
	slot chan struct{}

	mu     sync.RWMutex // no I/O under it, but for page faults in the file
	file   *indexFile
	closed bool
	// Changes since the file was written:
	added map[blob.Digest]*addedBlob
	fresh map[chunk.Digest]freshRef // in added, of the blob with the smallest digest
	gone  map[blob.Digest]bool      // deleted
	later int                       // chunks in fresh before Add merges them; 0: tuning.pending
}

// addedBlob is a table that is not in the file yet.
type addedBlob struct {
	id    blob.Digest
	state blobState
	refs  []blob.Ref
}

// freshRef names a row of a table: a third of what a blob.Location takes in memory.
type freshRef struct {
	blob *addedBlob
	at   int // in refs
}

func (f freshRef) location() blob.Location {
	return blob.Location{Blob: f.blob.id, Ref: f.blob.refs[f.at]}
}

// tuning holds what tests make small.
type tuning struct {
	pending int // chunks in added, at about 130 bytes, before they are merged into the file
	run     int // records that are sorted in memory, at 52 bytes
	// merge is called before added is merged into the file, which fails with it; nil outside of tests.
	merge func() error
}

var (
	_ Store   = (*Index)(nil)
	_ Locator = (*Index)(nil)
	_ Checker = (*Index)(nil)
)

// OpenIndex returns the Index of s that is cached in the file path, after a Refresh. The
// directory of path is made where it is not there. Close of the Index closes s.
func OpenIndex(ctx context.Context, s Store, path string) (*Index, error) {
	return openIndex(ctx, s, path, tuning{pending: 1 << 17, run: 1 << 18})
}

func openIndex(ctx context.Context, s Store, path string, t tuning) (*Index, error) {
	file, err := openIndexFile(path)
	if err != nil {
		return nil, fmt.Errorf("chunk index: %w", err)
	}
	atomicfile.Sweep(filepath.Dir(path))
	x := &Index{Store: s, path: path, tuning: t, slot: make(chan struct{}, 1), file: file, gone: make(map[blob.Digest]bool)}
	x.setAdded(make(map[blob.Digest]*addedBlob))
	if err := x.Refresh(ctx); err != nil {
		return nil, errors.Join(err, file.close())
	}
	return x, nil
}

// Locate implements [Locator], without any request to the store.
func (x *Index) Locate(ctx context.Context, chunks []chunk.Digest) (map[chunk.Digest]blob.Location, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.closed {
		return nil, fmt.Errorf("chunk index: %w", fs.ErrClosed)
	}
	found := make(map[chunk.Digest]blob.Location)
	for _, d := range chunks {
		old, inFile := x.file.locate(d, x.gone)
		l, isFresh := x.fresh[d]
		switch {
		case inFile && (!isFresh || old.Blob.Compare(l.blob.id) < 0):
			found[d] = old
		case isFresh:
			found[d] = l.location()
		}
	}
	x.file.release()
	return found, nil
}

// Put implements [Putter].
func (x *Index) Put(ctx context.Context, id blob.Digest, data []byte) error {
	return x.put(id, data, x.Store.Put(ctx, id, data))
}

// PutSummed implements [SummedPutter].
func (x *Index) PutSummed(ctx context.Context, id blob.Digest, data []byte) error {
	return x.put(id, data, PutSummed(ctx, x.Store, id, data))
}

// put adds the chunks of a blob to the Index unless err tells that it was not put.
func (x *Index) put(id blob.Digest, data []byte, err error) error {
	if err != nil {
		return err
	}
	t, err := blob.ReadTable(int64(len(data)), func(p []byte, off int64) error {
		copy(p, data[off:])
		return nil
	})
	if err == nil { // stores take what is no blob as well
		x.Add(id, t)
	}
	return nil
}

// Delete implements [Store].
func (x *Index) Delete(ctx context.Context, id blob.Digest) error {
	if err := x.Store.Delete(ctx, id); err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.gone[id] = true
	if x.added[id] != nil {
		delete(x.added, id)
		x.setAdded(x.added)
	}
	return nil
}

// GetChecked implements [Checker].
func (x *Index) GetChecked(ctx context.Context, id blob.Digest, off int64, p []byte, check func([]byte) error) error {
	return ReadChecked(ctx, x.Store, id, off, p, check)
}

// Add tells the Index of a blob that the store holds, whose table is t, so that its chunks
// are found from now on. The table belongs to the Index afterwards. Put does it by itself.
// Once there are very many, they are merged into the file; if that fails, they stay in
// memory, and it is tried again when there are twice as many: each time writes the whole file.
func (x *Index) Add(id blob.Digest, t blob.Table) {
	b := &addedBlob{id: id, state: indexed, refs: t.Refs}
	if t.Flags&blob.FlagCopy != 0 {
		b.state, b.refs = skipped, nil
	}
	x.mu.Lock()
	delete(x.gone, id)
	if x.added[id] == nil {
		x.added[id] = b
		x.freshen(b)
	}
	full := len(x.fresh) >= max(x.tuning.pending, x.later)
	x.mu.Unlock()
	if !full {
		return
	}
	select {
	case x.slot <- struct{}{}:
		defer func() { <-x.slot }()
		if err := x.flush(); err != nil { // best effort
			x.mu.Lock()
			x.later = 2 * len(x.fresh)
			x.mu.Unlock()
		}
	default: // somebody is at it
	}
}

// setAdded sets added, and fresh from it. The caller holds mu.
func (x *Index) setAdded(added map[blob.Digest]*addedBlob) {
	x.added, x.fresh = added, make(map[chunk.Digest]freshRef)
	for _, b := range added {
		x.freshen(b)
	}
}

func (x *Index) freshen(b *addedBlob) {
	for i := range b.refs {
		d := b.refs[i].Chunk
		if l, ok := x.fresh[d]; !ok || b.id.Compare(l.blob.id) < 0 {
			x.fresh[d] = freshRef{b, i}
		}
	}
}

// Close writes what is not in the file yet, for the next time, and ends the use of the
// Index and of the store within.
func (x *Index) Close() error {
	x.slot <- struct{}{}
	defer func() { <-x.slot }()
	x.mu.RLock()
	closed := x.closed
	x.mu.RUnlock()
	if closed {
		return nil
	}
	err := x.flush()
	x.mu.Lock()
	x.closed = true
	err = errors.Join(err, x.file.close())
	x.mu.Unlock()
	return errors.Join(err, Close(x.Store))
}

// changes are those that an update of the file takes in.
type changes struct {
	added map[blob.Digest]*addedBlob
	gone  map[blob.Digest]bool
}

// changes returns what changed since the file was written. The caller holds the slot, so
// the file stays as it is.
func (x *Index) changes() changes {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return changes{maps.Clone(x.added), maps.Clone(x.gone)}
}

// replace makes file the one in use, which has taken the changes c in. What was added or
// deleted since they were gathered is kept.
func (x *Index) replace(file *indexFile, c changes) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	old := x.file
	x.file, x.later = file, 0
	for id, b := range c.added {
		if x.added[id] == b {
			delete(x.added, id)
		}
	}
	for id := range c.gone {
		delete(x.gone, id)
	}
	x.setAdded(x.added)
	return old.close()
}
