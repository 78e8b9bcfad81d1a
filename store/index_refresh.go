package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/errs"
)

const (
	// tableReaders is how many tables are read at a time: enough to fill a link of 50 ms
	// with small requests without looking like an attack.
	tableReaders = 8
	// tailSize is what is read of the end of a blob at first. A blob of 8 MiB has a table
	// of about 6 KiB, so one request will do.
	tailSize = 16 << 10
	// tableLimit is the largest table that is read, in bytes: that of a whole blob of
	// TargetSize. With tableReaders it bounds memory whatever a store holds.
	tableLimit = blob.TargetSize
)

// Refresh makes the Index agree with what the store lists: it reads the tables of blobs
// that are new and forgets those that are gone.
func (x *Index) Refresh(ctx context.Context) error {
	select {
	case x.slot <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-x.slot }()
	c := x.changes() // before the listing, so what it does not list has gone
	x.mu.RLock()
	file, closed := x.file, x.closed
	x.mu.RUnlock()
	if closed {
		return fmt.Errorf("chunk index: %w", fs.ErrClosed)
	}
	listed, err := listBlobs(ctx, x.Store)
	if err != nil {
		return fmt.Errorf("chunk index: %w", err)
	}
	states := file.states()
	var unread []Info
	blobs := make([]indexBlob, len(listed))
	for i, info := range listed {
		state := states[info.Digest]
		if b := c.added[info.Digest]; b != nil {
			state = b.state
		}
		if state == unknown {
			unread = append(unread, info)
		}
		blobs[i] = indexBlob{info.Digest, state}
	}
	if len(unread) == 0 && len(blobs) == len(states) && len(c.added) == 0 && len(c.gone) == 0 {
		return nil
	}
	return x.rewrite(ctx, file, c, blobs, unread)
}

// flush merges added and gone into the file, without a look at the store. The caller holds
// the slot.
func (x *Index) flush() error {
	c := x.changes()
	if len(c.added) == 0 && len(c.gone) == 0 {
		return nil
	}
	if x.tuning.merge != nil {
		if err := x.tuning.merge(); err != nil {
			return err
		}
	}
	states := x.file.states() // only who holds the slot replaces the file
	for id := range c.gone {
		delete(states, id)
	}
	for id, b := range c.added {
		states[id] = b.state
	}
	var blobs []indexBlob
	for _, id := range slices.SortedFunc(maps.Keys(states), blob.Digest.Compare) {
		blobs = append(blobs, indexBlob{id, states[id]})
	}
	return x.rewrite(context.Background(), x.file, c, blobs, nil)
}

// rewrite replaces the file by one of blobs, which are in ascending order, with the records
// of the old file, of c, and of the tables of the blobs in unread.
func (x *Index) rewrite(ctx context.Context, file *indexFile, c changes, blobs []indexBlob, unread []Info) error {
	s := newSorter(x.tuning.run)
	defer s.close()
	for i, b := range blobs {
		if a := c.added[b.id]; a != nil && file.state(b.id) != indexed {
			if err := s.add(uint32(i), a.refs); err != nil {
				return fmt.Errorf("chunk index: %w", err)
			}
		}
	}
	if err := readTables(ctx, x.Store, blobs, unread, s); err != nil {
		return fmt.Errorf("chunk index: %w", err)
	}
	if err := writeIndexFile(x.path, blobs, file, s); err != nil {
		return fmt.Errorf("chunk index: %w", err)
	}
	fresh, err := openIndexFile(x.path)
	if err != nil {
		return fmt.Errorf("chunk index: %w", err)
	}
	return x.replace(fresh, c)
}

func listBlobs(ctx context.Context, l Lister) ([]Info, error) {
	var out []Info
	err := l.List(ctx, func(i Info) error {
		out = append(out, i)
		return nil
	})
	if err != nil {
		return nil, err
	}
	// The contract orders them; a peer may not keep it.
	byDigest := func(a, b Info) int { return a.Digest.Compare(b.Digest) }
	if !slices.IsSortedFunc(out, byDigest) {
		slices.SortFunc(out, byDigest)
	}
	return slices.CompactFunc(out, func(a, b Info) bool { return a.Digest == b.Digest }), nil
}

// readTables adds the tables of the blobs in unread to s and sets their states in blobs.
func readTables(ctx context.Context, st Store, blobs []indexBlob, unread []Info, s *sorter) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(tableReaders)
	i := 0
	for _, info := range unread {
		if ctx.Err() != nil {
			break
		}
		for blobs[i].id != info.Digest { // both ascend
			i++
		}
		number := i
		g.Go(func() error {
			t, err := readTable(ctx, st, info)
			switch {
			case errors.Is(err, errs.ErrNotFound):
				return nil // gone again: unknown, should it come back
			case errors.Is(err, errs.ErrCorrupt) || errors.Is(err, errs.ErrFormat):
				blobs[number].state = skipped // no blob that we could use, now or later
				return nil
			case err != nil:
				return fmt.Errorf("table of blob %v: %w", info.Digest, err)
			case t.Flags&blob.FlagCopy != 0:
				blobs[number].state = skipped
				return nil
			}
			blobs[number].state = indexed
			return s.add(uint32(number), t.Refs)
		})
	}
	return g.Wait()
}

// readTable reads the table of a blob, with one request if it is not large.
func readTable(ctx context.Context, g Getter, info Info) (blob.Table, error) {
	tail := make([]byte, min(max(info.Size, 0), tailSize))
	start := info.Size - int64(len(tail))
	if err := ReadRange(ctx, g, info.Digest, start, tail); err != nil {
		return blob.Table{}, err
	}
	return blob.ReadTable(info.Size, func(p []byte, off int64) error {
		switch {
		case off >= start:
			copy(p, tail[off-start:])
			return nil
		case len(p) > tableLimit:
			return fmt.Errorf("table of %d bytes: %w", len(p), errs.ErrFormat)
		}
		return ReadRange(ctx, g, info.Digest, off, p)
	})
}
