package image_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/image"
	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/store/storetest"
)

func TestVerifyFindsNothing(t *testing.T) {
	testenv.NoLeaks(t)
	for seed := range uint64(8) {
		w := randomWorld(t, seed)
		im := w.open(t, nil, image.Options{})
		var last image.Progress
		rep, err := im.VerifyContent(t.Context(), func(p image.Progress) { last = p })
		n := w.Counts()
		if err != nil || len(rep.Damage) != 0 || rep.More != 0 || rep.Chunks != n.Chunks || rep.Objects != n.Objects {
			t.Errorf("VerifyContent = %+v, %v, want %d chunks, %d objects, no damage", rep, err, n.Chunks, n.Objects)
		}
		if last != (image.Progress{Chunks: n.Chunks, TotalChunks: n.Chunks, Bytes: n.Stored, TotalBytes: n.Stored}) {
			t.Errorf("last progress %+v, want all of %+v", last, n)
		}
	}
}

// TestVerifyReadsOnce has everything in the order of the walk: one pass must do.
func TestVerifyReadsOnce(t *testing.T) {
	w := build(t, packing{}, whole("a", noise(1, 3<<20)), whole("b", prose(2, 1<<20)),
		spec{path: "c", size: 1 << 20, runs: []run{{1000, noise(3, 200_000)}, {500_000, noise(4, 100)}}})
	src := storetest.NewFault(w.store, nil)
	if rep, err := w.open(t, src, image.Options{}).VerifyContent(t.Context(), nil); err != nil || rep.Objects != 3 {
		t.Errorf("VerifyContent = %+v, %v", rep, err)
	}
	if got := src.Bytes(); got != w.Counts().Stored {
		t.Errorf("%d bytes read, want %d: each chunk once", got, w.Counts().Stored)
	}
}

func TestVerifyFindsDamage(t *testing.T) {
	testenv.NoLeaks(t)
	data := noise(1, 100_000)
	same := whole("dir/same", data) // shares all chunks of "f"
	specs := []spec{whole("f", data), same, whole("g", noise(2, 40_000)), whole("h", prose(3, 5000))}
	flip := func(w *world, ds ...chunk.Digest) func(storetest.Call) storetest.Effect {
		return func(c storetest.Call) storetest.Effect {
			return storetest.Effect{Flip: func(off int64) bool {
				return slices.ContainsFunc(ds, func(d chunk.Digest) bool { return off+c.Off == int64(w.places[d].Offset)+3 })
			}}
		}
	}
	c1, c2 := chunk.Sum(data[10_000:20_000]), chunk.Sum(data[90_000:])
	small := chunk.Sum(prose(3, 5000))
	type found struct {
		path  string
		chunk chunk.Digest
	}
	tests := []struct {
		name string
		p    packing
		hook func(*world) func(storetest.Call) storetest.Effect
		want []found
		kind error
	}{
		{"a chunk", packing{chunk: 10_000}, func(w *world) func(storetest.Call) storetest.Effect { return flip(w, c1) },
			[]found{{"f", c1}}, errs.ErrCorrupt},
		{"three chunks", packing{chunk: 10_000}, func(w *world) func(storetest.Call) storetest.Effect { return flip(w, c1, c2, small) },
			[]found{{"f", c1}, {"f", c2}, {"h", small}}, errs.ErrCorrupt},
		{"out of order", packing{chunk: 10_000, order: rand.New(rand.NewPCG(1, 1)).Perm},
			func(w *world) func(storetest.Call) storetest.Effect { return flip(w, c1) }, []found{{"f", c1}}, errs.ErrCorrupt},
		{"a lying object", packing{chunk: 10_000, object: func(o *flist.Object) {
			if o.Size == 40_000 {
				o.Digest[0] ^= 1
			}
		}}, func(*world) func(storetest.Call) storetest.Effect { return nil }, []found{{"g", chunk.Digest{}}}, errs.ErrCorrupt},
		{"a lying object, out of order", packing{chunk: 10_000, order: func(n int) []int {
			order := make([]int, n)
			for i := range order {
				order[i] = n - 1 - i
			}
			return order
		}, object: func(o *flist.Object) {
			if o.Size == 40_000 {
				o.Digest[0] ^= 1
			}
		}}, func(*world) func(storetest.Call) storetest.Effect { return nil }, []found{{"g", chunk.Digest{}}}, errs.ErrCorrupt},
		{"a missing blob", packing{chunk: 10_000, perBlob: 14}, func(w *world) func(storetest.Call) storetest.Effect {
			return func(c storetest.Call) storetest.Effect {
				if c.Blob == w.blobs[1] {
					return fails(errs.ErrNotFound)
				}
				return fine
			}
		}, []found{{"h", small}}, errs.ErrNotFound},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := build(t, tt.p, slices.Clone(specs)...)
			src := storetest.NewFault(w.store, tt.hook(w))
			rep, err := w.open(t, src, image.Options{}).VerifyContent(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			var got []found
			for _, d := range rep.Damage {
				got = append(got, found{d.Path, d.Chunk})
				if !errors.Is(d.Err, tt.kind) {
					t.Errorf("damage of %s is %v, want %v", d.Path, d.Err, tt.kind)
				}
				if d.Chunk.IsZero() != (d.Blob == blob.Digest{}) || d.Object.IsZero() || d.Node == 0 {
					t.Errorf("damage without its place: %+v", d)
				}
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("damage %v, want %v", got, tt.want)
			}
		})
	}
}

func TestVerifyCannotLook(t *testing.T) {
	testenv.NoLeaks(t)
	w := build(t, packing{}, whole("f", noise(1, 3<<20)))
	for _, kind := range []error{errs.ErrUnavailable, errs.ErrDenied} {
		inBubble(t, kind.Error(), func(t *testing.T) {
			begun := time.Now()
			im := w.open(t, storetest.NewFault(w.store, script(fails(kind))), image.Options{Deadline: 3 * time.Second})
			if rep, err := im.VerifyContent(t.Context(), nil); !errors.Is(err, kind) {
				t.Errorf("VerifyContent = %+v, %v, want %v", rep, err, kind)
			}
			if d := time.Since(begun); d > 5*time.Second {
				t.Errorf("VerifyContent fails after %v, want 3 s", d)
			}
		})
	}
	inBubble(t, "passes", func(t *testing.T) {
		im := w.open(t, storetest.NewFault(w.store, script(fine, fails(errs.ErrUnavailable), storetest.Effect{Flip: storetest.FlipAll})), image.Options{})
		if rep, err := im.VerifyContent(t.Context(), nil); err != nil || len(rep.Damage) != 0 {
			t.Errorf("VerifyContent = %+v, %v, want no damage in the end", rep, err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		im := w.open(t, storetest.NewFault(w.store, script(never)), image.Options{})
		time.AfterFunc(time.Second, cancel)
		if rep, err := im.VerifyContent(ctx, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("VerifyContent = %+v, %v, want %v", rep, err, context.Canceled)
		}
	})
}
