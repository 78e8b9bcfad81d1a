// Package mem is a store in memory, for tests and for small things. It is safe for
// concurrent use.
package mem

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/store"
)

// Store is a store in memory. The zero value is empty and ready.
type Store struct {
	mu    sync.RWMutex
	blobs map[blob.Digest][]byte // never written to once it is there
}

var _ store.Store = (*Store)(nil)

// New returns an empty Store.
func New() *Store { return &Store{} }

// Get implements [store.Getter].
func (s *Store) Get(ctx context.Context, id blob.Digest, off, n int64) (io.ReadCloser, error) {
	p, err := s.find(ctx, id)
	if err != nil {
		return nil, err
	}
	n, err = store.CheckRange(id, int64(len(p)), off, n)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(p[off : off+n])), nil
}

// Put implements [store.Putter].
func (s *Store) Put(ctx context.Context, id blob.Digest, data []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := id.Check(data); err != nil {
		return err
	}
	data = bytes.Clone(data)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.blobs == nil {
		s.blobs = make(map[blob.Digest][]byte)
	}
	s.blobs[id] = data
	return nil
}

// Stat implements [store.Stater].
func (s *Store) Stat(ctx context.Context, id blob.Digest) (int64, error) {
	p, err := s.find(ctx, id)
	return int64(len(p)), err
}

// List implements [store.Lister].
func (s *Store) List(ctx context.Context, fn func(store.Info) error) error {
	s.mu.RLock()
	blobs := maps.Clone(s.blobs)
	s.mu.RUnlock()
	for _, id := range slices.SortedFunc(maps.Keys(blobs), blob.Digest.Compare) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := fn(store.Info{Digest: id, Size: int64(len(blobs[id]))}); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// Delete implements [store.Store].
func (s *Store) Delete(ctx context.Context, id blob.Digest) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.blobs, id)
	return nil
}

func (s *Store) find(ctx context.Context, id blob.Digest) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	p, ok := s.blobs[id]
	if !ok {
		return nil, fmt.Errorf("blob %v: %w", id, errs.ErrNotFound)
	}
	return p, nil
}
