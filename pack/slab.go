package pack

import (
	"context"
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A slab is a piece of memory outside of the Go heap. It goes back to its pool when the
// last buffer in it was released.
type slab struct {
	mem  []byte
	refs atomic.Int64
	pool *pool
}

func (s *slab) release() {
	if s.refs.Add(-1) == 0 {
		s.pool.free <- s
	}
}

// A buffer is a part of a slab that its holder releases. The zero buffer is empty.
type buffer struct {
	data []byte
	slab *slab
}

// part returns a buffer for b.data[off:][:n], which keeps the slab as well.
func (b buffer) part(off, n int) buffer {
	b.slab.refs.Add(1)
	return buffer{b.data[off : off+n : off+n], b.slab}
}

// release gives b up; the zero buffer may be released.
func (b *buffer) release() {
	if b.slab != nil {
		b.slab.release()
	}
	*b = buffer{}
}

// hunger tells gather that somebody waits for memory that a batch in the making may hold.
type hunger struct {
	waiting atomic.Int64
	poke    chan struct{} // holds one; poked when waiting has grown, or a batch has ended
}

func (h *hunger) wake() {
	select {
	case h.poke <- struct{}{}:
	default:
	}
}

// A pool is a fixed number of slabs. One goroutine takes, any number releases.
type pool struct {
	mem    []byte
	free   chan *slab
	hunger *hunger

	cur  *slab // that take cuts from
	used int
}

// newPool maps slabs of size bytes, limit bytes together, but at least two. The kernel
// provides what is touched. The caller calls close.
func newPool(limit, size int, h *hunger) (*pool, error) {
	n := max(limit/size, 2)
	mem, err := unix.Mmap(-1, 0, n*size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes: %w", n*size, err)
	}
	_ = unix.Madvise(mem, unix.MADV_HUGEPAGE) // one page fault in place of 512
	p := &pool{mem: mem, free: make(chan *slab, n), hunger: h}
	for i := range n {
		p.free <- &slab{mem: mem[i*size : (i+1)*size : (i+1)*size], pool: p}
	}
	return p, nil
}

// close unmaps the slabs. Nobody may use a buffer afterwards.
func (p *pool) close() { _ = unix.Munmap(p.mem) }

// take returns a buffer of n bytes, at most the size of a slab, and waits for one if need be.
func (p *pool) take(ctx context.Context, n int) (buffer, error) {
	if p.cur == nil || p.used+n > len(p.cur.mem) {
		p.done()
		s, err := p.wait(ctx)
		if err != nil {
			return buffer{}, err
		}
		s.refs.Store(1)
		p.cur, p.used = s, 0
	}
	b := buffer{p.cur.mem, p.cur}.part(p.used, n)
	p.used += n
	return b, nil
}

// slab returns a whole slab, and waits for one if need be.
func (p *pool) slab(ctx context.Context) (buffer, error) {
	s, err := p.wait(ctx)
	if err != nil {
		return buffer{}, err
	}
	s.refs.Store(1)
	return buffer{s.mem, s}, nil
}

// done lets go of the slab that take cuts from; without it, its rest stays reserved.
func (p *pool) done() {
	if p.cur != nil {
		p.cur.release()
		p.cur = nil
	}
}

func (p *pool) wait(ctx context.Context) (*slab, error) {
	select {
	case s := <-p.free:
		return s, nil
	default:
	}
	p.hunger.waiting.Add(1)
	defer p.hunger.waiting.Add(-1)
	p.hunger.wake()
	select {
	case s := <-p.free:
		return s, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
