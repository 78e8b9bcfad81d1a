package cache

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/zosfs/zosfs/chunk"
)

// flights are the downloads under way.
type flights struct {
	mu sync.Mutex
	m  map[chunk.Digest]*flight
}

// flight is one download. data and err are set before done is closed.
type flight struct {
	done chan struct{}
	data []byte
	err  error
}

// landed returns the plaintext of a download that ended well and is being stored.
func (f *flights) landed(d chunk.Digest) ([]byte, bool) {
	f.mu.Lock()
	fl, ok := f.m[d]
	f.mu.Unlock()
	if !ok {
		return nil, false
	}
	select {
	case <-fl.done:
		return fl.data, fl.err == nil
	default:
		return nil, false
	}
}

// join returns the flight of d, begun now if first is true. Nothing begins while again says
// that the chunk may have arrived meanwhile; the flight is nil then.
func (f *flights) join(d chunk.Digest, again func() bool) (fl *flight, first bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fl, ok := f.m[d]; ok {
		return fl, false
	}
	if again() {
		return nil, false
	}
	fl = &flight{done: make(chan struct{})}
	f.m[d] = fl
	return fl, true
}

func (f *flights) remove(d chunk.Digest) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.m, d)
}

// Claim joins or begins the one download of d.
//
// finish is nil if somebody else has the duty to download, or d is held. Otherwise the
// caller must call it exactly once, from any goroutine, with the verified plaintext, which
// then belongs to the cache (and had better not be part of a larger buffer), or with an
// error. Those who wait get the plaintext before it is stored; finish returns after. A
// second call panics.
//
// wait returns the plaintext, which nobody may change, or the error of that download, or
// ctx's error, which does not disturb the download. Many may call it, any number of times.
func (c *Cache) Claim(d chunk.Digest) (wait func(context.Context) ([]byte, error), finish func([]byte, error)) {
	tried := place(0) // of a record that could not be read, or is of another chunk
	for {
		fl, first := c.flights.join(d, func() bool {
			at := c.index.get(fingerprint(d))
			return c.recent.has(d) || at != 0 && !at.same(tried)
		})
		switch {
		case first:
			return fl.wait, c.finisher(d, fl)
		case fl != nil:
			return fl.wait, nil
		}
		tried = c.index.get(fingerprint(d))
		if data, ok := c.whole(d); ok {
			return landed(data).wait, nil
		}
	}
}

// landed returns a download that has ended.
func landed(data []byte) *flight {
	fl := &flight{done: make(chan struct{}), data: data}
	close(fl.done)
	return fl
}

func (fl *flight) wait(ctx context.Context) ([]byte, error) {
	select {
	case <-fl.done:
		return fl.data, fl.err
	default:
	}
	select {
	case <-fl.done:
		return fl.data, fl.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (c *Cache) finisher(d chunk.Digest, fl *flight) func([]byte, error) {
	var called atomic.Bool
	return func(data []byte, err error) {
		if called.Swap(true) {
			panic("cache: a download was finished twice")
		}
		defer c.flights.remove(d)
		if fl.err = err; err == nil {
			fl.data = data
			c.recent.put(d, data)
		}
		close(fl.done)
		if err == nil {
			c.store(d, data)
		}
	}
}
