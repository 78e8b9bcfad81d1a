package cache

import (
	"encoding/binary"
	"io"

	"github.com/zosfs/zosfs/chunk"
)

const (
	tableMagic  = "zosfstab"
	entrySize   = 12
	trailerSize = 56
)

// entry says where a record lies in its segment.
type entry struct {
	fp   uint64
	unit uint32 // offset / align
}

func (e entry) off() int64 { return int64(e.unit) * align }

// fingerprint is the part of a digest that tables and the index hold.
func fingerprint(d chunk.Digest) uint64 { return binary.LittleEndian.Uint64(d[:8]) }

// tableSize returns the bytes that the table of n records takes.
func tableSize(n int) int64 { return int64(n)*entrySize + trailerSize }

// appendTable appends to b the table that closes a segment whose records end at end.
func appendTable(b []byte, number uint32, end int64, entries []entry) []byte {
	start := len(b)
	for _, e := range entries {
		b = binary.LittleEndian.AppendUint64(b, e.fp)
		b = binary.LittleEndian.AppendUint32(b, e.unit)
	}
	b = append(b, tableMagic...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(entries)))
	b = binary.LittleEndian.AppendUint32(b, number)
	b = binary.LittleEndian.AppendUint64(b, uint64(end))
	sum := chunk.Sum(b[start:])
	return append(b, sum[:]...)
}

// readTable reads the table at the end of a segment of size bytes. It reports false unless
// the table is the one that was written for this segment, whole, and its entries lie apart.
func readTable(r io.ReaderAt, size int64, number uint32) (entries []entry, end int64, ok bool) {
	if size < segmentHeaderSize+trailerSize {
		return nil, 0, false
	}
	var t [trailerSize]byte
	if readFull(r, t[:], size-trailerSize) != nil || string(t[:8]) != tableMagic {
		return nil, 0, false
	}
	n := int64(binary.LittleEndian.Uint32(t[8:]))
	end = size - trailerSize - n*entrySize
	if binary.LittleEndian.Uint32(t[12:]) != number || end < segmentHeaderSize ||
		binary.LittleEndian.Uint64(t[16:]) != uint64(end) {
		return nil, 0, false
	}
	b := make([]byte, size-end)
	if readFull(r, b, end) != nil || chunk.Sum(b[:len(b)-chunk.DigestSize]) != chunk.Digest(b[len(b)-chunk.DigestSize:]) {
		return nil, 0, false
	}
	return parseEntries(b[:n*entrySize], end)
}

// parseEntries reads table entries and checks that they are records one after another from
// the segment's header to end.
func parseEntries(b []byte, end int64) ([]entry, int64, bool) {
	entries := make([]entry, 0, len(b)/entrySize)
	free := int64(segmentHeaderSize) // where the next record may begin
	for ; len(b) > 0; b = b[entrySize:] {
		e := entry{fp: binary.LittleEndian.Uint64(b), unit: binary.LittleEndian.Uint32(b[8:])}
		if e.off() < free || len(entries) == 0 && e.off() != segmentHeaderSize {
			return nil, 0, false
		}
		free = e.off() + recordHeaderSize
		entries = append(entries, e)
	}
	return entries, end, free <= end && end%align == 0
}
