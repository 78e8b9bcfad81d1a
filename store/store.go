package store

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/errs"
)

// Info names a blob and gives its size in bytes.
type Info struct {
	Digest blob.Digest
	Size   int64
}

// Getter reads ranges of blobs.
type Getter interface {
	// Get returns the bytes [off, off+n) of the blob id; n < 0 means up to its end. The
	// caller closes the reader, early if it likes. A blob the store lacks is
	// errs.ErrNotFound, from Get and not only from the reader; a range that does not lie
	// inside the blob is an error that is none of the kinds ([RangeError]), and n == 0 an
	// empty reader where the blob is there. The reader may end short when a connection
	// breaks: use [ReadRange], which notices. ctx covers the reading too.
	Get(ctx context.Context, id blob.Digest, off, n int64) (io.ReadCloser, error)
}

// Putter keeps blobs.
type Putter interface {
	// Put keeps data as the blob id. It verifies that id is the digest of data (else
	// errs.ErrCorrupt and nothing is kept) and is idempotent: what is there already is a
	// success. When it returns nil, the blob survives a crash; when it does not, the blob
	// is there whole or not at all. data is only read, and not kept after the return.
	Put(ctx context.Context, id blob.Digest, data []byte) error
}

// Stater tells whether blobs are there.
type Stater interface {
	// Stat returns the size of the blob id in bytes, errs.ErrNotFound if it is not there.
	Stat(ctx context.Context, id blob.Digest) (int64, error)
}

// Lister enumerates blobs.
type Lister interface {
	// List calls fn for each blob in ascending order of digests, until fn fails; that
	// error is returned as it is. Blobs put or deleted meanwhile may be listed or not.
	List(ctx context.Context, fn func(Info) error) error
}

// Store is a place for blobs.
type Store interface {
	Getter
	Putter
	Stater
	Lister
	// Delete removes the blob id; one that is not there is a success.
	Delete(ctx context.Context, id blob.Digest) error
}

// Close ends the use of a store: it closes s if s is an [io.Closer], else it does nothing.
func Close(s Getter) error {
	if c, ok := s.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// ReadRange fills p with the bytes of blob id from off on. An answer that ends early is
// errs.ErrUnavailable, since a broken connection looks like that and asking again may help.
func ReadRange(ctx context.Context, g Getter, id blob.Digest, off int64, p []byte) error {
	if len(p) == 0 {
		return nil
	}
	r, err := g.Get(ctx, id, off, int64(len(p)))
	if err != nil {
		return err
	}
	n, err := io.ReadFull(r, p)
	if cerr := r.Close(); err == nil {
		err = cerr
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("blob %v: %d of %d bytes at %d came: %w", id, n, len(p), off, errs.ErrUnavailable)
	}
	return err
}

// A Checker is a Getter that has several ways to get a range and can go on to the next
// when the bytes of one are wrong.
type Checker interface {
	// GetChecked is as [ReadChecked].
	GetChecked(ctx context.Context, id blob.Digest, off int64, p []byte, check func([]byte) error) error
}

// ReadChecked is [ReadRange] followed by check, which must fail with errs.ErrCorrupt where
// the bytes are wrong. A [Checker] asks another source then and holds the failure against
// the first; any other Getter is asked once. check sees p and is called by the goroutine of
// the caller, once for each answer.
func ReadChecked(ctx context.Context, g Getter, id blob.Digest, off int64, p []byte, check func([]byte) error) error {
	if c, ok := g.(Checker); ok {
		return c.GetChecked(ctx, id, off, p, check)
	}
	if err := ReadRange(ctx, g, id, off, p); err != nil {
		return err
	}
	return check(p)
}
