package image

import "time"

const (
	// maxWindow bounds what one range takes along, and the gaps it bridges, in bytes.
	maxWindow = 1 << 20
	// maxStream bounds the read-ahead of a sequential reader, in bytes.
	maxStream = 4 << 20
	// nearby is the delay up to which a request costs less than bytes nobody asked for:
	// loopback and the same house, also where the hub reads from a disk. A start of Python
	// from a hub with cold disks fetched 1.47 times what it touched with a limit of 1 ms.
	nearby = 4 * time.Millisecond
	// assumedRate stands for a rate that is not known yet, in bytes a second: small bodies do
	// not tell it, and a tree of small files would never have a window. Over 20 Mbit/s and 50
	// ms it makes 40 requests of the 956 that 1,000 small files took without.
	assumedRate = 1 << 20
)

// link returns what is known of the source's link: how many bytes it carries while one
// request waits for its answer (bandwidth x delay), and bytes a second. Both are 0 where the
// delay is not known or not worth bridging.
func (im *Image) link() (carries int64, rate float64) {
	l, ok := im.src.(Linker)
	if !ok {
		return 0, 0
	}
	delay, rate := l.Link()
	if delay <= nearby {
		return 0, 0
	}
	if !(rate > 0) {
		rate = assumedRate
	}
	return int64(min(rate*delay.Seconds(), maxStream)), rate
}

// window returns what a range takes along, and the gaps it bridges, in bytes.
func (im *Image) window() int64 {
	carries, _ := im.link()
	return min(carries, maxWindow)
}

// patience returns how long one request for n bytes may take before it is given up as
// stalled: a third of the deadline, so that a second try is left, and the time that n bytes
// take at a quarter of the rate known, or at 16 KiB/s.
func (im *Image) patience(n int64) time.Duration {
	base := 10 * time.Second
	if im.deadline > 0 {
		base = min(base, im.deadline/3)
	}
	rate := 16.0 * (1 << 10)
	if l, ok := im.src.(Linker); ok {
		if delay, r := l.Link(); r > 0 {
			base += delay
			rate = r / 4
		}
	}
	return base + time.Duration(min(float64(n)/rate, 600)*float64(time.Second))
}
