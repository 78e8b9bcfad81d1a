package store_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/store"
	"github.com/zosfs/zosfs/store/mem"
	"github.com/zosfs/zosfs/store/storetest"
)

func TestCheckRange(t *testing.T) {
	const size, big = 100, 1<<63 - 1
	tests := []struct {
		off, n, want int64
		ok           bool
	}{
		{0, 100, 100, true}, {0, -1, 100, true}, {40, -7, 60, true}, {100, -1, 0, true}, {100, 0, 0, true}, {99, 1, 1, true},
		{0, 101, 0, false}, {1, 100, 0, false}, {101, 0, 0, false}, {101, -1, 0, false}, {-1, 1, 0, false}, {-1, -1, 0, false},
		{1, big, 0, false}, {big, big, 0, false}, {big, -1, 0, false},
	}
	for _, tt := range tests {
		got, err := store.CheckRange(blob.Digest{1}, size, tt.off, tt.n)
		if _, outside := errors.AsType[*store.RangeError](err); got != tt.want || outside == tt.ok {
			t.Errorf("CheckRange(%d, %d, %d) = %d, %v, want %d", size, tt.off, tt.n, got, err, tt.want)
		}
	}
}

func TestRetryAfterError(t *testing.T) {
	said := errors.New("HTTP 503")
	tests := []struct {
		err  error
		want string
	}{
		{&store.RetryAfterError{}, "unavailable"},
		{&store.RetryAfterError{After: time.Second}, "unavailable; asked to wait 1s"},
		{&store.RetryAfterError{After: time.Minute, Err: said}, "HTTP 503; asked to wait 1m0s"},
	}
	for _, tt := range tests {
		if got := tt.err.Error(); got != tt.want {
			t.Errorf("Error() = %q, want %q", got, tt.want)
		}
		if !errors.Is(tt.err, errs.ErrUnavailable) || strings.HasPrefix(tt.want, "HTTP") != errors.Is(tt.err, said) {
			t.Errorf("%v unwraps to the wrong errors", tt.err)
		}
	}
}

// TestReadRange reads a blob through faults.
func TestReadRange(t *testing.T) {
	b := storetest.Blobs(1)[0]
	tests := []struct {
		name   string
		effect storetest.Effect
		want   error
	}{
		{"good", storetest.Effect{}, nil},
		{"error", storetest.Effect{Err: errs.ErrDenied}, errs.ErrDenied},
		{"nothing came", storetest.Effect{End: storetest.Short}, errs.ErrUnavailable},
		{"short", storetest.Effect{End: storetest.Short, After: 99}, errs.ErrUnavailable},
		{"cut", storetest.Effect{End: storetest.Cut, After: 99}, errs.ErrUnavailable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := storetest.NewFault(mem.New(), nil)
			fill(t, f, b)
			f.SetHook(func(storetest.Call) storetest.Effect { return tt.effect })
			p := make([]byte, 100)
			err := store.ReadRange(t.Context(), f, b.Digest, 10, p)
			if !errors.Is(err, tt.want) || err == nil && !bytes.Equal(p, b.Data[10:110]) {
				t.Errorf("ReadRange = %v, want %v", err, tt.want)
			}
			if n := f.Open(); n != 0 {
				t.Errorf("%d bodies are left open", n)
			}
			if err := store.ReadRange(t.Context(), f, b.Digest, 10, nil); err != nil {
				t.Errorf("ReadRange of nothing: %v", err)
			}
		})
	}
}

// checker is a store with a second way.
type checker struct{ store.Store }

func (c checker) GetChecked(ctx context.Context, id blob.Digest, off int64, p []byte, check func([]byte) error) error {
	if err := store.ReadRange(ctx, c.Store, id, off, p); err != nil {
		return err
	}
	if check(p) != nil {
		return check(p)
	}
	return nil
}

func TestReadChecked(t *testing.T) {
	b, s := storetest.Blobs(1)[0], mem.New()
	fill(t, s, b)
	for name, tt := range map[string]struct {
		g      store.Getter
		checks int
	}{"once": {s, 1}, "a Checker": {checker{s}, 2}} {
		checks := 0
		err := store.ReadChecked(t.Context(), tt.g, b.Digest, 0, make([]byte, 9), func(p []byte) error {
			checks++
			return errs.ErrCorrupt
		})
		if !errors.Is(err, errs.ErrCorrupt) || checks != tt.checks {
			t.Errorf("%s: ReadChecked = %v after %d checks, want %v after %d", name, err, checks, errs.ErrCorrupt, tt.checks)
		}
	}
	if err := store.ReadChecked(t.Context(), s, blob.Digest{1}, 0, make([]byte, 9), func([]byte) error { return nil }); !errors.Is(err, errs.ErrNotFound) {
		t.Errorf("ReadChecked of an absent blob = %v, want %v", err, errs.ErrNotFound)
	}
}

func TestLocate(t *testing.T) {
	if _, err := store.Locate(t.Context(), mem.New(), []chunk.Digest{{1}}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Locate in a plain store = %v, want %v", err, errors.ErrUnsupported)
	}
}

type closer struct {
	store.Store
	io.Closer
}

type closeFunc func() error

func (f closeFunc) Close() error { return f() }

func TestClose(t *testing.T) {
	if err := store.Close(mem.New()); err != nil {
		t.Errorf("Close of a store that needs none: %v", err)
	}
	if err := store.Close(closer{mem.New(), closeFunc(func() error { return errs.ErrFull })}); !errors.Is(err, errs.ErrFull) {
		t.Errorf("Close = %v, want that of the store, %v", err, errs.ErrFull)
	}
}
