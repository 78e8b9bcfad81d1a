package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/chunk"
)

// A Locator knows which chunks lie in its blobs.
type Locator interface {
	// Locate returns, for those of the chunks that the store holds, where they lie; the
	// others are absent from the map, which belongs to the caller. Of several blobs with a
	// chunk the one with the smallest digest is returned, always, so that who asks twice
	// gets one answer. Blobs with [blob.FlagCopy] do not count.
	Locate(ctx context.Context, chunks []chunk.Digest) (map[chunk.Digest]blob.Location, error)
}

// Locate asks g where chunks lie, as [Locator] has it. A store that does not know is
// errors.ErrUnsupported; [OpenIndex] makes one that does.
func Locate(ctx context.Context, g Getter, chunks []chunk.Digest) (map[chunk.Digest]blob.Location, error) {
	if l, ok := g.(Locator); ok {
		return l.Locate(ctx, chunks)
	}
	return nil, fmt.Errorf("look up %d chunks: the store keeps no index of them: %w", len(chunks), errors.ErrUnsupported)
}
