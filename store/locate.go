package store

import (
	"context"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/chunk"
)

// A Locator knows which chunks lie in its blobs.
type Locator interface {
	// Locate returns, for those of the chunks that the store holds, where they lie; the
	// others are absent from the map. A chunk that lies in several blobs is always found
	// in the same one of them while that is there. Blobs with [blob.FlagCopy] do not count.
	Locate(ctx context.Context, chunks []chunk.Digest) (map[chunk.Digest]blob.Location, error)
}
