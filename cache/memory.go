package cache

import (
	"container/list"
	"sync"

	"github.com/zosfs/zosfs/chunk"
)

// memory keeps the plaintext of the chunks stored or read from it most recently, up to a
// number of bytes.
type memory struct {
	limit int64

	mu    sync.Mutex
	bytes int64
	m     map[chunk.Digest]*list.Element
	lru   list.List // of recentChunk, the latest first
}

type recentChunk struct {
	digest chunk.Digest
	data   []byte
}

func newMemory(limit int64) *memory {
	return &memory{limit: limit, m: map[chunk.Digest]*list.Element{}}
}

func (m *memory) get(d chunk.Digest) ([]byte, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.m[d]
	if !ok {
		return nil, false
	}
	m.lru.MoveToFront(e)
	return e.Value.(recentChunk).data, true
}

func (m *memory) has(d chunk.Digest) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.m[d]
	return ok
}

// put keeps data, which nobody may change from now on. Its capacity counts.
func (m *memory) put(d chunk.Digest, data []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.m[d]; ok || int64(cap(data)) > m.limit {
		return
	}
	m.m[d] = m.lru.PushFront(recentChunk{d, data})
	m.bytes += int64(cap(data))
	for m.bytes > m.limit {
		m.dropLast()
	}
}

func (m *memory) dropLast() {
	last := m.lru.Remove(m.lru.Back()).(recentChunk)
	delete(m.m, last.digest)
	m.bytes -= int64(cap(last.data))
}

func (m *memory) size() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.bytes
}

// clear forgets all and keeps nothing from now on.
func (m *memory) clear() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.limit = -1
	for m.lru.Len() > 0 {
		m.dropLast()
	}
}
