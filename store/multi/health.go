package multi

import (
	"errors"
	"math"
	"sync"
	"time"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/store"
)

const (
	weight = 0.2 // of a new sample in a moving average, as is usual for round-trip times

	// A source that was not asked yet is taken for one at this distance: a near one that
	// works is not left for it, one that is slower is.
	unknownLatency = 200 * time.Millisecond
	// What is assumed of its bandwidth before anything is known, in bytes a second: that of
	// a poor line, so that nothing counts as slow too soon.
	unknownBandwidth = 1 << 20

	// A source that fails always counts as this much farther away.
	failurePenalty  = 5 * time.Second
	failureWeight   = 0.5 // of a failure against what was before
	slowWeight      = 0.1 // of a race lost; it may have been the one in twenty
	lackWeight      = 0.1 // of a blob it does not hold: it may lack the others of the image too
	failureHalfLife = 15 * time.Second
	// A latency above the best that was ever seen is forgotten so fast.
	latencyHalfLife = 30 * time.Second
	// Each place further down the list counts as this much farther away, so that sources
	// of one distance do not take turns.
	placePenalty = 5 * time.Millisecond

	// The minimum of the time to the first byte is taken over one to two windows.
	minimumWindow = 10 * time.Second
	// So many answers make a minimum: the first one may have waited for a connection, and a
	// busy machine answers late now and then.
	minimumSamples = 4
	// Shorter bodies say nothing about bandwidth.
	bandwidthBody = 64 << 10

	// For how long, and for how many blobs of a source, "not found" is remembered.
	absentFor   = time.Second
	absentLimit = 4096
)

// source is one source and what is known of it.
type source struct {
	name   string
	getter store.Getter
	place  int

	mu        sync.Mutex
	requests  int64
	bytes     int64
	errors    int64
	bodies    int     // being read now
	shared    float64 // the integral of bodies over time, in seconds, up to sharedAt
	sharedAt  time.Time
	latency   float64 // moving average of seconds to the first byte; 0: unknown
	deviation float64 // moving average of its distance from latency
	best      float64 // least ever
	minimum   [2]float64
	samples   [2]int    // that each minimum is taken over
	window    time.Time // when minimum[0] began
	at        time.Time // when latency was last updated
	bandwidth float64   // moving average in bytes a second; 0: unknown
	failing   float64   // 0 to 1, at failingAt
	failingAt time.Time
	absent    map[blob.Digest]time.Time // until when
	until     time.Time                 // end of the quarantine
	reason    error                     // for it
}

func seconds(d time.Duration) float64        { return d.Seconds() }
func duration(seconds float64) time.Duration { return time.Duration(seconds * float64(time.Second)) }

func halved(age, halfLife time.Duration) float64 {
	return math.Exp2(-seconds(age) / seconds(halfLife))
}

// answered notes that the first byte came after d.
func (s *source) answered(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, v := time.Now(), max(seconds(d), 1e-6) // a clock may not have moved
	if s.latency == 0 {
		s.latency, s.deviation, s.best = v, v/2, v
	} else {
		s.deviation += weight * (math.Abs(v-s.latency) - s.deviation)
		s.latency += weight * (v - s.latency)
		s.best = min(s.best, v)
	}
	s.at = now
	s.failing = s.failingNow(now) * (1 - weight)
	s.failingAt = now
	if s.window.IsZero() || now.Sub(s.window) >= minimumWindow {
		previous, samples := s.minimum[0], s.samples[0]
		if now.Sub(s.window) >= 2*minimumWindow {
			previous, samples = 0, 0
		}
		s.minimum, s.samples, s.window = [2]float64{v, previous}, [2]int{1, samples}, now
	} else {
		s.minimum[0] = min(s.minimum[0], v)
		s.samples[0]++
	}
}

// mark is when a body began.
type mark struct {
	at     time.Time
	shared float64
}

// bodiesChanged notes that change more bodies are being read, and returns the time of that.
// The caller holds mu.
func (s *source) bodiesChanged(change int) mark {
	now := time.Now()
	s.shared += float64(s.bodies) * seconds(now.Sub(s.sharedAt))
	s.bodies, s.sharedAt = s.bodies+change, now
	return mark{now, s.shared}
}

// bodyStarted notes that a body is being read.
func (s *source) bodyStarted() mark {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bodiesChanged(1)
}

// bodyEnded notes that a body of n bytes ended, the last timed of them in d. start is what
// bodyStarted returned.
func (s *source) bodyEnded(n, timed int64, d time.Duration, start mark) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// Bodies that are read at the same time share the line; so many they were on average.
	end := s.bodiesChanged(-1)
	v := float64(timed) / seconds(d) * (end.shared - start.shared) / seconds(end.at.Sub(start.at))
	s.bytes += n
	switch {
	case timed < bandwidthBody || d <= 0 || !end.at.After(start.at):
	case s.bandwidth == 0:
		s.bandwidth = v
	default:
		s.bandwidth += weight * (v - s.bandwidth)
	}
}

// began notes a request.
func (s *source) began() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
}

// failed notes that a request for the blob id failed with err.
func (s *source) failed(id blob.Digest, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, outside := errors.AsType[*store.RangeError](err); outside {
		return // who asked was wrong
	}
	if errors.Is(err, errs.ErrNotFound) {
		s.setAbsent(id)
		s.worsen(lackWeight)
		return
	}
	s.errors++
	s.worsen(failureWeight)
}

// lost notes that another source, which was asked later because this one was slow, has won.
func (s *source) lost() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.worsen(slowWeight)
}

func (s *source) worsen(weight float64) {
	now := time.Now()
	f := s.failingNow(now)
	s.failing, s.failingAt = f+weight*(1-f), now
}

func (s *source) failingNow(now time.Time) float64 {
	return s.failing * halved(now.Sub(s.failingAt), failureHalfLife)
}

func (s *source) setAbsent(id blob.Digest) {
	now := time.Now()
	if len(s.absent) >= absentLimit {
		for id, until := range s.absent {
			if !now.Before(until) {
				delete(s.absent, id)
			}
		}
	}
	if len(s.absent) >= absentLimit || s.absent == nil {
		s.absent = make(map[blob.Digest]time.Time)
	}
	s.absent[id] = now.Add(absentFor)
}

// isAbsent reports whether the source said less than a second ago that it lacks the blob.
func (s *source) isAbsent(id blob.Digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	until, ok := s.absent[id]
	return ok && time.Now().Before(until)
}

// quarantine begins or prolongs the quarantine.
func (s *source) quarantine(d time.Duration, reason error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.until, s.reason = time.Now().Add(d), reason
}

// quarantined reports whether the quarantine lasts. The caller holds mu.
func (s *source) quarantined(now time.Time) bool { return now.Before(s.until) }

// standing returns whether the source is in quarantine, and its distance: the time that n
// bytes may be expected to take, with the penalties.
func (s *source) standing(n int64) (bool, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	v := seconds(unknownLatency)
	if s.latency > 0 {
		v = s.best + max(s.latency-s.best, 0)*halved(now.Sub(s.at), latencyHalfLife)
	}
	if s.bandwidth > 0 {
		v += float64(n) / s.bandwidth
	}
	v += s.failingNow(now) * seconds(failurePenalty)
	return s.quarantined(now), duration(v) + time.Duration(s.place)*placePenalty
}

// patience returns after which time an answer of n bytes is slow.
func (s *source) patience(n int64, least, most time.Duration) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	bandwidth := s.bandwidth
	if bandwidth == 0 {
		bandwidth = unknownBandwidth
	}
	usual := min(max(duration(s.latency+3*s.deviation), least), most)
	return usual + duration(float64(max(n, 0))/bandwidth)
}

// link returns the delay and the bandwidth, zeros if the delay is not known.
func (s *source) link() (time.Duration, float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.samples[0]+s.samples[1] < minimumSamples {
		return 0, 0
	}
	least := s.minimum[0]
	if s.minimum[1] > 0 {
		least = min(least, s.minimum[1])
	}
	return duration(least), s.bandwidth
}
