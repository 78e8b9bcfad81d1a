package image_test

import (
	"testing"

	"github.com/zosfs/zosfs/cache"
	"github.com/zosfs/zosfs/image"
	"github.com/zosfs/zosfs/internal/testenv"
	"github.com/zosfs/zosfs/store/storetest"
)

// TestNodeCache reads two images through the cache of the node.
func TestNodeCache(t *testing.T) {
	testenv.NoLeaks(t)
	w := randomWorld(t, 7)
	c, err := cache.Open(t.TempDir(), cache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}()
	for round, want := range []bool{true, false} {
		src := storetest.NewFault(w.store, nil)
		im := w.open(t, src, image.Options{Cache: c})
		for _, path := range w.paths() {
			if err := readAll(t, w, im, path); err != nil {
				t.Errorf("ReadAt(%s) = %v", path, err)
			}
		}
		if err := im.Close(); err != nil {
			t.Error(err)
		}
		if got := src.Count(storetest.Get) > 0; got != want {
			t.Errorf("image %d asks the source: %v, want %v", round+1, got, want)
		}
	}
}
