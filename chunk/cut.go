package chunk

import (
	"errors"
	"fmt"
	"io"

	cdc "github.com/PlakarKorp/go-cdc-chunkers"
	_ "github.com/PlakarKorp/go-cdc-chunkers/chunkers/fastcdc" // the algorithm that FastCDC names
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

// A Cutter cuts runs of data into chunks. It owns a buffer of twice the largest chunk, so
// keep one a worker. It is not safe for concurrent use.
type Cutter struct {
	params Params
	cdc    *cdc.Chunker
	buf    []byte
}

// NewCutter returns a Cutter for p.
func NewCutter(p Params) (*Cutter, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	buf := make([]byte, 2*p.Max)
	opts := &cdc.ChunkerOpts{MinSize: p.Min, NormalSize: p.Avg, MaxSize: p.Max}
	c, err := cdc.NewChunkerBuffer(p.ID, eof{}, opts, buf)
	if err != nil {
		return nil, fmt.Errorf("chunker %s: %w", p.ID, err)
	}
	return &Cutter{params: p, cdc: c, buf: buf}, nil
}

// Cut reads n bytes from r and calls emit for each chunk in turn. The slice belongs to the
// Cutter and holds until emit returns. A run shorter than n is io.ErrUnexpectedEOF, after
// the chunks before its end were emitted; an error of emit ends the cutting and is returned.
// Where a chunk ends depends on the bytes alone.
func (c *Cutter) Cut(r io.Reader, n int64, emit func([]byte) error) error {
	if n <= 0 {
		return nil
	}
	if n <= int64(c.params.Whole) {
		got, err := io.ReadFull(r, c.buf[:n])
		if got > 0 {
			if e := emit(c.buf[:got]); e != nil {
				return e
			}
		}
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	return c.cut(r, n, emit)
}

func (c *Cutter) cut(r io.Reader, n int64, emit func([]byte) error) error {
	lr := &io.LimitedReader{R: r, N: n}
	c.cdc.Reset(lr)
	defer c.cdc.Reset(eof{})
	var done int64
	for {
		// Next may give the last chunk together with io.EOF.
		p, err := c.cdc.Next()
		if len(p) > 0 {
			if e := emit(p); e != nil {
				return e
			}
			done += int64(len(p))
		}
		switch {
		case errors.Is(err, io.EOF) && done < n:
			return io.ErrUnexpectedEOF
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }

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
