package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/errs"
)

// ErrInUse says that a blob cannot be deleted because a repository needs it.
var ErrInUse = errors.New("a repository needs it")

// maxCopies is in how many blobs that one account has put a chunk is indexed. Packers send a
// chunk once, so more than two are rare. Without a bound, an account could put one common
// chunk into so many small blobs that everybody's look-ups of it become slow.
const maxCopies = 16

// A Blob is a blob that a caller may read.
type Blob struct {
	ID     int64
	Digest blob.Digest
	Size   int64 // bytes
	Public bool  // a public repository needs it
}

// AddBlob notes that c has put the blob digest of size bytes, which was verified and whose
// table is t, and indexes its chunks, unless the blob is flagged as a copy. Repeating it
// changes nothing.
func (d *DB) AddBlob(ctx context.Context, c Caller, digest blob.Digest, size int64, t blob.Table, now time.Time) error {
	return d.update(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO blob (digest, size, flags, created) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
			digest[:], size, t.Flags, millis(now))
		if err != nil {
			return err
		}
		var id int64
		if err := tx.QueryRowContext(ctx, "SELECT id FROM blob WHERE digest = ?", digest[:]).Scan(&id); err != nil {
			return err
		}
		if t.Flags&blob.FlagCopy == 0 {
			if err := addChunks(ctx, tx, c, id, t.Refs); err != nil {
				return err
			}
		}
		_, err = tx.ExecContext(ctx, "INSERT INTO blob_upload (blob, account, token) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", id, c.Account, c.Token)
		return err
	})
}

func addChunks(ctx context.Context, tx *sql.Tx, c Caller, id int64, refs []blob.Ref) error {
	count, err := tx.PrepareContext(ctx, `SELECT count(DISTINCT k.blob) FROM chunk k JOIN blob_upload u ON u.blob = k.blob
		WHERE k.digest = ? AND k.blob <> ? AND u.account = ?`)
	if err != nil {
		return err
	}
	defer count.Close()
	insert, err := tx.PrepareContext(ctx, `INSERT INTO chunk (digest, blob, start, stored, size, codec)
		VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`)
	if err != nil {
		return err
	}
	defer insert.Close()
	for i := range refs {
		r := &refs[i]
		var n int
		if err := count.QueryRowContext(ctx, r.Chunk[:], id, c.Account).Scan(&n); err != nil {
			return err
		}
		if n >= maxCopies {
			continue
		}
		if _, err := insert.ExecContext(ctx, r.Chunk[:], id, r.Offset, r.Stored, r.Size, r.Codec); err != nil {
			return err
		}
	}
	return nil
}

// uploaded returns the SQL condition that c has put the blob b of the query.
func (c *Caller) uploaded() (string, []any) {
	switch {
	case c.Account == 0:
		return "0 = 1", nil
	case c.Pattern == "":
		return "EXISTS (SELECT 1 FROM blob_upload u WHERE u.blob = b.id AND u.account = ?)", []any{c.Account}
	}
	return "EXISTS (SELECT 1 FROM blob_upload u WHERE u.blob = b.id AND u.account = ? AND u.token = ?)", []any{c.Account, c.Token}
}

// needed is the SQL condition that a repository r needs the blob b of the query, for which
// more holds.
func needed(more string) string {
	return "EXISTS (SELECT 1 FROM blob_repository l JOIN repository r ON r.id = l.repository WHERE l.blob = b.id AND " + more + ")"
}

// readableBlob returns the SQL condition that c may read the blob b of the query.
func (c *Caller) readableBlob() (string, []any) {
	if c.Admin() {
		return "1 = 1", nil
	}
	up, args := c.uploaded()
	repo, more := c.readable()
	return "(" + up + " OR " + needed(repo) + ")", append(args, more...)
}

// Blob returns the blob digest if c may read it.
func (d *DB) Blob(ctx context.Context, c Caller, digest blob.Digest) (Blob, error) {
	b := Blob{Digest: digest}
	where, args := c.readableBlob()
	err := d.read.QueryRowContext(ctx, "SELECT b.id, b.size, "+needed("r.public = 1")+" FROM blob b WHERE b.digest = ? AND "+where,
		append([]any{digest[:]}, args...)...).Scan(&b.ID, &b.Size, &b.Public)
	if err != nil {
		return Blob{}, fmt.Errorf("blob %v: %w", digest, kind(err))
	}
	return b, nil
}

// BlobSizes returns the sizes of those of the blobs that c may read.
func (d *DB) BlobSizes(ctx context.Context, c Caller, digests []blob.Digest) (map[blob.Digest]int64, error) {
	sizes := make(map[blob.Digest]int64, len(digests))
	err := d.view(ctx, func(tx *sql.Tx) error {
		return eachReadable(ctx, tx, c, digests, func(digest blob.Digest, _, size int64) error {
			sizes[digest] = size
			return nil
		})
	})
	return sizes, err
}

// eachReadable calls fn for each of the blobs that c may read.
func eachReadable(ctx context.Context, tx *sql.Tx, c Caller, digests []blob.Digest, fn func(digest blob.Digest, id, size int64) error) error {
	where, args := c.readableBlob()
	stmt, err := tx.PrepareContext(ctx, "SELECT b.id, b.size FROM blob b WHERE b.digest = ? AND "+where)
	if err != nil {
		return err
	}
	defer stmt.Close()
	args = append([]any{nil}, args...)
	for _, digest := range digests {
		var id, size int64
		args[0] = digest[:]
		switch err := stmt.QueryRowContext(ctx, args...).Scan(&id, &size); {
		case errors.Is(err, sql.ErrNoRows):
		case err != nil:
			return err
		default:
			if err := fn(digest, id, size); err != nil {
				return err
			}
		}
	}
	return nil
}

// AllBlobs returns up to limit blobs in ascending order of digests, from the first one after
// the given one. It is for admins: nobody's rights are asked.
func (d *DB) AllBlobs(ctx context.Context, after blob.Digest, limit int) ([]Blob, error) {
	scan := func(s scanner) (Blob, error) {
		var b Blob
		err := s.Scan(&b.ID, (*bytes32)(&b.Digest), &b.Size)
		return b, err
	}
	return rows(ctx, d.read, scan, "SELECT b.id, b.digest, b.size FROM blob b WHERE b.digest > ? ORDER BY b.digest LIMIT ?", after[:], limit)
}

// DeleteBlob forgets the blob digest. One that is not there is a success, one that a
// repository needs is ErrInUse. It is for admins: nobody's rights are asked.
func (d *DB) DeleteBlob(ctx context.Context, digest blob.Digest, t blob.Table) error {
	return d.update(ctx, func(tx *sql.Tx) error {
		var id int64
		var used bool
		err := tx.QueryRowContext(ctx, "SELECT b.id, "+needed("1 = 1")+" FROM blob b WHERE b.digest = ?", digest[:]).Scan(&id, &used)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return nil
		case err != nil:
			return err
		case used:
			return fmt.Errorf("delete blob %v: %w", digest, ErrInUse)
		}
		for i := range t.Refs {
			if _, err := tx.ExecContext(ctx, "DELETE FROM chunk WHERE digest = ? AND blob = ?", t.Refs[i].Chunk[:], id); err != nil {
				return err
			}
		}
		if _, err := tx.ExecContext(ctx, "DELETE FROM blob_upload WHERE blob = ?", id); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "DELETE FROM blob WHERE id = ?", id)
		return err
	})
}

// MissingError says which blobs of a publication the publisher may not read or are not
// there. It unwraps to errs.ErrNotFound.
type MissingError struct{ Blobs []blob.Digest }

// Error implements error.
func (e *MissingError) Error() string {
	return fmt.Sprintf("%d blobs of the flist are missing, %v is the first", len(e.Blobs), e.Blobs[0])
}

// Unwrap returns errs.ErrNotFound.
func (e *MissingError) Unwrap() error { return errs.ErrNotFound }
