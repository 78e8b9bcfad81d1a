package node

import (
	"os"
	"runtime/debug"
	"sync"
)

// baseMemory is what the service may take besides the trees of its mounts and the index of its
// cache, in bytes, before garbage is collected more often: 8 MiB of recent chunks, as much for
// the runtime, the rest for answers on their way. Without a limit, many large reads at once
// leave 150 MB behind; with less, a first read of 3,000 small files spends two thirds of its
// time collecting garbage.
const baseMemory = 40 << 20

// memory keeps the soft limit of the process in step with what it has to hold.
type memory struct {
	old int64 // limit of before

	mu   sync.Mutex
	held int64
	free bool // it is not ours to set: the operator did, or the service has ended
}

func newMemory() *memory {
	return &memory{old: debug.SetMemoryLimit(-1), free: os.Getenv("GOMEMLIMIT") != "", held: baseMemory}
}

// add says that n more bytes have to be held, or less where n < 0.
func (m *memory) add(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held += n
	if !m.free {
		debug.SetMemoryLimit(m.held)
	}
}

// end gives the limit back for good; a mount that is still in use may end later.
func (m *memory) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.free = true
	debug.SetMemoryLimit(m.old)
}
