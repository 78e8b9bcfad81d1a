package blob

import (
	"fmt"

	"github.com/klauspost/compress/zstd"

	"github.com/zosfs/zosfs/chunk"
)

// Codec tells how a chunk was sealed. The numbers are part of the format.
type Codec uint8

// The codecs of format version 1. Those from CodecZstdAES on are reserved: a reader that
// does not know a codec refuses the chunk and says so.
const (
	CodecStored  Codec = 0 // the plaintext itself
	CodecZstd    Codec = 1 // one zstd frame
	CodecZstdAES Codec = 2 // AES-256-GCM over one zstd frame, key in the flist
	CodecOldFL   Codec = 3 // a block of the older .fl family
	CodecPatch   Codec = 4 // one zstd frame with a base chunk or object as its prefix
)

// String returns the name that docs/format.md gives c.
func (c Codec) String() string {
	names := [...]string{"stored", "zstd", "zstd+aes-256-gcm", "old-fl", "zstd-patch"}
	if int(c) < len(names) {
		return names[c]
	}
	return fmt.Sprintf("codec %d", uint8(c))
}

// A Ref says where a sealed chunk lies in its blob and what it must become.
type Ref struct {
	Chunk  chunk.Digest // of the plaintext
	Offset uint32       // of the sealed chunk in the blob, in bytes
	Stored uint32       // size of the sealed chunk, in bytes
	Size   uint32       // size of the plaintext, in bytes; 1 to chunk.MaxSize
	Codec  Codec
}

// A Location is a Ref together with the blob it is about.
type Location struct {
	Blob Digest
	Ref
}

// Sealed is a chunk that is ready for a blob. Data belongs to whoever made it.
type Sealed struct {
	Chunk chunk.Digest
	Size  uint32 // of the plaintext, in bytes
	Codec Codec
	Data  []byte
}

// savingShift sets the least saving that is worth a decompression at each read: 1/32 of
// the size, about 3 %. Media, archives and compressed modules save less.
const savingShift = 5

// A Sealer compresses chunks. It holds an encoder of some megabytes, so keep one a worker;
// it is not safe for concurrent use. Its output depends on its input alone.
type Sealer struct{ enc *zstd.Encoder }

// NewSealer returns a Sealer with the level of the format, zstd's default.
func NewSealer() (*Sealer, error) {
	// Neither checksum (the digest is a better one) nor concurrency within a chunk. The
	// window covers the largest chunk of the default chunker.
	enc, err := zstd.NewWriter(nil,
		zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false),
		zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithWindowSize(1<<19),
		zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, fmt.Errorf("zstd: %w", err)
	}
	return &Sealer{enc: enc}, nil
}

// Seal seals plain, whose digest is d, and returns it with Data appended to dst[:0] or,
// where compression saves less than 3 %, being plain itself.
func (s *Sealer) Seal(dst []byte, d chunk.Digest, plain []byte) Sealed {
	out := Sealed{Chunk: d, Size: uint32(len(plain)), Codec: CodecZstd}
	out.Data = s.enc.EncodeAll(plain, dst[:0])
	if len(out.Data)+len(plain)>>savingShift >= len(plain) {
		out.Codec, out.Data = CodecStored, plain
	}
	return out
}
