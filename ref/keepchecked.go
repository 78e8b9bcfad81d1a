package ref

import (
	"errors"
	"io/fs"
	"os"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/flist"
)

// openChecked opens the checked copy of the flist d. nil says that there is none of any use: one
// that was there is removed, and the flist itself has to be opened.
func (k keep) openChecked(d flist.Digest) *flist.Reader {
	path := k.checkedFile(d)
	r, err := flist.OpenKept(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err == nil && r.Digest() == d:
		used(path)
		used(k.flistFile(d)) // if it came from a hub
		return r
	case err == nil:
		err = errors.Join(errors.New("it is that of another flist"), r.Close())
	}
	k.log.Debug("a checked copy is of no use", "flist", d.String(), "error", errors.Join(err, os.Remove(path)))
	return nil
}

// check takes r, whose flist was just checked whole, and writes a copy for openChecked. It
// returns the Reader of the copy in place of r, whose private file then goes. That the copy
// cannot be written costs the next open, not this one: then it returns r.
func (k keep) check(r *flist.Reader) *flist.Reader {
	if !k.copies {
		return r
	}
	path := k.checkedFile(r.Digest())
	if err := r.Keep(path); err != nil {
		k.log.Debug("no checked copy is kept", "flist", r.Digest().String(), "error", err)
		return r
	}
	if err := k.trim(maxKept); err != nil {
		k.log.Debug("old flists stay", "error", err)
	}
	kept := k.openChecked(r.Digest())
	if kept == nil {
		return r
	}
	if err := r.Close(); err != nil {
		k.log.Debug("the private copy of an flist stays", "flist", r.Digest().String(), "error", err)
	}
	return kept
}

// openPathAs is openPath for the flist want, if that is not zero: where the file is another by
// now, or gone, a copy that is kept will do.
func (k keep) openPathAs(path string, want flist.Digest) (*flist.Reader, error) {
	if !want.IsZero() {
		if r := k.openChecked(want); r != nil {
			return r, nil
		}
	}
	r, err := k.openPath(path)
	if err != nil || want.IsZero() || r.Digest() == want {
		return r, err
	}
	return nil, errors.Join(errs.Textf(errs.ErrNotFound, "%s: it is the flist %v by now, and of %v no copy is kept", path, r.Digest(), want), r.Close())
}
