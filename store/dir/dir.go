// Package dir is a store in a directory of the local file system.
//
// The blob aabb… is the plain file blobs/aa/aabb… under the root, so that a directory can
// be copied, served by any web server and looked into with ordinary tools. Files appear
// whole or not at all (internal/atomicfile); what a killed Put left behind is never listed
// or read, and List removes it when it is a day old.
//
// Names come from digests alone, the last element of a path is never followed if it is a
// symlink, and what is not a regular file is not a blob. It is safe for concurrent use, by
// several processes too.
package dir

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/internal/atomicfile"
	"github.com/zosfs/zosfs/store"
)

// Store is a store in a directory.
type Store struct{ blobs string }

var (
	_ store.Store        = (*Store)(nil)
	_ store.SummedPutter = (*Store)(nil)
)

// New returns the Store with the given root directory and makes the directory where it is
// not there. The path is made absolute, so a later change of directory does not matter.
func New(root string) (*Store, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("store directory: %w", err)
	}
	s := &Store{blobs: filepath.Join(root, "blobs")}
	if err := os.MkdirAll(s.blobs, 0o755); err != nil {
		return nil, fmt.Errorf("store directory: %w", err)
	}
	return s, nil
}

// Open returns the file of the blob id and its size in bytes, errs.ErrNotFound if it is not
// there. The caller reads it as it likes, with sendfile for one, and closes it; a blob that
// is deleted meanwhile stays readable through it.
func (s *Store) Open(ctx context.Context, id blob.Digest) (*os.File, int64, error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	// O_NONBLOCK: a fifo that somebody planted must not hold us up.
	f, err := os.OpenFile(s.path(id), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, s.kind(id, err)
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = syscall.ELOOP
	}
	if err != nil {
		return nil, 0, errors.Join(s.kind(id, err), f.Close())
	}
	return f, fi.Size(), nil
}

// Get implements [store.Getter].
func (s *Store) Get(ctx context.Context, id blob.Digest, off, n int64) (io.ReadCloser, error) {
	f, size, err := s.Open(ctx, id)
	if err != nil {
		return nil, err
	}
	if n, err = store.CheckRange(id, size, off, n); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return section{io.NewSectionReader(f, off, n), f}, nil
}

// section is a range of a file that it owns.
type section struct {
	*io.SectionReader
	io.Closer
}

// Put implements [store.Putter]. A file of the blob that is there but damaged is replaced.
func (s *Store) Put(ctx context.Context, id blob.Digest, data []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := id.Check(data); err != nil {
		return err
	}
	return s.PutSummed(ctx, id, data)
}

// PutSummed implements [store.SummedPutter].
func (s *Store) PutSummed(ctx context.Context, id blob.Digest, data []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.holds(ctx, id, int64(len(data))) {
		return nil
	}
	path := s.path(id)
	if err := mkdir(filepath.Dir(path)); err != nil {
		return s.kind(id, err)
	}
	if err := atomicfile.WriteFile(path, data, 0o644); err != nil {
		return s.kind(id, err)
	}
	return nil
}

// holds reports whether the file of the blob id is there with the right bytes.
func (s *Store) holds(ctx context.Context, id blob.Digest, want int64) bool {
	f, size, err := s.Open(ctx, id)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	if size != want {
		return false
	}
	if _, err := io.Copy(h, f); err != nil {
		return false
	}
	// It may be there from a Put that was killed between renaming and syncing.
	return blob.Digest(h.Sum(nil)) == id && f.Sync() == nil && atomicfile.SyncDir(filepath.Dir(f.Name())) == nil
}

// Stat implements [store.Stater].
func (s *Store) Stat(ctx context.Context, id blob.Digest) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	fi, err := os.Lstat(s.path(id))
	if err == nil && !fi.Mode().IsRegular() {
		err = syscall.ELOOP
	}
	if err != nil {
		return 0, s.kind(id, err)
	}
	return fi.Size(), nil
}

// Delete implements [store.Store].
func (s *Store) Delete(ctx context.Context, id blob.Digest) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := os.Remove(s.path(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s.kind(id, err)
	}
	return nil
}

func (s *Store) path(id blob.Digest) string {
	name := id.String()
	return filepath.Join(s.blobs, name[:2], name)
}

// kind adds to what the system said of a blob's file the kind of failure that it is.
func (s *Store) kind(id blob.Digest, err error) error {
	switch {
	case errors.Is(err, syscall.ELOOP):
		return fmt.Errorf("blob %v: %s is not a regular file: %w", id, s.path(id), errs.ErrCorrupt)
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("blob %v: %w", id, err)
	}
	if _, gone := os.Stat(s.blobs); gone != nil {
		// A disk that is not mounted says nothing about what it holds.
		return fmt.Errorf("blob %v: %w: %w", id, errs.ErrUnavailable, gone)
	}
	return fmt.Errorf("blob %v in %s: %w", id, s.blobs, errs.ErrNotFound)
}

// mkdir makes a directory and sees to it that it survives a crash.
func mkdir(path string) error {
	err := os.Mkdir(path, 0o755)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(path))
}
