package pack

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/internal/atomicfile"
)

// The pack cache of a directory is one file: an 8-byte magic with the version, then frames
// of at most 64 KiB (length 4, checksum 16, payload). A checksum covers the key of the cache
// (directory and chunker), the number of the frame and its payload, so a frame that is
// damaged, or from elsewhere, ends the reading there; what is not read is as if not known.
// The payloads together are records in walk order. All integers are varints:
//
//	1, path                                              what follows is in this directory
//	2, name, dev, ino, size, mtime, ctime, extents,      a file
//	   object digest 32                                  extents: count, then (offset, size, digest 32)
//
// The order is the order of the walk, so reader and writer go beside it and keep one record.
const (
	cacheMagic = "ZOSPACK\x01"
	frameMax   = 64 << 10
	frameHead  = 20

	recordDir  = 1
	recordFile = 2

	// racyWindow is how much older than the start a change must be: more than the tick with
	// which file systems stamp times, 10 ms at most, and what clocks of one machine differ by.
	racyWindow = 100 * time.Millisecond
	// maxKnown bounds the extents of a file that is kept; a reader holds them in memory.
	maxKnown = 1 << 17
)

var errCache = errors.New("pack cache damaged")

// packCache is the old cache, read, and the new one, written. Both may be nil.
type packCache struct {
	reader *cacheReader
	writer *cacheWriter
	old    *os.File
	err    error
}

// openCache opens the pack cache of dir. It never fails: without a cache, files are read.
func openCache(dir string, o Options) *packCache {
	c := &packCache{}
	if o.CacheDir == "" {
		return c
	}
	path, key, err := cacheFile(dir, o)
	if err == nil {
		err = os.MkdirAll(o.CacheDir, 0o700)
	}
	if err != nil {
		c.err = err
		return c
	}
	if c.old, err = os.Open(path); err == nil {
		c.reader = newCacheReader(newFrames(c.old, key))
	}
	atomicfile.Sweep(o.CacheDir) // what killed packs left
	if f, err := atomicfile.Create(path, 0o600); err == nil {
		c.writer = newCacheWriter(f, key, o.Start)
	} else {
		c.err = err
	}
	return c
}

// commit makes the new cache the one that counts.
func (c *packCache) commit() error {
	if c.writer == nil {
		return c.err
	}
	w := c.writer
	if err := w.frame(); err != nil {
		return err
	}
	return w.f.Commit()
}

func (c *packCache) close() {
	if c.old != nil {
		_ = c.old.Close()
	}
	if c.writer != nil {
		_ = c.writer.f.Abort()
	}
}

// cacheKey names the cache of the directory abs. Whatever decides about the rows is in it.
func cacheKey(abs string, p chunk.Params) [32]byte {
	return chunk.Sum(fmt.Appendf(nil, "%s\x00%v", abs, p))
}

func frameSum(key [32]byte, n uint64, payload []byte) [16]byte {
	h := chunk.NewHasher()
	_, _ = h.Write(binary.LittleEndian.AppendUint64(key[:], n))
	_, _ = h.Write(payload)
	sum := h.Sum()
	return [16]byte(sum[:16])
}

// A cacheWriter writes records. After an error it does nothing; frame returns the error.
type cacheWriter struct {
	f      *atomicfile.File
	key    [32]byte
	before int64 // nanoseconds; files that changed at or after it are not kept
	dir    *dir
	buf    []byte // of the frame in the making
	n      uint64 // frames written
	err    error
}

func newCacheWriter(f *atomicfile.File, key [32]byte, start time.Time) *cacheWriter {
	w := &cacheWriter{f: f, key: key}
	if !start.IsZero() {
		w.before = start.Add(-racyWindow).UnixNano()
	}
	_, w.err = io.WriteString(f, cacheMagic)
	return w
}

// put keeps what is known of a file, unless its time stamps cannot be relied on. A nil
// cacheWriter keeps nothing.
func (w *cacheWriter) put(it *item, digest chunk.Digest, extents []extent) {
	if w == nil || w.err != nil || it.file.ident.ctime >= w.before || len(extents) > maxKnown {
		return
	}
	if it.parent != w.dir {
		w.dir = it.parent
		w.buf = append(w.buf, recordDir)
		w.string(w.dir.path())
	}
	id := &it.file.ident
	w.buf = append(w.buf, recordFile)
	w.string(it.name)
	w.uint(id.dev, id.ino, uint64(id.size), uint64(id.mtime), uint64(id.ctime), uint64(len(extents)))
	for i := range extents {
		e := &extents[i]
		w.uint(uint64(e.off), uint64(e.size))
		w.buf = append(w.buf, e.digest[:]...)
	}
	w.buf = append(w.buf, digest[:]...)
	for len(w.buf) >= frameMax && w.err == nil {
		w.err = w.frame()
	}
}

func (w *cacheWriter) uint(vs ...uint64) {
	for _, v := range vs {
		w.buf = binary.AppendUvarint(w.buf, v)
	}
}

func (w *cacheWriter) string(s string) {
	w.uint(uint64(len(s)))
	w.buf = append(w.buf, s...)
}

// frame writes what was collected, as far as it goes into one frame.
func (w *cacheWriter) frame() error {
	if w.err != nil || len(w.buf) == 0 {
		return w.err
	}
	payload := w.buf[:min(len(w.buf), frameMax)]
	sum := frameSum(w.key, w.n, payload)
	head := append(binary.LittleEndian.AppendUint32(make([]byte, 0, frameHead), uint32(len(payload))), sum[:]...)
	w.n++
	if _, err := w.f.Write(head); err != nil {
		return err
	}
	if _, err := w.f.Write(payload); err != nil {
		return err
	}
	w.buf = append(w.buf[:0], w.buf[len(payload):]...)
	return nil
}

// frames reads the payloads of a cache, one after another. What is damaged is its end.
type frames struct {
	r    io.Reader
	key  [32]byte
	n    uint64
	buf  []byte
	rest []byte
}

func newFrames(r io.Reader, key [32]byte) *frames {
	f := &frames{r: bufio.NewReaderSize(r, 256<<10), key: key, buf: make([]byte, frameMax)}
	magic := make([]byte, len(cacheMagic))
	if _, err := io.ReadFull(f.r, magic); err != nil || string(magic) != cacheMagic {
		f.r = bytes.NewReader(nil)
	}
	return f
}

// Read implements io.Reader.
func (f *frames) Read(p []byte) (int, error) {
	if len(f.rest) == 0 {
		var head [frameHead]byte
		if _, err := io.ReadFull(f.r, head[:]); err != nil {
			return 0, io.EOF
		}
		n := binary.LittleEndian.Uint32(head[:])
		if n == 0 || n > frameMax {
			return 0, io.EOF
		}
		payload := f.buf[:n]
		if _, err := io.ReadFull(f.r, payload); err != nil || frameSum(f.key, f.n, payload) != [16]byte(head[4:]) {
			f.r = bytes.NewReader(nil)
			return 0, io.EOF
		}
		f.n++
		f.rest = payload
	}
	n := copy(p, f.rest)
	f.rest = f.rest[n:]
	return n, nil
}

// A cacheReader finds records beside a walk. It is not safe for concurrent use.
type cacheReader struct {
	in   *bufio.Reader
	at   string       // directory of the record that was read last
	row  *cacheRecord // read, and not yet passed by the walk
	want string       // directory where the walk is
	dead bool         // at the end, or where damage begins
}

// cacheRecord is what is known of a file.
type cacheRecord struct {
	name  string
	ident ident
	known
}

func newCacheReader(r io.Reader) *cacheReader { return &cacheReader{in: bufio.NewReader(r)} }

// enter tells that the walk is in the directory path now.
func (r *cacheReader) enter(path string) {
	r.want = path
	for !r.dead && compareDirs(r.at, path) < 0 {
		r.next()
	}
}

// find returns what is known of the file name, if the record is about the inode and the
// times given. Names come in ascending order.
func (r *cacheReader) find(name string, id ident) *known {
	for !r.dead && r.at == r.want {
		if r.row == nil {
			r.next()
			continue
		}
		switch c := strings.Compare(r.row.name, name); {
		case c > 0:
			return nil
		case c == 0:
			row := r.row
			r.row = nil
			if row.ident != id {
				return nil
			}
			return &row.known
		}
		r.row = nil
	}
	return nil
}

// next reads one record.
func (r *cacheReader) next() {
	r.row = nil
	if err := r.record(); err != nil {
		r.dead, r.row = true, nil
	}
}

func (r *cacheReader) record() error {
	kind, err := r.in.ReadByte()
	if err != nil {
		return err
	}
	switch kind {
	case recordDir:
		path, err := r.string(1 << 24)
		if err != nil || compareDirs(r.at, path) > 0 {
			return cmp.Or(err, errCache)
		}
		r.at = path
		return nil
	case recordFile:
		row, err := r.file()
		if err != nil {
			return err
		}
		r.row = row
		return nil
	}
	return errCache
}

func (r *cacheReader) file() (*cacheRecord, error) {
	name, err := r.string(255)
	if err != nil {
		return nil, err
	}
	row := &cacheRecord{name: name}
	var mtime, ctime, size, n uint64
	if err := r.uint(&row.ident.dev, &row.ident.ino, &size, &mtime, &ctime, &n); err != nil {
		return nil, err
	}
	row.ident.size, row.ident.mtime, row.ident.ctime = int64(size), int64(mtime), int64(ctime)
	if row.ident.size <= 0 || n > maxKnown {
		return nil, errCache
	}
	var end int64
	for range n {
		var off, size uint64
		pc := piece{}
		if err := r.uint(&off, &size); err != nil {
			return nil, err
		}
		if pc.digest, err = r.digest(); err != nil {
			return nil, err
		}
		if size == 0 || size > chunk.MaxSize || off > 1<<62 || int64(off) < end || int64(off+size) > row.ident.size {
			return nil, errCache
		}
		pc.off, pc.size, end = int64(off), uint32(size), int64(off+size)
		row.pieces = append(row.pieces, pc)
	}
	row.digest, err = r.digest()
	return row, err
}

func (r *cacheReader) uint(vs ...*uint64) (err error) {
	for _, v := range vs {
		if *v, err = binary.ReadUvarint(r.in); err != nil {
			return err
		}
	}
	return nil
}

func (r *cacheReader) string(limit uint64) (string, error) {
	var n uint64
	if err := r.uint(&n); err != nil {
		return "", err
	}
	if n > limit {
		return "", errCache
	}
	var b strings.Builder
	if _, err := io.CopyN(&b, r.in, int64(n)); err != nil {
		return "", err
	}
	return b.String(), nil
}

func (r *cacheReader) digest() (d chunk.Digest, err error) {
	if _, err = io.ReadFull(r.in, d[:]); err == nil && d.IsZero() {
		err = errCache
	}
	return d, err
}

// compareDirs orders paths of directories as the walk comes to them: element by element.
func compareDirs(a, b string) int {
	for i := range min(len(a), len(b)) {
		if a[i] == b[i] {
			continue
		}
		switch {
		case a[i] == '/':
			return -1
		case b[i] == '/':
			return 1
		}
		return cmp.Compare(a[i], b[i])
	}
	return cmp.Compare(len(a), len(b))
}
