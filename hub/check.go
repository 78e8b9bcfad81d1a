package hub

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/hub/api"
	"github.com/zosfs/zosfs/hub/db"
)

// checkContent proves that each blob that f names may be read by c and has the size that f
// says, and that each chunk lies there as f says. It returns the blobs, each once.
func (s *Server) checkContent(ctx context.Context, c db.Caller, f *flist.Reader) ([]blob.Digest, error) {
	var blobs []blob.Digest
	seen := make(map[blob.Digest]bool)
	for _, b := range f.Blobs() {
		if !seen[b.Digest] {
			seen[b.Digest] = true
			blobs = append(blobs, b.Digest)
		}
	}
	sizes, err := s.db.BlobSizes(ctx, c, blobs)
	if err != nil {
		return nil, err
	}
	if len(sizes) < len(blobs) {
		e := &db.MissingError{}
		for _, b := range blobs {
			if _, ok := sizes[b]; !ok {
				e.Blobs = append(e.Blobs, b)
			}
		}
		return nil, missing(e)
	}
	for _, b := range f.Blobs() {
		if b.Size != sizes[b.Digest] {
			return nil, fail(api.CodeCorrupt, "the flist says that blob %v has %d bytes; it has %d", b.Digest, b.Size, sizes[b.Digest])
		}
	}
	return blobs, s.checkChunks(ctx, f, sizes)
}

// checkChunks compares the chunks of f with the tables of their blobs, which were verified
// when they came. It goes blob by blob, so that no order of chunks, however hostile, makes
// it read a table twice.
func (s *Server) checkChunks(ctx context.Context, f *flist.Reader, sizes map[blob.Digest]int64) error {
	type place struct {
		blob  flist.BlobID
		chunk flist.ChunkID
	}
	places := make([]place, 0, f.Counts().Chunks)
	for id, c := range f.Chunks() {
		places = append(places, place{c.Blob, id})
	}
	slices.SortStableFunc(places, func(a, b place) int { return int(a.blob) - int(b.blob) })
	for len(places) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		id := places[0].blob
		n := sort.Search(len(places), func(i int) bool { return places[i].blob > id })
		digest := f.Blob(id).Digest
		file, err := s.openBlob(ctx, digest, sizes[digest])
		if err != nil {
			return err
		}
		t, err := readTable(file, sizes[digest])
		if err != nil {
			return fmt.Errorf("table of blob %v: %w", digest, err)
		}
		for _, p := range places[:n] {
			if r := f.Chunk(p.chunk).Ref; !holds(t, r) {
				return fail(api.CodeCorrupt, "blob %v does not hold chunk %v as the flist says: %d bytes at %d, %d when opened, %v",
					digest, r.Chunk, r.Stored, r.Offset, r.Size, r.Codec)
			}
		}
		places = places[n:]
	}
	return nil
}

// holds reports whether t has the row r. The rows of a table are in order of offsets.
func holds(t blob.Table, r blob.Ref) bool {
	i := sort.Search(len(t.Refs), func(i int) bool { return t.Refs[i].Offset >= r.Offset })
	return i < len(t.Refs) && t.Refs[i] == r
}

// missing makes of a db.MissingError the answer that lists what is missing; other errors
// stay as they are.
func missing(err error) error {
	e, ok := errors.AsType[*db.MissingError](err)
	if !ok {
		return err
	}
	m := &api.Missing{Total: len(e.Blobs)}
	for _, b := range e.Blobs[:min(len(e.Blobs), api.MaxMissing)] {
		m.Blobs = append(m.Blobs, b.String())
	}
	f := fail(api.CodeMissingBlobs, "%d blobs that the flist names were not put by you and are in no repository that you may read", len(e.Blobs)).
		hint("put the blobs, then publish again")
	f.body.Missing = m
	return f.because(err)
}
