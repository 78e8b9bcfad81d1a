package main

import (
	"slices"
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	tests := []struct {
		name string
		in   samples
		want float64
	}{
		{"none", nil, 0},
		{"one", samples{3}, 3},
		{"odd, not sorted", samples{9, 1, 5}, 5},
		{"even", samples{4, 1, 3, 100}, 3.5},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := slices.Clone(tt.in)
			if got := tt.in.median(); got != tt.want {
				t.Errorf("median(%v) = %v, want %v", tt.in, got, tt.want)
			}
			if !slices.Equal(tt.in, before) {
				t.Errorf("median changed its input to %v, want %v", tt.in, before)
			}
		})
	}
}

func TestP50(t *testing.T) {
	if got := p50(nil); got != 0 {
		t.Errorf("p50(nil) = %v, want 0", got)
	}
	if got := p50([]time.Duration{7, 1, 9, 3, 5}); got != 5 {
		t.Errorf("p50 = %v, want 5", got)
	}
}

func TestOver(t *testing.T) {
	if got := over(int64(3), int64(2)); got != 1.5 {
		t.Errorf("over(3, 2) = %v, want 1.5", got)
	}
	if got := over(3.0, 0); got != 0 {
		t.Errorf("over(3, 0) = %v, want 0", got)
	}
}
