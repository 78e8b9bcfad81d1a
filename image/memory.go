package image

import (
	"container/list"
	"context"
	"sync"

	"github.com/zosfs/zosfs/chunk"
)

// memoryLimit is the size of the built-in cache in bytes of plaintext.
const memoryLimit = 32 << 20

// memory is the Cache of an Image that was given none: the chunks used last, in memory.
type memory struct {
	limit int64

	mu     sync.Mutex
	held   map[chunk.Digest]*list.Element // of heldChunk
	used   *list.List                     // the one used last is in front
	size   int64
	claims map[chunk.Digest]*claim
}

var _ Cache = (*memory)(nil)

type heldChunk struct {
	digest chunk.Digest
	plain  []byte
}

// claim is a download under way: plain and err are written before done is closed.
type claim struct {
	done  chan struct{}
	plain []byte
	err   error
}

func newMemory(limit int64) *memory {
	return &memory{limit: limit, held: map[chunk.Digest]*list.Element{}, used: list.New(), claims: map[chunk.Digest]*claim{}}
}

// get returns a chunk that is held and counts it as used.
func (m *memory) get(d chunk.Digest) ([]byte, bool) {
	e, ok := m.held[d]
	if !ok {
		return nil, false
	}
	m.used.MoveToFront(e)
	return e.Value.(*heldChunk).plain, true
}

// Read implements [Cache].
func (m *memory) Read(d chunk.Digest, p []byte, off int) bool {
	m.mu.Lock()
	plain, ok := m.get(d)
	m.mu.Unlock()
	if !ok || off < 0 || off+len(p) > len(plain) {
		return false
	}
	copy(p, plain[off:])
	return true
}

// Has implements [Cache].
func (m *memory) Has(d chunk.Digest) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.held[d]
	return ok
}

// Claim implements [Cache].
func (m *memory) Claim(d chunk.Digest) (wait func(context.Context) ([]byte, error), finish func([]byte, error)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if plain, ok := m.get(d); ok {
		return func(context.Context) ([]byte, error) { return plain, nil }, nil
	}
	c, ok := m.claims[d]
	if !ok {
		c = &claim{done: make(chan struct{})}
		m.claims[d] = c
		finish = func(plain []byte, err error) { m.finish(d, c, plain, err) }
	}
	return c.wait, finish
}

func (c *claim) wait(ctx context.Context) ([]byte, error) {
	select {
	case <-c.done:
		return c.plain, c.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (m *memory) finish(d chunk.Digest, c *claim, plain []byte, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.claims, d)
	if c.plain, c.err = plain, err; err == nil {
		m.keep(d, plain)
	}
	close(c.done)
}

func (m *memory) keep(d chunk.Digest, plain []byte) {
	m.held[d] = m.used.PushFront(&heldChunk{d, plain})
	m.size += int64(len(plain))
	for m.size > m.limit {
		e := m.used.Back()
		old := m.used.Remove(e).(*heldChunk)
		delete(m.held, old.digest)
		m.size -= int64(len(old.plain))
	}
}
