package node

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/errs"
)

// Types of events.
const (
	EventServing     = "serving"            // the service answers; the first event of each service
	EventEnding      = "ending"             // the service is about to end; what it unmounts comes after
	EventMounted     = "mounted"            // Ref, Dir, Mode
	EventUnmounted   = "unmounted"          // Ref, Dir, Mode, By, and Error if something went wrong on the way
	EventDetached    = "detached"           // Ref, Dir, Mode: out of sight, but programs still use it
	EventReadError   = "read_error"         // Ref, Dir, Mode, Path, Chunk, Error; of a chunk one a second
	EventQuarantined = "source_quarantined" // Ref, Dir, Mode, Source, Error: it served wrong bytes
	EventCacheFull   = "cache_full"         // Count chunks could not be kept since the last one: no room, or Error
	EventMissed      = "missed"             // Count events came too fast for the reader, the last of them with Seq
)

// Who ended a mount.
const (
	BySelf  = "service" // the service, which was asked to
	ByOther = "other"   // somebody else, such as umount(8)
)

// Event is something that happened in a node service. Fields that its type does not name are
// zero.
type Event struct {
	Type string    `json:"type"`
	Time time.Time `json:"time"`
	Seq  uint64    `json:"seq"` // 1, 2 and so on in each service

	Ref    string       `json:"ref,omitempty"`
	Dir    string       `json:"dir,omitempty"`
	Mode   string       `json:"mode,omitempty"`
	By     string       `json:"by,omitempty"`
	Path   string       `json:"path,omitempty"`
	Chunk  chunk.Digest `json:"chunk,omitzero"`
	Source string       `json:"source,omitempty"`
	Error  string       `json:"error,omitempty"`
	Count  uint64       `json:"count,omitempty"`
}

// keptEvents is how many events are kept for those who come later, or read slowly.
const keptEvents = 256

// events has the latest events. Who adds one never waits for who reads them.
type events struct {
	over chan struct{} // closed by end

	mu   sync.Mutex
	ring [keptEvents]Event // that with Seq n is at (n-1) % keptEvents
	last uint64            // Seq of the newest, 0 if there is none
	more chan struct{}     // closed by the next event, or the end
}

func newEvents() *events {
	return &events{over: make(chan struct{}), more: make(chan struct{})}
}

// add enters v, with the time if it has none. After the end it does nothing.
func (e *events) add(v Event) {
	if v.Time.IsZero() {
		v.Time = time.Now()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ended() {
		return
	}
	v.Time, v.Seq = v.Time.UTC(), e.last+1
	e.ring[e.last%keptEvents] = v
	e.last++
	close(e.more)
	e.more = make(chan struct{})
}

// end says that there will be no more events.
func (e *events) end() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.ended() {
		close(e.over)
		close(e.more)
	}
}

func (e *events) ended() bool {
	select {
	case <-e.over:
		return true
	default:
		return false
	}
}

// after returns the events after the one with Seq since, oldest first; those that are not kept
// any more are one EventMissed. What more returns is closed when there are further ones, nil
// after the end. A since that has not been yet is that of an earlier service: 0 is meant.
func (e *events) after(since uint64) (list []Event, more <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if since > e.last {
		since = 0
	}
	if e.last-since > keptEvents {
		lost := e.last - since - keptEvents
		since += lost
		list = append(list, Event{Type: EventMissed, Time: time.Now().UTC(), Seq: since, Count: lost})
	}
	for ; since < e.last; since++ {
		list = append(list, e.ring[since%keptEvents])
	}
	if e.ended() {
		return list, nil
	}
	return list, e.more
}

// changed returns what is closed by the next event, or the end.
func (e *events) changed() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.more
}

// lastWords is how long a reader who is behind may take for the rest when the service ends.
const lastWords = time.Second

// handleEvents streams events, one JSON object a line, until the service has ended.
func (s *service) handleEvents(w http.ResponseWriter, r *http.Request) error {
	var since uint64
	if text := r.URL.Query().Get("since"); text != "" {
		var err error
		if since, err = strconv.ParseUint(text, 10, 64); err != nil {
			return fmt.Errorf("events since %q: want a number: %w", text, errs.ErrFormat)
		}
	}
	out := http.NewResponseController(w)
	var wg sync.WaitGroup
	defer wg.Wait()
	left := make(chan struct{})
	defer close(left)
	wg.Go(func() {
		select {
		case <-s.events.over: // the end does not wait for who does not read
			_ = out.SetWriteDeadline(time.Now().Add(lastWords))
		case <-left:
		}
	})
	w.Header().Set("Content-Type", "application/jsonl")
	enc := json.NewEncoder(w)
	gone := r.Context().Done()
	for {
		list, more := s.events.after(since)
		for _, v := range list {
			if enc.Encode(v) != nil {
				return nil // nobody is there to be told
			}
			since = v.Seq
		}
		if out.Flush() != nil || more == nil {
			return nil
		}
		select {
		case <-more:
		case <-gone:
			if !s.ending() {
				return nil
			}
			gone = nil // the service is about to end, and will say how
		}
	}
}

// ending reports whether the end has begun.
func (s *service) ending() bool {
	select {
	case <-s.over:
		return true
	default:
		return false
	}
}

// attend follows what happens, and tells the service manager, until end is called.
func (s *service) attend(ctx context.Context) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { s.observe(ctx) })
	wg.Go(func() { s.manager.follow(ctx, s) })
	return func() {
		cancel()
		wg.Wait()
	}
}
