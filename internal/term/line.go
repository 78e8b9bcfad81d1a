package term

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// state is what a line of progress shows.
type state struct {
	title, unit                  string
	files, bytes, total, deduped int64
	rate                         float64 // bytes a second, of late
	elapsed                      time.Duration
	done                         bool
}

// line shows s in at most width columns. What matters less is left out where there is no
// room, and a bar fills what is left.
func (s state) line(width int) string {
	const barMin, barMax, gap = 12, 32, "  "
	parts := []string{s.title}
	used := len(s.title)
	for _, part := range []string{s.amount(), s.percent(), s.time(), s.speed(), s.names(), s.dedup()} {
		if part != "" && used+len(gap)+len(part) <= width {
			parts = append(parts, part)
			used += len(gap) + len(part)
		}
	}
	if room := min(width-used-len(gap), barMax); s.total > 0 && room >= barMin {
		parts[0] += gap + bar(s.share(), room)
	}
	line := strings.Join(parts, gap)
	return line[:min(len(line), max(width, 0))]
}

// share returns the part of the total that is done, 0 to 1.
func (s state) share() float64 {
	return min(1, float64(max(s.bytes, 0))/float64(max(s.total, 1)))
}

// bar draws share in n columns.
func bar(share float64, n int) string {
	full := int(share * float64(n-2))
	return "[" + strings.Repeat("#", full) + strings.Repeat("-", n-2-full) + "]"
}

func (s state) amount() string {
	if s.total > 0 && !s.done {
		return size(s.bytes) + " of " + size(max(s.bytes, s.total))
	}
	return size(s.bytes)
}

func (s state) percent() string {
	if s.total <= 0 {
		return ""
	}
	return fmt.Sprintf("%d %%", int(s.share()*100))
}

func (s state) names() string {
	if s.files == 0 {
		return ""
	}
	return humanize.Comma(s.files) + " " + s.unit
}

func (s state) speed() string {
	rate := s.rate
	if s.done {
		rate = float64(s.bytes) / max(s.elapsed.Seconds(), 0.001)
	}
	if rate < 1 {
		return ""
	}
	return size(int64(rate)) + "/s"
}

// time says how long it will take yet, or when done, how long it took.
func (s state) time() string {
	if s.done {
		return "in " + clock(s.elapsed)
	}
	left := float64(s.total-s.bytes) / s.rate
	if s.rate < 1 || left <= 0 || left > 99*3600 {
		return ""
	}
	return clock(time.Duration(left*float64(time.Second))) + " left"
}

func (s state) dedup() string {
	if s.deduped <= 0 || s.bytes <= 0 {
		return ""
	}
	return fmt.Sprintf("%d %% deduplicated", min(100, int(float64(s.deduped)/float64(s.bytes)*100)))
}

func size(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }

// clock writes d as m:ss or h:mm:ss, rounded up.
func clock(d time.Duration) string {
	s := int64(math.Ceil(d.Seconds()))
	if s < 3600 {
		return fmt.Sprintf("%d:%02d", s/60, s%60)
	}
	return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
}

// A meter measures a rate of late: what is t seconds past counts by e^(-t/5).
type meter struct {
	at    time.Duration // of the last measurement
	bytes int64         // then
	rate  float64       // bytes a second
}

// add takes a measurement and returns the rate.
func (m *meter) add(at time.Duration, bytes int64) float64 {
	const memory = 5.0 // seconds
	dt := (at - m.at).Seconds()
	if dt <= 0 {
		return m.rate
	}
	now := float64(bytes-m.bytes) / dt
	weight := 1 - math.Exp(-dt/memory)
	if m.at == 0 {
		weight = 1
	}
	m.rate += weight * (now - m.rate)
	m.at, m.bytes = at, bytes
	return m.rate
}
