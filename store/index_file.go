package store

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/internal/atomicfile"
)

// The file of an Index, private to this machine; integers are little-endian:
//
//	header  magic 8 | blobs u32 | 0 u32 | records u64 | BLAKE3 of all the rest and of the header before it 32
//	blob    digest 32 | state u32                       ascending by digest
//	record  chunk digest 32 | number of the blob u32 | offset u32 | stored u32 | size u32 | codec u32
//	                                                    ascending by chunk, blob, offset
const (
	indexMagic      = "ZOSCIDX\x01"
	indexHeaderSize = 56
	indexSumOffset  = 24
	indexBlobSize   = 36
	recordSize      = 52
)

// blobState tells what the index holds of a blob.
type blobState uint32

const (
	unknown blobState = iota // its table was not read yet
	indexed
	skipped // a copy, or nothing that could be read as a blob
)

type indexBlob struct {
	id    blob.Digest
	state blobState
}

// record is a chunk in a blob.
type record struct {
	chunk                      chunk.Digest
	blob, offset, stored, size uint32
	codec                      uint32
}

func (r *record) compare(o *record) int {
	if c := bytes.Compare(r.chunk[:], o.chunk[:]); c != 0 {
		return c
	}
	return cmp.Or(cmp.Compare(r.blob, o.blob), cmp.Compare(r.offset, o.offset))
}

func (r *record) append(p []byte) []byte {
	p = append(p, r.chunk[:]...)
	for _, v := range [...]uint32{r.blob, r.offset, r.stored, r.size, r.codec} {
		p = binary.LittleEndian.AppendUint32(p, v)
	}
	return p
}

func (r *record) parse(p []byte) {
	copy(r.chunk[:], p)
	for i, v := range [...]*uint32{&r.blob, &r.offset, &r.stored, &r.size, &r.codec} {
		*v = binary.LittleEndian.Uint32(p[32+4*i:])
	}
}

// indexFile is a mapped file. The zero value is an empty one.
type indexFile struct {
	mapped  []byte
	blobs   []byte
	records []byte
}

// openIndexFile maps the file at path. One that is missing or damaged is as an empty one.
func openIndexFile(path string) (*indexFile, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return &indexFile{}, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	if fi.Size() < indexHeaderSize {
		return &indexFile{}, nil
	}
	p, err := unix.Mmap(int(f.Fd()), 0, int(fi.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", path, err)
	}
	x, err := parseIndex(p, func() { _ = unix.Madvise(p, unix.MADV_DONTNEED) }) // advice: the pages stay in the page cache
	if err != nil {
		return &indexFile{}, unix.Munmap(p)
	}
	x.mapped = p
	_ = unix.Madvise(p, unix.MADV_RANDOM) // advice
	x.release()
	return x, nil
}

// release lets go of the pages that were read, which stay in the page cache.
func (x *indexFile) release() {
	if x.mapped != nil {
		_ = unix.Madvise(x.mapped, unix.MADV_DONTNEED) // advice
	}
}

// parseIndex decodes a file. It proves the sum, so what it accepts was written by us. passed,
// if not nil, is called after every few MiB.
func parseIndex(p []byte, passed func()) (*indexFile, error) {
	if len(p) < indexHeaderSize || string(p[:8]) != indexMagic {
		return nil, fmt.Errorf("not a chunk index: %w", errs.ErrFormat)
	}
	blobs, records := uint64(binary.LittleEndian.Uint32(p[8:])), binary.LittleEndian.Uint64(p[16:])
	rest := p[indexHeaderSize:]
	if records > uint64(len(rest)) || blobs*indexBlobSize+records*recordSize != uint64(len(rest)) {
		return nil, fmt.Errorf("chunk index: %d blobs and %d records in %d bytes: %w", blobs, records, len(p), errs.ErrCorrupt)
	}
	if got := indexSum(p[:indexSumOffset], rest, passed); got != chunk.Digest(p[indexSumOffset:indexHeaderSize]) {
		return nil, fmt.Errorf("chunk index: %w", errs.ErrCorrupt)
	}
	return &indexFile{blobs: rest[:blobs*indexBlobSize], records: rest[blobs*indexBlobSize:]}, nil
}

func indexSum(head, rest []byte, passed func()) chunk.Digest {
	h := chunk.NewHasher()
	for part := range slices.Chunk(rest, 4<<20) {
		_, _ = h.Write(part)
		if passed != nil {
			passed()
		}
	}
	_, _ = h.Write(head)
	return h.Sum()
}

func (x *indexFile) close() error {
	p := x.mapped
	*x = indexFile{}
	if p == nil {
		return nil
	}
	return unix.Munmap(p)
}

func (x *indexFile) blobCount() int { return len(x.blobs) / indexBlobSize }
func (x *indexFile) count() int     { return len(x.records) / recordSize }

func (x *indexFile) blob(i int) indexBlob {
	p := x.blobs[i*indexBlobSize:][:indexBlobSize]
	return indexBlob{blob.Digest(p[:32]), blobState(binary.LittleEndian.Uint32(p[32:]))}
}

// states returns all blobs of x; the map belongs to the caller.
func (x *indexFile) states() map[blob.Digest]blobState {
	out := make(map[blob.Digest]blobState, x.blobCount())
	for i := range x.blobCount() {
		b := x.blob(i)
		out[b.id] = b.state
	}
	return out
}

// state returns the state of one blob, unknown if x does not have it.
func (x *indexFile) state(id blob.Digest) blobState {
	i := sort.Search(x.blobCount(), func(i int) bool { return x.blob(i).id.Compare(id) >= 0 })
	if i < x.blobCount() && x.blob(i).id == id {
		return x.blob(i).state
	}
	return unknown
}

func (x *indexFile) record(i int) record {
	var r record
	r.parse(x.records[i*recordSize:])
	return r
}

// locate returns where the chunk d lies in the first blob that has it and is not gone.
func (x *indexFile) locate(d chunk.Digest, gone map[blob.Digest]bool) (blob.Location, bool) {
	first := sort.Search(x.count(), func(i int) bool { return bytes.Compare(x.records[i*recordSize:][:32], d[:]) >= 0 })
	for i := first; i < x.count(); i++ {
		r := x.record(i)
		if r.chunk != d {
			break
		}
		if int64(r.blob) >= int64(x.blobCount()) {
			continue
		}
		l := blob.Location{
			Blob: x.blob(int(r.blob)).id,
			Ref:  blob.Ref{Chunk: d, Offset: r.offset, Stored: r.stored, Size: r.size, Codec: blob.Codec(r.codec)},
		}
		if !gone[l.Blob] && l.Check() == nil {
			return l, true
		}
	}
	return blob.Location{}, false
}

// writeIndexFile makes the file at path of blobs, with the records of s, whose blobs are
// numbered as in blobs, and those of old that speak of blobs.
func writeIndexFile(path string, blobs []indexBlob, old *indexFile, s *sorter) (err error) {
	f, err := atomicfile.Create(path, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Abort()) }()
	if _, err := f.Seek(indexHeaderSize, io.SeekStart); err != nil {
		return err
	}
	h := chunk.NewHasher()
	w := bufio.NewWriterSize(io.MultiWriter(f.File, h), 256<<10)
	for _, b := range blobs {
		if _, err := w.Write(binary.LittleEndian.AppendUint32(b.id[:], uint32(b.state))); err != nil {
			return err
		}
	}
	n, buf := uint64(0), make([]byte, 0, recordSize)
	err = s.merge(renumber(old, blobs), func(r *record) error {
		n++
		_, err := w.Write(r.append(buf))
		return err
	})
	if err = errors.Join(err, w.Flush()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	head := make([]byte, indexSumOffset, indexHeaderSize)
	copy(head, indexMagic)
	binary.LittleEndian.PutUint32(head[8:], uint32(len(blobs)))
	binary.LittleEndian.PutUint64(head[16:], n)
	_, _ = h.Write(head)
	sum := h.Sum()
	if _, err := f.WriteAt(append(head, sum[:]...), 0); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return f.Commit()
}

// renumber returns the records of old with their blobs numbered as in blobs; those of other
// blobs are left out. Both lists ascend, so the order of the records stays.
func renumber(old *indexFile, blobs []indexBlob) cursor {
	const none = ^uint32(0)
	to, j := make([]uint32, old.blobCount()), 0
	for i := range to {
		id := old.blob(i).id
		for j < len(blobs) && blobs[j].id.Compare(id) < 0 {
			j++
		}
		if to[i] = none; j < len(blobs) && blobs[j].id == id {
			to[i] = uint32(j)
		}
	}
	i := 0
	return func(r *record) (bool, error) {
		for ; i < old.count(); i++ {
			*r = old.record(i)
			if int64(r.blob) < int64(len(to)) && to[r.blob] != none {
				r.blob = to[r.blob]
				i++
				return true, nil
			}
		}
		return false, nil
	}
}
