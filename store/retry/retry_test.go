package retry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/store"
	"github.com/zosfs/zosfs/store/mem"
	"github.com/zosfs/zosfs/store/retry"
	"github.com/zosfs/zosfs/store/storetest"
)

func TestStore(t *testing.T) {
	storetest.Test(t, func(*testing.T) store.Store { return retry.New(mem.New(), retry.Options{}) })
}

// TestStoreFlaky runs the suite over a store of which every second call fails.
func TestStoreFlaky(t *testing.T) {
	storetest.Test(t, func(*testing.T) store.Store {
		f := storetest.NewFault(mem.New(), func(c storetest.Call) storetest.Effect {
			if c.Count%2 == 1 {
				return storetest.Effect{Err: errs.ErrUnavailable}
			}
			if c.Op == storetest.Get && c.Count%4 == 0 && c.N > 10 {
				return storetest.Effect{End: storetest.Short, After: 10}
			}
			return storetest.Effect{}
		})
		return retry.New(f, retry.Options{Initial: time.Microsecond})
	})
}

// calls are one call of each method.
var calls = map[storetest.Op]func(context.Context, *retry.Store, storetest.Blob) error{
	storetest.Get: func(ctx context.Context, s *retry.Store, b storetest.Blob) error {
		rc, err := s.Get(ctx, b.Digest, 0, 10)
		if err != nil {
			return err
		}
		return rc.Close()
	},
	storetest.Put: func(ctx context.Context, s *retry.Store, b storetest.Blob) error { return s.Put(ctx, b.Digest, b.Data) },
	storetest.Stat: func(ctx context.Context, s *retry.Store, b storetest.Blob) error {
		_, err := s.Stat(ctx, b.Digest)
		return err
	},
	storetest.List: func(ctx context.Context, s *retry.Store, _ storetest.Blob) error {
		return s.List(ctx, func(store.Info) error { return nil })
	},
	storetest.Delete: func(ctx context.Context, s *retry.Store, b storetest.Blob) error { return s.Delete(ctx, b.Digest) },
	storetest.Locate: func(ctx context.Context, s *retry.Store, _ storetest.Blob) error {
		_, err := s.Locate(ctx, nil)
		return err
	},
}

// locator is a store in memory that answers Locate.
type locator struct{ *mem.Store }

func (locator) Locate(context.Context, []chunk.Digest) (map[chunk.Digest]blob.Location, error) {
	return nil, nil
}

// TestKinds makes each call with each kind of failure twice over: what may succeed later is
// asked for again, the rest is not.
func TestKinds(t *testing.T) {
	failures := append(errs.All(), errors.New("none of the kinds"), errors.ErrUnsupported, storetest.Busy(time.Second), fmt.Errorf("wrapped: %w", errs.ErrUnavailable))
	for op, call := range calls {
		for _, failure := range failures {
			t.Run(fmt.Sprintf("%s/%v", op, failure), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f, b := fault(t, func(c storetest.Call) storetest.Effect {
						if c.Op == op && c.Count <= 2 {
							return storetest.Effect{Err: failure}
						}
						return storetest.Effect{}
					})
					err := call(t.Context(), retry.New(f, retry.Options{}), b)
					want, tries := failure, 1
					if errors.Is(failure, errs.ErrUnavailable) {
						want, tries = nil, 3
					}
					if !errors.Is(err, want) || f.Count(op) != tries {
						t.Errorf("%v after %d tries, want %v after %d", err, f.Count(op), want, tries)
					}
				})
			})
		}
	}
}

// fault returns a faulty store with one blob in it.
func fault(t *testing.T, hook func(storetest.Call) storetest.Effect) (*storetest.Fault, storetest.Blob) {
	t.Helper()
	inner, b := mem.New(), storetest.Blobs(1)[0]
	if err := inner.Put(t.Context(), b.Digest, b.Data); err != nil {
		t.Fatal(err)
	}
	return storetest.NewFault(locator{inner}, hook), b
}

func TestPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, b := fault(t, func(storetest.Call) storetest.Effect { return storetest.Effect{Err: errs.ErrUnavailable} })
		var pauses []time.Duration
		s := retry.New(f, retry.Options{
			Initial: time.Second, Max: 20 * time.Second, MaxElapsed: 5 * time.Minute,
			Notify: func(_ error, pause time.Duration) { pauses = append(pauses, pause) },
		})
		start := time.Now()
		_, err := s.Stat(t.Context(), b.Digest)
		took := time.Since(start)
		if !errors.Is(err, errs.ErrUnavailable) || took > 5*time.Minute || took < 5*time.Minute-30*time.Second {
			t.Errorf("Stat = %v after %v, want %v after nearly 5m", err, took, errs.ErrUnavailable)
		}
		for i, pause := range pauses {
			want := min(time.Second<<i, 20*time.Second)
			if pause < want/2 || pause > want*3/2 {
				t.Errorf("pause %d = %v, want %v give or take half", i, pause, want)
			}
		}
		if len(pauses)+1 != f.Count(storetest.Stat) {
			t.Errorf("%d pauses between %d tries", len(pauses), f.Count(storetest.Stat))
		}
	})
}

func TestRetryAfter(t *testing.T) {
	for _, after := range []time.Duration{0, 3 * time.Second, 40 * time.Second} {
		t.Run(after.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, b := fault(t, func(c storetest.Call) storetest.Effect {
					if c.Count == 1 {
						return storetest.Effect{Err: storetest.Busy(after)}
					}
					return storetest.Effect{}
				})
				start := time.Now()
				if _, err := retry.New(f, retry.Options{}).Stat(t.Context(), b.Digest); err != nil {
					t.Error(err)
				}
				if took := time.Since(start); took < after || took > after*5/4+time.Second {
					t.Errorf("asked to wait %v, came back after %v", after, took)
				}
			})
		})
	}
	t.Run("too long", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f, b := fault(t, func(storetest.Call) storetest.Effect { return storetest.Effect{Err: storetest.Busy(time.Hour)} })
			start := time.Now()
			_, err := retry.New(f, retry.Options{}).Stat(t.Context(), b.Digest)
			if busy, ok := errors.AsType[*store.RetryAfterError](err); !ok || busy.After != time.Hour || time.Since(start) != 0 {
				t.Errorf("Stat = %v after %v, want the peer's answer at once", err, time.Since(start))
			}
		})
	})
}

func TestNoLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, b := fault(t, func(storetest.Call) storetest.Effect { return storetest.Effect{Err: errs.ErrUnavailable} })
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		start := time.Now()
		_, err := retry.New(f, retry.Options{MaxElapsed: -1}).Stat(ctx, b.Digest)
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, errs.ErrUnavailable) || time.Since(start) != time.Hour {
			t.Errorf("Stat = %v after %v, want %v and the last failure after 1h", err, time.Since(start), context.DeadlineExceeded)
		}
	})
}

// TestBody reads a blob of which each answer carries at most a part.
func TestBody(t *testing.T) {
	tests := []struct {
		name   string
		effect storetest.Effect
		err    error
	}{
		{"short", storetest.Effect{End: storetest.Short, After: 1000}, nil},
		{"cut", storetest.Effect{End: storetest.Cut, After: 1000}, nil},
		{"always short at once", storetest.Effect{End: storetest.Short}, errs.ErrUnavailable},
		{"always cut at once", storetest.Effect{End: storetest.Cut}, io.ErrUnexpectedEOF},
	}
	for _, tt := range tests {
		for _, whole := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/whole=%v", tt.name, whole), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f, b := fault(t, func(c storetest.Call) storetest.Effect {
						if c.Op == storetest.Get {
							return tt.effect
						}
						return storetest.Effect{}
					})
					off, n := int64(7), b.Size()-20
					if whole {
						off, n = 0, -1
					}
					rc, err := retry.New(f, retry.Options{}).Get(t.Context(), b.Digest, off, n)
					if err != nil {
						t.Fatal(err)
					}
					got, err := io.ReadAll(rc)
					if n < 0 {
						n = b.Size()
					}
					if !errors.Is(err, tt.err) || tt.err == nil && !bytes.Equal(got, b.Data[off:off+n]) {
						t.Errorf("read %d bytes, %v; want %d, %v", len(got), err, n, tt.err)
					}
					if err := rc.Close(); err != nil || f.Open() != 0 {
						t.Errorf("Close: %v, %d bodies open", err, f.Open())
					}
				})
			})
		}
	}
}

func TestBodyCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, b := fault(t, func(storetest.Call) storetest.Effect { return storetest.Effect{End: storetest.Hang, After: 5} })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := store.ReadRange(ctx, retry.New(f, retry.Options{}), b.Digest, 0, make([]byte, 100))
		if !errors.Is(err, context.DeadlineExceeded) || f.Count(storetest.Get) != 1 || f.Open() != 0 {
			t.Errorf("ReadRange = %v after %d tries with %d bodies open, want %v after 1", err, f.Count(storetest.Get), f.Open(), context.DeadlineExceeded)
		}
	})
}

func TestList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _ := fault(t, nil)
		want := map[blob.Digest]int{}
		for _, b := range storetest.Blobs(10) {
			if err := f.Put(t.Context(), b.Digest, b.Data); err != nil {
				t.Fatal(err)
			}
			want[b.Digest] = 1
		}
		f.SetHook(func(c storetest.Call) storetest.Effect { // breaks twice, later each time
			return storetest.Effect{End: map[bool]storetest.End{true: storetest.Cut}[c.Count <= 2], After: int64(3 * c.Count)}
		})
		got := map[blob.Digest]int{}
		err := retry.New(f, retry.Options{}).List(t.Context(), func(i store.Info) error {
			got[i.Digest]++
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("times that each blob was listed (-want +got):\n%s", diff)
		}
		if n := f.Count(storetest.List); n != 3 {
			t.Errorf("%d tries, want 3", n)
		}
	})
}

// TestListFunc has the function of List fail as if the store did.
func TestListFunc(t *testing.T) {
	f, _ := fault(t, nil)
	err := retry.New(f, retry.Options{}).List(t.Context(), func(store.Info) error { return errs.ErrUnavailable })
	if err != errs.ErrUnavailable || f.Count(storetest.List) != 1 { //nolint:errorlint // as it is
		t.Errorf("List = %v after %d tries, want %v itself after 1", err, f.Count(storetest.List), errs.ErrUnavailable)
	}
}

func TestChecked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, b := fault(t, func(c storetest.Call) storetest.Effect {
			if c.Count == 1 {
				return storetest.Effect{End: storetest.Cut, After: 10}
			}
			return storetest.Effect{}
		})
		p, checks := make([]byte, b.Size()), 0
		err := store.ReadChecked(t.Context(), retry.New(f, retry.Options{}), b.Digest, 0, p, func(p []byte) error {
			checks++
			return b.Digest.Check(p)
		})
		if err != nil || checks != 1 {
			t.Errorf("ReadChecked = %v with %d checks, want 1", err, checks)
		}
		n := f.Count(storetest.Get)
		err = store.ReadChecked(t.Context(), retry.New(f, retry.Options{}), b.Digest, 0, p, func([]byte) error { return errs.ErrCorrupt })
		if !errors.Is(err, errs.ErrCorrupt) || f.Count(storetest.Get) != n+1 {
			t.Errorf("ReadChecked of wrong bytes = %v after %d tries, want %v after 1", err, f.Count(storetest.Get)-n, errs.ErrCorrupt)
		}
	})
}
