package image

import (
	"context"
	"slices"
	"sync"
)

// class says why something is downloaded; lower ones come first.
type class int

const (
	onDemand class = iota
	readAhead
	prefetch
	classes
)

// Bounds of the downloads of one Image. Sixteen fill a link of 100 ms with ranges of 64 KiB
// at 80 Mbit/s; the bytes bound the memory of the node service.
const (
	maxFlights     = 16
	maxFlightBytes = 32 << 20
	maxPrefetch    = 3 // flights of prefetch: one that begins, one that is sent, one that ends
	keptForDemand  = 4 // flights that only on-demand reads may use
)

// gate admits downloads, on-demand ones first: a lower class is admitted only while no
// higher one waits, never into the last few places, and prefetch only while no on-demand
// download is under way at all.
type gate struct {
	mu      sync.Mutex
	waiting [classes][]*ticket
	flying  [classes]int
	bytes   int64 // of all flying
}

// ticket is a place in the queue, and then in the air.
type ticket struct {
	gate  *gate
	class class
	bytes int64
	ready chan struct{} // closed when admitted
}

func newGate() *gate { return &gate{} }

// enqueue asks for room for a download of n bytes. The ticket must be
// given to wait or abandoned.
func (g *gate) enqueue(c class, n int64) *ticket {
	t := &ticket{gate: g, class: c, bytes: n, ready: make(chan struct{})}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting[c] = append(g.waiting[c], t)
	g.admit()
	return t
}

// admit is called with mu held whenever something changed.
func (g *gate) admit() {
	for c := range g.waiting {
		for len(g.waiting[c]) > 0 {
			t := g.waiting[c][0]
			if !g.fits(t) {
				return
			}
			g.waiting[c] = g.waiting[c][1:]
			g.flying[c]++
			g.bytes += t.bytes
			close(t.ready)
		}
	}
}

func (g *gate) fits(t *ticket) bool {
	all := g.flying[onDemand] + g.flying[readAhead] + g.flying[prefetch]
	switch {
	case all == 0:
		return true // even one that is larger than all that may fly
	case g.bytes+t.bytes > maxFlightBytes:
		return false
	case t.class == prefetch:
		return g.flying[onDemand] == 0 && g.flying[prefetch] < maxPrefetch && all < maxFlights-keptForDemand
	case t.class == readAhead:
		return all < maxFlights-keptForDemand
	}
	return all < maxFlights
}

// wait returns when the ticket is admitted; release it then. When ctx is done first, the
// ticket is given back.
func (t *ticket) wait(ctx context.Context) error {
	select {
	case <-t.ready:
		return nil
	case <-ctx.Done():
		t.abandon()
		return context.Cause(ctx)
	}
}

// abandon gives back a ticket that nobody waits for any more, admitted or not.
func (t *ticket) abandon() {
	g := t.gate
	g.mu.Lock()
	i := slices.Index(g.waiting[t.class], t)
	if i >= 0 {
		g.waiting[t.class] = slices.Delete(g.waiting[t.class], i, i+1)
		g.admit() // it may have stood in the way of others
	}
	g.mu.Unlock()
	if i < 0 {
		t.release()
	}
}

// release gives the room back.
func (t *ticket) release() {
	g := t.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	g.flying[t.class]--
	g.bytes -= t.bytes
	g.admit()
}
