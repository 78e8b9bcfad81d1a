// Package multi reads blobs from several sources, any of which may be slow, down or lying.
//
// Each request goes to the sources in health order. Health is the expected time to an
// answer: a moving average of the time to the first byte, plus the time that the bytes take
// at the bandwidth seen, plus a penalty for failures, which halves every [failureHalfLife]
// so that a source that was down is found again by itself. Sources of equal health are asked
// in the order in which they were given.
//
//	request -> best source ------------ answer -> right? -> done, losers cancelled
//	              | error: next at once                \
//	              | slow: next as well (hedge)          wrong: next at once, source quarantined
//
// A source is slow when it has not answered within its own mean time plus three mean
// deviations (about the 95th percentile of what it usually takes), at least
// [Options].SlowMin, plus the time for the bytes; the wait doubles with each source that is
// asked as well. "Not found" weighs little against a source and is remembered for a second, for
// that blob alone.
//
// A source that served wrong bytes is quarantined: for [Options].Quarantine it is asked only
// when all others have failed. Where all that answered served the same wrong bytes, the
// question is wrong rather than the sources, and none is quarantined: a hostile flist must
// not turn a node away from its hub.
//
// A [Store] is safe for concurrent use. It owns the goroutines it starts and waits for them
// in Close. Lock order: Store.mu and source.mu are never held together.
package multi
