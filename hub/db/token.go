package db

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"github.com/zosfs/zosfs/errs"
)

// TokenHash is the SHA-256 of the secret of a token, the only thing that is kept of it. A
// secret has 256 random bits, so a slow hash would protect nothing more.
type TokenHash [sha256.Size]byte

// A Token is a right to act for an account.
type Token struct {
	ID       int64
	Account  int64
	User     string // name of the account
	Name     string
	Scope    string // read, write or admin; each includes those before it
	Pattern  string // "" or OWNER/NAME where '*' stands for anything: narrows the token
	Created  time.Time
	Expires  time.Time // zero: never
	LastUsed time.Time // zero: never; see TouchToken
	Revoked  time.Time // zero: not
}

// Valid reports whether t gives rights at the time now.
func (t *Token) Valid(now time.Time) bool {
	return t.Revoked.IsZero() && (t.Expires.IsZero() || now.Before(t.Expires))
}

// Caller returns whom requests with t are from.
func (t *Token) Caller() Caller {
	return Caller{Account: t.Account, User: t.User, Token: t.ID, Scope: t.Scope, Pattern: t.Pattern}
}

// A Caller is who asks. The zero value is anybody without a token.
type Caller struct {
	Account int64
	User    string
	Token   int64
	Scope   string
	Pattern string
}

// May reports whether the scope of c includes scope.
func (c *Caller) May(scope string) bool { return level(scope) > 0 && level(c.Scope) >= level(scope) }

func level(scope string) int {
	switch scope {
	case "read":
		return 1
	case "write":
		return 2
	case "admin":
		return 3
	}
	return 0
}

// Owns reports whether c may act in the repository owner/name as far as names go: it is of
// its own account and the token is not narrowed away from it.
func (c *Caller) Owns(owner, name string) bool {
	if c.Account == 0 {
		return false
	}
	if c.Admin() {
		return true
	}
	return c.User == owner && c.matches(owner, name)
}

// Admin reports whether c may do everything. A narrowed token never may.
func (c *Caller) Admin() bool { return c.Scope == "admin" && c.Pattern == "" }

func (c *Caller) matches(owner, name string) bool {
	if c.Pattern == "" {
		return true
	}
	o, n, _ := strings.Cut(c.Pattern, "/")
	return glob(o, owner) && glob(n, name)
}

// glob reports whether s matches pattern, where '*' stands for any run of bytes.
func glob(pattern, s string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == s
	}
	first, last := parts[0], parts[len(parts)-1]
	if len(s) < len(first)+len(last) || !strings.HasPrefix(s, first) || !strings.HasSuffix(s, last) {
		return false
	}
	s = s[len(first) : len(s)-len(last)]
	for _, p := range parts[1 : len(parts)-1] {
		i := strings.Index(s, p)
		if i < 0 {
			return false
		}
		s = s[i+len(p):]
	}
	return true
}

// like returns pattern, in which '*' stands for any run, for SQL's LIKE with '\' as escape.
func like(pattern string) string {
	return strings.NewReplacer("*", "%", "%", `\%`, "_", `\_`, `\`, `\\`).Replace(pattern)
}

// readable returns the SQL condition that c may read the repository r of the query.
func (c *Caller) readable() (string, []any) {
	switch {
	case c.Account == 0:
		return "r.public = 1", nil
	case c.Admin():
		return "1 = 1", nil
	case c.Pattern == "":
		return "(r.public = 1 OR r.account = ?)", []any{c.Account}
	}
	o, n, _ := strings.Cut(c.Pattern, "/")
	return `(r.public = 1 OR r.account = ? AND r.owner LIKE ? ESCAPE '\' AND r.name LIKE ? ESCAPE '\')`,
		[]any{c.Account, like(o), like(n)}
}

const tokenColumns = `t.id, t.account, a.name, t.name, t.scope, t.pattern, t.created, t.expires, t.last_used, t.revoked
	FROM token t JOIN account a ON a.id = t.account`

func scanToken(s scanner) (Token, error) {
	var t Token
	var created int64
	var expires, used, revoked sql.NullInt64
	err := s.Scan(&t.ID, &t.Account, &t.User, &t.Name, &t.Scope, &t.Pattern, &created, &expires, &used, &revoked)
	t.Created, t.Expires, t.LastUsed, t.Revoked = fromMillis(created), fromOptional(expires), fromOptional(used), fromOptional(revoked)
	return t, err
}

// CreateToken keeps t under hash and returns it with its id. The account t.User is made if
// it is not there.
func (d *DB) CreateToken(ctx context.Context, t Token, hash TokenHash) (Token, error) {
	err := d.update(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO account (name, created) VALUES (?, ?) ON CONFLICT DO NOTHING", t.User, millis(t.Created))
		if err != nil {
			return err
		}
		row := tx.QueryRowContext(ctx, `INSERT INTO token (account, hash, name, scope, pattern, created, expires)
			SELECT id, ?, ?, ?, ?, ?, ? FROM account WHERE name = ? RETURNING id, account`,
			hash[:], t.Name, t.Scope, t.Pattern, millis(t.Created), optional(t.Expires), t.User)
		return row.Scan(&t.ID, &t.Account)
	})
	if err != nil {
		return Token{}, fmt.Errorf("create token: %w", err)
	}
	return t, nil
}

// TokenByHash returns the token with the given hash, valid or not.
func (d *DB) TokenByHash(ctx context.Context, hash TokenHash) (Token, error) {
	t, err := scanToken(d.read.QueryRowContext(ctx, "SELECT "+tokenColumns+" WHERE t.hash = ?", hash[:]))
	return t, kind(err)
}

// TouchToken notes that the token id was used. Callers do so once in a while, not at each
// request: it is a write.
func (d *DB) TouchToken(ctx context.Context, id int64, now time.Time) error {
	_, err := d.write.ExecContext(ctx, "UPDATE token SET last_used = ? WHERE id = ?", millis(now), id)
	return kind(err)
}

// Tokens returns the tokens of user, of all users if that is "", newest first, with those
// that expired or were revoked.
func (d *DB) Tokens(ctx context.Context, user string) ([]Token, error) {
	return rows(ctx, d.read, scanToken, "SELECT "+tokenColumns+" WHERE ? = '' OR a.name = ? ORDER BY t.id DESC", user, user)
}

// RevokeToken takes all rights from the token id at once. One that is not there, or not of
// user where that is not "", is errs.ErrNotFound; one that is revoked already is a success.
func (d *DB) RevokeToken(ctx context.Context, id int64, user string, now time.Time) error {
	res, err := d.write.ExecContext(ctx, `UPDATE token SET revoked = coalesce(revoked, ?)
		WHERE id = ? AND (? = '' OR account = (SELECT id FROM account WHERE name = ?))`, millis(now), id, user, user)
	if err != nil {
		return kind(err)
	}
	if n, err := res.RowsAffected(); err != nil || n > 0 {
		return err
	}
	return fmt.Errorf("token %d: %w", id, errs.ErrNotFound)
}
