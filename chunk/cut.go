package chunk

import (
	"fmt"
	"math/bits"

	"github.com/PlakarKorp/go-cdc-chunkers/chunkers/fastcdc"
)

// FastCDC is the id of the only chunker of format version 1. The version in the name
// freezes the cut points: a change of algorithm is a new id.
const FastCDC = "fastcdc-v1.0.0"

// MaxSize is the largest chunk that the format allows, in bytes, whatever the chunker.
const MaxSize = 4 << 20

// Params are the sizes of a chunker, in bytes. They are written into each flist.
type Params struct {
	ID    string // FastCDC
	Whole int    // a run of data of at most this size is one chunk
	Min   int    // smallest chunk, but for the last of a run
	Avg   int    // mean aimed at; a power of two
	Max   int    // largest chunk, at most MaxSize
}

// DefaultParams are 128 KiB, and 32, 128 and 512 KiB: against a mean of 64 KiB they store
// 0-5 % more and save 10-15 % of the chunks (docs/decisions/0002-chunk-sizes.md).
func DefaultParams() Params {
	return Params{ID: FastCDC, Whole: 128 << 10, Min: 32 << 10, Avg: 128 << 10, Max: 512 << 10}
}

// Validate reports why p cannot be used, if it cannot.
func (p Params) Validate() error {
	switch {
	case p.ID != FastCDC:
		return fmt.Errorf("chunker %q is not known; this version has %s", p.ID, FastCDC)
	case p.Min < 64 || p.Min >= p.Avg || p.Avg >= p.Max || p.Max > MaxSize:
		return fmt.Errorf("chunk sizes %d, %d, %d: want 64 <= min < mean < max <= %d", p.Min, p.Avg, p.Max, MaxSize)
	case p.Avg&(p.Avg-1) != 0:
		return fmt.Errorf("mean chunk size %d is not a power of two", p.Avg)
	case p.Whole < 0 || p.Whole > p.Max:
		return fmt.Errorf("whole-chunk size %d: want 0 to %d", p.Whole, p.Max)
	}
	return nil
}

// A Cutter finds where chunks end. It is safe for concurrent use.
type Cutter struct {
	params      Params
	early, late uint64       // masks, up to the mean size and from there on
	gear        *[256]uint64 // what each byte adds to the rolling hash
}

// NewCutter returns a Cutter for p.
func NewCutter(p Params) (*Cutter, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	c := &Cutter{params: p, gear: &fastcdc.G}
	level := bits.TrailingZeros(uint(p.Avg))
	c.early, c.late = mask(level+2), mask(level-2)
	if p.Min == 2<<10 && p.Avg == 8<<10 && p.Max == 64<<10 { // what this version of the algorithm has for its own default
		c.early, c.late = 0x0003590703530000, 0x0000d90003530000
	}
	return c, nil
}

// mask returns n set bits that are spread evenly over 64, from the highest on.
func mask(n int) (m uint64) {
	step := 64 / n
	for i := range n {
		m |= 1 << (63 - i*step)
	}
	return m
}

// Next returns the size in bytes of the first chunk of p, which is either all that is left of
// a run of data or at least its next Params.Max bytes. Of nothing it is 0. A run of at most
// Params.Whole bytes is one chunk and is not to be cut: see [Params.IsWhole].
//
// The algorithm is FastCDC (Xia et al., USENIX ATC 2016) with normalised chunking of level
// 2 and a rolling hash that begins anew at the smallest size of each chunk.
func (c *Cutter) Next(p []byte) int {
	if len(p) <= c.params.Min {
		return len(p)
	}
	p = p[:min(len(p), c.params.Max)]
	mid := min(len(p), c.params.Avg)
	gear, hash := c.gear, uint64(0)
	for i, b := range p[c.params.Min:mid] {
		hash = hash<<1 + gear[b]
		if hash&c.early == 0 {
			return c.params.Min + i
		}
	}
	for i, b := range p[mid:] {
		hash = hash<<1 + gear[b]
		if hash&c.late == 0 {
			return mid + i
		}
	}
	return len(p)
}

// IsWhole reports whether a run of n bytes is one chunk without a look at it.
func (p Params) IsWhole(n int64) bool { return n <= int64(p.Whole) }

// String returns p as flists hold it: the id and the sizes, separated by spaces.
func (p Params) String() string {
	return fmt.Sprintf("%s %d %d %d %d", p.ID, p.Whole, p.Min, p.Avg, p.Max)
}

// ParseParams reads what [Params.String] writes and validates it.
func ParseParams(s string) (Params, error) {
	var p Params
	if _, err := fmt.Sscanf(s, "%s %d %d %d %d", &p.ID, &p.Whole, &p.Min, &p.Avg, &p.Max); err != nil || p.String() != s {
		return Params{}, fmt.Errorf("chunker %.100q: want an id and four sizes", s)
	}
	return p, p.Validate()
}
