package hub

import (
	"context"
	"crypto/sha256"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/hub/api"
	"github.com/zosfs/zosfs/hub/db"
)

// touchEvery is how exactly the last use of a token is known; see db.TouchToken.
const touchEvery = 10 * time.Minute

// authenticate finds out who asks. A request without a token is anybody's; one with a token
// that is not valid is refused even where no token is needed, so that its owner notices.
func (s *Server) authenticate(next http.Handler) http.Handler {
	return handlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		w.Header().Add("Vary", "Authorization")
		if values := r.Header.Values("Authorization"); len(values) > 0 {
			t, err := s.token(r.Context(), values)
			if err != nil {
				return s.refuse(r, err)
			}
			req, ok := r.Context().Value(requestKey{}).(*request)
			if !ok {
				panic("hub: authenticate runs below observe")
			}
			req.caller = t.Caller()
			s.touch(r.Context(), &t)
		}
		next.ServeHTTP(w, r)
		return nil
	})
}

// token returns the valid token of the Authorization headers; errs.ErrDenied if there is none.
func (s *Server) token(ctx context.Context, values []string) (db.Token, error) {
	scheme, secret, _ := strings.Cut(values[0], " ")
	if len(values) != 1 || !strings.EqualFold(scheme, "Bearer") || !strings.HasPrefix(secret, api.TokenPrefix) || len(secret) != secretLen {
		return db.Token{}, errs.ErrDenied
	}
	// Looking the hash up takes no time that depends on the secret.
	t, err := s.db.TokenByHash(ctx, hashSecret(secret))
	if errors.Is(err, errs.ErrNotFound) || err == nil && !t.Valid(s.now()) {
		return db.Token{}, errs.ErrDenied
	}
	return t, err
}

// refuse answers a failed authentication, and with 429 to an address that has many of them.
// A valid token is never held up by the failures of others behind the same address: with
// 256 random bits there is nothing to guess, the limit is for the load alone.
func (s *Server) refuse(r *http.Request, err error) error {
	if !errors.Is(err, errs.ErrDenied) {
		return err
	}
	if !s.failures.allow(r.RemoteAddr, s.now()) {
		f := fail(api.CodeRateLimited, "too many requests with tokens that are not valid")
		f.retryAfter = 10
		return f
	}
	return fail(api.CodeUnauthenticated, "the token is not valid, has expired or was revoked").hint("log in again with zosfs login")
}

func (s *Server) touch(ctx context.Context, t *db.Token) {
	if now := s.now(); now.Sub(t.LastUsed) > touchEvery {
		if err := s.db.TouchToken(ctx, t.ID, now); err != nil {
			s.opts.Log.WarnContext(ctx, "note the use of a token", "token", t.ID, "error", err)
		}
	}
}

func hashSecret(secret string) db.TokenHash { return sha256.Sum256([]byte(secret)) }

// needScope fails unless the caller has a token with at least scope.
func needScope(ctx context.Context, scope api.Scope) (db.Caller, error) {
	c := caller(ctx)
	switch {
	case c.Account == 0:
		return c, fail(api.CodeUnauthenticated, "a token is needed").hint("log in with zosfs login, or set ZOSFS_TOKEN")
	case !c.May(string(scope)):
		return c, fail(api.CodeDenied, "the token has the scope %s; this needs %s", c.Scope, scope)
	}
	return c, nil
}

// needWrite fails unless the caller may change the repository owner/name, be it there or
// not: the answer does not tell.
func needWrite(ctx context.Context, owner, name string) (db.Caller, error) {
	c, err := needScope(ctx, api.ScopeWrite)
	if err == nil && !c.Owns(owner, name) {
		err = fail(api.CodeDenied, "the token of %s may not write to %s/%s", c.User, owner, name)
	}
	return c, err
}

// needAdmin fails unless the caller may do everything.
func needAdmin(ctx context.Context) error {
	c, err := needScope(ctx, api.ScopeAdmin)
	if err == nil && !c.Admin() {
		err = fail(api.CodeDenied, "the token is narrowed to %s; this needs an admin of everything", c.Pattern)
	}
	return err
}

// failures count failed authentications by address.
type failures struct {
	mu sync.Mutex
	by map[netip.Prefix]*rate.Limiter
}

// Each address may fail failBurst times at once and once a second on. When maxAddresses are
// known all are forgotten, which bounds the memory and forgives little.
const (
	failBurst    = 20
	maxAddresses = 10_000
)

func newFailures() *failures { return &failures{by: make(map[netip.Prefix]*rate.Limiter)} }

// allow counts a failure of addr and reports whether it may have another.
func (f *failures) allow(addr string, now time.Time) bool {
	host, _, _ := net.SplitHostPort(addr)
	ip, _ := netip.ParseAddr(host) // the zero address serves for what is none
	bits := 32
	if ip = ip.Unmap(); ip.Is6() {
		bits = 64 // what one customer of a provider has
	}
	p, _ := ip.WithZone("").Prefix(bits)
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.by[p]
	if l == nil {
		if len(f.by) >= maxAddresses {
			clear(f.by)
		}
		l = rate.NewLimiter(1, failBurst)
		f.by[p] = l
	}
	return l.AllowN(now, 1)
}
