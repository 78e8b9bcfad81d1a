// Package credentials keeps the tokens of a user for hubs, and which hub is meant when a
// reference names none.
//
// They lie in one JSON file that its owner alone may read, at the path that [Path] returns:
//
//	{
//	  "default": "https://hub.example.org",
//	  "hubs": {"https://hub.example.org": {"token": "zosfs_..."}}
//	}
//
// The environment goes before the file: ZOSFS_HUB is the default hub, ZOSFS_TOKEN the token.
// A variable does not say for which hub a token is, so it is given to the default hub alone,
// or, where no hub is known at all, to the one that the user names: a user who logged in once
// can mount something of a stranger's hub without showing it a token. See [File.Token] and
// [File.Known].
//
// A hub is named by its origin, as [Hub] writes it: a token for https is never sent over http.
//
// A File is not safe for concurrent use while it is changed; processes that save at the same
// time do not damage the file, the last one wins.
package credentials

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/internal/atomicfile"
)

// The environment variables.
const (
	EnvFile  = "ZOSFS_CREDENTIALS" // path of the file
	EnvHub   = "ZOSFS_HUB"         // default hub
	EnvToken = "ZOSFS_TOKEN"       // a token
)

// maxFile bounds the file, in bytes: thousands of hubs.
const maxFile = 1 << 20

// File is what the file and the environment say. The zero value knows no hub; nil is one to
// read from.
type File struct {
	path     string
	saved    content
	envHub   string
	envToken string
	override map[string]string // tokens by hub, for this process only
}

// content is the file.
type content struct {
	Default string           `json:"default,omitempty"`
	Hubs    map[string]login `json:"hubs,omitempty"`
}

type login struct {
	Token string `json:"token"`
}

// Path returns where the file is: $ZOSFS_CREDENTIALS, else zosfs/credentials.json in
// $XDG_CONFIG_HOME or ~/.config.
func Path() (string, error) {
	if p := os.Getenv(EnvFile); p != "" {
		return filepath.Abs(p)
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("credentials file: %w", err)
	}
	return filepath.Join(dir, "zosfs", "credentials.json"), nil
}

// Load reads the file and the environment. That there is no file is no error; one that others
// may read is fs.ErrPermission, one that cannot be understood errs.ErrFormat.
func Load() (*File, error) {
	f := &File{}
	var err error
	if f.envHub, err = envHub(); err != nil {
		return nil, err
	}
	f.envToken = strings.TrimSpace(os.Getenv(EnvToken))
	if f.envToken != "" {
		if err := checkToken(f.envToken); err != nil {
			return nil, fmt.Errorf("%s: %w", EnvToken, err)
		}
	}
	f.path, err = Path()
	if err != nil {
		// A service without a home directory has its environment alone.
		f.path = ""
		return f, nil
	}
	if err := f.read(); err != nil {
		return nil, fmt.Errorf("credentials: %w", err)
	}
	return f, nil
}

func envHub() (string, error) {
	s := strings.TrimSpace(os.Getenv(EnvHub))
	if s == "" {
		return "", nil
	}
	hub, err := Hub(s)
	if err != nil {
		return "", fmt.Errorf("%s: %w", EnvHub, err)
	}
	return hub, nil
}

func (f *File) read() error {
	p, err := readPrivate(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(p, &f.saved); err != nil {
		// The decoder's text may quote a piece of a token.
		return fmt.Errorf("%s: not the JSON that zosfs login writes: %w", f.path, errs.ErrFormat)
	}
	for hub, l := range f.saved.Hubs {
		if err := checkToken(l.Token); err != nil {
			return fmt.Errorf("%s: %s: %w", f.path, hub, err)
		}
		if err := checkHub(hub); err != nil {
			return fmt.Errorf("%s: %w", f.path, err)
		}
	}
	if f.saved.Default == "" {
		return nil
	}
	if err := checkHub(f.saved.Default); err != nil {
		return fmt.Errorf("%s: default: %w", f.path, err)
	}
	return nil
}

// readPrivate reads a file that nobody but its owner may read or change.
func readPrivate(path string) ([]byte, error) {
	// O_NONBLOCK: a fifo must not hold us up.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	switch perm := info.Mode().Perm(); {
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s: not a regular file: %w", path, errs.ErrFormat)
	case perm&0o077 != 0:
		return nil, fmt.Errorf("%s: others may read or change it (mode %04o), and there are tokens in it: chmod 600 it, and renew the tokens: %w",
			path, perm, fs.ErrPermission)
	case info.Size() > maxFile:
		return nil, fmt.Errorf("%s: %d bytes, want at most %d: %w", path, info.Size(), maxFile, errs.ErrFormat)
	}
	p := make([]byte, info.Size())
	n, err := f.ReadAt(p, 0)
	if n < len(p) {
		return nil, err
	}
	return p, nil
}

// Save writes the file, whole or not at all, with mode 0600 and its directory with 0700 where
// it has to be made. What the environment or With said is not written.
func (f *File) Save() error {
	if f.path == "" {
		path, err := Path()
		if err != nil {
			return err
		}
		f.path = path
	}
	p, err := json.MarshalIndent(f.saved, "", "  ")
	if err != nil {
		return fmt.Errorf("save credentials: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(f.path), 0o700); err != nil {
		return fmt.Errorf("save credentials: %w", err)
	}
	if err := atomicfile.WriteFile(f.path, append(p, '\n'), 0o600); err != nil {
		return fmt.Errorf("save credentials: %w", err)
	}
	return nil
}

// Default returns the hub that is meant when none is named, "" if there is none.
func (f *File) Default() string {
	switch {
	case f == nil:
		return ""
	case f.envHub != "":
		return f.envHub
	}
	return f.saved.Default
}

// SetDefault makes hub the default of the file, "" none.
func (f *File) SetDefault(hub string) error {
	if hub != "" {
		var err error
		if hub, err = Hub(hub); err != nil {
			return err
		}
	}
	f.saved.Default = hub
	return nil
}

// Hubs returns the hubs with a token in the file, ascending.
func (f *File) Hubs() []string {
	if f == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(f.saved.Hubs))
}

// Set keeps a token for hub.
func (f *File) Set(hub, token string) error {
	hub, err := Hub(hub)
	if err != nil {
		return err
	}
	if err := checkToken(token); err != nil {
		return err
	}
	if f.saved.Hubs == nil {
		f.saved.Hubs = make(map[string]login)
	}
	f.saved.Hubs[hub] = login{Token: token}
	return nil
}

// Remove forgets the token for hub and reports whether there was one. A hub that is the
// default stays it.
func (f *File) Remove(hub string) bool {
	hub, err := Hub(hub)
	if err != nil {
		return false
	}
	_, ok := f.saved.Hubs[hub]
	delete(f.saved.Hubs, hub)
	return ok
}

// With returns a copy of f, which may be nil, whose token for hub is token, for this process
// only. An empty token changes nothing.
func (f *File) With(hub, token string) (*File, error) {
	c := &File{}
	if f != nil {
		*c = *f
		c.saved.Hubs = maps.Clone(f.saved.Hubs)
		c.override = maps.Clone(f.override)
	}
	if token == "" {
		return c, nil
	}
	hub, err := Hub(hub)
	if err != nil {
		return nil, err
	}
	if err := checkToken(token); err != nil {
		return nil, err
	}
	if c.override == nil {
		c.override = make(map[string]string)
	}
	c.override[hub] = token
	return c, nil
}

// Token returns the token for a hub that the user named, "" if there is none. ZOSFS_TOKEN
// goes before the file, for the default hub; it is also for the named hub where there is no
// default and no token in the file.
func (f *File) Token(hub string) string {
	if f == nil {
		return ""
	}
	if t := f.Known(hub); t != "" {
		return t
	}
	if _, err := Hub(hub); err != nil {
		return ""
	}
	if f.Default() == "" && len(f.saved.Hubs) == 0 {
		return f.envToken
	}
	return ""
}

// TokenName says what to call the token for hub when it is refused: "the token in ZOSFS_TOKEN",
// or "" for one of the file, or none.
func (f *File) TokenName(hub string) string {
	if f == nil || f.envToken == "" || f.Token(hub) != f.envToken {
		return ""
	}
	return "the token in " + EnvToken
}

// Known returns the token for a hub that somebody else named, such as the author of an flist:
// one that the user has for just this hub, "" if there is none.
func (f *File) Known(hub string) string {
	if f == nil {
		return ""
	}
	hub, err := Hub(hub)
	if err != nil {
		return ""
	}
	if t, ok := f.override[hub]; ok {
		return t
	}
	if f.envToken != "" && hub == f.Default() {
		return f.envToken
	}
	return f.saved.Hubs[hub].Token
}
