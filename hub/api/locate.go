package api

import (
	"encoding/binary"
	"fmt"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/errs"
)

const (
	locateMagic  = "ZOSLOCA\x01"
	locateHeader = 16
	locateRecord = 24
)

// MaxLocateRequest and MaxLocateAnswer are the largest bodies of a look-up, in bytes.
const (
	MaxLocateRequest = MaxLocate * chunk.DigestSize
	MaxLocateAnswer  = locateHeader + MaxLocate*(chunk.DigestSize+locateRecord)
)

// A Found says where one chunk of a look-up lies.
type Found struct {
	Index uint32 // of the chunk in the request
	blob.Location
}

// EncodeLocate returns the body of a look-up: the digests one after another. They must be
// at most MaxLocate.
func EncodeLocate(chunks []chunk.Digest) []byte {
	p := make([]byte, 0, len(chunks)*chunk.DigestSize)
	for i := range chunks {
		p = append(p, chunks[i][:]...)
	}
	return p
}

// DecodeLocate reads the body of a look-up. A length that is no multiple of a digest, more
// than MaxLocate digests, and the zero digest are errs.ErrFormat.
func DecodeLocate(p []byte) ([]chunk.Digest, error) {
	if len(p)%chunk.DigestSize != 0 || len(p) > MaxLocateRequest {
		return nil, fmt.Errorf("chunk look-up: %d bytes are not 0 to %d digests: %w", len(p), MaxLocate, errs.ErrFormat)
	}
	chunks := make([]chunk.Digest, len(p)/chunk.DigestSize)
	for i := range chunks {
		chunks[i] = chunk.Digest(p[i*chunk.DigestSize:])
		if chunks[i].IsZero() {
			return nil, fmt.Errorf("chunk look-up: digest %d is zero: %w", i, errs.ErrFormat)
		}
	}
	return chunks, nil
}

// EncodeFound returns the body of the answer to a look-up. The chunks found must be in
// ascending order of Index.
func EncodeFound(found []Found) []byte {
	index := make(map[blob.Digest]uint32)
	var blobs []blob.Digest
	for i := range found {
		if _, ok := index[found[i].Blob]; !ok {
			index[found[i].Blob] = uint32(len(blobs))
			blobs = append(blobs, found[i].Blob)
		}
	}
	p := make([]byte, 0, locateHeader+len(blobs)*len(blob.Digest{})+len(found)*locateRecord)
	p = append(p, locateMagic...)
	p = binary.LittleEndian.AppendUint32(p, uint32(len(blobs)))
	p = binary.LittleEndian.AppendUint32(p, uint32(len(found)))
	for i := range blobs {
		p = append(p, blobs[i][:]...)
	}
	for i := range found {
		f := &found[i]
		p = binary.LittleEndian.AppendUint32(p, f.Index)
		p = binary.LittleEndian.AppendUint32(p, index[f.Blob])
		p = binary.LittleEndian.AppendUint32(p, f.Offset)
		p = binary.LittleEndian.AppendUint32(p, f.Stored)
		p = binary.LittleEndian.AppendUint32(p, f.Size)
		p = append(p, byte(f.Codec), 0, 0, 0)
	}
	return p
}

// DecodeFound reads the body of the answer to a look-up of chunks. Only the bytes that
// [EncodeFound] writes are accepted: records in ascending order of the request, blobs in
// the order of their first use. Anything else is errs.ErrCorrupt. What the records say of
// the chunks is checked by blob.Ref.Check, but nobody has proved it yet.
func DecodeFound(p []byte, chunks []chunk.Digest) ([]Found, error) {
	if len(p) < locateHeader || string(p[:8]) != locateMagic {
		return nil, fmt.Errorf("look-up answer: not one: %w", errs.ErrCorrupt)
	}
	blobs, n := binary.LittleEndian.Uint32(p[8:]), binary.LittleEndian.Uint32(p[12:])
	const size = int64(len(blob.Digest{}))
	if want := locateHeader + int64(blobs)*size + int64(n)*locateRecord; int64(len(p)) != want || blobs > n || int(n) > len(chunks) {
		return nil, fmt.Errorf("look-up answer: %d blobs and %d records in %d bytes, for %d chunks: %w", blobs, n, len(p), len(chunks), errs.ErrCorrupt)
	}
	names, records := p[locateHeader:][:int64(blobs)*size], p[locateHeader+int64(blobs)*size:]
	seen := make(map[blob.Digest]bool, blobs)
	for i := range int64(blobs) {
		d := blob.Digest(names[i*size:])
		if d.IsZero() || seen[d] {
			return nil, fmt.Errorf("look-up answer: blob %d is zero or there twice: %w", i, errs.ErrCorrupt)
		}
		seen[d] = true
	}
	found := make([]Found, n)
	next, used := uint32(0), uint32(0)
	for i := range found {
		r := records[i*locateRecord:][:locateRecord]
		f, b := &found[i], binary.LittleEndian.Uint32(r[4:])
		f.Index = binary.LittleEndian.Uint32(r)
		if f.Index < next || int(f.Index) >= len(chunks) || b > used || b >= blobs || r[21]|r[22]|r[23] != 0 {
			return nil, fmt.Errorf("look-up answer: record %d is out of order or out of bounds: %w", i, errs.ErrCorrupt)
		}
		next, used = f.Index+1, max(used, b+1)
		f.Blob = blob.Digest(names[int64(b)*size:])
		f.Ref = blob.Ref{
			Chunk:  chunks[f.Index],
			Offset: binary.LittleEndian.Uint32(r[8:]),
			Stored: binary.LittleEndian.Uint32(r[12:]),
			Size:   binary.LittleEndian.Uint32(r[16:]),
			Codec:  blob.Codec(r[20]),
		}
		if err := f.Check(); err != nil {
			return nil, fmt.Errorf("look-up answer: record %d: %w", i, err)
		}
	}
	if used != blobs {
		return nil, fmt.Errorf("look-up answer: %d of %d blobs are not used: %w", blobs-used, blobs, errs.ErrCorrupt)
	}
	return found, nil
}
