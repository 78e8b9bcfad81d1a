package blob

import (
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/errs"
)

// MismatchError says that bytes are not the ones their digest names. It unwraps to
// errs.ErrCorrupt.
type MismatchError struct {
	What      string // "chunk" or "blob"
	Want, Got string // digests in hexadecimal
}

// Error implements error.
func (e *MismatchError) Error() string {
	return fmt.Sprintf("%s %s: content has digest %s", e.What, e.Want, e.Got)
}

// Unwrap returns errs.ErrCorrupt.
func (e *MismatchError) Unwrap() error { return errs.ErrCorrupt }

// decoder is shared: zstd.Decoder.DecodeAll is safe for concurrent use and keeps a few
// decoders of its own. Output beyond the capacity of the destination is refused before it
// is written, so a bomb costs nothing.
var decoder = sync.OnceValues(func() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderLowmem(true),
		zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderMaxWindow(chunk.MaxSize))
})

// Check reports with errs.ErrCorrupt why r cannot describe a chunk of a blob, if it cannot:
// sizes that are zero or beyond the limits of the format, or a sealed chunk that is larger
// than what its codec may make of the plaintext.
func (r Ref) Check() error {
	switch {
	case r.Chunk.IsZero():
		return fmt.Errorf("chunk without a digest: %w", errs.ErrCorrupt)
	case r.Size == 0 || r.Size > chunk.MaxSize:
		return fmt.Errorf("chunk %v: size %d, want 1 to %d: %w", r.Chunk, r.Size, chunk.MaxSize, errs.ErrCorrupt)
	case r.Stored == 0 || r.Stored > r.Size+maxOverhead:
		return fmt.Errorf("chunk %v: sealed size %d of %d: %w", r.Chunk, r.Stored, r.Size, errs.ErrCorrupt)
	case r.Codec == CodecStored && r.Stored != r.Size:
		return fmt.Errorf("chunk %v: stored plain in %d bytes, but has %d: %w", r.Chunk, r.Stored, r.Size, errs.ErrCorrupt)
	case uint64(r.Offset)+uint64(r.Stored) > MaxSize:
		return fmt.Errorf("chunk %v: ends beyond the largest blob: %w", r.Chunk, errs.ErrCorrupt)
	}
	return nil
}

// Open reverses sealing: it appends the plaintext of r to dst[:0], which it grows only to
// r.Size, and returns it after its digest was verified. Bytes that do not make the chunk
// are errs.ErrCorrupt (a [MismatchError] where they decode), an unknown codec is
// errs.ErrFormat. It is safe for concurrent use.
func Open(dst []byte, r Ref, sealed []byte) ([]byte, error) {
	if err := r.Check(); err != nil {
		return nil, err
	}
	if uint32(len(sealed)) != r.Stored {
		return nil, fmt.Errorf("chunk %v: have %d sealed bytes, want %d: %w", r.Chunk, len(sealed), r.Stored, errs.ErrCorrupt)
	}
	if cap(dst) < int(r.Size) {
		dst = make([]byte, 0, r.Size)
	}
	dst = dst[:0:r.Size]
	switch r.Codec {
	case CodecStored:
		dst = append(dst, sealed...)
	case CodecZstd:
		dec, err := decoder()
		if err != nil {
			return nil, fmt.Errorf("zstd: %w", err)
		}
		if dst, err = dec.DecodeAll(sealed, dst); err != nil {
			return nil, fmt.Errorf("chunk %v: %w: %w", r.Chunk, err, errs.ErrCorrupt)
		}
	default:
		return nil, fmt.Errorf("chunk %v: sealed with %v, which this version cannot open: %w", r.Chunk, r.Codec, errs.ErrFormat)
	}
	if got := chunk.Sum(dst); len(dst) != int(r.Size) || got != r.Chunk {
		return nil, &MismatchError{What: "chunk", Want: r.Chunk.String(), Got: got.String()}
	}
	return dst, nil
}
