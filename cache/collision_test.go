package cache

import (
	"bytes"
	"testing"

	"github.com/zosfs/zosfs/chunk"
)

// TestFingerprintCollision has two digests that agree in the bytes the index holds. The
// plaintext of the first is right, so that only a mix-up could give it for the second.
func TestFingerprintCollision(t *testing.T) {
	c, err := Open(t.TempDir(), Options{Memory: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	data := []byte("plaintext")
	a := chunk.Sum(data)
	b := a
	b[31]++
	put := func(d chunk.Digest) {
		t.Helper()
		_, finish := c.Claim(d)
		if finish == nil {
			t.Fatalf("no duty to download %v: it is taken for the other", d)
		}
		finish(bytes.Clone(data), nil)
	}
	p := make([]byte, 4)
	put(a)
	if !c.Has(a) || c.Has(b) || c.Read(b, p, 0) {
		t.Error("the second is found, or the first is not")
	}
	put(b)
	if c.Has(a) || c.Read(a, p, 0) || !c.Has(b) {
		t.Error("the first is found after the second took its place")
	}
	put(a)
	if !c.Read(a, p, 2) || string(p) != "aint" || c.Stats().Damaged != 0 {
		t.Errorf("the first cannot be had again; %d damaged", c.Stats().Damaged)
	}
}

// TestDanglingPlaces has the index point to what is not there, as it may for a moment.
func TestDanglingPlaces(t *testing.T) {
	c, err := Open(t.TempDir(), Options{Memory: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	data := []byte("plaintext")
	_, finish := c.Claim(chunk.Sum(data))
	finish(data, nil)
	d := chunk.Digest{1}
	for _, at := range []place{makePlace(0, 3), makePlace(0, 2), makePlace(0, 1<<32-1)} {
		c.index.put(fingerprint(d), at)
		if c.Has(d) || c.Read(d, nil, 0) || c.index.get(fingerprint(d)) != 0 {
			t.Errorf("a place %x without a record is a chunk, or was kept", at)
		}
	}
}
