package dir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/internal/atomicfile"
	"github.com/zosfs/zosfs/store"
)

// leftoverAge is how old a temporary file is when it is taken for a leftover: no Put of a
// blob takes a day.
const leftoverAge = 24 * time.Hour

// List implements [store.Lister]. It reads one of the 256 directories at a time.
func (s *Store) List(ctx context.Context, fn func(store.Info) error) error {
	if _, err := os.Stat(s.blobs); err != nil {
		return fmt.Errorf("list blobs: %w: %w", errs.ErrUnavailable, err)
	}
	for i := range 256 {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.listDir(ctx, fmt.Sprintf("%02x", i), fn); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) listDir(ctx context.Context, prefix string, fn func(store.Info) error) error {
	entries, err := os.ReadDir(filepath.Join(s.blobs, prefix)) // sorted by name
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("list blobs: %w", err)
	}
	for _, e := range entries {
		if atomicfile.IsTemp(e.Name()) {
			s.clean(prefix, e)
			continue
		}
		id, err := blob.ParseDigest(e.Name())
		if err != nil || e.Name()[:2] != prefix || !e.Type().IsRegular() {
			continue // not ours
		}
		fi, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted meanwhile
		}
		if err != nil {
			return fmt.Errorf("list blobs: %w", err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := fn(store.Info{Digest: id, Size: fi.Size()}); err != nil {
			return err
		}
	}
	return nil
}

// clean removes a temporary file that is old. Whoever may only read the directory leaves
// it to others, so errors do not matter.
func (s *Store) clean(prefix string, e fs.DirEntry) {
	if fi, err := e.Info(); err == nil && fi.Mode().IsRegular() && time.Since(fi.ModTime()) > leftoverAge {
		_ = os.Remove(filepath.Join(s.blobs, prefix, e.Name()))
	}
}
