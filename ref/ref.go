package ref

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/hub/api"
	"github.com/zosfs/zosfs/internal/credentials"
)

// A Ref names an flist: a file, or one of a hub. The zero value names nothing.
type Ref struct {
	Path string // of a local file; the rest is empty then

	Hub    string // origin, as credentials.Hub writes it
	Owner  string
	Name   string
	Tag    string       // may move; "" where the digest alone was given
	Digest flist.Digest // never moves; zero where it is not known yet
}

// Parse reads a reference:
//
//	./tree.flist  /srv/tree  ../x   what ends in .flist or .fl, or begins with / ./ or ../, is a path
//	https://hub.example/acme/debian:12
//	https://hub.example/acme/debian@DIGEST
//	acme/debian:12                  of defaultHub
//
// Without tag and digest, the tag "latest" is meant. Anything else is errs.ErrFormat; what this
// version does not read (oci://, .fl) is errors.ErrUnsupported. No error shows a password that
// somebody wrote into a URL.
func Parse(s, defaultHub string) (Ref, error) {
	scheme, rest, isURL := strings.Cut(s, "://")
	switch {
	case isURL:
		return parseURL(strings.ToLower(scheme), rest)
	case isPath(s):
		return parsePath(s)
	}
	r, err := parseName(s)
	if err != nil {
		return Ref{}, errs.Textf(errs.ErrFormat, "%s (a path begins with ./ or / or ends in .flist)", strings.TrimSuffix(err.Error(), ": "+errs.ErrFormat.Error()))
	}
	if defaultHub == "" {
		return Ref{}, fmt.Errorf("reference %q: no hub is known for it; write https://HUB/%[1]s, set %s, or log in with zosfs login: %w",
			s, credentials.EnvHub, errs.ErrFormat)
	}
	if r.Hub, err = credentials.Hub(defaultHub); err != nil {
		return Ref{}, fmt.Errorf("reference %q: default hub: %w", s, err)
	}
	return r, nil
}

// isPath reports whether a reference that is no URL is a path.
func isPath(s string) bool {
	for _, prefix := range []string{"/", "./", "../"} {
		if strings.HasPrefix(s, prefix) {
			return true
		}
	}
	return strings.HasSuffix(s, ".flist") || strings.HasSuffix(s, ".fl")
}

func parsePath(s string) (Ref, error) {
	if strings.HasSuffix(s, ".fl") {
		return Ref{}, fmt.Errorf("reference %q: the older .fl format is read by a later version: %w", s, errors.ErrUnsupported)
	}
	if strings.ContainsRune(s, 0) {
		return Ref{}, fmt.Errorf("reference %q: a path has no NUL: %w", s, errs.ErrFormat)
	}
	return Ref{Path: s}, nil
}

func parseURL(scheme, rest string) (Ref, error) {
	authority, name, _ := strings.Cut(rest, "/")
	shown := scheme + "://" + redact(authority) + "/" + name
	switch scheme {
	case "http", "https":
	case "oci":
		return Ref{}, fmt.Errorf("reference %.300q: images of registries are read by a later version: %w", shown, errors.ErrUnsupported)
	default:
		return Ref{}, fmt.Errorf("reference %.300q: want a path, http(s)://HUB/OWNER/NAME[:TAG|@DIGEST], or OWNER/NAME of the default hub: %w", shown, errs.ErrFormat)
	}
	hub, err := credentials.Hub(scheme + "://" + authority)
	if err != nil {
		return Ref{}, fmt.Errorf("reference %.300q: %w", shown, err)
	}
	r, err := parseName(name)
	r.Hub = hub
	return r, err
}

// redact replaces user and password in the authority of a URL.
func redact(authority string) string {
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		return "xxxxx" + authority[i:]
	}
	return authority
}

// parseName reads OWNER/NAME[:TAG|@DIGEST].
func parseName(s string) (Ref, error) {
	r, err := api.ParseRef(s)
	if err != nil {
		return Ref{}, err
	}
	return Ref{Owner: r.Owner, Name: r.Name, Tag: r.Tag, Digest: flist.Digest(r.Digest)}, nil
}

// IsPath reports whether r names a local file.
func (r Ref) IsPath() bool { return r.Path != "" }

// IsZero reports whether r names nothing.
func (r Ref) IsZero() bool { return r == Ref{} }

// String returns what Parse reads; a Ref with a tag is written with that, whether the digest
// is known or not.
func (r Ref) String() string {
	switch {
	case r.Path != "":
		if isPath(r.Path) {
			return r.Path
		}
		return "./" + r.Path
	case r.IsZero():
		return ""
	case r.Tag != "":
		return r.Hub + "/" + r.Owner + "/" + r.Name + ":" + r.Tag
	}
	return r.Hub + "/" + r.Owner + "/" + r.Name + "@" + r.Digest.String()
}

// Abs returns r with an absolute path, for a process with another working directory.
func (r Ref) Abs() (Ref, error) {
	if r.Path == "" {
		return r, nil
	}
	path, err := filepath.Abs(r.Path)
	if err != nil {
		return Ref{}, fmt.Errorf("reference %q: %w", r.Path, err)
	}
	r.Path = path
	return r, nil
}

// tagFile returns where the digest of r's tag is kept below a directory: its elements can
// neither be "..", nor contain a slash.
func (r Ref) tagFile() string {
	return filepath.Join(url.PathEscape(r.Hub), r.Owner, r.Name, r.Tag)
}
