package image_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/zosfs/zosfs/errs"
	"github.com/zosfs/zosfs/flist"
	"github.com/zosfs/zosfs/image"
	"github.com/zosfs/zosfs/store/storetest"
)

// devices returns an image of files of many sizes, one of them with holes and one with content
// of another, and what its device holds.
func devices(t *testing.T) (*world, *image.Image, []byte) {
	t.Helper()
	var specs []spec
	for i, size := range []int{1, 4095, 4096, 4097, 100_000, 300_000} {
		specs = append(specs, whole(fmt.Sprintf("d/f%d", i), noise(uint64(i), size)))
	}
	specs = append(specs, whole("again", noise(4, 100_000)), whole("empty", nil),
		spec{path: "sparse", size: 500_000, runs: []run{{100_000, noise(20, 5000)}, {400_000, noise(21, 5000)}}})
	w := build(t, packing{chunk: 40_000}, specs...)
	im := w.open(t, w.store, image.Options{})
	want := map[flist.ObjectID][]byte{}
	for _, path := range w.paths() {
		if id := im.Tree().Attr(find(t, im, path)).Object; id != 0 {
			want[id] = w.content[path]
		}
	}
	var all []byte
	for id := flist.ObjectID(1); int(id) <= len(want); id++ {
		addr, err := im.Device().Addr(id)
		if err != nil || addr != int64(len(all)) {
			t.Fatalf("Addr(%d) = %d, %v, want %d", id, addr, err, len(all))
		}
		all = append(all, want[id]...)
		all = append(all, make([]byte, -len(all)&(image.DeviceBlock-1))...)
	}
	return w, im, all
}

func TestDevice(t *testing.T) {
	_, im, want := devices(t)
	d := im.Device()
	if size, err := d.Size(); err != nil || size != int64(len(want)) {
		t.Fatalf("Size() = %d, %v, want %d", size, err, len(want))
	}
	rng := rand.New(rand.NewPCG(1, 2))
	p := make([]byte, len(want)+1000)
	for range 200 {
		off := rng.IntN(len(want))
		n := 1 + rng.IntN(min(len(want)-off, 200_000))
		if got, err := d.ReadAt(t.Context(), p[:n], int64(off)); got != n || err != nil || !bytes.Equal(p[:n], want[off:][:n]) {
			t.Fatalf("ReadAt(%d bytes at %d) = %d, %v, or other bytes", n, off, got, err)
		}
	}
	if n, err := d.ReadAt(t.Context(), p, 0); n != len(want) || !errors.Is(err, io.EOF) || !bytes.Equal(p[:n], want) {
		t.Errorf("ReadAt of all and more = %d, %v, want %d and the end, or other bytes", n, err, len(want))
	}
	if n, err := d.ReadAt(t.Context(), p[:1], int64(len(want))+5000); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("ReadAt beyond the end = %d, %v, want 0 and the end", n, err)
	}
}

// TestDeviceFails says which file a read was about, although the device knows none.
func TestDeviceFails(t *testing.T) {
	w, im, _ := devices(t)
	broken := w.open(t, storetest.NewFault(w.store, script(fails(errs.ErrDenied))), image.Options{})
	addr, err := im.Device().Addr(im.Tree().Attr(find(t, im, "sparse")).Object)
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 10_000)
	if n, err := broken.Device().ReadAt(t.Context(), p, addr); n != len(p) || err != nil || !bytes.Equal(p, make([]byte, len(p))) {
		t.Errorf("ReadAt of a hole = %d, %v, want zeros without a source", n, err)
	}
	_, err = broken.Device().ReadAt(t.Context(), p, addr+96_000)
	re, ok := errors.AsType[*image.ReadError](err)
	if !ok || !errors.Is(err, errs.ErrDenied) || re.Path != "sparse" || re.Node != find(t, im, "sparse") {
		t.Errorf("ReadAt from a broken store: %v (%+v), want the path and %v", err, re, errs.ErrDenied)
	}
}

// TestTreeIsMadeLate reads content of an image without its tree.
func TestTreeIsMadeLate(t *testing.T) {
	w, _, want := devices(t)
	im := w.open(t, w.store, image.Options{})
	if _, err := im.Device().ReadAt(t.Context(), make([]byte, len(want)), 0); err != nil {
		t.Fatal(err)
	}
	if n := im.TreeBytes(); n != 0 {
		t.Errorf("TreeBytes() = %d after reading the device, want 0", n)
	}
	if im.Tree(); im.TreeBytes() != im.Tree().Bytes() {
		t.Errorf("TreeBytes() = %d, want %d", im.TreeBytes(), im.Tree().Bytes())
	}
}
