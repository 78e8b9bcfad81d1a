package multi

import "time"

// SourceStats is what is known of a source.
type SourceStats struct {
	Name        string        `json:"name"`
	Requests    int64         `json:"requests"`
	Bytes       int64         `json:"bytes"`  // of bodies that came, those of losers included
	Errors      int64         `json:"errors"` // failed requests, but for blobs it does not hold
	Quarantined bool          `json:"quarantined"`
	Reason      string        `json:"reason,omitempty"` // for the quarantine
	Latency     time.Duration `json:"latency"`          // mean nanoseconds to the first byte, 0 if unknown
	Bandwidth   float64       `json:"bandwidth"`        // mean bytes a second, 0 if unknown
}

// Stats returns what is known of the sources, in the order in which they were given.
func (m *Store) Stats() []SourceStats {
	out := make([]SourceStats, len(m.sources))
	for i, s := range m.sources {
		out[i] = s.stats()
	}
	return out
}

func (s *source) stats() SourceStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := SourceStats{
		Name: s.name, Requests: s.requests, Bytes: s.bytes, Errors: s.errors,
		Quarantined: s.quarantined(time.Now()), Latency: duration(s.latency), Bandwidth: s.bandwidth,
	}
	if st.Quarantined {
		st.Reason = s.reason.Error()
	}
	return st
}

// Link returns what is known of the way to the source that would be asked first now: the
// delay, which is the least time to a first byte in the last 10 to 20 seconds, and the
// bandwidth in bytes a second. Their product is what must be under way to fill the link.
// It takes a few answers to know the delay. Either is 0 while it is not known; small bodies tell the delay alone.
func (m *Store) Link() (delay time.Duration, bytesPerSec float64) {
	order := m.order(0)
	if len(order) == 0 {
		return 0, 0
	}
	return order[0].link()
}
