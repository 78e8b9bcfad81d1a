package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/erofs"
	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/image"
	"github.com/zosfs/zosfs/internal/atomicfile"
)

// Suffix ends the names of metadata images. The mount table shows the file as the device of a
// mount, so it tells our mounts from others.
const Suffix = ".zosfs.erofs"

// A file is the image, then its trailer, which the kernel does not look at: the digest of each
// part of the image, then 72 bytes:
//
//	0   8   magic, with the version of the writer: other versions write the image anew
//	8   8   size of the image in bytes
//	16  8   size of the content device in bytes
//	24  8   reserved, zero
//	32  32  BLAKE3-256 of the digests of the parts and the 32 bytes before
//	64  8   magic again
const (
	magic       = "ZOSMETA\x01"
	trailerSize = 72
	partSize    = 4 << 20
)

// WriteImage makes the metadata image of r, whose content lies as on dev, the file path, whole
// or not at all. What EROFS cannot express, such as attributes of unknown namespaces, is
// errors.ErrUnsupported.
func WriteImage(path string, r *flist.Reader, dev *image.Device) error {
	size, err := dev.Size()
	if err != nil {
		return err
	}
	t := newTree(r, dev)
	digest := r.Digest()
	o := erofs.Options{DeviceBlocks: uint32(size / erofs.BlockSize)}
	copy(o.UUID[:], digest[:])
	if err := write(path, t, o, size); err != nil {
		return fmt.Errorf("metadata image: %w", err)
	}
	return r.Release()
}

// write writes the image and its trailer. It does not wait for the disk: the trailer tells.
func write(path string, t *tree, o erofs.Options, device int64) (err error) {
	f, err := atomicfile.Create(path, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Abort()) }()
	defer func() {
		if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
			err = fmt.Errorf("%w: %w", errs.ErrFull, err)
		}
	}()
	p := &parts{w: f}
	if _, err := erofs.Write(p, t, o); err != nil {
		if errors.Is(err, erofs.ErrUnsupported) {
			err = fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
		}
		return errors.Join(err, t.err)
	}
	if err := p.finish(device); err != nil {
		return err
	}
	return f.CommitUnsynced()
}

// parts hashes what goes through it, part by part.
type parts struct {
	w    io.Writer
	buf  []byte
	n    int64
	sums []byte
}

func (p *parts) Write(b []byte) (int, error) {
	p.n += int64(len(b))
	for rest := b; len(rest) > 0; {
		k := min(len(rest), partSize-len(p.buf))
		p.buf = append(p.buf, rest[:k]...)
		if rest = rest[k:]; len(p.buf) == partSize {
			p.sum()
		}
	}
	return p.w.Write(b)
}

func (p *parts) sum() {
	d := chunk.Sum(p.buf)
	p.sums = append(p.sums, d[:]...)
	p.buf = p.buf[:0]
}

func (p *parts) finish(device int64) error {
	if len(p.buf) > 0 {
		p.sum()
	}
	t := append(p.sums, magic...)
	t = binary.LittleEndian.AppendUint64(t, uint64(p.n))
	t = binary.LittleEndian.AppendUint64(t, uint64(device))
	t = binary.LittleEndian.AppendUint64(t, 0)
	d := chunk.Sum(t)
	_, err := p.w.Write(append(append(t, d[:]...), magic...))
	return err
}

// CheckImage proves that the file path is a metadata image as it was written by this version,
// and returns the size of its content device in bytes. One that is not is errs.ErrCorrupt, of
// another version errs.ErrFormat: it is to be written anew.
func CheckImage(path string) (device int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	size, device, sums, err := readTrailer(f, st.Size())
	if err != nil {
		return 0, fmt.Errorf("metadata image %s: %w", path, err)
	}
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for off := int64(0); off < size; off += partSize {
		want := sums[off/partSize*chunk.DigestSize:][:chunk.DigestSize]
		g.Go(func() error {
			p := make([]byte, min(partSize, size-off))
			if _, err := f.ReadAt(p, off); err != nil {
				return err
			}
			if got := chunk.Sum(p); !bytes.Equal(got[:], want) {
				return fmt.Errorf("%d bytes at %d are damaged: %w", len(p), off, errs.ErrCorrupt)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return 0, fmt.Errorf("metadata image %s: %w", path, err)
	}
	return device, nil
}

// readTrailer returns what the trailer of a file of n bytes says.
func readTrailer(f io.ReaderAt, n int64) (size, device int64, sums []byte, err error) {
	bad := func(what string) (int64, int64, []byte, error) {
		return 0, 0, nil, fmt.Errorf("%s: %w", what, errs.ErrCorrupt)
	}
	if n < trailerSize {
		return bad("too short")
	}
	t := make([]byte, trailerSize)
	if _, err := f.ReadAt(t, n-trailerSize); err != nil {
		return 0, 0, nil, err
	}
	switch {
	case string(t[64:71]) != magic[:7]:
		return bad("no end of a metadata image")
	case string(t[64:]) != magic:
		return 0, 0, nil, fmt.Errorf("written by another version: %w", errs.ErrFormat)
	}
	size, device = int64(binary.LittleEndian.Uint64(t[8:])), int64(binary.LittleEndian.Uint64(t[16:]))
	if size <= 0 || size > n || device < 0 {
		return bad("sizes that cannot be")
	}
	count := (size-1)/partSize + 1
	if size+count*chunk.DigestSize+trailerSize != n {
		return bad("sizes that do not add up")
	}
	all := make([]byte, count*chunk.DigestSize+32)
	if _, err := f.ReadAt(all, size); err != nil {
		return 0, 0, nil, err
	}
	if got := chunk.Sum(all); !bytes.Equal(got[:], t[32:64]) {
		return bad("its end is damaged")
	}
	return size, device, all[:count*chunk.DigestSize], nil
}
