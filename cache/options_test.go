package cache

import "testing"

func TestSegmentSize(t *testing.T) {
	for _, c := range []struct{ limit, segment, want int64 }{
		{0, 0, 64 << 20},
		{160 << 20, 0, 10 << 20},            // 1/16
		{1 << 40, 0, 1 << 40 / 1000},        // no more than 1000
		{1 << 40, 64 << 20, 1 << 40 / 1000}, //
		{100 << 40, 0, 32 << 30},            // what an offset can say
		{64 << 10, 1 << 20, 16 << 10},       // 1/4
		{20 << 30, 40 << 20, 40 << 20},      // as it was said
		{1000, 0, 4 << 10},                  // nothing fits, everything passes through
	} {
		got := Options{Limit: c.limit, SegmentSize: c.segment}.withDefaults().SegmentSize
		if got != c.want {
			t.Errorf("limit %d, segment %d: segments of %d bytes, want %d", c.limit, c.segment, got, c.want)
		}
	}
}
