package cache

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/errs"
)

const (
	segmentMagic = "zosfsseg"
	recordMagic  = "ZCR1"
	version      = 1

	segmentHeaderSize = 32
	recordHeaderSize  = 48
	align             = 16
	maxSegmentSize    = 32 << 30 // offsets are 32 bits of units of 16, so below 64 GiB
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errTorn says that a record is not whole. In the newest segment that is what a crash, or
// a writer still at work, leaves behind.
var errTorn = fmt.Errorf("record is not whole: %w", errs.ErrCorrupt)

// recordHeader is what stands before the plaintext of a chunk.
type recordHeader struct {
	digest chunk.Digest
	size   int // of the plaintext, at most chunk.MaxSize
}

// recordSpan returns the bytes of a record with size bytes of plaintext in its segment.
func recordSpan(size int) int64 {
	return (recordHeaderSize + int64(size) + align - 1) &^ (align - 1)
}

// appendRecord appends the record of data to b.
func appendRecord(b []byte, d chunk.Digest, data []byte) []byte {
	start := len(b)
	b = append(b, recordMagic...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(data)))
	b = append(b, d[:]...)
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
	b = append(b, data...)
	var zeros [align]byte
	return append(b, zeros[:recordSpan(len(data))-int64(len(b)-start)]...)
}

// parseRecordHeader reads the header in b, which has recordHeaderSize bytes.
func parseRecordHeader(b []byte) (recordHeader, error) {
	h := recordHeader{digest: chunk.Digest(b[8:40]), size: int(binary.LittleEndian.Uint32(b[4:]))}
	switch {
	case string(b[:4]) != recordMagic,
		crc32.Checksum(b[:44], castagnoli) != binary.LittleEndian.Uint32(b[44:]),
		binary.LittleEndian.Uint32(b[40:]) != 0,
		h.size > chunk.MaxSize:
		return recordHeader{}, errTorn
	}
	return h, nil
}

// readRecordHeader reads the header of the record at off.
func readRecordHeader(r io.ReaderAt, off int64) (recordHeader, error) {
	var b [recordHeaderSize]byte
	if err := readFull(r, b[:], off); err != nil {
		return recordHeader{}, err
	}
	return parseRecordHeader(b[:])
}

// readFull fills p from off on; what ends early is errTorn.
func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	switch {
	case n == len(p):
		return nil
	case errors.Is(err, io.EOF):
		return errTorn
	}
	return err
}

// appendSegmentHeader appends the header of the segment with that number to b.
func appendSegmentHeader(b []byte, number uint32) []byte {
	start := len(b)
	b = append(b, segmentMagic...)
	b = binary.LittleEndian.AppendUint32(b, version)
	b = binary.LittleEndian.AppendUint32(b, number)
	b = append(b, make([]byte, 12)...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

// readSegmentHeader reports errs.ErrFormat if r is not the segment with that number.
func readSegmentHeader(r io.ReaderAt, number uint32) error {
	var b [segmentHeaderSize]byte
	err := readFull(r, b[:], 0)
	if err != nil && !errors.Is(err, errTorn) {
		return err
	}
	if err != nil || string(b[:8]) != segmentMagic ||
		binary.LittleEndian.Uint32(b[8:]) != version ||
		binary.LittleEndian.Uint32(b[12:]) != number ||
		crc32.Checksum(b[:28], castagnoli) != binary.LittleEndian.Uint32(b[28:]) {
		return fmt.Errorf("segment header: %w", errs.ErrFormat)
	}
	return nil
}

// scan walks the records of r in [from, size) and returns their entries and where the last
// whole one ends. Plaintext is neither read nor checked.
func scan(r io.ReaderAt, from, size int64) ([]entry, int64) {
	var entries []entry
	off := from
	for off+recordHeaderSize <= size {
		h, err := readRecordHeader(r, off)
		if err != nil || off+recordSpan(h.size) > size {
			break
		}
		entries = append(entries, entry{fp: fingerprint(h.digest), unit: uint32(off / align)})
		off += recordSpan(h.size)
	}
	return entries, off
}
