package node

import (
	"bytes"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zosfs/zosfs/image"
	"github.com/zosfs/zosfs/mount/fusefs"
	"github.com/zosfs/zosfs/store/multi"
)

// TestExposition has all that must be escaped; what the service says is parsed in TestMetrics.
func TestExposition(t *testing.T) {
	var x exposition
	x.counter("a_total", "One \\ and\nanother \"line\".", one(1<<40)...)
	x.gauge("b", "Labels.", sample{[]label{{"x", "a\"b\\c\nd"}, {"y", "\xff"}}, 0.25})
	x.gauge("c", "Nothing.", by("kind", map[string]int{})...)
	x.gauge("d", "Order.", by("kind", map[string]int{"b": 2, "a": 1})...)
	const want = `# HELP a_total One \\ and\nanother "line".
# TYPE a_total counter
a_total 1099511627776
# HELP b Labels.
# TYPE b gauge
b{x="a\"b\\c\nd",y="` + "\uFFFD" + `"} 0.25
# HELP c Nothing.
# TYPE c gauge
# HELP d Order.
# TYPE d gauge
d{kind="a"} 1
d{kind="b"} 2
`
	if diff := cmp.Diff(want, x.b.String()); diff != "" {
		t.Errorf("exposition (-want +got):\n%s", diff)
	}
}

// TestSourceMetrics has a source that serves two mounts, and one whose mounts have ended.
func TestSourceMetrics(t *testing.T) {
	mounts := []MountInfo{
		{Sources: []multi.SourceStats{{Name: "hub", Requests: 1, Bytes: 10, Latency: 100 * time.Millisecond, Quarantined: true}, {Name: "new"}}},
		{Sources: []multi.SourceStats{{Name: "hub", Requests: 3, Bytes: 30, Errors: 2, Latency: 500 * time.Millisecond}}},
	}
	var u usage
	u.add(MountInfo{Sources: []multi.SourceStats{{Name: "old", Requests: 7, Latency: time.Hour, Quarantined: true}}})
	for _, m := range mounts {
		u.add(m)
	}
	var x exposition
	x.sourceMetrics(u, mounts)
	want := map[string]map[string]float64{
		"zosfs_source_requests_total":  {"hub": 4, "new": 0, "old": 7},
		"zosfs_source_bytes_total":     {"hub": 40, "new": 0, "old": 0},
		"zosfs_source_errors_total":    {"hub": 2, "new": 0, "old": 0},
		"zosfs_source_latency_seconds": {"hub": 0.4},
		"zosfs_source_quarantined":     {"hub": 1, "new": 0},
	}
	var y exposition
	for _, name := range []string{"zosfs_source_requests_total", "zosfs_source_bytes_total", "zosfs_source_errors_total",
		"zosfs_source_latency_seconds", "zosfs_source_quarantined"} {
		y.gauge(name, "", by("source", want[name])...)
	}
	if diff := cmp.Diff(samples(&y), samples(&x)); diff != "" {
		t.Errorf("metrics of sources (-want +got):\n%s", diff)
	}
}

// samples returns the lines that are no comments.
func samples(x *exposition) []string {
	var list []string
	for line := range bytes.Lines(x.b.Bytes()) {
		if line[0] != '#' {
			list = append(list, string(line))
		}
	}
	return list
}

// TestUsageClone sees that sums for one answer do not get into those that are kept.
func TestUsageClone(t *testing.T) {
	info := MountInfo{
		Image:   image.Stats{Reads: 1, BytesRead: 2, Errors: 3, Requests: 4, ChunksFetched: 5, BytesFetched: 6, BytesWasted: 7},
		Kernel:  fusefs.Stats{Requests: map[string]uint64{"read": 8}},
		Sources: []multi.SourceStats{{Name: "hub", Requests: 9, Bytes: 10, Errors: 11}},
	}
	var u usage
	u.add(info)
	want := usage{1, 2, 3, 4, 5, 6, 7, map[string]uint64{"read": 8}, map[string]sourceUsage{"hub": {9, 10, 11}}}
	c := u.clone()
	c.add(info)
	opt := cmp.AllowUnexported(usage{}, sourceUsage{})
	if diff := cmp.Diff(want, u, opt); diff != "" {
		t.Errorf("usage of one mount (-want +got):\n%s", diff)
	}
	want = usage{2, 4, 6, 8, 10, 12, 14, map[string]uint64{"read": 16}, map[string]sourceUsage{"hub": {18, 20, 22}}}
	if diff := cmp.Diff(want, c, opt); diff != "" {
		t.Errorf("usage of two mounts (-want +got):\n%s", diff)
	}
}

func TestProcess(t *testing.T) {
	if at, err := startTime(); err != nil || time.Since(at) < -2*time.Second || time.Since(at) > time.Hour {
		t.Errorf("startTime = %v, %v", at, err)
	}
	if n, err := residentBytes(); err != nil || n < 1<<20 || n > 4<<30 || n%int64(os.Getpagesize()) != 0 {
		t.Errorf("residentBytes = %d, %v", n, err)
	}
}
