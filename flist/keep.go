package flist

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/internal/atomicfile"
)

const (
	keptMagic = "zosfs checked\n\x00\x00"
	// keptVersion is that of the checker. It grows with each change of what check refuses, or
	// of what footer holds: copies of other versions are not used.
	keptVersion = 1
	// partSize is what one goroutine verifies at a time, in bytes: small enough to keep all
	// CPUs busy to the end, and 32 bytes of digest are nothing beside it.
	partSize = 1 << 20
)

// footer is what a checked copy says of its database. Properties and sources are in that.
type footer struct {
	Magic   [16]byte
	Version uint64
	Size    int64 // of the database, in bytes
	Digest  Digest
	Tree    TreeDigest
	Counts  Counts
	Largest int64
}

var footerSize = int64(binary.Size(footer{}))

func parts(size int64) int64 { return (size + partSize - 1) / partSize }

// Keep writes a checked copy of the flist for [OpenKept] to path, whole or not at all, in place
// of what is there. It is not synced: a copy that a crash tore is refused when it is opened.
// The directory must be one that only this user can write to, on a file system with hard
// links. A full disk is errs.ErrFull.
func (r *Reader) Keep(path string) (err error) {
	f, err := atomicfile.Create(path, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Abort()) }()
	if err := r.writeKept(f); err != nil {
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			err = fmt.Errorf("%w: %w", errs.ErrFull, err)
		}
		return fmt.Errorf("keep flist: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// A link instead of f.Commit, which would wait for the disk.
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil // also when another process was faster: its copy is as good
}

func (r *Reader) writeKept(w io.Writer) error {
	size := int64(len(r.data))
	sums, err := hashParts(r.f, size)
	if err != nil {
		return err
	}
	ft := footer{Version: keptVersion, Size: size, Digest: r.digest, Tree: r.tree, Counts: r.counts, Largest: r.largest}
	copy(ft.Magic[:], keptMagic)
	tail := sums
	if tail, err = binary.Append(tail, binary.LittleEndian, &ft); err != nil {
		return err
	}
	seal := chunk.Sum(tail)
	if _, err := io.Copy(w, io.NewSectionReader(r.f, 0, size)); err != nil {
		return err
	}
	_, err = w.Write(append(tail, seal[:]...))
	return err
}

// OpenKept opens the copy at path that [Reader.Keep] wrote, on the word of its digests: every
// byte is hashed, and no row is checked again. The Reader is the one that [Open] gave, the
// digest included. What is no copy, or one of another version of the checker, is
// errs.ErrFormat, a damaged one errs.ErrCorrupt, and one that somebody else may have written
// errs.ErrDenied: then the flist itself has to be opened. The caller closes the Reader.
//
// The digests are no defence against whoever can write as this user; a copy forged by them can
// make a Reader panic.
func OpenKept(path string) (*Reader, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	r, err := openKept(f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
	}
	return r, nil
}

// openKept gives f to the Reader if there is no error.
func openKept(f *os.File) (*Reader, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if err := checkOwner(st); err != nil {
		return nil, err
	}
	ft, sums, err := readTail(f, st.Size())
	if err != nil {
		return nil, err
	}
	got, err := hashParts(f, ft.Size)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(got, sums) {
		return nil, corrupt("checked copy: the database is damaged")
	}
	r, err := mapFile(f, ft.Size)
	if err != nil {
		return nil, err
	}
	if r.facts, err = ft.facts(r); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	r.f = f
	return r, nil
}

// checkOwner sees that nobody but this user can have written the file: this may be root in a
// directory of somebody else.
func checkOwner(st fs.FileInfo) error {
	if !st.Mode().IsRegular() {
		return fmt.Errorf("checked copy: no regular file: %w", errs.ErrFormat)
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok || int(sys.Uid) != os.Geteuid() || st.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("checked copy: another user may have written it: %w", errs.ErrDenied)
	}
	return nil
}

// readTail reads what follows the database in a copy of n bytes, and verifies it: the footer
// and the digests of parts, one after another.
func readTail(f io.ReaderAt, n int64) (ft footer, sums []byte, err error) {
	end := n - chunk.DigestSize // of the footer
	if end < footerSize {
		return ft, nil, fmt.Errorf("no checked copy: %d bytes: %w", n, errs.ErrFormat)
	}
	p := make([]byte, footerSize)
	if _, err := f.ReadAt(p, end-footerSize); err != nil {
		return ft, nil, err
	}
	if _, err := binary.Decode(p, binary.LittleEndian, &ft); err != nil {
		return ft, nil, err
	}
	switch {
	case string(ft.Magic[:]) != keptMagic:
		return ft, nil, fmt.Errorf("no checked copy: %w", errs.ErrFormat)
	case ft.Version != keptVersion:
		return ft, nil, fmt.Errorf("checked copy of version %d, this is %d: %w", ft.Version, keptVersion, errs.ErrFormat)
	case ft.Size <= 0 || ft.Size > n || ft.Size+parts(ft.Size)*chunk.DigestSize+footerSize != end:
		return ft, nil, corrupt("checked copy: %d bytes, %d of them a database", n, ft.Size)
	}
	tail := make([]byte, n-ft.Size)
	if _, err := f.ReadAt(tail, ft.Size); err != nil {
		return ft, nil, err
	}
	sealed := tail[:end-ft.Size]
	if chunk.Sum(sealed) != chunk.Digest(tail[len(sealed):]) {
		return ft, nil, corrupt("checked copy: its end is damaged")
	}
	return ft, sealed[:len(sealed)-int(footerSize)], nil
}

// facts returns what the check learned of the flist in r.
func (ft *footer) facts(r *Reader) (facts, error) {
	c := checker{db: r.db, scan: r.db.NewScan(), release: func() {}}
	c.properties = make(map[string]string)
	if err := errors.Join(c.checkProperties(), c.checkSources()); err != nil {
		return facts{}, corrupt("checked copy: %v", err)
	}
	c.digest, c.tree, c.counts, c.largest = ft.Digest, ft.Tree, ft.Counts, ft.Largest
	return c.facts, nil
}

// hashParts returns the digests of the parts of the first size bytes of f, one after another.
// It reads instead of looking into a mapping: what the disk cannot read is an error then and no
// signal, and the memory of this process does not grow.
func hashParts(f io.ReaderAt, size int64) ([]byte, error) {
	sums := make([]chunk.Digest, parts(size))
	var next atomic.Int64
	var g errgroup.Group
	for range min(runtime.GOMAXPROCS(0), len(sums)) {
		g.Go(func() error {
			h, buf := chunk.NewHasher(), make([]byte, 256<<10)
			for {
				i := next.Add(1) - 1
				if i >= int64(len(sums)) {
					return nil
				}
				h.Reset()
				if _, err := io.CopyBuffer(h, io.NewSectionReader(f, i*partSize, min(partSize, size-i*partSize)), buf); err != nil {
					return err
				}
				sums[i] = h.Sum()
			}
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	out := make([]byte, 0, len(sums)*chunk.DigestSize)
	for _, d := range sums {
		out = append(out, d[:]...)
	}
	return out, nil
}
