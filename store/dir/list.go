package dir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/internal/atomicfile"
	"github.com/zosfs/zosfs/store"
)

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
			if atomicfile.Stale(e) {
				_ = os.Remove(filepath.Join(s.blobs, prefix, e.Name())) // or whoever may
			}
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
