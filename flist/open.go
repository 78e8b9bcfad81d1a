package flist

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/internal/sqlitefile"
)

// OpenOptions are the choices of [Open]; the zero value works.
type OpenOptions struct {
	// TempDir holds the private plain copy that is mapped, a file without a name. "" is the
	// system's directory.
	TempDir string
	// MaxSize bounds the plain database, in bytes; 0 is 16 GiB.
	MaxSize int64
}

const defaultMaxSize = 16 << 30

// A Reader answers questions about one flist, which [Open] has checked whole, now or before
// [Reader.Keep]. Slices in
// what it returns alias its mapping: they hold until Close and must not be written to. Ids
// must come from the same Reader; others panic. It is safe for concurrent use.
type Reader struct {
	f    *os.File
	data []byte
	db   *sqlitefile.DB
	facts
	cursors
}

// Open reads the flist at path, shipped or plain, and checks every rule of the format. What
// is no flist, or of another version, is errs.ErrFormat; one that breaks a rule is
// errs.ErrCorrupt. The caller closes the Reader.
func Open(path string, o OpenOptions) (*Reader, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	r, err := open(f, o)
	if cerr := f.Close(); err == nil && cerr != nil {
		return nil, errors.Join(cerr, r.Close())
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// OpenBytes is [Open] for an flist in memory, which is copied.
func OpenBytes(p []byte, o OpenOptions) (*Reader, error) { return open(bytes.NewReader(p), o) }

func open(in io.Reader, o OpenOptions) (_ *Reader, err error) {
	f, err := os.CreateTemp(o.TempDir, "zosfs-flist-")
	if err != nil {
		return nil, fmt.Errorf("private copy of the flist: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	if err := os.Remove(f.Name()); err != nil {
		return nil, fmt.Errorf("private copy of the flist: %w", err)
	}
	limit := o.MaxSize
	if limit <= 0 {
		limit = defaultMaxSize
	}
	digest, err := unship(f, in, limit)
	if err != nil {
		return nil, err
	}
	r, err := openFile(f, o.TempDir)
	if err != nil {
		return nil, err
	}
	r.f, r.digest = f, digest
	return r, nil
}

// unship copies the database in in, of at most limit bytes, to f and returns the digest of
// in as it came.
func unship(f *os.File, in io.Reader, limit int64) (Digest, error) {
	h := chunk.NewHasher()
	br := bufio.NewReaderSize(io.TeeReader(in, h), 256<<10)
	var plain io.Reader = br
	if head, err := br.Peek(4); err == nil && string(head) == "\x28\xb5\x2f\xfd" {
		dec, err := zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(64<<20))
		if err != nil {
			return Digest{}, err
		}
		defer dec.Close()
		plain = dec
	} else if head, err := br.Peek(16); err != nil || string(head) != "SQLite format 3\x00" {
		return Digest{}, fmt.Errorf("neither a database nor one packed with zstd: %w", errs.ErrFormat)
	}
	n, err := io.Copy(f, io.LimitReader(plain, limit+1))
	if err != nil {
		if errors.Is(err, zstd.ErrMagicMismatch) || errors.Is(err, io.ErrUnexpectedEOF) || !isOS(err) {
			return Digest{}, corrupt("unpack flist: %v", err)
		}
		return Digest{}, fmt.Errorf("unpack flist: %w", err)
	}
	if n > limit {
		return Digest{}, fmt.Errorf("flist of more than %d bytes: %w", limit, errs.ErrFull)
	}
	if _, err := io.Copy(io.Discard, br); err != nil { // the digest covers every byte
		return Digest{}, fmt.Errorf("read flist: %w", err)
	}
	return Digest(h.Sum()), nil
}

// isOS reports whether err came from the operating system, and not from the decoder.
func isOS(err error) bool {
	_, ok := errors.AsType[*os.PathError](err)
	return ok
}

// openFile maps and checks the plain database in f, which stays the caller's. What that needs
// for a while is in dir.
func openFile(f *os.File, dir string) (_ *Reader, err error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	r, err := mapFile(f, st.Size())
	if err != nil {
		return nil, err
	}
	release := func() { _ = unix.Madvise(r.data, unix.MADV_DONTNEED) } // advice; the pages stay in the page cache
	if r.facts, err = check(r.db, dir, release); err != nil {
		if errors.Is(err, sqlitefile.ErrCorrupt) {
			err = corrupt("%v", err)
		}
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// mapFile maps the plain database in the first size bytes of f, which stays the caller's, and
// checks its header and its schema, not its rows.
func mapFile(f *os.File, size int64) (_ *Reader, err error) {
	if size == 0 {
		return nil, corrupt("empty flist")
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map flist: %w", err)
	}
	r := &Reader{data: data}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	if r.db, err = sqlitefile.Open(data); err != nil {
		return nil, corrupt("%v", err)
	}
	if err := checkSchema(r.db); err != nil {
		return nil, err
	}
	if r.cursors, err = openCursors(r.db); err != nil {
		return nil, corrupt("%v", err)
	}
	return r, nil
}

func checkSchema(db *sqlitefile.DB) error {
	h := db.Header()
	if h.ApplicationID != applicationID {
		return fmt.Errorf("a database, but not an flist: %w", errs.ErrFormat)
	}
	if h.UserVersion != userVersion {
		return fmt.Errorf("flist of format version %d; this program reads version %d, a newer one may read it: %w", h.UserVersion, userVersion, errs.ErrFormat)
	}
	have := db.Tables()
	if len(have) != len(schema) {
		return corrupt("flist with %d tables, want %d", len(have), len(schema))
	}
	for i, t := range have {
		if t != schema[i] {
			return corrupt("flist with table %q, want %q", t.SQL, schema[i].SQL)
		}
	}
	return nil
}

// Release gives the memory of all that was read so far back to the system; it comes again from
// the file as it is needed. Whoever has gone through the whole flist and will need little of it
// calls it. It is safe for concurrent use.
func (r *Reader) Release() error {
	if err := unix.Madvise(r.data, unix.MADV_DONTNEED); err != nil {
		return fmt.Errorf("release flist: %w", err)
	}
	return nil
}

// Close releases the mapping. No slice that the Reader gave may be used afterwards.
func (r *Reader) Close() error {
	if r.data == nil {
		return nil
	}
	err := unix.Munmap(r.data)
	r.data = nil
	if r.f != nil {
		err = errors.Join(err, r.f.Close())
	}
	return err
}
