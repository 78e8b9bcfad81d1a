// Package writable keeps account of the writable mounts of a node.
//
// A writable mount is two mounts: the image, which the node service shows in a directory of
// the table, and over it an overlay at the directory that the user named. The kernel serves
// the overlay; no process of ours has to live for it. What belongs together is written down
// before anything is mounted:
//
//	ID/mount.json   the record
//	ID/lower/       where the image is mounted
//	ID/changes/     the changes, where they are to go with the mount
//
// so that whoever unmounts finds it, after a crash too.
package writable

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/internal/atomicfile"
	"github.com/zosfs/zosfs/mount/overlay"
)

// Record is one writable mount.
type Record struct {
	Dir     string       `json:"dir"`             // where the overlay is
	Ref     string       `json:"ref"`             // what the user called the image
	Digest  flist.Digest `json:"digest,omitzero"` // of its flist
	Changes string       `json:"changes"`         // directory of the overlay.Upper
	Scratch bool         `json:"scratch"`         // the changes go with the mount
	Since   time.Time    `json:"since"`

	home string // directory of the record
}

// Lower returns where the image is mounted, below the overlay.
func (r *Record) Lower() string { return filepath.Join(r.home, "lower") }

// Upper opens the changes. The caller closes them.
func (r *Record) Upper() (*overlay.Upper, error) {
	return overlay.Open(r.Changes, r.Digest.String(), overlay.Options{})
}

// Table has the records of one directory. Its methods may be called by several
// processes at a time; what is at one directory is for one of them.
type Table struct{ dir string }

// New returns the Table with its records in the directory dir.
func New(dir string) *Table { return &Table{dir: dir} }

const recordFile = "mount.json"

// Begin makes a record of a mount at dir, with the changes at the directory given, or in one
// that goes with the mount where that is "". It gets its ref and digest with Save.
func (t *Table) Begin(dir, changes string) (*Record, error) {
	r := &Record{Dir: dir, Changes: changes, Since: time.Now().UTC().Truncate(time.Second), home: filepath.Join(t.dir, rand.Text())}
	if changes == "" {
		r.Changes, r.Scratch = filepath.Join(r.home, "changes"), true
	}
	if err := os.MkdirAll(r.Lower(), 0o700); err != nil {
		return nil, err
	}
	return r, r.Save()
}

// Save writes the record.
func (r *Record) Save() error {
	p, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return atomicfile.WriteFile(filepath.Join(r.home, recordFile), append(p, '\n'), 0o600)
}

// All returns all records, those that cannot be read left out.
func (t *Table) All() ([]*Record, error) {
	entries, err := os.ReadDir(t.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []*Record
	for _, e := range entries {
		home := filepath.Join(t.dir, e.Name())
		p, err := os.ReadFile(filepath.Join(home, recordFile))
		if err != nil {
			continue // of a mount that begins or ends just now
		}
		r := &Record{home: home}
		if json.Unmarshal(p, r) == nil && filepath.IsAbs(r.Dir) && filepath.IsAbs(r.Changes) {
			all = append(all, r)
		}
	}
	return all, nil
}

// Find returns the record of the writable mount at dir, errs.ErrNotFound if there is none.
func (t *Table) Find(dir string) (*Record, error) {
	all, err := t.All()
	if err != nil {
		return nil, err
	}
	for _, r := range all {
		if r.Dir == dir {
			return r, nil
		}
	}
	return nil, fmt.Errorf("%s is no writable mount: %w", dir, errs.ErrNotFound)
}

// Mounted reports whether an overlay is at the directory of the record.
func (r *Record) Mounted() bool {
	var st unix.Statfs_t
	return unix.Statfs(r.Dir, &st) == nil && st.Type == unix.OVERLAYFS_SUPER_MAGIC
}

// End removes the record, and the changes if they go with the mount. Neither overlay nor image
// may be mounted any more.
func (r *Record) End() error {
	if r.Scratch {
		u, err := r.Upper()
		switch {
		case errors.Is(err, fs.ErrExist):
			return err
		case err == nil:
			if err := u.Remove(); err != nil {
				return err
			}
		}
	}
	// The record goes last: what fails before is found again.
	if err := os.Remove(r.Lower()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(r.home)
}
