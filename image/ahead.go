package image

import (
	"sync"
	"time"
)

// ahead sends the requests of read-ahead one after another, as fast as the link carries
// their answers. Sent all at once they would share it, end together, and leave it idle until
// the next ones are answered.
type ahead struct {
	mu    sync.Mutex
	parts [][]piece // to be asked for, in order
	busy  bool      // a goroutine takes from parts
	next  time.Time // when the link is through with what it was asked for
}

const (
	// maxParts bounds what waits; what does not fit would come too late anyway.
	maxParts = 64
	// overlap is by how much requests come early, since estimates of rates are rough.
	overlap = 0.2
)

func (a *ahead) add(im *Image, parts [][]piece) {
	a.mu.Lock()
	a.parts = append(a.parts, parts[:min(len(parts), maxParts-len(a.parts))]...)
	begin := len(a.parts) > 0 && !a.busy
	a.busy = a.busy || begin
	a.mu.Unlock()
	if begin {
		im.spawn(func() { a.run(im) })
	}
}

// take returns the next part, or what to wait until then; neither means that all is done.
func (a *ahead) take() (part []piece, wait time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.parts) == 0 {
		a.busy = false
		return nil, 0
	}
	if wait = time.Until(a.next); wait > 0 {
		return nil, wait
	}
	part, a.parts = a.parts[0], a.parts[1:]
	return part, 0
}

// book notes that n bytes were asked for. On-demand reads book, too, but do not wait.
func (a *ahead) book(im *Image, n int64) {
	_, rate := im.link()
	if rate == 0 || n == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if now := time.Now(); a.next.Before(now) {
		a.next = now
	}
	a.next = a.next.Add(time.Duration(min((1-overlap)*float64(n)/rate, 60) * float64(time.Second)))
}

func (a *ahead) run(im *Image) {
	for {
		part, wait := a.take()
		switch {
		case wait > 0:
			_ = sleep(im.ctx, wait)
		case part == nil:
			return
		default:
			_ = im.enter(im.ctx, im.gate.enqueue(readAhead, sealedSize(part)), part)
		}
		if im.ctx.Err() != nil {
			return
		}
	}
}
