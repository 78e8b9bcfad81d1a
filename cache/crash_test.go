package cache_test

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/cache"
	"github.com/zosfs/zosfs/internal/testenv"
)

// childEnv makes the test binary the program that is killed: see TestKill.
const childEnv = "ZOSFS_CACHE_TEST_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		child(dir)
		return
	}
	os.Exit(m.Run())
}

// child stores one chunk after another and tells the number of each that is stored.
func child(dir string) {
	c, err := cache.Open(dir, killOptions)
	if err != nil {
		_, _ = fmt.Fprintln(os.Stdout, err)
		return
	}
	for i := 0; ; i++ {
		put(c, i, 100*(1+i%50))
		_, _ = fmt.Fprintln(os.Stdout, i)
	}
}

var killOptions = cache.Options{Limit: 300 << 10, SegmentSize: 32 << 10, Memory: -1}

// TestKill kills a process that stores, fills segments and evicts, at some moment: nothing
// that is found afterwards is wrong, and what the last segments held is found.
func TestKill(t *testing.T) {
	for _, lines := range []int{1, 20, 95, 300, 333} {
		dir := t.TempDir()
		last := killAfter(t, dir, lines)
		c := open(t, dir, killOptions)
		n := 0
		for i := range last + 1000 {
			if check(t, c, i, 100*(1+i%50)) {
				n++
			} else if i <= last && i > last-30 {
				t.Errorf("killed after %d: chunk %d, which was stored, is not held", last, i)
			}
		}
		s := c.Stats()
		if s.Damaged != 0 || s.ReadOnly || int64(n) != s.Chunks {
			t.Errorf("killed after %d: %d damaged, read-only %v, %d of %d chunks known", last, s.Damaged, s.ReadOnly, n, s.Chunks)
		}
		checkBytes(t, c, dir)
		shut(t, c)
	}
}

// killAfter returns the number of the last chunk that was acknowledged.
func killAfter(t *testing.T, dir string, lines int) int {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	sc, last := bufio.NewScanner(out), -1
	for n := 0; sc.Scan(); n++ {
		if n == lines {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
		if last, err = strconv.Atoi(sc.Text()); err != nil {
			t.Fatalf("child: %s", sc.Text())
		}
	}
	if err := cmd.Wait(); err == nil || last < lines {
		t.Fatalf("child ended by itself after %d: %v", last, err)
	}
	return last
}

// segment is a directory with one segment in it, and what is in that.
type segmentDir struct {
	dir, path string
	data      []byte
	starts    []int // of the records, and their end
	sealed    bool
}

const segmentChunks, chunkBytes, recordBytes = 3, 20, 48 + 32

// newSegmentDir makes a segment of three chunks, and closes it with a table if told to.
func newSegmentDir(t *testing.T, sealed bool) *segmentDir {
	t.Helper()
	d := &segmentDir{dir: t.TempDir(), sealed: sealed}
	c := open(t, d.dir, small)
	for i := range segmentChunks {
		put(c, i, chunkBytes)
	}
	if sealed {
		put(c, 100, 8<<10) // does not fit into the first segment
	}
	shut(t, c)
	d.path = filepath.Join(d.dir, "segments", "00000000.seg")
	if sealed {
		if err := os.Remove(filepath.Join(d.dir, "segments", "00000001.seg")); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if d.data, err = os.ReadFile(d.path); err != nil {
		t.Fatal(err)
	}
	for i := range segmentChunks {
		text, _ := text(i, chunkBytes)
		d.starts = append(d.starts, bytes.Index(d.data, text)-48)
	}
	d.starts = append(d.starts, d.starts[segmentChunks-1]+recordBytes)
	if whole := d.starts[segmentChunks] == len(d.data); d.starts[0] != 32 || whole == sealed {
		t.Fatalf("records at %v of %d bytes", d.starts, len(d.data))
	}
	return d
}

// with makes b the segment, and returns which of its chunks a new cache holds. That must
// also take another chunk, and keep it, and after one more start hold the same.
func (d *segmentDir) with(t *testing.T, b []byte) []int {
	t.Helper()
	for _, f := range segmentFiles(t, d.dir) {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(d.path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	c := open(t, d.dir, small)
	got := held(t, c, segmentChunks, chunkBytes)
	put(c, 50, chunkBytes)
	checkBytes(t, c, d.dir)
	shut(t, c)
	c = open(t, d.dir, small)
	if again := held(t, c, segmentChunks, chunkBytes); !cmp.Equal(again, got) || !check(t, c, 50, chunkBytes) {
		t.Errorf("held %v, and %v and the new chunk (%v) after another start", got, again, check(t, c, 50, chunkBytes))
	}
	shut(t, c)
	return got
}

func TestCutAnywhere(t *testing.T) {
	for _, sealed := range []bool{false, true} {
		d := newSegmentDir(t, sealed)
		for cut := range len(d.data) + 1 {
			want := 0
			for want < segmentChunks && d.starts[want+1] <= cut {
				want++
			}
			if got := d.with(t, d.data[:cut]); !cmp.Equal(got, span(0, want)) {
				t.Errorf("sealed %v, cut at %d: held %v, want the first %d", sealed, cut, got, want)
			}
		}
	}
}

func TestChangeAnywhere(t *testing.T) {
	for _, sealed := range []bool{false, true} {
		d := newSegmentDir(t, sealed)
		for i := range d.data {
			b := bytes.Clone(d.data)
			b[i] ^= 1 << (i % 8)
			if got, want := d.with(t, b), d.heldAfterChange(i); !cmp.Equal(got, want) {
				t.Errorf("sealed %v, byte %d changed: held %v, want %v", sealed, i, got, want)
			}
		}
	}
}

// heldAfterChange returns the chunks that are good when byte i of the segment is not.
func (d *segmentDir) heldAfterChange(i int) []int {
	var want []int
	for k := range segmentChunks {
		in := i - d.starts[k]
		switch {
		case i < d.starts[0]: // no segment at all
		case !d.sealed && in < 0 && (i-32)%recordBytes < 48: // a header before it is lost, and there is no table
		case in >= 0 && in < 48+chunkBytes:
		default:
			want = append(want, k)
		}
	}
	return want
}

// TestTails replaces what follows the records.
func TestTails(t *testing.T) {
	sealed, bare := newSegmentDir(t, true), newSegmentDir(t, false)
	records, table := bare.data, sealed.data[len(bare.data):]
	other := newSegmentDir(t, true)
	fewer := append(bytes.Clone(records[:bare.starts[2]]), table...)
	for name, c := range map[string]struct {
		b    []byte
		want int
	}{
		"no table":                {records, 3},
		"its table":               {sealed.data, 3},
		"zeros":                   {append(bytes.Clone(records), make([]byte, 5000)...), 3},
		"garbage":                 {append(bytes.Clone(records), other.data[100:]...), 3},
		"stale table":             {fewer, 2},
		"records after a table":   {append(bytes.Clone(sealed.data), records[32:]...), 3},
		"table twice":             {append(bytes.Clone(sealed.data), table...), 3},
		"half a record":           {append(bytes.Clone(records), records[32:100]...), 3},
		"header with no segment":  {records[:32], 0},
		"other file altogether":   {[]byte("#!/bin/sh\necho this is no segment at all, but a script\n"), 0},
		"empty":                   {nil, 0},
		"record not at its start": {append(bytes.Clone(records[:32]), records[33:]...), 0},
	} {
		t.Run(name, func(t *testing.T) {
			if got := sealed.with(t, c.b); !cmp.Equal(got, span(0, c.want)) {
				t.Errorf("held %v, want the first %d", got, c.want)
			}
		})
	}
}

func TestMiddleSegmentIsClosedAgain(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir, small)
	for i := range 30 {
		put(c, i, 1000)
	}
	shut(t, c)
	paths := segmentFiles(t, dir)
	before, err := os.ReadFile(paths[1])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(paths[1], int64(len(before)-10)); err != nil {
		t.Fatal(err)
	}
	c = open(t, dir, small)
	if got := len(held(t, c, 30, 1000)); got != 30 {
		t.Errorf("%d of 30 chunks held", got)
	}
	if after, err := os.ReadFile(paths[1]); err != nil || !bytes.Equal(after, before) {
		t.Errorf("the table was not rebuilt as it was: %v", err)
	}
}

func TestGarbageInDirectory(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir, small)
	put(c, 1, 1000)
	if err := c.Pin("good", pinned([]int{1}, 1000)); err != nil {
		t.Fatal(err)
	}
	shut(t, c)
	var kept []string
	for _, f := range []struct {
		path string
		keep bool
	}{
		{"segments/README", true}, {"segments/1.seg", true}, {"segments/00000001.seg~", true},
		{"segments/0000abcd.seg", false}, {"segments/ffffffff.seg", false},
		{"pins/.zosfs-tmp-abc", false}, {"pins/bad.pin", true}, {"pins/%2x.pin", true}, {"pins/.pin", true}, {"other", true},
	} {
		path := filepath.Join(dir, f.path)
		if err := os.WriteFile(path, []byte("garbage, and nothing else but garbage"), 0o600); err != nil {
			t.Fatal(err)
		}
		if f.keep {
			kept = append(kept, path)
		} else {
			t.Cleanup(func() {
				if _, err := os.Stat(path); !os.IsNotExist(err) {
					t.Errorf("%s is still there", path)
				}
			})
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "segments", "00000100.seg"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/zero", filepath.Join(dir, "segments", "00000200.seg")); err != nil {
		t.Fatal(err)
	}
	c = open(t, dir, small)
	if got := c.Pins(); !cmp.Equal(got, []string{"good"}) || !check(t, c, 1, 1000) {
		t.Errorf("pins %q, chunk held %v", got, check(t, c, 1, 1000))
	}
	for i := range 200 {
		put(c, i, 1000)
	}
	for _, path := range kept {
		if _, err := os.Stat(path); err != nil {
			t.Errorf("not ours, but gone: %v", err)
		}
	}
	if err := c.Unpin("bad"); err != nil {
		t.Errorf("Unpin of one that cannot be read = %v", err)
	}
}

// TestFullDisk fills a file system of 1 MiB: reads go on, from memory and from what was
// stored, and storing does once there is room.
func TestFullDisk(t *testing.T) {
	testenv.NeedRoot(t)
	dir := t.TempDir()
	testenv.Mounted(t, dir)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	c := open(t, dir, cache.Options{Limit: 10 << 20, SegmentSize: 256 << 10, Memory: 30_000})
	var stored []int
	for i := range 200 {
		put(c, i, 10_000)
		if !check(t, c, i, 10_000) {
			t.Fatalf("chunk %d cannot be read right after it came", i)
		}
	}
	stored = held(t, c, 190, 10_000)
	s := c.Stats()
	if s.WriteErrors == 0 || s.PassedChunks == 0 || s.Damaged != 0 || len(stored) < 80 || int64(len(stored)) != s.Chunks {
		t.Errorf("%d held, %+v", len(stored), s)
	}
	checkBytes(t, c, dir)
	if err := c.Pin("a", pinned(span(0, 50_000), 1)); err == nil {
		t.Error("a pin went onto a full disk")
	}
	if freed, err := c.Prune(t.Context(), s.Bytes/2); err != nil || freed < s.Bytes/3 {
		t.Errorf("Prune on a full disk = %d, %v", freed, err)
	}
	put(c, 1000, 10_000)
	for i := range 5 {
		put(c, 2000+i, 10_000)
	}
	if !check(t, c, 1000, 10_000) {
		t.Error("a chunk was not stored although there is room again")
	}
	shut(t, c)
	c = open(t, dir, cache.Options{Limit: 10 << 20, Memory: -1})
	if got := held(t, c, 190, 10_000); int64(len(got)) != c.Stats().Chunks-6 {
		t.Errorf("%d held after another start, Stats say %d", len(got), c.Stats().Chunks-6)
	}
}

// TestFullDiskAtLimit fills the disk below the limit with pinned chunks: eviction, which
// must copy them, cannot; they stay.
func TestFullDiskAtLimit(t *testing.T) {
	testenv.NeedRoot(t)
	dir := t.TempDir()
	testenv.Mounted(t, dir)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Fatal(err)
	}
	c := open(t, dir, cache.Options{Limit: 160 << 10, SegmentSize: 40 << 10, Memory: -1})
	keep := []int{0, 2, 4, 6, 8, 10, 12, 14, 16, 18}
	if err := c.Pin("a", pinned(keep, 4000)); err != nil {
		t.Fatal(err)
	}
	for i := range 36 {
		put(c, i, 4000)
	}
	if err := os.WriteFile(filepath.Join(dir, "hog"), make([]byte, 200<<10), 0o600); err == nil {
		t.Fatal("the disk is not full")
	}
	for i := 100; i < 200; i++ {
		put(c, i, 4000)
	}
	if err := os.Remove(filepath.Join(dir, "hog")); err != nil {
		t.Fatal(err)
	}
	checkBytes(t, c, dir)
	var got []int
	for _, i := range keep {
		if check(t, c, i, 4000) {
			got = append(got, i)
		}
	}
	if !cmp.Equal(got, keep) {
		t.Errorf("held %v of the pinned %v", got, keep)
	}
	if c.Stats().WriteErrors == 0 {
		t.Error("no write error was counted")
	}
}
