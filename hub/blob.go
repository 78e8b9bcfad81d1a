package hub

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/hub/api"
	"github.com/zosfs/zosfs/hub/db"
)

func blobDigest(r *http.Request) (blob.Digest, error) {
	id, err := blob.ParseDigest(r.PathValue("digest"))
	if err != nil {
		return id, fail(api.CodeBadRequest, "a blob is named by 64 lower-case hexadecimal digits").because(err)
	}
	return id, nil
}

// putBlob serves PUT /v1/blobs/{digest}. It reads and verifies all bytes even if the blob is
// there already: that is how the caller proves to hold them. The answer does not tell
// whether it was there.
func (s *Server) putBlob(w http.ResponseWriter, r *http.Request) error {
	c, err := needScope(r.Context(), api.ScopeWrite)
	if err != nil {
		return err
	}
	id, err := blobDigest(r)
	if err != nil {
		return err
	}
	h := sha256.New()
	u, err := s.receive(w, r, blob.MaxSize, h)
	if err != nil {
		return err
	}
	defer u.end()
	if got := blob.Digest(h.Sum(nil)); got != id {
		return fail(api.CodeCorrupt, "the bytes have the digest %v, not %v", got, id)
	}
	table, err := s.verifyBlob(r.Context(), u.path)
	if err != nil {
		return err
	}
	s.step("blob verified")
	if err := s.keepBlob(r.Context(), c, id, u, table); err != nil {
		return err
	}
	w.Header().Set("Location", "/v1/blobs/"+id.String())
	writeJSON(w, http.StatusCreated, api.Blob{Digest: id, Size: u.size})
	return nil
}

// verifyBlob opens every chunk of the blob in the file path and returns its table.
func (s *Server) verifyBlob(ctx context.Context, path string) (blob.Table, error) {
	if err := s.verifies.acquire(ctx); err != nil {
		return blob.Table{}, err
	}
	defer s.verifies.release()
	data, err := os.ReadFile(path)
	if err != nil {
		return blob.Table{}, err
	}
	t, err := blob.Verify(data)
	if err != nil {
		return t, fail(api.CodeOf(err), "not a valid blob: %v", err).because(err)
	}
	return t, nil
}

// keepBlob makes the verified upload u a blob of the hub that c has put. No slot is held
// meanwhile: it waits for the disk, not for a processor.
func (s *Server) keepBlob(ctx context.Context, c db.Caller, id blob.Digest, u *upload, t blob.Table) error {
	defer s.busy.lock(id)()
	if err := s.blobs.PutFile(ctx, id, u.path); err != nil {
		return fmt.Errorf("keep: %w", err)
	}
	s.step("blob kept")
	if err := s.db.AddBlob(ctx, c, id, u.size, t, s.now()); err != nil {
		return fmt.Errorf("keep blob %v: %w", id, err)
	}
	s.step("blob noted")
	return nil
}

// getBlob serves GET and HEAD of /v1/blobs/{digest}.
func (s *Server) getBlob(w http.ResponseWriter, r *http.Request) error {
	id, err := blobDigest(r)
	if err != nil {
		return err
	}
	b, err := s.db.Blob(r.Context(), caller(r.Context()), id)
	if err != nil {
		return err
	}
	f, err := s.openBlob(r.Context(), id, b.Size)
	if err != nil {
		return err
	}
	return serveFile(w, r, f, b.Size, api.TypeBlob, id.String(), b.Public)
}

// serveFile answers with an immutable file, or ranges of it, and closes it.
func serveFile(w http.ResponseWriter, r *http.Request, f *os.File, size int64, mediaType, digest string, public bool) error {
	h := w.Header()
	h.Set("Content-Type", mediaType)
	h.Set("ETag", `"`+digest+`"`)
	h.Set("Content-Disposition", "attachment")
	if public {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	} else {
		h.Set("Cache-Control", "private, no-cache") // rights are asked again each time
	}
	pace(w, size)
	http.ServeContent(w, r, "", time.Time{}, f)
	return f.Close()
}

// deleteBlob removes a blob that no repository needs.
func (s *Server) deleteBlob(ctx context.Context, id blob.Digest) error {
	defer s.busy.lock(id)()
	if err := s.db.DeleteBlob(ctx, id, s.tableOf(ctx, id)); err != nil {
		return err
	}
	s.step("blob forgotten")
	return s.blobs.Delete(ctx, id)
}

// tableOf returns the table of a blob, an empty one if its file is gone or damaged: rows of
// the index that are left behind are found by nobody.
func (s *Server) tableOf(ctx context.Context, id blob.Digest) blob.Table {
	f, size, err := s.blobs.Open(ctx, id)
	if err != nil {
		return blob.Table{}
	}
	t, err := readTable(f, size)
	if err != nil {
		return blob.Table{}
	}
	return t
}

// readTable reads the table of the blob in f and closes f.
func readTable(f *os.File, size int64) (blob.Table, error) {
	t, err := blob.ReadTable(size, func(p []byte, off int64) error {
		_, err := f.ReadAt(p, off)
		return err
	})
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return t, err
}

// locate serves POST /v1/chunks/locate.
func (s *Server) locate(w http.ResponseWriter, r *http.Request) error {
	if err := s.lookups.acquire(r.Context()); err != nil {
		return err
	}
	defer s.lookups.release()
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, api.MaxLocateRequest))
	if err != nil {
		return cutOff(err)
	}
	chunks, err := api.DecodeLocate(body)
	if err != nil {
		return fail(api.CodeBadRequest, "%v", err)
	}
	rows, err := s.db.Locate(r.Context(), caller(r.Context()), chunks)
	if err != nil {
		return fmt.Errorf("locate: %w", err)
	}
	found := make([]api.Found, len(rows))
	for i, row := range rows {
		found[i] = api.Found{Index: uint32(row.Index), Location: row.Location}
	}
	p := api.EncodeFound(found)
	w.Header().Set("Content-Type", api.TypeLocateAnswer)
	w.Header().Set("Cache-Control", "no-store")
	pace(w, int64(len(p)))
	_, _ = w.Write(p) // the peer is gone if it fails
	return nil
}
