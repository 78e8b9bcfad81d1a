package hub

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/hub/api"
	"github.com/zosfs/zosfs/hub/db"
)

// secretLen is the length of a token: the prefix and 32 random bytes in base64url.
const secretLen = len(api.TokenPrefix) + 43

func newSecret() string {
	var p [32]byte
	_, _ = rand.Read(p[:]) // never fails
	return api.TokenPrefix + base64.RawURLEncoding.EncodeToString(p[:])
}

// TokenRequest is what the operator may give a token.
type TokenRequest struct {
	User    string // whose repositories it is about; made if not known
	Name    string // what it is for; default "operator"
	Scope   api.Scope
	Pattern string    // "", or OWNER/NAME with '*': narrows the token to repositories
	Expires time.Time // zero: never
}

// CreateToken makes a token in the data directory of a hub that runs or not, and returns
// its secret, which is kept nowhere. Names that break the rules are errs.ErrFormat.
func CreateToken(ctx context.Context, data string, r TokenRequest) (secret string, t api.Token, err error) {
	err = withDB(ctx, data, true, func(d *db.DB) error {
		var row db.Token
		secret, row, err = createToken(ctx, d, db.Token{
			User: r.User, Name: r.Name, Scope: string(r.Scope), Pattern: r.Pattern, Created: time.Now(), Expires: r.Expires})
		t = tokenJSON(row)
		return err
	})
	return secret, t, err
}

// createToken checks t and keeps it under a new secret.
func createToken(ctx context.Context, d *db.DB, t db.Token) (string, db.Token, error) {
	if t.Name == "" {
		t.Name = "operator"
	}
	if err := checkToken(&t); err != nil {
		return "", db.Token{}, err
	}
	secret := newSecret()
	t, err := d.CreateToken(ctx, t, hashSecret(secret))
	return secret, t, err
}

func checkToken(t *db.Token) error {
	if err := api.CheckOwner(t.User); err != nil {
		return err
	}
	if err := api.CheckScope(api.Scope(t.Scope)); err != nil {
		return err
	}
	if t.Pattern != "" {
		if err := api.CheckPattern(t.Pattern); err != nil {
			return err
		}
	}
	if len(t.Name) > 100 {
		return fmt.Errorf("token name: %d bytes are more than 100: %w", len(t.Name), errs.ErrFormat)
	}
	if !t.Expires.IsZero() && !t.Expires.After(t.Created) {
		return fmt.Errorf("token: it would have expired at %v: %w", t.Expires, errs.ErrFormat)
	}
	return nil
}

// ListTokens returns the tokens of user, or of all users if that is "", newest first, with
// those that expired or were revoked. A hub may run on the directory meanwhile.
func ListTokens(ctx context.Context, data, user string) (out []api.Token, err error) {
	err = withDB(ctx, data, false, func(d *db.DB) error {
		list, err := d.Tokens(ctx, user)
		for _, t := range list {
			out = append(out, tokenJSON(t))
		}
		return err
	})
	return out, err
}

// RevokeToken takes all rights from the token id at once; a hub may run on the directory
// meanwhile. A token that is not there is errs.ErrNotFound.
func RevokeToken(ctx context.Context, data string, id int64) error {
	return withDB(ctx, data, false, func(d *db.DB) error { return d.RevokeToken(ctx, id, "", time.Now()) })
}

// withDB runs fn on the database of a data directory, which is made only if create is set.
func withDB(ctx context.Context, data string, create bool, fn func(*db.DB) error) error {
	if create {
		if err := os.MkdirAll(data, 0o700); err != nil {
			return err
		}
	} else if _, err := os.Stat(databasePath(data)); err != nil {
		return fmt.Errorf("%s is no data directory of a hub: %w: %w", data, errs.ErrNotFound, err)
	}
	d, err := db.Open(ctx, databasePath(data))
	if err != nil {
		return err
	}
	return errors.Join(fn(d), d.Close())
}

func tokenJSON(t db.Token) api.Token {
	return api.Token{
		ID: t.ID, User: t.User, Name: t.Name, Scope: api.Scope(t.Scope), Pattern: t.Pattern, Created: t.Created,
		Expires: optionalTime(t.Expires), LastUsed: optionalTime(t.LastUsed), Revoked: optionalTime(t.Revoked),
	}
}

func optionalTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
