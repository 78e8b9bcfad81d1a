package ref

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/internal/atomicfile"
)

const (
	flistSuffix   = ".flist"
	checkedSuffix = ".checked" // of a checked copy, as flist.Reader.Keep writes it
	// maxFlist bounds an flist as shipped, in bytes: what a hub takes by default.
	maxFlist = 1 << 30
	// A plain flist may have minPlain bytes, and maxRatio more for each that was shipped; a real
	// tree has 3, 20,000 empty files have 8, and a stranger's flist must not fill the disk.
	minPlain = 64 << 20
	maxRatio = 64
	// maxKept is how many bytes of flists and of their checked copies are kept.
	maxKept = 2 << 30
	// tempAge is how old a file in the making is when whoever made it has died.
	tempAge = 24 * time.Hour
)

// keep is the directory of what was fetched, and of checked copies of what was opened.
type keep struct {
	dir    string
	limit  int64 // of a fetched flist as shipped, in bytes
	copies bool  // whether checked copies are written
	log    *slog.Logger
}

func newKeep(dir string, copies bool, log *slog.Logger) (keep, error) {
	k := keep{dir, maxFlist, copies, log}
	for _, d := range []string{k.flists(), k.refs()} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return keep{}, fmt.Errorf("keep flists: %w", err)
		}
	}
	return k, nil
}

func (k keep) flists() string { return filepath.Join(k.dir, "flists") }

func (k keep) refs() string { return filepath.Join(k.dir, "refs") }

func (k keep) flistFile(d flist.Digest) string {
	return filepath.Join(k.flists(), d.String()+flistSuffix)
}

// digest returns the digest that the tag of r had when its hub was asked last;
// errs.ErrNotFound if it never was.
func (k keep) digest(r Ref) (flist.Digest, error) {
	p, err := os.ReadFile(filepath.Join(k.refs(), r.tagFile()))
	if errors.Is(err, fs.ErrNotExist) {
		return flist.Digest{}, errs.Textf(errs.ErrNotFound, "%s/%s:%s was never opened here", r.Owner, r.Name, r.Tag)
	}
	if err != nil {
		return flist.Digest{}, fmt.Errorf("look up %v: %w", r, err)
	}
	d, err := flist.ParseDigest(strings.TrimSuffix(string(p), "\n"))
	if err != nil {
		return flist.Digest{}, fmt.Errorf("look up %v: %w", r, err)
	}
	return d, nil
}

// remember notes the digest of the tag of r.
func (k keep) remember(r Ref) error {
	path := filepath.Join(k.refs(), r.tagFile())
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("remember %v: %w", r, err)
	}
	if err := atomicfile.WriteFile(path, []byte(r.Digest.String()+"\n"), 0o600); err != nil {
		return fmt.Errorf("remember %v: %w", r, err)
	}
	return nil
}

func (k keep) checkedFile(d flist.Digest) string {
	return filepath.Join(k.flists(), d.String()+checkedSuffix)
}

// open opens the flist that is kept, or its checked copy. One that is not there, or is not what
// its name says, is errs.ErrNotFound; one that is, but breaks a rule of the format, fails as
// flist.Open has it.
func (k keep) open(d flist.Digest) (*flist.Reader, error) {
	if r := k.openChecked(d); r != nil {
		return r, nil
	}
	path := k.flistFile(d)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errs.Textf(errs.ErrNotFound, "flist %v is not kept here", d)
	}
	if err != nil {
		return nil, err
	}
	r, err := flist.Open(path, flist.OpenOptions{TempDir: k.flists(), MaxSize: minPlain + maxRatio*info.Size()})
	switch {
	case errors.Is(err, errs.ErrCorrupt) || errors.Is(err, errs.ErrFormat):
		if same, serr := k.intact(path, d); serr != nil || !same {
			return nil, errors.Join(fmt.Errorf("flist %v: the kept file is damaged: %w", d, errs.ErrNotFound), serr)
		}
		return nil, err
	case err != nil:
		return nil, err
	}
	if r.Digest() != d {
		return nil, errors.Join(fmt.Errorf("flist %v: the kept file is that of %v: %w", d, r.Digest(), errs.ErrNotFound), r.Close())
	}
	used(path)
	return k.check(r), nil
}

// used notes that a file was used just now. On a read-only disk nothing is trimmed either.
func used(path string) {
	now := time.Now()
	_ = os.Chtimes(path, now, now)
}

// openPath opens an flist of the user's own. One that is not there is errs.ErrNotFound;
// fs.ErrNotExist would speak of a path in an image.
func (k keep) openPath(path string) (*flist.Reader, error) {
	// What is wrong with the file is for flist.Open to say; a pipe can be read only once.
	info, err := os.Stat(path)
	if err == nil && info.IsDir() {
		return nil, errs.Textf(errs.ErrFormat, "%s is a directory, not an flist", path)
	}
	if err == nil && info.Mode().IsRegular() && info.Size() <= maxFlist {
		if d, err := digest(path); err == nil {
			if r := k.openChecked(d); r != nil {
				return r, nil
			}
		}
	}
	r, err := flist.Open(path, flist.OpenOptions{TempDir: k.flists()})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, errs.Textf(errs.ErrNotFound, "%s: no such file", path)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%w: %w", errs.ErrDenied, err)
	case err != nil:
		return nil, err
	}
	return k.check(r), nil
}

// intact reports whether the file has the digest d.
func (k keep) intact(path string, d flist.Digest) (bool, error) {
	got, err := digest(path)
	return got == d, err
}

// digest returns the digest of a file.
func digest(path string) (flist.Digest, error) {
	f, err := os.Open(path)
	if err != nil {
		return flist.Digest{}, err
	}
	defer func() { _ = f.Close() }()
	h := chunk.NewHasher()
	// Larger pieces than io.Copy takes, which a File decides on unless that is hidden: a third faster.
	if _, err := io.CopyBuffer(h, struct{ io.Reader }{f}, make([]byte, 256<<10)); err != nil {
		return flist.Digest{}, err
	}
	return flist.Digest(h.Sum()), nil
}

// put keeps what body has, if it is the flist d, and closes body. size is how many bytes the
// hub announced, less than 0 if it did not say. Anything else is errs.ErrCorrupt, more bytes
// than an flist may have errs.ErrFull, and nothing of it is kept.
func (k keep) put(ctx context.Context, d flist.Digest, body io.ReadCloser, size int64) (err error) {
	defer func() { err = errors.Join(err, body.Close()) }()
	if size > k.limit {
		return fmt.Errorf("the hub announces %d bytes, want at most %d: %w", size, k.limit, errs.ErrFull)
	}
	f, err := atomicfile.Create(k.flistFile(d), 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Abort()) }()
	h := chunk.NewHasher()
	n, err := io.Copy(io.MultiWriter(f, h), io.LimitReader(body, k.limit+1))
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return err
	case n > k.limit:
		return fmt.Errorf("more than %d bytes came: %w", k.limit, errs.ErrFull)
	case flist.Digest(h.Sum()) != d:
		return fmt.Errorf("the %d bytes that came have the digest %v: %w", n, h.Sum(), errs.ErrCorrupt)
	}
	return f.Commit()
}

// drop removes the flist that is kept.
func (k keep) drop(d flist.Digest) error { return os.Remove(k.flistFile(d)) }

// trim removes what was used least recently until the rest takes at most limit bytes, and what
// dead processes left behind. Checked copies, which cost a moment to make again, give way to
// flists, but for half of limit: else a directory full of old flists would leave the images in
// use without. The copy of an flist goes before it does. The most recent flist and the most
// recent copy stay whatever their size. Flists that are open do not mind.
func (k keep) trim(limit int64) error {
	entries, err := os.ReadDir(k.flists())
	if err != nil {
		return fmt.Errorf("trim flists: %w", err)
	}
	var flists, copies []fs.FileInfo
	var all []error
	for _, e := range entries {
		info, err := e.Info()
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			all = append(all, err)
		case strings.HasSuffix(e.Name(), flistSuffix):
			flists = append(flists, info)
		case strings.HasSuffix(e.Name(), checkedSuffix):
			copies = append(copies, info)
		case isTemp(e.Name()) && time.Since(info.ModTime()) > tempAge:
			all = append(all, k.remove(e.Name()))
		}
	}
	for _, info := range oldest(copies, max(limit/2, limit-total(flists))) {
		all = append(all, k.remove(info.Name()))
	}
	for _, info := range oldest(flists, limit-min(limit/2, total(copies))) {
		stem := strings.TrimSuffix(info.Name(), flistSuffix)
		all = append(all, k.remove(stem+checkedSuffix), k.remove(info.Name()))
	}
	if err := errors.Join(all...); err != nil {
		return fmt.Errorf("trim flists: %w", err)
	}
	return nil
}

func total(files []fs.FileInfo) (sum int64) {
	for _, info := range files {
		sum += info.Size()
	}
	return sum
}

// oldest returns the files that do not fit into room bytes when the most recent come first,
// which it sorts them by. The first always fits.
func oldest(files []fs.FileInfo, room int64) []fs.FileInfo {
	slices.SortFunc(files, func(a, b fs.FileInfo) int { return cmp.Compare(b.ModTime().UnixNano(), a.ModTime().UnixNano()) })
	sum := int64(0)
	for i, info := range files {
		if sum += info.Size(); sum > room && i > 0 {
			return files[i:]
		}
	}
	return nil
}

// isTemp reports whether name is that of a file in the making, of atomicfile or of flist.Open.
func isTemp(name string) bool {
	return atomicfile.IsTemp(name) || strings.HasPrefix(name, "zosfs-flist-")
}

func (k keep) remove(name string) error {
	err := os.Remove(filepath.Join(k.flists(), name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // another process was faster
	}
	return err
}
