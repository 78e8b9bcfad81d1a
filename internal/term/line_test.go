package term

import (
	"math"
	"testing"
	"time"
)

func TestLine(t *testing.T) {
	const mib = 1 << 20
	half := state{
		title: "pack", unit: "files", files: 12_345, bytes: 512 * mib, total: 1024 * mib, deduped: 190 * mib,
		rate: 16 * mib, elapsed: 32 * time.Second,
	}
	done := half
	done.bytes, done.done, done.elapsed = done.total, true, 64*time.Second
	unknown := half
	unknown.total = 0
	hours := half
	hours.rate, hours.total = 64<<10, half.total
	over := half
	over.bytes = 2 * half.total
	tests := []struct {
		name  string
		s     state
		width int
		want  string
	}{
		{"all of it", half, 200, "pack  [###############---------------]  512 MiB of 1.0 GiB  50 %  0:32 left  16 MiB/s  12,345 files  37 % deduplicated"},
		{"a short bar", half, 98, "pack  [#####-----]  512 MiB of 1.0 GiB  50 %  0:32 left  16 MiB/s  12,345 files  37 % deduplicated"},
		{"no room for a bar", half, 90, "pack  512 MiB of 1.0 GiB  50 %  0:32 left  16 MiB/s  12,345 files  37 % deduplicated"},
		{"80 columns", half, 80, "pack  [#####------]  512 MiB of 1.0 GiB  50 %  0:32 left  16 MiB/s  12,345 files"},
		{"narrow", half, 30, "pack  512 MiB of 1.0 GiB  50 %"},
		{"very narrow", half, 6, "pack"},
		{"narrower than the title", half, 2, "pa"},
		{"no columns", half, -1, ""},
		{"total unknown", unknown, 100, "pack  512 MiB  16 MiB/s  12,345 files  37 % deduplicated"},
		{"slow", hours, 70, "pack  512 MiB of 1.0 GiB  50 %  2:16:32 left  64 KiB/s  12,345 files"},
		{"more than the total", over, 70, "pack  [###########]  2.0 GiB of 2.0 GiB  100 %  16 MiB/s  12,345 files"},
		{"done", done, 70, "pack  [#############]  1.0 GiB  100 %  in 1:04  16 MiB/s  12,345 files"},
		{"nothing yet", state{title: "unpack", unit: "files"}, 80, "unpack  0 B"},
		{"another unit", state{title: "verify", unit: "chunks", files: 7, bytes: 1}, 80, "verify  1 B  7 chunks"},
		{"nonsense", state{title: "pack", bytes: -1, total: math.MaxInt64, deduped: -5, rate: -3}, 80,
			"pack  [------------------------------]  0 B of 8.0 EiB  0 %"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.s.line(tt.width)
			if got != tt.want {
				t.Errorf("line(%d) =\n%q, want\n%q", tt.width, got, tt.want)
			}
			if len(got) > max(tt.width, 0) {
				t.Errorf("line(%d) has %d columns", tt.width, len(got))
			}
		})
	}
}

func TestMeter(t *testing.T) {
	var m meter
	if got := m.add(time.Second, 100); got != 100 {
		t.Errorf("the first rate = %v, want 100", got)
	}
	if got := m.add(time.Second, 150); got != 100 {
		t.Errorf("a rate without time = %v, want 100", got)
	}
	// Ten times faster from here on: 63 % of the way after 5 s, all of it in the end.
	bytes := int64(100)
	at := time.Second
	for range 50 {
		at += 100 * time.Millisecond
		bytes += 100
		m.add(at, bytes)
	}
	if want := 100 + 900*(1-1/math.E); math.Abs(m.rate-want) > 1 {
		t.Errorf("5 s after a change of rate it is %v, want %v", m.rate, want)
	}
	for range 1000 {
		at += 100 * time.Millisecond
		bytes += 100
		m.add(at, bytes)
	}
	if math.Abs(m.rate-1000) > 1 {
		t.Errorf("long after a change of rate it is %v, want 1000", m.rate)
	}
}
