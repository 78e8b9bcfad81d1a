package hub

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/hub/api"
	"github.com/zosfs/zosfs/hub/db"
	"github.com/zosfs/zosfs/internal/atomicfile"
)

// plainFactor bounds how much larger an flist may be when decompressed; real ones have 2 to 4.
const plainFactor = 16

// zstdMagic begins the shipped form of an flist.
var zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}

// putTag serves PUT /v1/repos/{owner}/{name}/tags/{tag}: the body is an flist as shipped,
// which is published whole or not at all.
func (s *Server) putTag(w http.ResponseWriter, r *http.Request) error {
	owner, name, tag := r.PathValue("owner"), r.PathValue("name"), r.PathValue("tag")
	if err := checkNames(owner, name, tag); err != nil {
		return err
	}
	c, err := needWrite(r.Context(), owner, name)
	if err != nil {
		return err
	}
	public, err := s.wantPublic(r)
	if err != nil {
		return err
	}
	u, err := s.receive(w, r, s.opts.MaxFlist, nil)
	if err != nil {
		return err
	}
	defer u.end()
	// What is checked below takes its time, however fast the body came.
	pace(w, 64*minRate+u.size)
	p := db.Publication{Owner: owner, Name: name, Tag: tag, Public: public, Flist: db.Flist{Size: u.size}}
	if err := s.checkFlist(r.Context(), c, u.path, &p); err != nil {
		return err
	}
	s.step("flist checked")
	if err := s.keepFlist(u.path, p.Flist.Digest); err != nil {
		return err
	}
	s.step("flist kept")
	p.Now = s.now()
	t, err := s.db.Publish(r.Context(), c, p)
	if err != nil {
		return missing(err)
	}
	s.step("flist published")
	writeJSON(w, http.StatusCreated, tagJSON(t))
	return nil
}

// wantPublic reads the query parameter public, which counts for new repositories.
func (s *Server) wantPublic(r *http.Request) (bool, error) {
	switch v := r.URL.Query().Get("public"); v {
	case "":
		return s.opts.Public, nil
	case "true", "false":
		return v == "true", nil
	default:
		return false, fail(api.CodeBadRequest, "public=%.20q: want true or false", v)
	}
}

func checkNames(owner, name, tag string) error {
	for _, err := range []error{api.CheckOwner(owner), api.CheckRepo(name), api.CheckTag(tag)} {
		if err != nil {
			return fail(api.CodeBadRequest, "%v", err)
		}
	}
	return nil
}

// checkFlist opens the flist in the file path as what it is, a stranger's, proves that all
// it names is here and as it says, and puts what it learns into p.
func (s *Server) checkFlist(ctx context.Context, c db.Caller, path string, p *db.Publication) error {
	if err := s.verifies.acquire(ctx); err != nil {
		return err
	}
	defer s.verifies.release()
	if err := checkShipped(path); err != nil {
		return err
	}
	f, err := flist.Open(path, flist.OpenOptions{TempDir: s.tmp, MaxSize: plainFactor * s.opts.MaxFlist})
	if err != nil {
		code := api.CodeOf(err)
		switch {
		case code == api.CodeInternal, errors.Is(err, syscall.ENOSPC):
			return err
		case code == api.CodeFull:
			code = api.CodeTooLarge
		}
		return fail(code, "not a valid flist: %s", strings.TrimPrefix(err.Error(), path+": ")).because(err)
	}
	defer f.Close()
	p.Flist.Digest, p.Flist.Tree, p.Flist.Counts = db.FlistDigest(f.Digest()), db.TreeDigest(f.TreeDigest()), counts(f)
	p.Blobs, err = s.checkContent(ctx, c, f)
	return err
}

func checkShipped(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	head := make([]byte, len(zstdMagic))
	if _, err := io.ReadFull(f, head); err != nil || !bytes.Equal(head, zstdMagic) {
		return fail(api.CodeFormat, "not an flist as shipped, which is compressed with zstd")
	}
	return nil
}

// keepFlist makes the file path durable as the flist digest. One that is there already, from
// another repository or from before a crash, is replaced with the same bytes.
func (s *Server) keepFlist(path string, digest db.FlistDigest) error {
	to := s.flistPath(digest)
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	if err := atomicfile.Move(path, to, 0o600); err != nil {
		return fmt.Errorf("keep flist %x: %w", digest, err)
	}
	return syncDir(s.flists) // the directory of two digits may be new
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func (s *Server) flistPath(digest db.FlistDigest) string {
	name := flist.Digest(digest).String()
	return filepath.Join(s.flists, name[:2], name+".flist")
}

// openFlist opens a published flist for reading by this process.
func (s *Server) openFlist(digest db.FlistDigest) (*flist.Reader, error) {
	f, err := flist.Open(s.flistPath(digest), flist.OpenOptions{TempDir: s.tmp, MaxSize: plainFactor * s.opts.MaxFlist})
	if err != nil {
		return nil, fmt.Errorf("a published flist: %w: %s", errs.ErrUnavailable, err.Error())
	}
	return f, nil
}

// getFlist serves GET and HEAD of /v1/repos/{owner}/{name}/flists/{digest}.
func (s *Server) getFlist(w http.ResponseWriter, r *http.Request) error {
	digest, err := api.ParseDigest(r.PathValue("digest"))
	if err != nil {
		return fail(api.CodeBadRequest, "an flist is named by 64 lower-case hexadecimal digits").because(err)
	}
	repo, err := s.db.Repository(r.Context(), caller(r.Context()), r.PathValue("owner"), r.PathValue("name"))
	if err != nil {
		return err
	}
	row, err := s.db.Flist(r.Context(), repo.ID, db.FlistDigest(digest))
	if err != nil {
		return err
	}
	f, err := os.Open(s.flistPath(row.Digest))
	if err != nil {
		return fmt.Errorf("a published flist: %w: %s", errs.ErrUnavailable, err.Error())
	}
	return serveFile(w, r, f, row.Size, api.TypeFlist, digest.String(), repo.Public)
}

func counts(f *flist.Reader) db.Counts {
	n := f.Counts()
	return db.Counts{Entries: n.Entries, Files: n.Files, Dirs: n.Dirs, Objects: n.Objects, Chunks: n.Chunks,
		Blobs: n.Blobs, Bytes: n.Size, Stored: n.Stored}
}
