package db

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/chunk"
)

// locateBatch is how many chunks one statement looks up: enough that calls into the engine
// do not count, few enough that the statement is compiled quickly.
const locateBatch = 1024

// Found says where one of the chunks of a look-up lies.
type Found struct {
	Index int // of the chunk among those asked for
	blob.Location
}

// Locate finds the chunks in blobs that c may read and returns them in the order asked for.
// A chunk in several such blobs is found in the one with the smallest digest.
func (d *DB) Locate(ctx context.Context, c Caller, chunks []chunk.Digest) ([]Found, error) {
	order := make([]int, len(chunks))
	for i := range order {
		order[i] = i
	}
	// Neighbours in the index share its pages.
	slices.SortFunc(order, func(a, b int) int { return bytes.Compare(chunks[a][:], chunks[b][:]) })
	var found []Found
	err := d.view(ctx, func(tx *sql.Tx) error {
		l, err := newLocator(ctx, tx, c)
		if err != nil {
			return err
		}
		defer l.blob.Close()
		for batch := range slices.Chunk(order, locateBatch) {
			if found, err = l.batch(ctx, tx, chunks, batch, found); err != nil {
				return err
			}
		}
		return nil
	})
	slices.SortFunc(found, func(a, b Found) int { return a.Index - b.Index })
	return found, err
}

// locator knows during one look-up which blobs the caller may read.
type locator struct {
	blob *sql.Stmt
	args []any
	seen map[int64]*blob.Digest // nil: not readable
}

func newLocator(ctx context.Context, tx *sql.Tx, c Caller) (*locator, error) {
	where, args := c.readableBlob()
	stmt, err := tx.PrepareContext(ctx, "SELECT b.digest FROM blob b WHERE b.id = ? AND "+where)
	if err != nil {
		return nil, err
	}
	return &locator{blob: stmt, args: append([]any{nil}, args...), seen: make(map[int64]*blob.Digest)}, nil
}

func (l *locator) readable(ctx context.Context, id int64) (*blob.Digest, error) {
	if d, ok := l.seen[id]; ok {
		return d, nil
	}
	l.args[0] = id
	var b bytes32
	err := l.blob.QueryRowContext(ctx, l.args...).Scan(&b)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, err
	}
	if err == nil {
		l.seen[id] = (*blob.Digest)(&b)
	} else {
		l.seen[id] = nil
	}
	return l.seen[id], nil
}

// candidate is a row of the index.
type candidate struct {
	blob int64
	ref  blob.Ref
}

// batch looks up the chunks with the given indexes, which are in ascending order of digests,
// and appends what it found.
func (l *locator) batch(ctx context.Context, tx *sql.Tx, chunks []chunk.Digest, indexes []int, found []Found) ([]Found, error) {
	args := make([]any, len(indexes))
	for i, n := range indexes {
		args[i] = chunks[n][:]
	}
	rows, err := rows(ctx, tx, scanCandidate, candidates(len(args)), args...)
	if err != nil {
		return nil, err
	}
	for _, n := range indexes {
		for len(rows) > 0 && bytes.Compare(rows[0].ref.Chunk[:], chunks[n][:]) < 0 {
			rows = rows[1:]
		}
		// The rows stay for the next index: a chunk may be asked for twice.
		best, err := l.smallest(ctx, rows, chunks[n])
		if err != nil {
			return nil, err
		}
		if !best.Blob.IsZero() {
			found = append(found, Found{Index: n, Location: best})
		}
	}
	return found, nil
}

// smallest returns the location in the readable blob with the smallest digest among the rows
// of d, with which rows begins; it is zero if there is none.
func (l *locator) smallest(ctx context.Context, rows []candidate, d chunk.Digest) (blob.Location, error) {
	var best blob.Location
	for i := 0; i < len(rows) && rows[i].ref.Chunk == d; i++ {
		b, err := l.readable(ctx, rows[i].blob)
		if err != nil {
			return blob.Location{}, err
		}
		if b != nil && (best.Blob.IsZero() || b.Compare(best.Blob) < 0) {
			best = blob.Location{Blob: *b, Ref: rows[i].ref}
		}
	}
	return best, nil
}

// candidates is the query for the rows of n chunks.
func candidates(n int) string {
	return "SELECT digest, blob, start, stored, size, codec FROM chunk WHERE digest IN (?" + strings.Repeat(",?", n-1) + ") ORDER BY digest, blob"
}

func scanCandidate(s scanner) (candidate, error) {
	var c candidate
	var digest sql.RawBytes
	// database/sql hands an int64 over as it is; to other sizes it goes by way of text.
	var start, stored, size, codec int64
	err := s.Scan(&digest, &c.blob, &start, &stored, &size, &codec)
	c.ref = blob.Ref{Offset: uint32(start), Stored: uint32(stored), Size: uint32(size), Codec: blob.Codec(codec)}
	copy(c.ref.Chunk[:], digest)
	return c, err
}
