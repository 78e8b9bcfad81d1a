package blob

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/zosfs/zosfs/chunk"
	"github.com/zosfs/zosfs/errs"
)

// Digest is the SHA-256 of a whole blob and its name in every store, so that a blob is a
// valid OCI blob as well. It is comparable; the zero value names nothing and is invalid.
type Digest [sha256.Size]byte

// Sum returns the digest of the whole blob p.
func Sum(p []byte) Digest { return sha256.Sum256(p) }

// ParseDigest reads the 64 lower-case hexadecimal digits that [Digest.String] writes. Any
// other text is errs.ErrFormat, so a parsed digest is safe as a file name.
func ParseDigest(s string) (Digest, error) {
	d, err := chunk.ParseDigest(s) // the text is the same, what it names is not
	if err != nil {
		return Digest{}, fmt.Errorf("blob %w: %w", err, errs.ErrFormat)
	}
	return Digest(d), nil
}

// Check reports with a [MismatchError] if d is not the digest of the whole blob p.
func (d Digest) Check(p []byte) error {
	if got := Sum(p); got != d {
		return &MismatchError{What: "blob", Want: d.String(), Got: got.String()}
	}
	return nil
}

// Compare returns -1, 0 or +1 as d is before, equal to or after e: byte by byte, which is
// the order of their hexadecimal digits too.
func (d Digest) Compare(e Digest) int { return bytes.Compare(d[:], e[:]) }

// IsZero reports whether d is the invalid zero value.
func (d Digest) IsZero() bool { return d == Digest{} }

// String returns d as 64 lower-case hexadecimal digits.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// MarshalText implements [encoding.TextMarshaler].
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (d *Digest) UnmarshalText(p []byte) error {
	v, err := ParseDigest(string(p))
	if err != nil {
		return err
	}
	*d = v
	return nil
}
