package db

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"syscall"
	"time"

	"github.com/gofrs/flock"
	"github.com/pressly/goose/v3"
	"modernc.org/sqlite" // also registers the driver "sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/zosfs/zosfs/errs"
)

//go:embed migrations/*.sql
var migrations embed.FS

// readers is how many connections read at once. SQLite reads in the calling thread; more
// than the processors of a small machine only queue elsewhere.
const readers = 8

// A DB is an open database.
type DB struct {
	read  *sql.DB
	write *sql.DB // one connection, which SQLite wants anyway: writers queue here
}

// Open opens the database file path, which it makes if it is not there, and brings it to
// the present schema. Processes that open one file at the same time do so one after another.
func Open(ctx context.Context, path string) (_ *DB, err error) {
	// A file of its own: closing one that SQLite has open would drop SQLite's locks.
	turn := flock.New(path+".lock", flock.SetPermissions(0o600))
	if _, err := turn.TryLockContext(ctx, 20*time.Millisecond); err != nil {
		return nil, fmt.Errorf("open %s: lock: %w", path, err)
	}
	defer func() { err = errors.Join(err, turn.Close()) }()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) // SQLite would make it readable to all
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	d := &DB{}
	if d.write, err = open(path, "immediate"); err != nil {
		return nil, err
	}
	d.write.SetMaxOpenConns(1)
	if d.read, err = open(path, "deferred"); err != nil {
		return nil, errors.Join(err, d.write.Close())
	}
	d.read.SetMaxOpenConns(readers)
	d.read.SetMaxIdleConns(readers)
	if err := migrate(ctx, d.write); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), d.Close())
	}
	return d, nil
}

func open(path, lock string) (*sql.DB, error) {
	q := url.Values{"_txlock": {lock}, "_pragma": {
		"busy_timeout(10000)",   // another process writes for milliseconds
		"journal_mode(WAL)",     // readers and the writer do not wait for each other
		"synchronous(FULL)",     // what was acknowledged survives a power cut
		"foreign_keys(1)",       //
		"cache_size(-32768)",    // KiB, a connection
		"mmap_size(1073741824)", // look-ups read the chunk index without copying pages
	}}
	return sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+q.Encode())
}

func migrate(ctx context.Context, d *sql.DB) error {
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, d, sub,
		goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return err
	}
	has, err := p.HasPending(ctx)
	if err != nil || !has {
		return err
	}
	_, err = p.Up(ctx)
	return err
}

// Close closes the database once running calls have ended.
func (d *DB) Close() error { return errors.Join(d.read.Close(), d.write.Close()) }

// Ping reports whether the database answers.
func (d *DB) Ping(ctx context.Context) error {
	var n int
	return kind(d.read.QueryRowContext(ctx, "SELECT 1").Scan(&n))
}

// update runs fn in a transaction that no other writer runs beside, and commits it.
func (d *DB) update(ctx context.Context, fn func(*sql.Tx) error) error {
	tx, err := d.write.BeginTx(ctx, nil)
	if err != nil {
		return kind(err)
	}
	if err := fn(tx); err != nil {
		return kind(errors.Join(err, ignoreDone(tx.Rollback())))
	}
	return kind(tx.Commit())
}

// view runs fn on one state of the database.
func (d *DB) view(ctx context.Context, fn func(*sql.Tx) error) error {
	tx, err := d.read.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return kind(err)
	}
	return kind(errors.Join(fn(tx), ignoreDone(tx.Rollback())))
}

func ignoreDone(err error) error {
	if errors.Is(err, sql.ErrTxDone) { // a cancelled context has rolled back already
		return nil
	}
	return err
}

// kind gives errors of the engine their kinds.
func kind(err error) error {
	var e *sqlite.Error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sql.ErrNoRows):
		return errs.ErrNotFound
	case errors.Is(err, syscall.ENOSPC), errors.As(err, &e) && e.Code()&0xff == sqlite3.SQLITE_FULL:
		return fmt.Errorf("%w: %w", errs.ErrFull, err)
	case errors.As(err, &e) && (e.Code()&0xff == sqlite3.SQLITE_BUSY || e.Code()&0xff == sqlite3.SQLITE_LOCKED):
		return fmt.Errorf("%w: %w", errs.ErrUnavailable, err)
	}
	return err
}

// rows collects what scan makes of each row of a query.
func rows[T any](ctx context.Context, q querier, scan func(scanner) (T, error), query string, args ...any) (out []T, err error) {
	r, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, kind(err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	for r.Next() {
		v, err := scan(r)
		if err != nil {
			return nil, kind(err)
		}
		out = append(out, v)
	}
	return out, kind(r.Err())
}

type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

type scanner interface{ Scan(dest ...any) error }

func millis(t time.Time) int64 { return t.UnixMilli() }

func fromMillis(n int64) time.Time { return time.UnixMilli(n).UTC() }

// optional is NULL for the zero time.
func optional(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMilli()
}

func fromOptional(n sql.NullInt64) time.Time {
	if !n.Valid {
		return time.Time{}
	}
	return fromMillis(n.Int64)
}

// bytes32 scans a digest.
type bytes32 [32]byte

// Scan implements sql.Scanner.
func (b *bytes32) Scan(v any) error {
	p, ok := v.([]byte)
	if !ok || len(p) != len(b) {
		return fmt.Errorf("digest column holds %T of another length: %w", v, errs.ErrCorrupt)
	}
	copy(b[:], p)
	return nil
}
