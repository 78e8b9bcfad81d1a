package api

import (
	"fmt"
	"strings"

	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/errs"
)

// Limits of names, in bytes.
const (
	MaxOwner = 39
	MaxRepo  = 100
	MaxTag   = 128
)

// CheckOwner reports with errs.ErrFormat why s cannot be the name of an owner: 1 to 39
// lower-case letters, digits and single hyphens between them, and none of the first path
// elements that the hub itself uses.
func CheckOwner(s string) error {
	if len(s) == 0 || len(s) > MaxOwner || !inner(s, "-") {
		return fmt.Errorf("owner name %.64q: want 1 to %d lower-case letters, digits, and hyphens between them: %w", s, MaxOwner, errs.ErrFormat)
	}
	switch s {
	case "v1", "v2", "api", "openapi", "healthz", "readyz", "metrics", "assets", "static", "login", "logout", "signup", "settings", "search", "admin", "jobs":
		return fmt.Errorf("owner name %q is reserved: %w", s, errs.ErrFormat)
	}
	return nil
}

// CheckRepo reports with errs.ErrFormat why s cannot be the name of a repository: 1 to 100
// lower-case letters and digits, with single '.', '_' and '-' between them.
func CheckRepo(s string) error {
	if len(s) == 0 || len(s) > MaxRepo || !inner(s, ".-_") {
		return fmt.Errorf("repository name %.128q: want 1 to %d lower-case letters, digits, and '.', '_', '-' between them: %w", s, MaxRepo, errs.ErrFormat)
	}
	return nil
}

// inner reports whether s has lower-case letters and digits, and the separators only one
// at a time between them.
func inner(s, separators string) bool {
	sep := true
	for _, c := range []byte(s) {
		switch {
		case alnum(c):
			sep = false
		case !sep && strings.IndexByte(separators, c) >= 0:
			sep = true
		default:
			return false
		}
	}
	return !sep
}

func alnum(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }

// CheckTag reports with errs.ErrFormat why s cannot be a tag: 1 to 128 letters, digits,
// '_', '.' and '-', not beginning with '.' or '-'.
func CheckTag(s string) error {
	ok := len(s) > 0 && len(s) <= MaxTag && s[0] != '.' && s[0] != '-'
	for _, c := range []byte(s) {
		ok = ok && (alnum(c) || c >= 'A' && c <= 'Z' || c == '_' || c == '.' || c == '-')
	}
	if !ok {
		return fmt.Errorf("tag %.160q: want 1 to %d letters, digits, '_', '.' and '-', beginning with none of the last two: %w", s, MaxTag, errs.ErrFormat)
	}
	return nil
}

// CheckPattern reports with errs.ErrFormat why s cannot narrow a token to repositories. A
// pattern is OWNER/NAME in the letters of names, where '*' stands for any run of them.
func CheckPattern(s string) error {
	owner, name, ok := strings.Cut(s, "/")
	ok = ok && owner != "" && name != "" && len(owner) <= MaxOwner && len(name) <= MaxRepo
	for _, c := range []byte(owner + name) {
		ok = ok && (alnum(c) || strings.IndexByte(".-_*", c) >= 0)
	}
	if !ok {
		return fmt.Errorf("repository pattern %.160q: want OWNER/NAME, where '*' stands for anything: %w", s, errs.ErrFormat)
	}
	return nil
}

// A Ref names an flist on a hub: by tag, which may move, or by digest, which never does.
type Ref struct {
	Owner, Name string
	Tag         string // "" if Digest is set
	Digest      Digest
}

// ParseRef reads "owner/name:tag", "owner/name@digest", or "owner/name", which means the
// tag "latest". Anything else is errs.ErrFormat.
func ParseRef(s string) (Ref, error) {
	r := Ref{Tag: "latest"}
	rest := s
	if path, digest, ok := strings.Cut(s, "@"); ok {
		d, err := ParseDigest(digest)
		if err != nil {
			return Ref{}, fmt.Errorf("reference %.300q: %w", s, err)
		}
		r.Digest, r.Tag, rest = d, "", path
	} else if path, tag, ok := strings.Cut(s, ":"); ok {
		r.Tag, rest = tag, path
	}
	var ok bool
	if r.Owner, r.Name, ok = strings.Cut(rest, "/"); !ok {
		return Ref{}, fmt.Errorf("reference %.300q: want OWNER/NAME[:TAG|@DIGEST]: %w", s, errs.ErrFormat)
	}
	if err := r.check(); err != nil {
		return Ref{}, fmt.Errorf("reference %.300q: %w", s, err)
	}
	return r, nil
}

func (r Ref) check() error {
	if err := CheckOwner(r.Owner); err != nil {
		return err
	}
	if err := CheckRepo(r.Name); err != nil {
		return err
	}
	if r.Digest.IsZero() {
		return CheckTag(r.Tag)
	}
	return nil
}

// String returns what ParseRef reads.
func (r Ref) String() string {
	if !r.Digest.IsZero() {
		return r.Owner + "/" + r.Name + "@" + r.Digest.String()
	}
	return r.Owner + "/" + r.Name + ":" + r.Tag
}

// Digest is the BLAKE3-256 of an flist file (the flist digest) or of the rows of a tree (the
// tree digest). It is comparable; the zero value names nothing and is invalid.
type Digest [32]byte

// ParseDigest reads the 64 lower-case hexadecimal digits that [Digest.String] writes. Any
// other text is errs.ErrFormat.
func ParseDigest(s string) (Digest, error) {
	d, err := chunk.ParseDigest(s)
	if err != nil {
		return Digest{}, fmt.Errorf("%w: %w", err, errs.ErrFormat)
	}
	return Digest(d), nil
}

// IsZero reports whether d is the invalid zero value.
func (d Digest) IsZero() bool { return d == Digest{} }

// String returns d as 64 lower-case hexadecimal digits.
func (d Digest) String() string { return chunk.Digest(d).String() }

// MarshalText implements [encoding.TextMarshaler].
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (d *Digest) UnmarshalText(p []byte) error {
	v, err := ParseDigest(string(p))
	if err != nil {
		return err
	}
	*d = v
	return nil
}
