package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Move makes the file from, which is complete, appear at path as if [Write] had written it
// there, without writing its bytes again. Both must lie on one file system, and nobody may
// write to from meanwhile. After a success there is no from any more; after an error it may
// still be there.
func Move(from, path string, perm fs.FileMode) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Chmod(perm), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("move %s: %w", from, kind(err))
	}
	if err := os.Rename(from, path); err != nil {
		return kind(err)
	}
	return kind(SyncDir(filepath.Dir(path)))
}
