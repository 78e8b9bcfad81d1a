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
	cutter, err := chunk.NewCutter(p.o.Chunker)
	if err != nil {
		return err
	}
	for it := range p.small {
		if err := ctx.Err(); err != nil {
			return err
		}
		last := &part{}
		err := p.readSmall(it, last, cutter)
		it.file.room.release()
		if err := p.finish(it, last, err); err != nil {
			return err
		}
		it.file.parts <- last
	}
	return nil
}

func (p *packer) readSmall(it *item, last *part, cutter *chunk.Cutter) error {
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
	off := 0
	return cutter.Cut(bytes.NewReader(content), int64(n), func(c []byte) error {
		if !isZero(c) {
			pc := piece{off: int64(off), digest: last.digest, size: uint32(len(c)), buf: room.part(off, len(c))}
			if len(c) < n {
				pc.digest = chunk.Sum(c)
			}
			last.pieces = append(last.pieces, pc)
		}
		off += len(c)
		return nil
	})
}

// lane reads larger and sparse files, one after another.
func (p *packer) lane(ctx context.Context) error {
	s, err := p.newStream(p.largePool)
	if err != nil {
		return err
	}
	defer p.largePool.done()
	for it := range p.large {
		err := s.read(ctx, it, func(pt *part) error { return send(ctx, it.file.parts, pt) })
		if err != nil {
			return err
		}
	}
	return nil
}

// A stream reads files part by part. It is not safe for concurrent use.
type stream struct {
	*packer
	pool   *pool
	cutter *chunk.Cutter
	hash   *chunk.Hasher

	ctx   context.Context // of the read that runs
	emit  func(*part) error
	part  *part
	bytes int   // of the pieces of part
	from  int64 // where part began
}

func (p *packer) newStream(pool *pool) (*stream, error) {
	cutter, err := chunk.NewCutter(p.o.Chunker)
	if err != nil {
		return nil, err
	}
	return &stream{packer: p, pool: pool, cutter: cutter, hash: chunk.NewHasher()}, nil
}

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
	at := begin
	err := s.cutter.Cut(&fileReader{s, fd, begin}, end-begin, func(c []byte) error {
		off := at
		at += int64(len(c))
		if isZero(c) {
			return s.ctx.Err()
		}
		buf, err := s.pool.take(s.ctx, len(c))
		if err != nil {
			return err
		}
		copy(buf.data, c)
		s.part.pieces = append(s.part.pieces, piece{off: off, digest: chunk.Sum(c), size: uint32(len(c)), buf: buf})
		if s.bytes += len(c); s.bytes < partSize {
			return nil
		}
		full := s.part
		full.span = at - s.from
		s.part, s.bytes, s.from = &part{}, 0, at
		return s.emit(full)
	})
	return at, err
}

// fileReader reads a file from an offset on and hashes what it reads.
type fileReader struct {
	*stream
	fd  int
	off int64
}

func (r *fileReader) Read(p []byte) (int, error) {
	n, err := retry(func() (int, error) { return unix.Pread(r.fd, p, r.off) })
	if err != nil {
		return 0, err
	}
	if n == 0 {
		return 0, io.EOF
	}
	r.off += int64(n)
	r.count.read.Add(int64(n))
	_, _ = r.hash.Write(p[:n])
	return n, nil
}
