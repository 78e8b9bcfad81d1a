package blob

import (
	"encoding/binary"
	"fmt"

	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/errs"
)

// Limits of the format, in bytes.
const (
	// MaxSize is the largest blob a reader accepts.
	MaxSize = 64 << 20
	// TargetSize is the size of a blob, table included, at which a packer closes it.
	TargetSize = 8 << 20

	maxOverhead = 64 // what a codec may add to incompressible plaintext

	headerSize = 8
	entrySize  = 48
	// FooterSize is how many bytes at the end of a blob find and prove its table.
	FooterSize = 56
)

const (
	headerMagic = "ZOSBLOB\x01"
	footerMagic = "ZOSBTAB\x01"
)

// FlagCopy in the footer says that the blob repeats chunks that lie elsewhere, to keep the
// pieces of a file together. Look-ups by chunk pass over such blobs, so that where a chunk
// is found does not depend on who packed when.
const FlagCopy uint32 = 1

// Table is what the end of a blob says of it.
type Table struct {
	Flags uint32
	Refs  []Ref // in the order of their offsets
}

// Writer lays out one blob in memory. It is not safe for concurrent use.
type Writer struct {
	buf   []byte
	table Table
}

// NewWriter returns a Writer for a blob with the given footer flags.
func NewWriter(flags uint32) *Writer {
	w := &Writer{buf: make([]byte, 0, TargetSize+(1<<20))}
	w.Reset(flags)
	return w
}

// Reset begins another blob in the memory of the one before: what Finish returned must not be
// used any more.
func (w *Writer) Reset(flags uint32) {
	w.buf = append(w.buf[:0], headerMagic...)
	w.table = Table{Flags: flags, Refs: w.table.Refs[:0]}
}

// Size returns how many bytes the blob has so far, without its table.
func (w *Writer) Size() int { return len(w.buf) }

// Len returns how many chunks the blob has so far.
func (w *Writer) Len() int { return len(w.table.Refs) }

// Fits reports whether a sealed chunk of n bytes can be added without the blob passing
// TargetSize, table and footer included: millions of tiny chunks have a table that is
// larger than they are. Into an empty blob any chunk fits.
func (w *Writer) Fits(n int) bool {
	return w.Len() == 0 || len(w.buf)+n+(w.Len()+1)*entrySize+FooterSize <= TargetSize
}

// Add appends s, copying its bytes, and returns where it lies.
func (w *Writer) Add(s Sealed) Ref {
	r := Ref{Chunk: s.Chunk, Offset: uint32(len(w.buf)), Stored: uint32(len(s.Data)), Size: s.Size, Codec: s.Codec}
	w.buf = append(w.buf, s.Data...)
	w.table.Refs = append(w.table.Refs, r)
	return r
}

// Finish appends table and footer and returns the blob, its name and its table. They belong
// to the caller, until it calls Reset; no other method may be called afterwards.
func (w *Writer) Finish() ([]byte, Digest, Table) {
	start := len(w.buf)
	for _, r := range w.table.Refs {
		w.buf = appendRef(w.buf, r)
	}
	sum := chunk.Sum(w.buf[start:])
	w.buf = append(w.buf, sum[:]...)
	w.buf = binary.LittleEndian.AppendUint32(w.buf, uint32(start))
	w.buf = binary.LittleEndian.AppendUint32(w.buf, uint32(len(w.table.Refs)))
	w.buf = binary.LittleEndian.AppendUint32(w.buf, w.table.Flags)
	w.buf = binary.LittleEndian.AppendUint32(w.buf, 0)
	w.buf = append(w.buf, footerMagic...)
	return w.buf, Sum(w.buf), w.table
}

func appendRef(p []byte, r Ref) []byte {
	p = append(p, r.Chunk[:]...)
	p = binary.LittleEndian.AppendUint32(p, r.Offset)
	p = binary.LittleEndian.AppendUint32(p, r.Stored)
	p = binary.LittleEndian.AppendUint32(p, r.Size)
	return append(p, byte(r.Codec), 0, 0, 0)
}

// Footer is the decoded end of a blob.
type Footer struct {
	TableSum    chunk.Digest // BLAKE3-256 of the table's bytes
	TableOffset uint32       // where the table begins, in bytes
	Count       uint32       // entries of the table
	Flags       uint32
}

// ParseFooter decodes the last FooterSize bytes of a blob of size bytes. What cannot be the
// end of a blob is errs.ErrCorrupt.
func ParseFooter(p []byte, size int64) (Footer, error) {
	var f Footer
	if len(p) != FooterSize || string(p[48:]) != footerMagic {
		return f, fmt.Errorf("blob footer: not the end of a blob: %w", errs.ErrCorrupt)
	}
	copy(f.TableSum[:], p)
	f.TableOffset = binary.LittleEndian.Uint32(p[32:])
	f.Count = binary.LittleEndian.Uint32(p[36:])
	f.Flags = binary.LittleEndian.Uint32(p[40:])
	end := int64(f.TableOffset) + int64(f.Count)*entrySize + FooterSize
	if size > MaxSize || f.TableOffset < headerSize || end != size {
		return f, fmt.Errorf("blob footer: %d entries at %d do not fit a blob of %d bytes: %w", f.Count, f.TableOffset, size, errs.ErrCorrupt)
	}
	if f.Flags&^FlagCopy != 0 || binary.LittleEndian.Uint32(p[44:]) != 0 {
		return f, fmt.Errorf("blob footer: unknown flags %#x: %w", f.Flags, errs.ErrFormat)
	}
	return f, nil
}

// ParseTable decodes the table bytes p that f describes: it proves them by f.TableSum and
// checks that the chunks lie one after another, from the header to the table, without gap
// or overlap. Anything else is errs.ErrCorrupt.
func ParseTable(f Footer, p []byte) (Table, error) {
	t := Table{Flags: f.Flags}
	if int64(len(p)) != int64(f.Count)*entrySize {
		return t, fmt.Errorf("blob table: have %d bytes for %d entries: %w", len(p), f.Count, errs.ErrCorrupt)
	}
	if got := chunk.Sum(p); got != f.TableSum {
		return t, &MismatchError{What: "blob table", Want: f.TableSum.String(), Got: got.String()}
	}
	t.Refs = make([]Ref, f.Count)
	next := uint32(headerSize)
	for i := range t.Refs {
		e := p[i*entrySize:][:entrySize]
		r := &t.Refs[i]
		copy(r.Chunk[:], e)
		r.Offset = binary.LittleEndian.Uint32(e[32:])
		r.Stored = binary.LittleEndian.Uint32(e[36:])
		r.Size = binary.LittleEndian.Uint32(e[40:])
		r.Codec = Codec(e[44])
		if e[45]|e[46]|e[47] != 0 {
			return t, fmt.Errorf("blob table: entry %d: reserved bytes are set: %w", i, errs.ErrCorrupt)
		}
		if err := r.Check(); err != nil {
			return t, fmt.Errorf("blob table: entry %d: %w", i, err)
		}
		if r.Offset != next {
			return t, fmt.Errorf("blob table: entry %d lies at %d, want %d: %w", i, r.Offset, next, errs.ErrCorrupt)
		}
		next += r.Stored
	}
	if next != f.TableOffset {
		return t, fmt.Errorf("blob table: chunks end at %d, the table begins at %d: %w", next, f.TableOffset, errs.ErrCorrupt)
	}
	return t, nil
}

// Verify proves a whole blob: header, footer, table and the plaintext of each chunk. It
// returns the table. It does not look at the blob's name; compare [Sum] for that. A chunk
// with a codec this version cannot open is errs.ErrFormat.
func Verify(p []byte) (Table, error) {
	t, err := parseWhole(p)
	if err != nil {
		return t, err
	}
	var plain []byte
	for _, r := range t.Refs {
		if plain, err = Open(plain, r, p[r.Offset:][:r.Stored]); err != nil {
			return t, err
		}
	}
	return t, nil
}

func parseWhole(p []byte) (Table, error) {
	if len(p) < headerSize+FooterSize || string(p[:headerSize]) != headerMagic {
		return Table{}, fmt.Errorf("blob: not a blob: %w", errs.ErrCorrupt)
	}
	f, err := ParseFooter(p[len(p)-FooterSize:], int64(len(p)))
	if err != nil {
		return Table{}, err
	}
	return ParseTable(f, p[f.TableOffset:len(p)-FooterSize])
}

// ReadTable reads the table of a blob of size bytes through read, which must fill p from
// offset off of the blob or fail.
func ReadTable(size int64, read func(p []byte, off int64) error) (Table, error) {
	if size < headerSize+FooterSize || size > MaxSize {
		return Table{}, fmt.Errorf("blob: %d bytes is no size of a blob: %w", size, errs.ErrCorrupt)
	}
	foot := make([]byte, FooterSize)
	if err := read(foot, size-FooterSize); err != nil {
		return Table{}, err
	}
	f, err := ParseFooter(foot, size)
	if err != nil {
		return Table{}, err
	}
	p := make([]byte, int(f.Count)*entrySize)
	if err := read(p, int64(f.TableOffset)); err != nil {
		return Table{}, err
	}
	return ParseTable(f, p)
}
