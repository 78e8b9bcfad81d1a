package db

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/zosfs/zosfs/blob"
)

// A Publication is an flist on its way into a repository.
type Publication struct {
	Owner, Name, Tag string
	Public           bool  // what the repository becomes if it is new
	Flist            Flist // without ID and Created
	Blobs            []blob.Digest
	Now              time.Time
}

// Publish makes the flist and the tag appear, in one step: the repository if it is new, the
// flist, what it needs, and where the tag points. It fails with a [MissingError] if one of
// the blobs is not there or may not be read by c. It does not ask whether c may write there.
// A tag that points there already is not moved.
func (d *DB) Publish(ctx context.Context, c Caller, p Publication) (Tag, error) {
	t := Tag{Name: p.Tag}
	err := d.update(ctx, func(tx *sql.Tx) error {
		repository, err := makeRepository(ctx, tx, p)
		if err != nil {
			return err
		}
		if err := linkBlobs(ctx, tx, c, repository, p.Blobs); err != nil {
			return err
		}
		if t.Flist, err = makeFlist(ctx, tx, c, repository, p); err != nil {
			return err
		}
		t.Moved, err = moveTag(ctx, tx, c, repository, p.Tag, t.Flist.ID, p.Now)
		return err
	})
	if err != nil {
		return Tag{}, fmt.Errorf("publish %s/%s:%s: %w", p.Owner, p.Name, p.Tag, err)
	}
	return t, nil
}

func makeRepository(ctx context.Context, tx *sql.Tx, p Publication) (int64, error) {
	now := millis(p.Now)
	_, err := tx.ExecContext(ctx, "INSERT INTO account (name, created) VALUES (?, ?) ON CONFLICT DO NOTHING", p.Owner, now)
	if err != nil {
		return 0, err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO repository (account, owner, name, public, created, updated)
		SELECT id, name, ?, ?, ?, ? FROM account WHERE name = ? ON CONFLICT DO NOTHING`, p.Name, p.Public, now, now, p.Owner)
	if err != nil {
		return 0, err
	}
	var id int64
	err = tx.QueryRowContext(ctx, "SELECT id FROM repository WHERE owner = ? AND name = ?", p.Owner, p.Name).Scan(&id)
	return id, err
}

func linkBlobs(ctx context.Context, tx *sql.Tx, c Caller, repository int64, blobs []blob.Digest) error {
	link, err := tx.PrepareContext(ctx, "INSERT INTO blob_repository (blob, repository) VALUES (?, ?) ON CONFLICT DO NOTHING")
	if err != nil {
		return err
	}
	defer link.Close()
	there := make(map[blob.Digest]bool, len(blobs))
	err = eachReadable(ctx, tx, c, blobs, func(digest blob.Digest, id, _ int64) error {
		there[digest] = true
		_, err := link.ExecContext(ctx, id, repository)
		return err
	})
	if err != nil || len(there) == len(blobs) {
		return err
	}
	e := &MissingError{}
	for _, b := range blobs {
		if !there[b] {
			e.Blobs = append(e.Blobs, b)
		}
	}
	return e
}

func makeFlist(ctx context.Context, tx *sql.Tx, c Caller, repository int64, p Publication) (Flist, error) {
	f, n := p.Flist, p.Flist.Counts
	_, err := tx.ExecContext(ctx, `INSERT INTO flist
		(repository, digest, tree, size, entries, files, dirs, objects, chunks, blobs, bytes, stored, publisher, created)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		repository, f.Digest[:], f.Tree[:], f.Size, n.Entries, n.Files, n.Dirs, n.Objects, n.Chunks, n.Blobs, n.Bytes, n.Stored,
		c.Account, millis(p.Now))
	if err != nil {
		return Flist{}, err
	}
	return scanFlist(tx.QueryRowContext(ctx, "SELECT "+flistColumns+" FROM flist f WHERE f.repository = ? AND f.digest = ?",
		repository, f.Digest[:]))
}

func moveTag(ctx context.Context, tx *sql.Tx, c Caller, repository int64, name string, flist int64, now time.Time) (time.Time, error) {
	var old, moved int64
	err := tx.QueryRowContext(ctx, "SELECT flist, moved FROM tag WHERE repository = ? AND name = ?", repository, name).Scan(&old, &moved)
	if err == nil && old == flist {
		return fromMillis(moved), nil
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO tag (repository, name, flist, moved) VALUES (?, ?, ?, ?)
		ON CONFLICT (repository, name) DO UPDATE SET flist = excluded.flist, moved = excluded.moved`, repository, name, flist, millis(now))
	if err != nil {
		return time.Time{}, err
	}
	return fromMillis(millis(now)), noteMove(ctx, tx, c, repository, name, flist, now)
}
