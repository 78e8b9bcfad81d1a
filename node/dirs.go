package node

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// The environment variables that move the directories.
const (
	EnvCache = "ZOSFS_CACHE"
	EnvState = "ZOSFS_STATE"
)

// Dirs are the directories of a node service.
type Dirs struct {
	Cache string // chunks and flists
	State string // socket, lock and log
}

// DefaultDirs returns $ZOSFS_CACHE and $ZOSFS_STATE, else /var/cache/zosfs and /run/zosfs for
// root, and for others zosfs in $XDG_CACHE_HOME (~/.cache) and in $XDG_RUNTIME_DIR or, without
// that, $XDG_STATE_HOME (~/.local/state). One that cannot be told, without a home, is empty,
// and using it an error.
func DefaultDirs() Dirs {
	d := Dirs{Cache: os.Getenv(EnvCache), State: os.Getenv(EnvState)}
	root := os.Geteuid() == 0
	if d.Cache == "" {
		d.Cache = "/var/cache/zosfs"
		if !root {
			d.Cache = first(xdg("XDG_CACHE_HOME"), home(".cache"))
		}
	}
	if d.State == "" {
		d.State = "/run/zosfs"
		if !root {
			d.State = first(xdg("XDG_RUNTIME_DIR"), xdg("XDG_STATE_HOME"), home(".local", "state"))
		}
	}
	return d
}

// xdg returns zosfs below a variable of the XDG base directory specification, which says that
// relative paths are ignored.
func xdg(env string) string {
	dir := os.Getenv(env)
	if !filepath.IsAbs(dir) {
		return ""
	}
	return filepath.Join(dir, "zosfs")
}

func home(elem ...string) string {
	dir, err := os.UserHomeDir()
	if err != nil || !filepath.IsAbs(dir) {
		return ""
	}
	return filepath.Join(append(append([]string{dir}, elem...), "zosfs")...)
}

func first(paths ...string) string {
	for _, p := range paths {
		if p != "" {
			return p
		}
	}
	return ""
}

func (d Dirs) socket() string { return filepath.Join(d.State, "node.sock") }

func (d Dirs) lock() string { return filepath.Join(d.State, "lock") }

func (d Dirs) logFile() string { return filepath.Join(d.State, "node.log") }

// abs returns d with absolute paths.
func (d Dirs) abs() (Dirs, error) {
	for _, p := range []struct {
		path *string
		what string
		env  string
	}{{&d.Cache, "cache", EnvCache}, {&d.State, "state", EnvState}} {
		if *p.path == "" {
			return d, fmt.Errorf("no %s directory is known: set %s: %w", p.what, p.env, fs.ErrInvalid)
		}
		var err error
		if *p.path, err = filepath.Abs(*p.path); err != nil {
			return d, fmt.Errorf("%s directory: %w", p.what, err)
		}
	}
	return d, nil
}

// prepare makes the directories where they are not there. Nobody else may write to State:
// whoever can, could put a socket of his own there and be told tokens.
func (d Dirs) prepare() error {
	for _, dir := range []string{d.Cache, d.State} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
	}
	info, err := os.Stat(d.State)
	if err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	uid := os.Geteuid()
	switch {
	case ok && int(st.Uid) != uid:
		return fmt.Errorf("state directory %s: belongs to user %d, not to %d: %w", d.State, st.Uid, uid, fs.ErrPermission)
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("state directory %s: others may write to it (mode %04o): chmod 700 it: %w", d.State, info.Mode().Perm(), fs.ErrPermission)
	}
	return nil
}

// WritableDir is the directory in the state directory where the images below writable mounts
// are; the service leaves it to whoever mounts those.
const WritableDir = "rw"

// refuse fails if a mount at dir would hide a directory of the service, or lie inside one.
func (d Dirs) refuse(dir string) error {
	dir = resolve(dir)
	if rw := filepath.Join(resolve(d.State), WritableDir); dir != rw && inside(dir, rw) {
		return nil
	}
	for _, own := range []struct{ what, path string }{{"cache", d.Cache}, {"state", d.State}} {
		path := resolve(own.path)
		if inside(dir, path) || inside(path, dir) {
			return fmt.Errorf("mount point %s: the %s directory of the node service is %s; neither may be inside the other: %w",
				dir, own.what, own.path, fs.ErrInvalid)
		}
	}
	return nil
}

// resolve returns path without symlinks as far as that can be told.
func resolve(path string) string {
	if p, err := filepath.EvalSymlinks(path); err == nil {
		return p
	}
	return filepath.Clean(path)
}

// inside reports whether path is dir or lies in it.
func inside(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}
