package term

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zosfs/zosfs/internal/testenv"
)

// openPTY returns the two ends of a new terminal of that many columns.
func openPTY(t *testing.T, columns uint16) (master, tty *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = master.Close() })
	fd := int(master.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tty.Close() })
	if err := unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns}); err != nil {
		t.Fatal(err)
	}
	return master, tty
}

// A screen shows what a terminal of any height does, as far as progress needs it.
type screen struct {
	t     *testing.T
	from  *os.File
	rows  []string // the last is that of the cursor
	drawn int      // lines ended
}

// readUntil reads until want says that the screen is as it should be.
func (s *screen) readUntil(want func() bool) {
	s.t.Helper()
	if len(s.rows) == 0 {
		s.rows = []string{""}
	}
	buf := make([]byte, 4096)
	for !want() {
		n, err := s.from.Read(buf)
		if err != nil {
			s.t.Fatalf("read terminal: %v; it shows %q", err, s.rows)
		}
		s.write(string(buf[:n]))
	}
}

func (s *screen) write(p string) {
	for p != "" {
		last := len(s.rows) - 1
		switch up, rest, ok := strings.Cut(p, "A\x1b[J"); {
		case strings.HasPrefix(p, "\x1b[K"): // it follows a carriage return
			s.rows[last], p = "", p[len("\x1b[K"):]
		case strings.HasPrefix(p, "\x1b[") && ok:
			var n int
			if _, err := fmt.Sscanf(up, "\x1b[%d", &n); err != nil || n > last {
				s.t.Fatalf("terminal got %q in line %d", p, last)
			}
			s.rows, p = append(s.rows[:last-n], ""), rest
		case p[0] == '\n':
			s.rows, p = append(s.rows, ""), p[1:]
			s.drawn++
		case p[0] == '\r':
			p = p[1:]
		default:
			end := strings.IndexAny(p, "\r\n\x1b")
			if end == 0 {
				s.t.Fatalf("terminal got %q", p)
			}
			if end < 0 {
				end = len(p)
			}
			s.rows[last] += p[:end]
			p = p[end:]
		}
	}
}

// mark is printed after a progress, to tell where its output ends.
const mark = "--after--"

func (s *screen) readToMark(tty *os.File) string {
	s.t.Helper()
	if _, err := tty.WriteString(mark); err != nil {
		s.t.Fatal(err)
	}
	s.readUntil(func() bool { return strings.HasSuffix(s.rows[len(s.rows)-1], mark) })
	return strings.TrimSuffix(strings.Join(s.rows, "\n"), mark)
}

// counted works until the terminal shows it.
func counted(t *testing.T, columns uint16) (*Progress, *screen, *os.File) {
	t.Helper()
	t.Setenv("TERM", "xterm")
	testenv.NoLeaks(t)
	master, tty := openPTY(t, columns)
	p := NewProgress(tty, "pack", Options{})
	p.Set(1500, 3<<20, 4<<20)
	p.Deduped.Store(1 << 20)
	s := &screen{t: t, from: master}
	s.readUntil(func() bool { return strings.Contains(strings.Join(s.rows, "\n"), "3.0 MiB of 4.0 MiB  75 %") })
	return p, s, tty
}

func TestDone(t *testing.T) {
	p, s, tty := counted(t, 120)
	p.Set(2000, 4<<20, 4<<20)
	p.Done()
	p.Done()
	p.Abort()
	got := s.readToMark(tty)
	if !strings.HasPrefix(got, "pack  [####") || !strings.Contains(got, "4.0 MiB  100 %  in 0:0") ||
		!strings.HasSuffix(got, "2,000 files  25 % deduplicated\n") || strings.Count(got, "\n") != 1 {
		t.Errorf("after Done the terminal shows %q", got)
	}
	if s.drawn < 2 {
		t.Errorf("drawn %d times; what came before Done was not seen", s.drawn)
	}
}

func TestAbort(t *testing.T) {
	p, s, tty := counted(t, 80)
	p.Abort()
	p.Abort()
	p.Done()
	if got := s.readToMark(tty); got != "" {
		t.Errorf("after Abort the terminal shows %q, want nothing", got)
	}
}

func TestNarrow(t *testing.T) {
	p, s, tty := counted(t, 31)
	for _, row := range s.rows {
		if len(row) > 30 {
			t.Errorf("%d columns in a terminal of 31: %q", len(row), row)
		}
	}
	p.Abort()
	s.readToMark(tty)
}

// TestFollow looks at the terminal for what only update can have counted.
func TestFollow(t *testing.T) {
	t.Setenv("TERM", "xterm")
	testenv.NoLeaks(t)
	master, tty := openPTY(t, 80)
	p := NewProgress(tty, "unpack", Options{Unit: "things"})
	var mu sync.Mutex
	looks, count := 0, int64(1)
	stop := p.Follow(func() {
		mu.Lock()
		defer mu.Unlock()
		looks++
		p.Set(count, count, 0)
	})
	s := &screen{t: t, from: master}
	shows := func(text string) func() bool {
		return func() bool { return strings.Contains(strings.Join(s.rows, "\n"), text) }
	}
	s.readUntil(shows("1 things"))
	mu.Lock()
	count = 2
	mu.Unlock()
	s.readUntil(shows("2 things"))
	mu.Lock()
	count = 3
	mu.Unlock()
	stop()
	stop()
	looksAtStop := looks
	p.Done()
	if got := s.readToMark(tty); !strings.Contains(got, "3 things\n") {
		t.Errorf("after stop and Done the terminal shows %q, want the last count", got)
	}
	if looks != looksAtStop {
		t.Errorf("update was called after stop")
	}
}

func TestNothingShown(t *testing.T) {
	t.Setenv("TERM", "xterm")
	testenv.NoLeaks(t)
	tests := []struct {
		name string
		term string
		o    Options
	}{
		{"quiet", "xterm", Options{Quiet: true}},
		{"json", "xterm", Options{JSON: true}},
		{"dumb terminal", "dumb", Options{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("TERM", tt.term)
			master, tty := openPTY(t, 80)
			p := NewProgress(tty, "pack", tt.o)
			p.Set(1, 2, 3)
			p.Done()
			s := &screen{t: t, from: master}
			if got := s.readToMark(tty); got != "" || s.drawn > 0 {
				t.Errorf("the terminal shows %q, %d lines were drawn", got, s.drawn)
			}
		})
	}
	t.Run("no terminal", func(t *testing.T) {
		var out bytes.Buffer
		p := NewProgress(&out, "pack", Options{})
		followed := 0
		stop := p.Follow(func() { followed++ })
		stop()
		p.Abort()
		p.Done()
		if out.Len() > 0 || followed != 1 {
			t.Errorf("written %q, followed %d times, want nothing, once", out.String(), followed)
		}
	})
}
