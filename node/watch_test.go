package node_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/mount"
	"github.com/zosfs/zosfs/node"
)

// audience takes down the events of a service.
type audience struct {
	t     *testing.T
	heard chan node.Event
	ended chan struct{}
	err   error // when ended is closed
}

func (s *service) listen(t *testing.T, since uint64) *audience {
	a := &audience{t: t, heard: make(chan node.Event, 1000), ended: make(chan struct{})}
	go func() {
		defer close(a.ended)
		for v, err := range s.Events(context.Background(), since) {
			if err != nil {
				a.err = err
				return
			}
			a.heard <- v
		}
	}()
	return a
}

// next returns the next event that is of one of the types.
func (a *audience) next(types ...string) node.Event {
	a.t.Helper()
	for timeout := time.After(20 * time.Second); ; {
		select {
		case v := <-a.heard:
			if slices.Contains(types, v.Type) {
				return v
			}
			a.t.Logf("passed over: %+v", v)
		case <-timeout:
			a.t.Fatalf("waited in vain for %v", types)
		}
	}
}

var comesAndGoes = []string{node.EventServing, node.EventMounted, node.EventDetached, node.EventUnmounted, node.EventEnding}

// expect compares what is next of that which comes and goes.
func (a *audience) expect(want node.Event) {
	a.t.Helper()
	v := a.next(comesAndGoes...)
	if time.Since(v.Time) > time.Minute || v.Seq == 0 {
		a.t.Errorf("event %+v has no time or number", v)
	}
	v.Time, v.Seq = time.Time{}, 0
	if v != want {
		a.t.Errorf("heard %+v, want %+v", v, want)
	}
}

// TestEvents follows mounts that end in every way, and a service that ends with one.
func TestEvents(t *testing.T) { eachMode(t, testEvents) }

// eachMode runs a test in both modes.
func eachMode(t *testing.T, test func(*testing.T, mount.Mode)) {
	t.Run("fuse", func(t *testing.T) { test(t, mount.FUSE) })
	t.Run("kernel", func(t *testing.T) {
		needKernel(t)
		test(t, mount.Kernel)
	})
}

// mountAs mounts the reference in a mode at a new directory.
func (s *service) mountAs(w *world, ref string, mode mount.Mode) node.MountInfo {
	s.t.Helper()
	info, err := s.Mount(s.t.Context(), node.MountRequest{Ref: ref, Dir: point(s.t), Mode: string(mode), Token: w.token, Deadline: time.Second})
	if err != nil || info.Mode != mode {
		s.t.Fatalf("Mount(%s) in mode %s: mode %s, %v", ref, mode, info.Mode, err)
	}
	return info
}

func testEvents(t *testing.T, mode mount.Mode) {
	testenv.NoLeaks(t)
	w := newWorld(t)
	ref := w.publish(grow(t, 30), "events")
	s := serve(t, node.Options{})
	a := s.listen(t, 0)
	a.expect(node.Event{Type: node.EventServing})

	show := func() (dir string, v node.Event) {
		t.Helper()
		info := s.mountAs(w, ref, mode)
		v = node.Event{Type: node.EventMounted, Ref: ref, Dir: info.Dir, Mode: string(info.Mode)}
		a.expect(v)
		v.Type = node.EventUnmounted
		return info.Dir, v
	}
	dir, v := show()
	if err := s.Unmount(t.Context(), dir, false); err != nil {
		t.Fatal(err)
	}
	v.By = node.BySelf
	a.expect(v)

	dir, v = show()
	if err := unix.Unmount(dir, 0); err != nil {
		t.Fatal(err)
	}
	v.By = node.ByOther
	a.expect(v)

	dir, v = show()
	busy, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Unmount(t.Context(), dir, true); err != nil {
		t.Fatal(err)
	}
	detached := v
	detached.Type = node.EventDetached
	a.expect(detached)
	if err := busy.Close(); err != nil {
		t.Fatal(err)
	}
	v.By = node.BySelf
	a.expect(v)

	_, v = show()
	late := s.listen(t, 6) // after the third mount
	detached.Type = node.EventDetached
	late.expect(detached)
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.expect(node.Event{Type: node.EventEnding})
	v.By = node.BySelf
	a.expect(v)
	for _, who := range []*audience{a, late} {
		if <-who.ended; who.err != nil {
			t.Errorf("after the end of the service: %v", who.err)
		}
	}
	for _, err := range s.Events(t.Context(), 0) {
		if !errors.Is(err, node.ErrNotRunning) {
			t.Errorf("Events without a service = %v, want %v", err, node.ErrNotRunning)
		}
	}
	if _, err := s.Metrics(t.Context()); !errors.Is(err, node.ErrNotRunning) {
		t.Errorf("Metrics without a service = %v, want %v", err, node.ErrNotRunning)
	}
}

// TestEventsOfTrouble has a source that lies, one that is down, and a cache without room.
func TestEventsOfTrouble(t *testing.T) {
	testenv.NoLeaks(t)
	w := newWorld(t)
	tree := grow(t, 31)
	ref := w.publish(tree, "trouble")
	s := serve(t, node.Options{CacheLimit: 1})
	info := s.mount(w, ref)
	a := s.listen(t, 2)
	file, large := first(t, tree, 1000), first(t, tree, 200<<10)
	if file == large {
		t.Fatalf("%s is the only file", file)
	}
	read := func(file string) error {
		_, err := os.ReadFile(filepath.Join(info.Dir, file))
		return err
	}
	w.lies.Store(true)
	if err := read(file); !errors.Is(err, unix.EIO) {
		t.Fatalf("read of wrong bytes = %v, want %v", err, unix.EIO)
	}
	v := a.next(node.EventQuarantined)
	if v.Source != w.url || v.Error == "" || v.Ref != ref || v.Dir != info.Dir {
		t.Errorf("event of wrong bytes = %+v, want the source %s, the mount and why", v, w.url)
	}
	a = s.listen(t, 2)
	v = a.next(node.EventReadError)
	last := s.only().Image.LastErrors
	if len(last) == 0 || v.Path != last[0].Path || v.Chunk != last[0].Chunk || v.Error != last[0].Text || !v.Time.Equal(last[0].Time) || v.Dir != info.Dir {
		t.Errorf("event of a failed read = %+v, want %+v", v, last)
	}
	w.lies.Store(false)
	until(t, "the file is readable again", func() bool { return read(file) == nil })
	if s.status().Cache.PassedChunks == 0 {
		t.Fatal("the cache keeps chunks though it has a limit of one byte")
	}
	w.down.Store(true)
	if err := read(large); !errors.Is(err, unix.EIO) {
		t.Fatalf("read without a source = %v, want %v", err, unix.EIO)
	}
	if v := a.next(node.EventCacheFull); v.Count == 0 {
		t.Errorf("event of a full cache = %+v, want a count", v)
	}
}

// TestEventsLost tells an end in order from one that is none.
func TestEventsLost(t *testing.T) {
	testenv.NoLeaks(t)
	c := startChild(t, newDirs(t))
	n := 0
	for v, err := range c.Events(t.Context(), 0) {
		switch n++; {
		case n == 1 && v.Type == node.EventServing:
			c.kill()
		case n == 2 && errors.Is(err, errs.ErrUnavailable):
		default:
			t.Errorf("pair %d = %+v, %v", n, v, err)
		}
	}
	if n != 2 {
		t.Errorf("%d pairs came, want an event and the loss", n)
	}
}

// figures are metrics as a strict reader sees them.
type figures struct {
	kind  map[string]string  // by metric
	value map[string]float64 // by metric with its labels, as written
}

// counters returns the samples that must not go back.
func (f figures) counters() map[string]float64 {
	all := map[string]float64{}
	for series, v := range f.value {
		name, _, _ := strings.Cut(series, "{")
		if f.kind[name] == "counter" {
			all[series] = v
		}
	}
	return all
}

func (s *service) metrics() figures {
	s.t.Helper()
	text, err := s.Metrics(s.t.Context())
	if err != nil {
		s.t.Fatalf("Metrics: %v", err)
	}
	f, err := parseMetrics(string(text))
	if err != nil {
		s.t.Fatalf("%v:\n%s", err, text)
	}
	return f
}

// TestMetrics compares the metrics with the status, and sees that the sums outlive a mount.
func TestMetrics(t *testing.T) {
	testenv.NoLeaks(t)
	w := newWorld(t)
	tree := grow(t, 32)
	ref := w.publish(tree, "metrics")
	version := "v1\"2\\3\n4"
	s := serve(t, node.Options{Version: version})
	if f := s.metrics(); f.value[`zosfs_mounts{mode="fuse"}`] != 0 || f.value["zosfs_reads_total"] != 0 {
		t.Errorf("metrics before the first mount = %v", f.value)
	}
	info := s.mount(w, ref)
	check(t, tree, info.Dir)
	m, f := s.only(), s.metrics()
	c := s.status().Cache
	source := `{source="` + w.url + `"}`
	for series, want := range map[string]int64{
		`zosfs_mounts{mode="` + string(m.Mode) + `"}`: 1,
		"zosfs_reads_total":                           m.Image.Reads,
		"zosfs_read_bytes_total":                      m.Image.BytesRead,
		"zosfs_read_errors_total":                     0,
		"zosfs_fetch_requests_total":                  m.Image.Requests,
		"zosfs_fetched_bytes_total":                   m.Image.BytesFetched,
		"zosfs_fetched_chunks_total":                  m.Image.ChunksFetched,
		"zosfs_source_requests_total" + source:        m.Sources[0].Requests,
		"zosfs_source_bytes_total" + source:           m.Sources[0].Bytes,
		"zosfs_source_errors_total" + source:          0,
		"zosfs_source_quarantined" + source:           0,
		"zosfs_cache_bytes":                           c.Bytes,
		"zosfs_cache_limit_bytes":                     c.Limit,
		"zosfs_cache_chunks":                          c.Chunks,
		"zosfs_cache_hits_total":                      c.Hits,
		"zosfs_cache_misses_total":                    c.Misses,
		"zosfs_cache_evicted_chunks_total":            0,
		"zosfs_cache_evicted_bytes_total":             0,
		`zosfs_kernel_requests_total{kind="read"}`:    int64(m.Kernel.Requests["read"]),
	} {
		if got, ok := f.value[series]; !ok || got != float64(want) {
			t.Errorf("%s = %v, %t; want %d", series, got, ok, want)
		}
	}
	for series, least := range map[string]float64{
		"zosfs_read_bytes_total": 1, "zosfs_fetched_bytes_total": 1, "zosfs_cache_chunks": 1, "zosfs_source_bytes_total" + source: 1,
		"zosfs_source_latency_seconds" + source: 1e-6, "process_resident_memory_bytes": 1 << 20, "process_open_fds": 5,
		"process_max_fds": 100, "process_start_time_seconds": float64(time.Now().Add(-time.Hour).Unix()),
	} {
		if got := f.value[series]; got < least {
			t.Errorf("%s = %v, want at least %v", series, got, least)
		}
	}
	if !slices.ContainsFunc(slices.Collect(keys(f.value)), func(series string) bool {
		return strings.HasPrefix(series, `zosfs_build_info{version="v1\"2\\3\n4",goversion="go`)
	}) {
		t.Errorf("no build info with the version %q", version)
	}
	if err := s.Unmount(t.Context(), info.Dir, false); err != nil {
		t.Fatal(err)
	}
	after := s.metrics()
	if n := after.value[`zosfs_mounts{mode="`+string(m.Mode)+`"}`]; n != 0 {
		t.Errorf("%v mounts after the unmount", n)
	}
	notBack(t, f.counters(), after.counters())
	info = s.mount(w, ref)
	check(t, tree, info.Dir)
	again := s.metrics()
	notBack(t, after.counters(), again.counters())
	if was, is := after.value["zosfs_read_bytes_total"], again.value["zosfs_read_bytes_total"]; is < 2*float64(m.Image.BytesRead) {
		t.Errorf("a second mount made %v of %v bytes read, want twice %d", is, was, m.Image.BytesRead)
	}
}

func keys(m map[string]float64) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// notBack fails where a counter has become smaller, or is gone.
func notBack(t *testing.T, before, after map[string]float64) {
	t.Helper()
	for series, was := range before {
		if is, ok := after[series]; !ok || is < was {
			t.Errorf("%s went from %v to %v (there: %t)", series, was, is, ok)
		}
	}
}

// TestMetricsNeverGoBack asks all the time while mounts come and go, two of one image at a time.
func TestMetricsNeverGoBack(t *testing.T) { eachMode(t, testMetricsNeverGoBack) }

func testMetricsNeverGoBack(t *testing.T, mode mount.Mode) {
	testenv.NoLeaks(t)
	w := newWorld(t)
	tree := grow(t, 33)
	ref := w.publish(tree, "back")
	s := serve(t, node.Options{})
	file := first(t, tree, 1000)
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		before := map[string]float64{}
		for {
			select {
			case <-done:
				return
			default:
			}
			text, err := s.Metrics(t.Context())
			f, perr := parseMetrics(string(text))
			if err := errors.Join(err, perr); err != nil {
				t.Error(err)
				return
			}
			notBack(t, before, f.counters())
			before = f.counters()
		}
	})
	for range 5 {
		both := []string{s.mountAs(w, ref, mode).Dir, s.mountAs(w, ref, mode).Dir}
		for _, dir := range both {
			if _, err := os.ReadFile(filepath.Join(dir, file)); err != nil {
				t.Error(err)
			}
		}
		for _, dir := range both {
			if err := s.Unmount(t.Context(), dir, false); err != nil {
				t.Error(err)
			}
		}
	}
	close(done)
	wg.Wait()
	for _, series := range []string{"zosfs_reads_total", `zosfs_kernel_requests_total{kind="read"}`} {
		if n := s.metrics().value[series]; n < 5 {
			t.Errorf("%s = %v, want at least 5", series, n)
		}
	}
}

// TestParseMetrics sees that the reader of the tests is strict.
func TestParseMetrics(t *testing.T) {
	const head = "# HELP a Text.\n# TYPE a counter\n"
	for _, good := range []string{"", head, head + "a 1\n", head + "a{x=\"\\\\\\\"\\n\",y=\"\"} 0.5\na{x=\"b\"} 1e+06\n"} {
		if _, err := parseMetrics(good); err != nil {
			t.Errorf("parse %q: %v", good, err)
		}
	}
	for _, bad := range []string{
		head + "a 1", "a 1\n", "# TYPE a counter\na 1\n", "# HELP a Text.\na 1\n", head + "b 1\n", head + "a\n", head + "a  1\n", head + "a x\n",
		head + "a -1\n", head + "a 1\na 2\n", head + head, head + "a{} 1\n", head + "a{x=\"\\x\"} 1\n", head + "a{x=\"\n\"} 1\n",
		head + "a{x=\"1\",x=\"2\"} 1\n", head + "a{x=\"1\" 1\n", head + "a{x=1} 1\n", head + "a{1x=\"1\"} 1\n", head + "\n", "# HELP a b\\c\n# TYPE a gauge\n",
		"# HELP a Text.\n# TYPE a number\n", head + "a NaN\n", head + "a{x=\"\xff\"} 1\n",
	} {
		if f, err := parseMetrics(bad); err == nil {
			t.Errorf("parse %q = %v, want an error", bad, f)
		}
	}
}

// TestDescriptors starts services with low limits.
func TestDescriptors(t *testing.T) {
	testenv.NoLeaks(t)
	dirs := newDirs(t)
	c := startManaged(t, managed{dirs: dirs, limits: "ulimit -Sn 300; ulimit -Hn 1000; "})
	st, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(st.Notes, func(n string) bool {
		return strings.Contains(n, "at most 1000 files") && strings.Contains(n, "LimitNOFILE")
	}) {
		t.Errorf("notes = %q, want the limit and what to do", st.Notes)
	}
	text, err := c.Metrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if f, err := parseMetrics(string(text)); err != nil || f.value["process_max_fds"] < 999 {
		t.Errorf("the service with a soft limit of 300 and a hard one of 1000 can open %s files, %v", strconv.FormatFloat(f.value["process_max_fds"], 'f', -1, 64), err)
	}
	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
}
