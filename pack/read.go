package pack

import (
	"bytes"
	"context"
	"errors"
	"io"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/chunk"
)

// partSize is the plaintext after which a part of a larger file is complete, in bytes.
// Where parts end decides what the fragmentation guard judges together: it is a part of
// the recipe that makes equal flists of equal trees.
const partSize = 4 << 20

// zeros is what chunks that become holes are compared with, and holes are hashed from.
var zeros = make([]byte, 1<<20)

func isZero(p []byte) bool {
	for len(p) > len(zeros) {
		if !bytes.Equal(p[:len(zeros)], zeros) {
			return false
		}
		p = p[len(zeros):]
	}
	return bytes.Equal(p, zeros[:len(p)])
}

// openFile opens the content of it, which must still be the inode that the walk saw.
func (p *packer) openFile(it *item) (int, error) {
	if err := p.tell("open", it.parent, it.name); err != nil {
		return -1, err
	}
	up, err := p.dirs.borrow(it.parent)
	if err != nil {
		return -1, err
	}
	defer p.dirs.release(it.parent)
	// Should the name lead to a fifo by now, the open must not wait for its other end.
	fd, err := openat(up, it.name, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	if err == nil && (inodeOf(&st) != it.file.ident.inode || st.Mode&unix.S_IFMT != unix.S_IFREG) {
		err = errReplaced
	}
	if err == nil {
		err = p.tell("read", it.parent, it.name)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// settle tells, after the reading, whether the file is still as the walk saw it.
func (p *packer) settle(it *item, fd int) (verdict, error) {
	if err := p.tell("done", it.parent, it.name); err != nil {
		return verdictOK, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return verdictOK, err
	}
	if identOf(&st) != it.file.ident {
		return verdictChanged, nil
	}
	return verdictOK, nil
}

// finish completes the last part of it: err is what the reading came to. Only an error that
// ends the pack is returned.
func (p *packer) finish(it *item, last *part, err error) error {
	last.last = true
	if err != nil {
		last.release()
		last.pieces = nil
		last.verdict, err = p.judge("read", it.path(), err)
		return err
	}
	if last.verdict == verdictChanged {
		p.notes.add(verdictChanged, it.path())
	}
	return nil
}

// pread fills buf from off on, as far as the file goes.
func pread(fd int, buf []byte, off int64) (n int, err error) {
	for n < len(buf) {
		k, err := retry(func() (int, error) { return unix.Pread(fd, buf[n:], off+int64(n)) })
		if err != nil {
			return n, err
		}
		if k == 0 {
			break
		}
		n += k
	}
	return n, nil
}

// readers reads small files until there are no more.
func (p *packer) readers(ctx context.Context) error {
	for it := range p.small {
		if err := ctx.Err(); err != nil {
			return err
		}
		last := &part{}
		err := p.readSmall(it, last)
		it.file.room.release()
		if err := p.finish(it, last, err); err != nil {
			return err
		}
		it.file.parts <- last
	}
	return nil
}

func (p *packer) readSmall(it *item, last *part) error {
	fd, err := p.openFile(it)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	room := it.file.room
	n, err := pread(fd, room.data, 0)
	if err != nil {
		return err
	}
	p.count.read.Add(int64(n))
	if last.verdict, err = p.settle(it, fd); err != nil {
		return err
	}
	if n < len(room.data) {
		last.verdict = verdictChanged
	}
	last.size, last.span = int64(n), it.file.ident.size
	if n == 0 {
		return nil
	}
	content := room.data[:n]
	last.digest = chunk.Sum(content)
	for off, size := 0, 0; off < n; off += size {
		if size = n; !p.o.Chunker.IsWhole(int64(n)) {
			size = p.cutter.Next(content[off:])
		}
		c := content[off : off+size]
		if isZero(c) {
			continue
		}
		pc := piece{off: int64(off), digest: last.digest, size: uint32(size), buf: room.part(off, size)}
		if size < n {
			pc.digest = chunk.Sum(c)
		}
		last.pieces = append(last.pieces, pc)
	}
	return nil
}

// lane reads larger and sparse files, one after another.
func (p *packer) lane(ctx context.Context) error {
	s := p.newStream(p.largePool)
	defer s.close()
	for it := range p.large {
		err := s.read(ctx, it, func(pt *part) error { return send(ctx, it.file.parts, pt) })
		if err != nil {
			return err
		}
	}
	return nil
}

// A stream reads files part by part, into slabs in which they are cut. It is not safe for
// concurrent use.
type stream struct {
	*packer
	pool *pool
	hash *chunk.Hasher

	window buffer // a slab
	lo, hi int    // of window: what was read and not yet cut

	ctx   context.Context // of the read that runs
	emit  func(*part) error
	part  *part
	bytes int   // of the pieces of part
	from  int64 // where part began
}

func (p *packer) newStream(pool *pool) *stream {
	return &stream{packer: p, pool: pool, hash: chunk.NewHasher()}
}

// close lets go of the memory that the stream reads into.
func (s *stream) close() { s.window.release() }

// read gives the parts of it to emit, at least one. Only an error that ends the pack is
// returned; whatever is wrong with the file is in the last part.
func (s *stream) read(ctx context.Context, it *item, emit func(*part) error) error {
	s.ctx, s.emit, s.part, s.bytes, s.from = ctx, emit, &part{}, 0, 0
	s.hash.Reset()
	size, v, err := s.content(it)
	if ctxErr := ctx.Err(); ctxErr != nil {
		s.part.release()
		return ctxErr
	}
	s.part.size, s.part.verdict, s.part.digest = size, v, s.hash.Sum()
	s.part.span = it.file.ident.size - s.from
	if err := s.finish(it, s.part, err); err != nil {
		return err
	}
	return emit(s.part)
}

// content reads the runs of data of it, and returns how far it came.
func (s *stream) content(it *item) (int64, verdict, error) {
	fd, err := s.openFile(it)
	if err != nil {
		return 0, verdictOK, err
	}
	defer func() { _ = unix.Close(fd) }()
	size := it.file.ident.size
	var at int64
	for at < size {
		begin, end := at, size
		if it.file.sparse {
			if begin, end, err = nextRun(fd, at, size); err != nil {
				return at, verdictOK, err
			}
			if err := s.hole(begin - at); err != nil {
				return at, verdictOK, err
			}
		}
		at, err = s.run(fd, begin, end)
		if errors.Is(err, io.ErrUnexpectedEOF) { // it has shrunk
			return at, verdictChanged, nil
		}
		if err != nil {
			return at, verdictOK, err
		}
	}
	v, err := s.settle(it, fd)
	return at, v, err
}

// nextRun returns where data begins and ends, at or after at; both are size when there is
// none. A file system that does not tell has data everywhere.
func nextRun(fd int, at, size int64) (begin, end int64, err error) {
	begin, err = unix.Seek(fd, at, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return size, size, nil
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP):
		return at, size, nil
	case err != nil:
		return 0, 0, err
	}
	if end, err = unix.Seek(fd, begin, unix.SEEK_HOLE); err != nil {
		return 0, 0, err
	}
	begin = min(begin, size)
	return begin, max(begin, min(end, size)), nil
}

// hole hashes n zeros.
func (s *stream) hole(n int64) error {
	for n > 0 {
		if err := s.ctx.Err(); err != nil {
			return err
		}
		k := min(n, int64(len(zeros)))
		_, _ = s.hash.Write(zeros[:k])
		n -= k
	}
	return nil
}

// run cuts the data from begin to end and returns how far it came.
func (s *stream) run(fd int, begin, end int64) (int64, error) {
	whole := s.o.Chunker.IsWhole(end - begin)
	s.lo = s.hi
	for at := begin; at < end; {
		if err := s.ctx.Err(); err != nil {
			return at, err
		}
		got, err := s.fill(fd, at, end)
		if got == 0 {
			return at, err
		}
		n := got
		if !whole {
			n = s.cutter.Next(s.window.data[s.lo:s.hi])
		}
		if err := s.cut(at, n); err != nil {
			return at, err
		}
		at += int64(n)
	}
	return end, nil
}

// fill reads on until the window has what the next chunk may need, of data that is at at and
// goes on to end, and returns how much it has. Only if that is nothing there is an error,
// io.ErrUnexpectedEOF where the file ends early.
func (s *stream) fill(fd int, at, end int64) (int, error) {
	need := int(min(end-at, int64(s.o.Chunker.Max)))
	if s.hi-s.lo < need && len(s.window.data)-s.lo < need {
		next, err := s.pool.slab(s.ctx)
		if err != nil {
			return 0, err
		}
		s.hi = copy(next.data, s.window.data[s.lo:s.hi])
		s.window.release()
		s.window, s.lo = next, 0
	}
	for s.hi-s.lo < need {
		off := at + int64(s.hi-s.lo)
		room := s.window.data[s.hi:]
		room = room[:min(int64(len(room)), end-off)]
		n, err := retry(func() (int, error) { return unix.Pread(fd, room, off) })
		if n == 0 && err == nil {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return s.hi - s.lo, err
		}
		_, _ = s.hash.Write(room[:n])
		s.count.read.Add(int64(n))
		s.hi += n
	}
	return s.hi - s.lo, nil
}

// cut makes the next n bytes of the window, which lie at off in the file, the next piece.
func (s *stream) cut(off int64, n int) error {
	at := s.lo
	s.lo += n
	c := s.window.data[at:s.lo]
	if isZero(c) {
		return nil
	}
	s.part.pieces = append(s.part.pieces, piece{off: off, digest: chunk.Sum(c), size: uint32(n), buf: s.window.part(at, n)})
	if s.bytes += n; s.bytes < partSize {
		return nil
	}
	full, end := s.part, off+int64(n)
	full.span = end - s.from
	s.part, s.bytes, s.from = &part{}, 0, end
	return s.emit(full)
}
