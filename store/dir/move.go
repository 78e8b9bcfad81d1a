package dir

import (
	"context"
	"path/filepath"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/internal/atomicfile"
)

// PutFile is Put of the bytes of the file from, which must lie on the file system of the
// store: the file itself becomes the blob, and there is no from any more. It believes the
// caller that the bytes have the digest id and that nobody writes to the file.
func (s *Store) PutFile(ctx context.Context, id blob.Digest, from string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	path := s.path(id)
	if err := mkdir(filepath.Dir(path)); err != nil {
		return s.kind(id, err)
	}
	if err := atomicfile.Move(from, path, 0o644); err != nil {
		return s.kind(id, err)
	}
	return nil
}
