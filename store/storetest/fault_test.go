package storetest_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/store"
	"github.com/zosfs/zosfs/store/mem"
	"github.com/zosfs/zosfs/store/storetest"
)

func TestFaultPasses(t *testing.T) {
	storetest.Test(t, func(*testing.T) store.Store { return storetest.NewFault(mem.New(), nil) })
}

// TestFault reads a blob through each effect.
func TestFault(t *testing.T) {
	b := storetest.Blobs(1)[0]
	flipped := bytes.Clone(b.Data)
	flipped[5] ^= 0xff
	tests := []struct {
		name   string
		effect storetest.Effect
		want   []byte
		err    error
		took   time.Duration
	}{
		{"none", storetest.Effect{}, b.Data, nil, 0},
		{"delay", storetest.Effect{Delay: time.Second}, b.Data, nil, time.Second},
		{"error", storetest.Effect{Err: errs.ErrDenied}, nil, errs.ErrDenied, 0},
		{"busy", storetest.Effect{Err: storetest.Busy(3)}, nil, errs.ErrUnavailable, 0},
		{"flip", storetest.Effect{Flip: storetest.FlipAt(5)}, flipped, nil, 0},
		{"short", storetest.Effect{End: storetest.Short, After: 9}, b.Data[:9], nil, 0},
		{"cut", storetest.Effect{End: storetest.Cut, After: 9}, b.Data[:9], io.ErrUnexpectedEOF, 0},
		{"hang", storetest.Effect{End: storetest.Hang, After: 9}, b.Data[:9], context.DeadlineExceeded, time.Minute},
		{"rate", storetest.Effect{Rate: b.Size()}, b.Data, nil, time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := storetest.NewFault(mem.New(), func(c storetest.Call) storetest.Effect {
					if c.Op != storetest.Get {
						return storetest.Effect{}
					}
					return tt.effect
				})
				if err := f.Put(t.Context(), b.Digest, b.Data); err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				start := time.Now()
				got, err := read(ctx, f, b)
				if !errors.Is(err, tt.err) || !bytes.Equal(got, tt.want) {
					t.Errorf("Get = %d bytes, %v, want %d, %v", len(got), err, len(tt.want), tt.err)
				}
				if took := time.Since(start); took.Round(10*time.Millisecond) < tt.took {
					t.Errorf("Get took %v, want at least %v", took, tt.took)
				}
				if n, bytes, open := f.Count(storetest.Get), f.Bytes(), f.Open(); n != 1 || bytes != int64(len(got)) || open != 0 {
					t.Errorf("counters: %d calls, %d bytes, %d open; want 1, %d, 0", n, bytes, open, len(got))
				}
			})
		})
	}
}

func TestFaultStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, release := storetest.Blobs(1)[0], make(chan struct{})
		f := storetest.NewFault(mem.New(), nil)
		if err := f.Put(t.Context(), b.Digest, b.Data); err != nil {
			t.Fatal(err)
		}
		f.SetHook(func(storetest.Call) storetest.Effect { return storetest.Effect{Stall: release} })
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := f.Stat(ctx, b.Digest); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Stat while stalled = %v, want %v", err, context.DeadlineExceeded)
		}
		time.AfterFunc(time.Hour, func() { close(release) })
		if _, err := f.Stat(t.Context(), b.Digest); err != nil {
			t.Errorf("Stat when released: %v", err)
		}
	})
}

// read reads the whole blob in one large read at a time.
func read(ctx context.Context, g store.Getter, b storetest.Blob) ([]byte, error) {
	rc, err := g.Get(ctx, b.Digest, 0, b.Size())
	if err != nil {
		return nil, err
	}
	p := make([]byte, b.Size())
	n, err := io.ReadFull(rc, p)
	if errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, storetest.ErrCut) {
		err = nil
	}
	return p[:n], errors.Join(err, rc.Close())
}
