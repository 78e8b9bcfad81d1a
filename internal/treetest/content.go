package treetest

import (
	"encoding/binary"
	"io"
	"math/rand/v2"
)

// fill makes content for p: slices of pool, and a share of noise between 0 and 1 that does
// not compress. It depends on r alone.
func fill(p []byte, r *rand.Rand, pool []byte, noise float64) {
	for len(p) > 0 {
		n := min(len(p), 64+r.IntN(256))
		if noise >= 1 || r.Float64() < noise {
			n = min(len(p), max(n, 8))
			random(p[:n], r)
		} else {
			n = copy(p[:n], pool[r.IntN(len(pool)-n):])
		}
		p = p[n:]
	}
}

func random(p []byte, r *rand.Rand) {
	for ; len(p) >= 8; p = p[8:] {
		binary.LittleEndian.PutUint64(p, r.Uint64())
	}
	for i := range p {
		p[i] = byte(r.Uint32())
	}
}

// newPool returns 1 MiB of made-up words, frequent and rare ones as in a language, which
// zstd brings to about a third.
func newPool(r *rand.Rand) []byte {
	const size, words = 1 << 20, 4096
	vocabulary := make([]string, words)
	for i := range vocabulary {
		w := make([]byte, 2+r.IntN(10))
		for j := range w {
			w[j] = "etaoinshrdlucmfwypvbgkqjxz"[min(r.IntN(26), r.IntN(26))]
		}
		vocabulary[i] = string(w)
	}
	zipf := rand.NewZipf(r, 1.1, 4, words-1)
	p := make([]byte, 0, size+64)
	for len(p) < size {
		p = append(p, vocabulary[zipf.Uint64()]...)
		p = append(p, " \n.=_/ "[r.IntN(7)])
	}
	return p
}

// contents is a reader of made-up content; equal seeds give equal bytes.
type contents struct {
	r     *rand.Rand
	pool  []byte
	noise float64
	left  int64
}

// Read fills all of p while there is enough left, so that what comes does not depend on
// how the reader is used as long as p has the same length each time.
func (c *contents) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), c.left)]
	fill(p, c.r, c.pool, c.noise)
	c.left -= int64(len(p))
	return len(p), nil
}
