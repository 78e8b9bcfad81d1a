package db

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"time"
)

// A Repository is a set of flists under one name.
type Repository struct {
	ID          int64
	Owner, Name string
	Public      bool
	Created     time.Time
	Updated     time.Time // when a tag moved last
	Tags        int64
}

const repositoryColumns = `r.id, r.owner, r.name, r.public, r.created, r.updated,
	(SELECT count(*) FROM tag WHERE tag.repository = r.id) FROM repository r`

func scanRepository(s scanner) (Repository, error) {
	var r Repository
	var created, updated int64
	err := s.Scan(&r.ID, &r.Owner, &r.Name, &r.Public, &created, &updated, &r.Tags)
	r.Created, r.Updated = fromMillis(created), fromMillis(updated)
	return r, err
}

// Repository returns the repository owner/name if c may read it.
func (d *DB) Repository(ctx context.Context, c Caller, owner, name string) (Repository, error) {
	where, args := c.readable()
	row := d.read.QueryRowContext(ctx, "SELECT "+repositoryColumns+" WHERE r.owner = ? AND r.name = ? AND "+where,
		append([]any{owner, name}, args...)...)
	r, err := scanRepository(row)
	if err != nil {
		return Repository{}, fmt.Errorf("repository %s/%s: %w", owner, name, kind(err))
	}
	return r, nil
}

// Repositories returns up to limit of the repositories that c may read, of owner alone where
// that is not "", in order of owner and name, from the first one after afterOwner/afterName.
func (d *DB) Repositories(ctx context.Context, c Caller, owner, afterOwner, afterName string, limit int) ([]Repository, error) {
	where, args := c.readable()
	args = append([]any{owner, owner, afterOwner, afterName}, args...)
	return rows(ctx, d.read, scanRepository, "SELECT "+repositoryColumns+
		" WHERE (? = '' OR r.owner = ?) AND (r.owner, r.name) > (?, ?) AND "+where+" ORDER BY r.owner, r.name LIMIT ?",
		append(args, limit)...)
}

// SetPublic sets whether everybody may read the repository id.
func (d *DB) SetPublic(ctx context.Context, id int64, public bool) error {
	_, err := d.write.ExecContext(ctx, "UPDATE repository SET public = ? WHERE id = ?", public, id)
	return kind(err)
}

// Counts sums an flist up.
type Counts struct {
	Entries, Files, Dirs, Objects, Chunks, Blobs int64
	Bytes                                        int64 // of all files
	Stored                                       int64 // bytes of all chunks as stored
}

// FlistDigest is the BLAKE3-256 of an flist as shipped.
type FlistDigest [32]byte

// TreeDigest is the digest of the tree that an flist holds.
type TreeDigest [32]byte

// An Flist is one version in a repository.
type Flist struct {
	ID      int64
	Digest  FlistDigest
	Tree    TreeDigest
	Size    int64 // bytes of the shipped file
	Counts  Counts
	Created time.Time
}

const flistColumns = `f.id, f.digest, f.tree, f.size, f.entries, f.files, f.dirs, f.objects, f.chunks, f.blobs, f.bytes, f.stored, f.created`

// dest returns where to scan flistColumns to; created is in milliseconds.
func (f *Flist) dest(created *int64) []any {
	c := &f.Counts
	return []any{&f.ID, (*bytes32)(&f.Digest), (*bytes32)(&f.Tree), &f.Size,
		&c.Entries, &c.Files, &c.Dirs, &c.Objects, &c.Chunks, &c.Blobs, &c.Bytes, &c.Stored, created}
}

func scanFlist(s scanner) (Flist, error) {
	var f Flist
	var created int64
	err := s.Scan(f.dest(&created)...)
	f.Created = fromMillis(created)
	return f, err
}

// Flist returns the flist d of a repository.
func (d *DB) Flist(ctx context.Context, repository int64, digest FlistDigest) (Flist, error) {
	f, err := scanFlist(d.read.QueryRowContext(ctx,
		"SELECT "+flistColumns+" FROM flist f WHERE f.repository = ? AND f.digest = ?", repository, digest[:]))
	if err != nil {
		return Flist{}, fmt.Errorf("flist %x: %w", digest, kind(err))
	}
	return f, nil
}

// Flists returns up to limit of the flists of a repository, newest first, from the first one
// with an ID below before; before <= 0 begins with the newest.
func (d *DB) Flists(ctx context.Context, repository, before int64, limit int) ([]Flist, error) {
	if before <= 0 {
		before = math.MaxInt64
	}
	return rows(ctx, d.read, scanFlist,
		"SELECT "+flistColumns+" FROM flist f WHERE f.repository = ? AND f.id < ? ORDER BY f.id DESC LIMIT ?", repository, before, limit)
}

// A Tag is a name that points at an flist.
type Tag struct {
	Name  string
	Moved time.Time
	Flist Flist
}

const tagColumns = "g.name, g.moved, " + flistColumns + " FROM tag g JOIN flist f ON f.id = g.flist"

func scanTag(s scanner) (Tag, error) {
	var t Tag
	var moved, created int64
	err := s.Scan(append([]any{&t.Name, &moved}, t.Flist.dest(&created)...)...)
	t.Moved, t.Flist.Created = fromMillis(moved), fromMillis(created)
	return t, err
}

// Tag returns a tag of a repository.
func (d *DB) Tag(ctx context.Context, repository int64, name string) (Tag, error) {
	t, err := scanTag(d.read.QueryRowContext(ctx, "SELECT "+tagColumns+" WHERE g.repository = ? AND g.name = ?", repository, name))
	if err != nil {
		return Tag{}, fmt.Errorf("tag %s: %w", name, kind(err))
	}
	return t, nil
}

// Tags returns up to limit of the tags of a repository in order of names, from the first one
// after the given name.
func (d *DB) Tags(ctx context.Context, repository int64, after string, limit int) ([]Tag, error) {
	return rows(ctx, d.read, scanTag, "SELECT "+tagColumns+" WHERE g.repository = ? AND g.name > ? ORDER BY g.name LIMIT ?", repository, after, limit)
}

// DeleteTag deletes a tag and notes that in its history. The flist stays.
func (d *DB) DeleteTag(ctx context.Context, c Caller, repository int64, name string, now time.Time) error {
	return d.update(ctx, func(tx *sql.Tx) error {
		var flist int64
		err := tx.QueryRowContext(ctx, "DELETE FROM tag WHERE repository = ? AND name = ? RETURNING flist", repository, name).Scan(&flist)
		if err != nil {
			return fmt.Errorf("tag %s: %w", name, kind(err))
		}
		return noteMove(ctx, tx, c, repository, name, nil, now)
	})
}

func noteMove(ctx context.Context, tx *sql.Tx, c Caller, repository int64, name string, flist any, now time.Time) error {
	_, err := tx.ExecContext(ctx, "INSERT INTO tag_move (repository, name, flist, account, at) VALUES (?, ?, ?, ?, ?)",
		repository, name, flist, c.Account, millis(now))
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, "UPDATE repository SET updated = ? WHERE id = ?", millis(now), repository)
	return err
}

// A Move is one step in the history of a tag.
type Move struct {
	Digest FlistDigest // zero: the tag was deleted
	User   string
	At     time.Time
}

// Moves returns up to limit steps in the history of a tag, newest first.
func (d *DB) Moves(ctx context.Context, repository int64, name string, limit int) ([]Move, error) {
	scan := func(s scanner) (Move, error) {
		var m Move
		var digest []byte
		var at int64
		err := s.Scan(&digest, &m.User, &at)
		copy(m.Digest[:], digest)
		m.At = fromMillis(at)
		return m, err
	}
	return rows(ctx, d.read, scan, `SELECT f.digest, a.name, m.at FROM tag_move m JOIN account a ON a.id = m.account
		LEFT JOIN flist f ON f.id = m.flist WHERE m.repository = ? AND m.name = ? ORDER BY m.id DESC LIMIT ?`, repository, name, limit)
}
