package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/internal/credentials"
	"github.com/zosfs/zosfs/store"
	"github.com/zosfs/zosfs/store/all"
	"github.com/zosfs/zosfs/store/retry"
)

// stores are where a pack puts its blobs: one store, or replicas that get every blob. It is
// a pack.Dest and safe for concurrent use.
type stores struct {
	urls     []string
	replicas []replica
}

// replica is one store, whose calls are repeated when they may succeed later.
type replica struct {
	*retry.Store
	inner store.Store
}

// openStores opens the stores at urls. Plain ones get an index of their chunks, kept in the
// cache directory.
func (a *app) openStores(ctx context.Context, urls []string, creds *credentials.File) (_ *stores, err error) {
	s := &stores{urls: urls}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	dir := filepath.Join(a.dirs.Cache, "index")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	for _, url := range urls {
		st, err := all.Open(ctx, url, all.Options{Credentials: creds.Token, CacheDir: dir})
		if err != nil {
			return nil, badWords("zosfs pack", err)
		}
		s.replicas = append(s.replicas, replica{Store: a.patient(st), inner: st})
	}
	return s, nil
}

// patient repeats calls that may succeed later, and says so.
func (a *app) patient(st store.Store) *retry.Store {
	return retry.New(st, retry.Options{Notify: func(err error, pause time.Duration) {
		a.note("%s; again in %v", brief(err.Error()), pause.Round(100*time.Millisecond))
	}})
}

// Close closes what openStores opened.
func (s *stores) Close() error {
	var err error
	for _, r := range s.replicas {
		err = errors.Join(err, store.Close(r.inner))
	}
	return err
}

// Put implements store.Putter: every replica gets the blob.
func (s *stores) Put(ctx context.Context, id blob.Digest, data []byte) error {
	for i, r := range s.replicas {
		if err := r.Put(ctx, id, data); err != nil {
			return fmt.Errorf("%s: %w", s.urls[i], err)
		}
	}
	return nil
}

// Stat implements store.Stater: a blob is there when every replica has it.
func (s *stores) Stat(ctx context.Context, id blob.Digest) (int64, error) {
	var size int64
	for i, r := range s.replicas {
		n, err := r.Stat(ctx, id)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", s.urls[i], err)
		}
		size = n
	}
	return size, nil
}

// Locate implements store.Locator. The first store answers; blobs that it names are copied
// to the replicas that lack them.
func (s *stores) Locate(ctx context.Context, chunks []chunk.Digest) (map[chunk.Digest]blob.Location, error) {
	found, err := s.replicas[0].Locate(ctx, chunks)
	if err != nil || len(s.replicas) == 1 {
		return found, err
	}
	seen := make(map[blob.Digest]bool)
	for _, l := range found {
		if seen[l.Blob] {
			continue
		}
		seen[l.Blob] = true
		if err := s.replicate(ctx, l.Blob); err != nil {
			return nil, err
		}
	}
	return found, nil
}

func (s *stores) replicate(ctx context.Context, id blob.Digest) error {
	var data []byte
	for i, r := range s.replicas[1:] {
		_, err := r.Stat(ctx, id)
		if err == nil {
			continue
		}
		if !errors.Is(err, errs.ErrNotFound) {
			return fmt.Errorf("%s: %w", s.urls[i+1], err)
		}
		if data == nil {
			size, err := s.replicas[0].Stat(ctx, id)
			if err != nil {
				return fmt.Errorf("%s: %w", s.urls[0], err)
			}
			data = make([]byte, size)
			if err := store.ReadRange(ctx, s.replicas[0], id, 0, data); err != nil {
				return fmt.Errorf("%s: %w", s.urls[0], err)
			}
		}
		if err := r.Put(ctx, id, data); err != nil {
			return fmt.Errorf("%s: %w", s.urls[i+1], err)
		}
	}
	return nil
}
