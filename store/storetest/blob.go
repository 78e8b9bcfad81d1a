package storetest

import (
	"encoding/binary"
	"math/rand/v2"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/chunk"
)

// A Blob is a valid blob for tests.
type Blob struct {
	Digest blob.Digest
	Data   []byte
	Table  blob.Table
	Plain  [][]byte // the chunks of Table, opened
}

// Size returns the size of the blob in bytes.
func (b Blob) Size() int64 { return int64(len(b.Data)) }

// NewBlob returns a blob of the given chunks, sealed, with the given footer flags.
func NewBlob(flags uint32, chunks ...[]byte) Blob {
	w := blob.NewWriter(flags)
	sealer, err := blob.NewSealer()
	if err != nil {
		panic(err) // the options are constants
	}
	for _, p := range chunks {
		w.Add(sealer.Seal(nil, chunk.Sum(p), p))
	}
	b := Blob{Plain: chunks}
	b.Data, b.Digest, b.Table = w.Finish()
	return b
}

// Chunk returns size bytes that depend on seed alone and do not compress.
func Chunk(seed uint64, size int) []byte {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	p := make([]byte, size)
	if _, err := rand.NewChaCha8(key).Read(p); err != nil {
		panic(err) // it never fails
	}
	return p
}

// Blobs returns n different blobs of three chunks, 1000 to 3000 bytes each.
func Blobs(n int) []Blob {
	out := make([]Blob, n)
	for i := range out {
		seed := uint64(i) * 3
		out[i] = NewBlob(0, Chunk(seed, 1000), make([]byte, 2000+i), Chunk(seed+2, 3000))
	}
	return out
}
