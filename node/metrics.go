package node

import (
	"bytes"
	"errors"
	"maps"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/mount"
	"github.com/zosfs/zosfs/mount/fusefs"
)

// totals keeps sums over all mounts, also those that have ended: a counter never goes back.
type totals struct {
	mu    sync.Mutex
	live  map[*mounted]struct{}
	ended usage
}

func newTotals() *totals { return &totals{live: map[*mounted]struct{}{}} }

// begin counts m from now on.
func (t *totals) begin(m *mounted) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.live[m] = struct{}{}
}

// end takes last, the figures of m that do not change any more, for good.
func (t *totals) end(m *mounted, last MountInfo) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.live, m)
	t.ended.add(last)
}

// sum returns the sums, and what is mounted. Each mount counts once: as one that lives, also
// if it ends meanwhile, or as one that has ended.
func (t *totals) sum() (usage, []MountInfo) {
	t.mu.Lock()
	u, live := t.ended.clone(), slices.Collect(maps.Keys(t.live))
	t.mu.Unlock()
	mounts := make([]MountInfo, 0, len(live))
	for _, m := range live {
		info := m.status()
		u.add(info)
		mounts = append(mounts, info)
	}
	return u, mounts
}

// usage is what mounts did. All of it only grows.
type usage struct {
	reads, readBytes, readErrors  int64
	requests, chunks, bytes, idle int64
	kernel                        map[string]uint64 // requests by kind
	sources                       map[string]sourceUsage
}

type sourceUsage struct{ requests, bytes, errors int64 }

func (u *usage) clone() usage {
	c := *u
	c.kernel, c.sources = maps.Clone(u.kernel), maps.Clone(u.sources)
	return c
}

func (u *usage) add(m MountInfo) {
	u.reads += m.Image.Reads
	u.readBytes += m.Image.BytesRead
	u.readErrors += m.Image.Errors
	u.requests += m.Image.Requests
	u.chunks += m.Image.ChunksFetched
	u.bytes += m.Image.BytesFetched
	u.idle += m.Image.BytesWasted
	if u.sources == nil {
		u.sources = map[string]sourceUsage{}
	}
	if m.Mode != mount.Kernel { // those of one flist share theirs: host.stats has them
		u.addKernel(m.Kernel)
	}
	for _, src := range m.Sources {
		s := u.sources[src.Name]
		u.sources[src.Name] = sourceUsage{s.requests + src.Requests, s.bytes + src.Bytes, s.errors + src.Errors}
	}
}

func (u *usage) addKernel(s fusefs.Stats) {
	if u.kernel == nil {
		u.kernel = map[string]uint64{}
	}
	for kind, n := range s.Requests {
		u.kernel[kind] += n
	}
}

// handleMetrics answers in the text format of Prometheus, version 0.0.4.
func (s *service) handleMetrics(w http.ResponseWriter, _ *http.Request) error {
	var x exposition
	u, mounts := s.totals.sum()
	u.addKernel(s.host.stats())
	x.mountMetrics(u, mounts)
	x.sourceMetrics(u, mounts)
	x.cacheMetrics(s)
	x.processMetrics(s.opts.Version)
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, err := w.Write(x.b.Bytes())
	if err != nil {
		s.log.Debug("answer not delivered", "error", err)
	}
	return nil
}

func (x *exposition) mountMetrics(u usage, mounts []MountInfo) {
	modes := map[string]float64{string(mount.FUSE): 0, string(mount.Kernel): 0}
	for _, m := range mounts {
		modes[string(m.Mode)]++
	}
	x.gauge("zosfs_mounts", "Mounts, detached ones included.", by("mode", modes)...)
	x.counter("zosfs_reads_total", "Reads of file content.", one(u.reads)...)
	x.counter("zosfs_read_bytes_total", "Bytes of file content delivered, holes included.", one(u.readBytes)...)
	x.counter("zosfs_read_errors_total", "Reads of file content that failed.", one(u.readErrors)...)
	x.counter("zosfs_fetch_requests_total", "Ranges of blobs asked for.", one(u.requests)...)
	x.counter("zosfs_fetched_bytes_total", "Bytes of the ranges that came.", one(u.bytes)...)
	x.counter("zosfs_fetched_idle_bytes_total", "Bytes fetched that lie between the chunks wanted.", one(u.idle)...)
	x.counter("zosfs_fetched_chunks_total", "Chunks fetched and verified.", one(u.chunks)...)
	x.counter("zosfs_kernel_requests_total", "Requests of the kernel to the file systems.", by("kind", u.kernel)...)
}

// sourceMetrics sums over mounts with a source of the same name.
func (x *exposition) sourceMetrics(u usage, mounts []MountInfo) {
	requests, size, failed := map[string]int64{}, map[string]int64{}, map[string]int64{}
	for name, s := range u.sources {
		requests[name], size[name], failed[name] = s.requests, s.bytes, s.errors
	}
	var latency, weight, avoided = map[string]float64{}, map[string]float64{}, map[string]float64{}
	for _, m := range mounts {
		for _, s := range m.Sources {
			avoided[s.Name] += 0
			if s.Quarantined {
				avoided[s.Name]++
			}
			if s.Latency > 0 {
				n := float64(max(s.Requests, 1))
				latency[s.Name] += s.Latency.Seconds() * n
				weight[s.Name] += n
			}
		}
	}
	for name, n := range weight {
		latency[name] /= n
	}
	x.counter("zosfs_source_requests_total", "Requests to a source of blobs.", by("source", requests)...)
	x.counter("zosfs_source_bytes_total", "Bytes that came from a source, those for nothing included.", by("source", size)...)
	x.counter("zosfs_source_errors_total", "Failed requests to a source, but for blobs it does not hold.", by("source", failed)...)
	x.gauge("zosfs_source_latency_seconds", "Moving average of the time to the first byte; over several mounts, their mean by requests.", by("source", latency)...)
	x.gauge("zosfs_source_quarantined", "Mounts that avoid a source because it served wrong bytes.", by("source", avoided)...)
}

func (x *exposition) cacheMetrics(s *service) {
	c := s.cache.Stats()
	readOnly := 0
	if c.ReadOnly {
		readOnly = 1
	}
	x.gauge("zosfs_cache_bytes", "Bytes of the files of the cache.", one(c.Bytes)...)
	x.gauge("zosfs_cache_limit_bytes", "Limit of the cache.", one(c.Limit)...)
	x.gauge("zosfs_cache_chunks", "Chunks in the cache.", one(c.Chunks)...)
	x.gauge("zosfs_cache_read_only", "1 if another process writes the cache.", one(readOnly)...)
	x.counter("zosfs_cache_hits_total", "Chunks asked for and in the cache.", one(c.Hits)...)
	x.counter("zosfs_cache_misses_total", "Chunks asked for and not in the cache.", one(c.Misses)...)
	x.counter("zosfs_cache_evicted_chunks_total", "Chunks evicted.", one(c.EvictedChunks)...)
	x.counter("zosfs_cache_evicted_bytes_total", "Bytes of the chunks evicted.", one(c.EvictedBytes)...)
	x.counter("zosfs_cache_passed_chunks_total", "Chunks delivered but not kept.", one(c.PassedChunks)...)
	x.counter("zosfs_cache_damaged_chunks_total", "Chunks found damaged and dropped.", one(c.Damaged)...)
	x.counter("zosfs_cache_write_errors_total", "Writes to the cache that failed.", one(c.WriteErrors)...)
}

// processMetrics leaves out what the system does not tell.
func (x *exposition) processMetrics(version string) {
	x.gauge("zosfs_build_info", "1, with the version of the service.",
		sample{labels: []label{{"version", version}, {"goversion", runtime.Version()}}, value: 1})
	if n, err := residentBytes(); err == nil {
		x.gauge("process_resident_memory_bytes", "Resident memory size in bytes.", one(n)...)
	}
	if at, err := startTime(); err == nil {
		x.gauge("process_start_time_seconds", "Start time of the process since unix epoch in seconds.", one(float64(at.UnixMilli())/1000)...)
	}
	if fds, err := os.ReadDir("/proc/self/fd"); err == nil {
		x.gauge("process_open_fds", "Number of open file descriptors.", one(len(fds))...)
	}
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil {
		x.gauge("process_max_fds", "Maximum number of open file descriptors.", one(limit.Cur)...)
	}
}

// errProc says that a file in /proc is not what proc(5) says.
var errProc = errors.New("unexpected content in /proc")

// residentBytes returns how much of the process is in memory.
func residentBytes() (int64, error) {
	p, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(p))
	if len(fields) < 2 {
		return 0, errProc
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}

// userHZ is the unit of times in /proc, the same on all machines that Go runs on.
const userHZ = 100

// startTime returns when the process began.
func startTime() (time.Time, error) {
	p, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return time.Time{}, err
	}
	// Field 22; the second one, the name of the program, may have anything but ends with the
	// last parenthesis.
	fields := strings.Fields(string(p[bytes.LastIndexByte(p, ')')+1:]))
	if len(fields) < 20 {
		return time.Time{}, errProc
	}
	ticks, err := strconv.ParseInt(fields[19], 10, 64)
	if err != nil {
		return time.Time{}, err
	}
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return time.Time{}, err
	}
	_, rest, _ := strings.Cut(string(stat), "\nbtime ")
	text, _, _ := strings.Cut(rest, "\n")
	boot, err := strconv.ParseInt(text, 10, 64)
	return time.Unix(boot, 0).Add(time.Duration(ticks) * time.Second / userHZ), err
}
