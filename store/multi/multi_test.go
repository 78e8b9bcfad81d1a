package multi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/store"
	"github.com/zosfs/zosfs/store/mem"
	"github.com/zosfs/zosfs/store/multi"
	"github.com/zosfs/zosfs/store/storetest"
)

// big is a blob that takes a while on a slow line.
var big = storetest.NewBlob(0, storetest.Chunk(1, 1<<20))

// world is a Store over sources that hold some blobs and do as they are told.
type world struct {
	*multi.Store
	t       *testing.T
	faults  map[string]*storetest.Fault
	reports []string
}

// in runs test in a bubble of time, with a source for each of effects, in the order of names
// "a", "b" and so on, and sees to it that no goroutine and no open body is left.
func in(t *testing.T, o multi.Options, test func(*world), effects ...storetest.Effect) {
	t.Helper()
	testenv.NoLeaks(t)
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, faults: make(map[string]*storetest.Fault)}
		var sources []multi.Source
		for i, e := range effects {
			inner, name := mem.New(), string(rune('a'+i))
			for _, b := range append(storetest.Blobs(3), big) {
				if err := inner.Put(t.Context(), b.Digest, b.Data); err != nil {
					t.Fatal(err)
				}
			}
			w.faults[name] = storetest.NewFault(inner, nil)
			w.set(name, e)
			sources = append(sources, multi.Source{Name: name, Getter: w.faults[name]})
		}
		report := func(name string, reason error) {
			if !errors.Is(reason, errs.ErrCorrupt) {
				t.Errorf("report of %s: %v, want %v", name, reason, errs.ErrCorrupt)
			}
			w.reports = append(w.reports, name)
		}
		if o.Report == nil {
			o.Report = report
		}
		w.Store = multi.New(sources, o)
		test(w)
		if err := w.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		for name, f := range w.faults {
			if n := f.Open(); n != 0 {
				t.Errorf("source %s has %d bodies open after Close", name, n)
			}
		}
	})
}

// set makes e happen to every call of a source.
func (w *world) set(name string, e storetest.Effect) {
	w.faults[name].SetHook(func(storetest.Call) storetest.Effect { return e })
}

// read reads and checks a blob, and returns how long it took.
func (w *world) read(b storetest.Blob) (time.Duration, error) {
	start, p := time.Now(), make([]byte, b.Size())
	err := w.GetChecked(w.t.Context(), b.Digest, 0, p, b.Digest.Check)
	if err == nil && !bytes.Equal(p, b.Data) {
		w.t.Error("GetChecked returned without error, and the buffer holds other bytes")
	}
	return time.Since(start), err
}

// mustRead reads a blob and returns how long it took.
func (w *world) mustRead(b storetest.Blob) time.Duration {
	w.t.Helper()
	took, err := w.read(b)
	if err != nil {
		w.t.Fatalf("GetChecked: %v", err)
	}
	return took
}

// asked returns how many requests each source has had.
func (w *world) asked() string {
	var out []string
	for _, s := range w.Stats() {
		out = append(out, fmt.Sprintf("%s%d", s.Name, s.Requests))
	}
	return strings.Join(out, " ")
}

func (w *world) wantAsked(want string) {
	w.t.Helper()
	if got := w.asked(); got != want {
		w.t.Errorf("requests so far: %s, want %s", got, want)
	}
}

var (
	good   = storetest.Effect{Delay: 10 * time.Millisecond}
	down   = storetest.Effect{Err: errs.ErrUnavailable}
	denied = storetest.Effect{Err: errs.ErrDenied}
	absent = storetest.Effect{Err: errs.ErrNotFound}
	full   = storetest.Effect{Err: errs.ErrFull}
	lying  = storetest.Effect{Delay: 5 * time.Millisecond, Flip: storetest.FlipAt(100)}
	liar2  = storetest.Effect{Delay: 5 * time.Millisecond, Flip: storetest.FlipAt(200)}
	cut    = storetest.Effect{End: storetest.Cut, After: 50}
	short  = storetest.Effect{End: storetest.Short, After: 50}
	hang   = storetest.Effect{End: storetest.Hang, After: 50}
	dead   = storetest.Effect{End: storetest.Hang} // answers, and then nothing
	asleep = storetest.Effect{Delay: time.Hour}
	odd    = storetest.Effect{Err: errors.New("none of the kinds")}
)

// TestFailover has a bad first source and a good second one: the read succeeds, and at once
// where the first one fails at once.
func TestFailover(t *testing.T) {
	for name, tt := range map[string]struct {
		effect storetest.Effect
		most   time.Duration
	}{
		"down": {down, 10 * time.Millisecond}, "denied": {denied, 10 * time.Millisecond}, "absent": {absent, 10 * time.Millisecond},
		"odd": {odd, 10 * time.Millisecond}, "lying": {lying, 15 * time.Millisecond}, "cut": {cut, 10 * time.Millisecond},
		"short": {short, 10 * time.Millisecond}, "busy": {storetest.Effect{Err: storetest.Busy(time.Hour)}, 10 * time.Millisecond},
		"hang": {hang, 130 * time.Millisecond}, "dead": {dead, 130 * time.Millisecond}, "asleep": {asleep, 130 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, multi.Options{}, func(w *world) {
				if took := w.mustRead(storetest.Blobs(1)[0]); took > tt.most {
					t.Errorf("took %v, want at most %v", took, tt.most)
				}
				w.wantAsked("a1 b1")
			}, tt.effect, good)
		})
	}
}

// TestErrorKinds has sources that all fail and tells which kind of failure comes out.
func TestErrorKinds(t *testing.T) {
	tests := []struct {
		name    string
		effects []storetest.Effect
		want    error
	}{
		{"all absent", []storetest.Effect{absent, absent}, errs.ErrNotFound},
		{"all denied", []storetest.Effect{denied, denied}, errs.ErrDenied},
		{"all lie", []storetest.Effect{lying, liar2}, errs.ErrCorrupt},
		{"all down", []storetest.Effect{down, down}, errs.ErrUnavailable},
		{"absent and denied", []storetest.Effect{absent, denied}, errs.ErrDenied},
		{"absent and full", []storetest.Effect{absent, full}, errs.ErrFull},
		{"denied and lying", []storetest.Effect{denied, lying}, errs.ErrCorrupt},
		{"lying and odd", []storetest.Effect{lying, odd}, odd.Err},
		{"odd and down", []storetest.Effect{odd, down}, errs.ErrUnavailable},
		{"absent, lying and cut", []storetest.Effect{absent, lying, cut}, errs.ErrUnavailable},
		{"short", []storetest.Effect{short}, errs.ErrUnavailable},
		{"no sources", nil, errs.ErrUnavailable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in(t, multi.Options{}, func(w *world) {
				_, err := w.read(storetest.Blobs(1)[0])
				if !errors.Is(err, tt.want) {
					t.Errorf("GetChecked = %v, want %v", err, tt.want)
				}
				for _, kind := range errs.All() {
					if errors.Is(err, kind) && kind != tt.want { //nolint:errorlint // the kinds themselves
						t.Errorf("GetChecked = %v, which is %v too", err, kind)
					}
				}
				var e *multi.Error
				if !errors.As(err, &e) || len(e.Tried) != len(tt.effects) {
					t.Fatalf("GetChecked = %#v, want a *multi.Error with %d sources", err, len(tt.effects))
				}
				for i, f := range e.Tried {
					if want := string(rune('a' + i)); f.Source != want || f.Err == nil || !strings.Contains(err.Error(), want+": "+f.Err.Error()) {
						t.Errorf("source %d in %q: %v", i, err, f)
					}
				}
			}, tt.effects...)
		})
	}
}

func TestRetryAfterComesOut(t *testing.T) {
	in(t, multi.Options{}, func(w *world) {
		_, err := w.read(big)
		if busy, ok := errors.AsType[*store.RetryAfterError](err); !ok || busy.After != time.Minute {
			t.Errorf("GetChecked = %v, want what the busy source asked for", err)
		}
	}, absent, storetest.Effect{Err: storetest.Busy(time.Minute)})
}

// TestHedge has a first source that becomes slow once it is known, and counts requests and time.
func TestHedge(t *testing.T) {
	small := storetest.Blobs(1)[0]
	in(t, multi.Options{}, func(w *world) {
		for range 50 {
			w.mustRead(small)
		}
		w.wantAsked("a50 b0") // nobody else is asked while all is well
		w.set("a", asleep)
		if took := w.mustRead(small); took < 100*time.Millisecond || took > 150*time.Millisecond {
			t.Errorf("with a slow first source: %v, want 100ms, the time of the other, and little more", took)
		}
		w.wantAsked("a51 b1")
		for range 10 {
			if took := w.mustRead(small); took > 20*time.Millisecond {
				t.Errorf("after that: %v, want the time of the good source", took)
			}
		}
		w.wantAsked("a51 b11")
		w.set("a", good)
		for range 200 { // it is found again by itself
			time.Sleep(time.Second)
			w.mustRead(small)
		}
		if a := w.Stats()[0].Requests; a < 100 {
			t.Errorf("%d requests went to the first source, want it preferred again", a)
		}
	}, good, storetest.Effect{Delay: 12 * time.Millisecond})
}

// TestHedgeAdapts has a first source that is far away: its usual time is not slow.
func TestHedgeAdapts(t *testing.T) {
	small := storetest.Blobs(1)[0]
	in(t, multi.Options{}, func(w *world) {
		w.mustRead(small) // may ask the other one: nothing is known yet
		before := w.Stats()[1].Requests
		for i := range 100 { // 140 to 158 ms
			w.set("a", storetest.Effect{Delay: 140*time.Millisecond + time.Duration(i%10)*2*time.Millisecond})
			w.mustRead(small)
		}
		if hedges := w.Stats()[1].Requests - before; hedges > 5 {
			t.Errorf("%d of 100 requests were made twice, want at most one in twenty", hedges)
		}
	}, storetest.Effect{Delay: 150 * time.Millisecond}, storetest.Effect{Delay: 400 * time.Millisecond})
}

// TestHedgeSize has a thin line: the time that the bytes take is not slow.
func TestHedgeSize(t *testing.T) {
	thin := storetest.Effect{Delay: 25 * time.Millisecond, Rate: 256 << 10}
	in(t, multi.Options{}, func(w *world) {
		for range 3 {
			w.mustRead(big) // 4 s
		}
		before := w.Stats()[1].Requests
		for range 10 {
			w.mustRead(big)
		}
		if hedges := w.Stats()[1].Requests - before; hedges > 0 {
			t.Errorf("%d of 10 requests were made twice", hedges)
		}
	}, thin, thin)
}

func TestHedgeOptions(t *testing.T) {
	in(t, multi.Options{SlowMin: time.Second}, func(w *world) {
		small := storetest.Blobs(1)[0]
		if took := w.mustRead(small); took < time.Second || took > 1100*time.Millisecond {
			t.Errorf("took %v, want SlowMin", took)
		}
	}, asleep, good)
}

// TestAllSlow has three sources asleep and then a good one.
func TestAllSlow(t *testing.T) {
	in(t, multi.Options{}, func(w *world) {
		if took := w.mustRead(storetest.Blobs(1)[0]); took > 900*time.Millisecond {
			t.Errorf("took %v, want 100, 200 and 400 ms", took)
		}
		w.wantAsked("a1 b1 c1 d1")
	}, asleep, hang, dead, good)
}

func TestSlowFirstStillWins(t *testing.T) {
	in(t, multi.Options{}, func(w *world) {
		if took := w.mustRead(storetest.Blobs(1)[0]); took != 300*time.Millisecond {
			t.Errorf("took %v, want the 300ms of the first source", took)
		}
	}, storetest.Effect{Delay: 300 * time.Millisecond}, asleep)
}

func TestQuarantine(t *testing.T) {
	blobs := storetest.Blobs(3)
	in(t, multi.Options{}, func(w *world) {
		for range 20 {
			w.mustRead(blobs[0])
		}
		w.wantAsked("a1 b20")
		if diff := cmp.Diff([]string{"a"}, w.reports); diff != "" {
			t.Errorf("reports (-want +got):\n%s", diff)
		}
		st := w.Stats()
		if !st[0].Quarantined || st[0].Reason == "" || st[0].Errors != 1 || st[1].Quarantined || st[1].Reason != "" {
			t.Errorf("Stats = %+v, want a in quarantine with a reason", st)
		}
		w.set("b", down)
		if _, err := w.read(blobs[1]); !errors.Is(err, errs.ErrUnavailable) || !strings.Contains(err.Error(), "a: ") {
			t.Errorf("GetChecked with b down = %v, want a tried at last", err)
		}
		w.set("a", good)
		w.mustRead(blobs[1]) // only the quarantined one is left
		w.set("b", good)
		time.Sleep(9 * time.Minute)
		w.mustRead(blobs[1])
		before := w.Stats()[0].Requests
		w.mustRead(blobs[1])
		if n := w.Stats()[0].Requests - before; n != 0 {
			t.Errorf("%d requests to a source in quarantine", n)
		}
		time.Sleep(2 * time.Minute)
		if w.Stats()[0].Quarantined {
			t.Error("still in quarantine after 11 minutes")
		}
		for range 5 {
			w.mustRead(blobs[2])
			time.Sleep(time.Minute)
		}
		if w.Stats()[0].Requests == before {
			t.Error("not asked again after its quarantine")
		}
	}, lying, good)
}

func TestQuarantineJustice(t *testing.T) {
	tests := []struct {
		name    string
		effects []storetest.Effect
		want    []string
	}{
		{"alone", []storetest.Effect{lying}, []string{"a"}},
		{"same wrong bytes everywhere", []storetest.Effect{lying, lying, lying}, nil},
		{"same wrong bytes, another down", []storetest.Effect{lying, lying, down}, nil},
		{"same wrong bytes, but one is right", []storetest.Effect{lying, lying, good}, []string{"a", "b"}},
		{"different wrong bytes", []storetest.Effect{lying, liar2}, []string{"a", "b"}},
		{"calls itself damaged", []storetest.Effect{{Err: errs.ErrCorrupt}, good}, []string{"a"}},
		{"both call themselves damaged", []storetest.Effect{{Err: errs.ErrCorrupt}, {Err: errs.ErrCorrupt}}, []string{"a", "b"}},
		{"honest", []storetest.Effect{absent, denied, down, cut, short, good}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in(t, multi.Options{}, func(w *world) {
				_, _ = w.read(storetest.Blobs(1)[0])
				if diff := cmp.Diff(tt.want, w.reports); diff != "" {
					t.Errorf("reports (-want +got):\n%s", diff)
				}
				for _, s := range w.Stats() {
					if s.Quarantined != slices.Contains(tt.want, s.Name) {
						t.Errorf("%s in quarantine: %v", s.Name, s.Quarantined)
					}
				}
			}, tt.effects...)
		})
	}
}

// TestCheckVerdict has a check that fails for a reason that is no source's fault.
func TestCheckVerdict(t *testing.T) {
	in(t, multi.Options{}, func(w *world) {
		b, calls := storetest.Blobs(1)[0], 0
		err := w.GetChecked(w.t.Context(), b.Digest, 0, make([]byte, 10), func([]byte) error { calls++; return errs.ErrFormat })
		if !errors.Is(err, errs.ErrFormat) || calls != 1 {
			t.Errorf("GetChecked = %v after %d checks, want %v after 1", err, calls, errs.ErrFormat)
		}
		w.wantAsked("a1 b0")
		if w.Stats()[0].Errors != 0 || len(w.reports) > 0 {
			t.Error("the source was blamed")
		}
		if err := w.GetChecked(w.t.Context(), b.Digest, 0, nil, func([]byte) error { return errs.ErrFull }); !errors.Is(err, errs.ErrFull) {
			t.Errorf("GetChecked of nothing = %v, want the verdict of check", err)
		}
	}, good, good)
}

func TestNotFoundRemembered(t *testing.T) {
	blobs := storetest.Blobs(2)
	in(t, multi.Options{}, func(w *world) {
		w.mustRead(blobs[0])
		w.mustRead(blobs[0])
		w.wantAsked("a1 b2")
		w.set("b", absent)
		if _, err := w.read(blobs[1]); !errors.Is(err, errs.ErrNotFound) { // another blob
			t.Errorf("GetChecked = %v, want %v", err, errs.ErrNotFound)
		}
		w.wantAsked("a2 b3")
		if _, err := w.read(blobs[0]); !errors.Is(err, errs.ErrNotFound) {
			t.Errorf("GetChecked = %v, want %v", err, errs.ErrNotFound)
		}
		if _, err := w.read(blobs[0]); !errors.Is(err, errs.ErrNotFound) { // from memory alone
			t.Errorf("GetChecked = %v, want %v", err, errs.ErrNotFound)
		}
		w.wantAsked("a2 b4")
		w.set("a", good)
		time.Sleep(time.Second)
		w.mustRead(blobs[0])
		if n := w.Stats()[0].Requests; n != 3 {
			t.Errorf("%d requests to a, want 3: it is asked again after a second", n)
		}
		for _, s := range w.Stats() {
			if s.Errors != 0 {
				t.Errorf("%s has %d errors, want none: not to hold a blob is no failure", s.Name, s.Errors)
			}
		}
	}, absent, good)
}

func TestContext(t *testing.T) {
	in(t, multi.Options{}, func(w *world) {
		b := storetest.Blobs(1)[0]
		ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
		defer cancel()
		start := time.Now()
		err := w.GetChecked(ctx, b.Digest, 0, make([]byte, 10), b.Digest.Check)
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, errs.ErrUnavailable) || time.Since(start) != 30*time.Second {
			t.Errorf("GetChecked = %v after %v, want %v after 30s", err, time.Since(start), context.DeadlineExceeded)
		}
		for _, name := range []string{"a: no answer in 30s", "b: no answer in 29.", "c: access denied"} {
			if !strings.Contains(err.Error(), name) {
				t.Errorf("error %q does not say %q", err, name)
			}
		}
		n := w.asked()
		if _, err := w.Get(ctx, b.Digest, 0, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Get with an ended context = %v", err)
		}
		w.wantAsked(n)
	}, asleep, asleep, denied)
}

// TestStubborn has a source that does not end with its context: the caller is not held up,
// and Close is.
func TestStubborn(t *testing.T) {
	testenv.NoLeaks(t)
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		b, inner := storetest.Blobs(1)[0], mem.New()
		if err := inner.Put(t.Context(), b.Digest, b.Data); err != nil {
			t.Fatal(err)
		}
		m := multi.New([]multi.Source{{"a", stubborn{release}}, {"b", inner}}, multi.Options{})
		if err := m.GetChecked(t.Context(), b.Digest, 0, make([]byte, b.Size()), b.Digest.Check); err != nil {
			t.Error(err)
		}
		closed := make(chan error)
		go func() { closed <- m.Close() }()
		synctest.Wait()
		select {
		case err := <-closed:
			t.Errorf("Close = %v before the goroutine of the stubborn source ended", err)
		default:
		}
		close(release)
		if err := <-closed; err != nil {
			t.Error(err)
		}
	})
}

type stubborn struct{ release <-chan struct{} }

func (s stubborn) Get(context.Context, blob.Digest, int64, int64) (io.ReadCloser, error) {
	<-s.release
	return nil, errs.ErrUnavailable
}

func TestClosed(t *testing.T) {
	in(t, multi.Options{}, func(w *world) {
		done := make(chan error)
		go func() {
			_, err := w.read(big)
			done <- err
		}()
		synctest.Wait()
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; !errors.Is(err, fs.ErrClosed) {
			t.Errorf("GetChecked when Close came = %v, want %v", err, fs.ErrClosed)
		}
		if _, err := w.read(big); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("GetChecked after Close = %v, want %v", err, fs.ErrClosed)
		}
	}, asleep)
}

func TestGet(t *testing.T) {
	for name, effect := range map[string]storetest.Effect{"good": good, "down": down, "asleep": asleep, "absent": absent} {
		t.Run(name, func(t *testing.T) {
			in(t, multi.Options{}, func(w *world) {
				for _, n := range []int64{-1, 0, 100, big.Size() - 7} {
					rc, err := w.Get(w.t.Context(), big.Digest, 7, n)
					if err != nil {
						t.Fatal(err)
					}
					got, err := io.ReadAll(rc)
					if n < 0 {
						n = big.Size() - 7
					}
					if err != nil || !bytes.Equal(got, big.Data[7:7+n]) {
						t.Errorf("Get: %d bytes, %v, want %d", len(got), err, n)
					}
					for range 2 {
						if err := rc.Close(); err != nil {
							t.Errorf("Close: %v", err)
						}
					}
				}
			}, effect, good)
		})
	}
	in(t, multi.Options{}, func(w *world) {
		_, err := w.Get(w.t.Context(), big.Digest, big.Size()+1, 1)
		if _, outside := errors.AsType[*store.RangeError](err); !outside || w.Stats()[0].Errors != 0 {
			t.Errorf("Get outside of the blob = %v, want a *store.RangeError and nobody blamed", err)
		}
	}, good)
}

func TestLink(t *testing.T) {
	in(t, multi.Options{}, func(w *world) {
		if d, r := w.Link(); d != 0 || r != 0 {
			t.Errorf("Link before any request = %v, %v, want zeros", d, r)
		}
		small := storetest.Blobs(1)[0] // too small to tell the rate
		w.mustRead(small)
		if d, _ := w.Link(); d != 0 {
			t.Errorf("Link after one request = %v, want 0: it may have waited for the connection", d)
		}
		for range 3 {
			w.mustRead(small)
		}
		if d, r := w.Link(); d < 50*time.Millisecond || r != 0 {
			t.Errorf("Link after small requests = %v, %v, want the delay and no rate", d, r)
		}
		for range 5 {
			w.mustRead(big)
		}
		d, r := w.Link()
		if d < 50*time.Millisecond || d > 60*time.Millisecond {
			t.Errorf("delay = %v, want 50ms and the first bytes", d)
		}
		if r < 2.4e6 || r > 2.6e6 {
			t.Errorf("bandwidth = %v, want 2.5e6 bytes a second", r)
		}
		// The line is longer now: the least delay is forgotten after two windows.
		w.set("a", storetest.Effect{Delay: 200 * time.Millisecond, Rate: 2_500_000})
		for range 60 {
			w.mustRead(big)
		}
		if d, _ := w.Link(); d < 200*time.Millisecond {
			t.Errorf("delay = %v, want 200ms after it changed", d)
		}
	}, storetest.Effect{Delay: 50 * time.Millisecond, Rate: 2_500_000})
}

// TestLinkShared has four readers at once on one line of 4 MB/s, of which each gets a fourth.
func TestLinkShared(t *testing.T) {
	in(t, multi.Options{}, func(w *world) {
		var g errgroup.Group
		for range 4 {
			g.Go(func() error {
				for range 10 {
					if _, err := w.read(big); err != nil {
						return err
					}
				}
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			t.Error(err)
		}
		if _, r := w.Link(); r < 3.6e6 || r > 4.4e6 {
			t.Errorf("bandwidth = %v, want 4e6 bytes a second", r)
		}
	}, storetest.Effect{Rate: 1_000_000})
}

// TestBest has a near and a far source: the near one is asked, wherever it stands.
func TestBest(t *testing.T) {
	far := storetest.Effect{Delay: 90 * time.Millisecond, Rate: 1 << 20}
	in(t, multi.Options{}, func(w *world) {
		w.set("a", down)
		w.mustRead(big)
		w.set("a", far)
		for range 50 {
			w.mustRead(big)
			time.Sleep(5 * time.Second)
		}
		st := w.Stats()
		if st[1].Requests < 45 {
			t.Errorf("%d of 50 requests went to the near source", st[1].Requests)
		}
	}, far, storetest.Effect{Delay: time.Millisecond, Rate: 100 << 20})
}

func TestStatsJSON(t *testing.T) {
	in(t, multi.Options{}, func(w *world) {
		w.mustRead(big)
		p, err := json.Marshal(w.Stats())
		want := `[{"name":"a","requests":1,"bytes":1048688,"errors":0,"quarantined":false,"latency":10000000,"bandwidth":0}]`
		if err != nil || string(p) != want {
			t.Errorf("Stats as JSON = %s, %v, want %s", p, err, want)
		}
	}, good)
}

// TestConcurrent has many readers over sources that are all bad in some way, one good.
func TestConcurrent(t *testing.T) {
	in(t, multi.Options{Report: func(string, error) {}}, func(w *world) {
		var g errgroup.Group
		for i := range 16 {
			g.Go(func() error {
				for range 20 {
					if _, err := w.read(storetest.Blobs(3)[i%3]); err != nil {
						return err
					}
				}
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			t.Error(err)
		}
	}, lying, cut, hang, asleep, down, good)
}
