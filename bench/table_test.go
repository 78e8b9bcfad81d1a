package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestUnitFormat(t *testing.T) {
	tests := []struct {
		u    unit
		v    float64
		want string
	}{
		{seconds, 0.0012, "1.20 ms"},
		{seconds, 0.25, "250 ms"},
		{seconds, 12.345, "12.35 s"},
		{micros, 0.00000076, "0.76 us"},
		{byteSize, 512, "512 B"},
		{byteSize, 20 << 10, "20.0 KiB"},
		{byteSize, 3 << 29, "1536.0 MiB"},
		{ratio, 0.954, "0.95x"},
		{percent, 6.04, "6.0 %"},
		{count, 999, "999"},
		{count, 1_234_567, "1,234,567"},
		{count, -1000, "-1,000"},
		{rate, 644_000.4, "644,000/s"},
	}
	for _, tt := range tests {
		if got := tt.u.format(tt.v); got != tt.want {
			t.Errorf("%q.format(%v) = %q, want %q", tt.u, tt.v, got, tt.want)
		}
	}
}

func TestBudget(t *testing.T) {
	tests := []struct {
		b    *budget
		v    float64
		want bool
	}{
		{atLeast(0.6), 0.6, true},
		{atLeast(0.6), 0.59, false},
		{atMost(1.3), 1.3, true},
		{atMost(1.3), 1.31, false},
	}
	for _, tt := range tests {
		if got := tt.b.kept(tt.v); got != tt.want {
			t.Errorf("%+v.kept(%v) = %v, want %v", *tt.b, tt.v, got, tt.want)
		}
	}
}

func TestReport(t *testing.T) {
	r := report{Machine: []fact{{"cpu", "2 x Z80"}}, Notes: []string{}, Failed: []string{}}
	tb := r.table("Read, warm: medians")
	tb.add("walk", figure("ext4", 0.5, seconds, nil), figure("ours", 1.0, seconds, nil), figure("vs", 0.5, ratio, atLeast(0.6)))
	tb.add("päck", figure("ext4", 2.0, seconds, nil), figure("vs", 0.7, ratio, atLeast(0.6)), text("why", "because"))
	r.table("Nothing")
	r.note("twice")
	r.note("twice")
	want := `cpu          2 x Z80

Read, warm: medians
        ext4    ours            vs      why
walk  500 ms  1.00 s  0.50x MISSED        -
päck  2.00 s       -      0.70x ok  because

Budgets
                      figure    budget
Read, warm: walk, vs   0.50x  >= 0.60x  MISSED
Read, warm: päck, vs   0.70x  >= 0.60x      ok

Notes
- twice
`
	if diff := cmp.Diff(want, r.text()); diff != "" {
		t.Errorf("text (-want +got):\n%s", diff)
	}
	var out strings.Builder
	if err := r.writeJSON(&out); err != nil {
		t.Fatal(err)
	}
	var back struct {
		Tables []struct {
			Rows []struct {
				Cells []struct {
					Column string
					Value  float64
					OK     *bool
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(out.String()), &back); err != nil {
		t.Fatal(err)
	}
	vs := back.Tables[0].Rows[0].Cells[2]
	if vs.Column != "vs" || vs.Value != 0.5 || vs.OK == nil || *vs.OK {
		t.Errorf("cell in JSON = %+v, want vs 0.5, not ok", vs)
	}
}
