package flist

import (
	"fmt"

	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/errs"
)

// Digest is the BLAKE3-256 of an flist file as it is shipped. It is comparable; the zero
// value names nothing.
type Digest [32]byte

// TreeDigest names a tree, apart from how its content is stored. It is comparable; the
// zero value names nothing.
type TreeDigest [32]byte

// ParseDigest reads 64 lower-case hexadecimal digits; other text is errs.ErrFormat.
func ParseDigest(s string) (Digest, error) {
	d, err := parse(s)
	return Digest(d), err
}

// ParseTreeDigest reads 64 lower-case hexadecimal digits; other text is errs.ErrFormat.
func ParseTreeDigest(s string) (TreeDigest, error) {
	d, err := parse(s)
	return TreeDigest(d), err
}

func parse(s string) (chunk.Digest, error) {
	d, err := chunk.ParseDigest(s)
	if err != nil {
		return d, fmt.Errorf("%w: %w", err, errs.ErrFormat)
	}
	return d, nil
}

// IsZero reports whether d is the invalid zero value.
func (d Digest) IsZero() bool { return d == Digest{} }

// String returns d as 64 lower-case hexadecimal digits.
func (d Digest) String() string { return chunk.Digest(d).String() }

// MarshalText implements [encoding.TextMarshaler].
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (d *Digest) UnmarshalText(p []byte) (err error) {
	*d, err = ParseDigest(string(p))
	return err
}

// IsZero reports whether d is the invalid zero value.
func (d TreeDigest) IsZero() bool { return d == TreeDigest{} }

// String returns d as 64 lower-case hexadecimal digits.
func (d TreeDigest) String() string { return chunk.Digest(d).String() }

// MarshalText implements [encoding.TextMarshaler].
func (d TreeDigest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (d *TreeDigest) UnmarshalText(p []byte) (err error) {
	*d, err = ParseTreeDigest(string(p))
	return err
}
