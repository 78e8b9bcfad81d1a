package chunk

import (
	"encoding/hex"
	"fmt"

	"github.com/zeebo/blake3"
)

// DigestSize is the size of a [Digest] in bytes.
const DigestSize = 32

// Digest is the BLAKE3-256 of some plaintext. It names chunks, and whole objects too:
// an object that is one chunk has the digest of that chunk. It is comparable and can be
// a map key; the zero value names nothing and is invalid.
type Digest [DigestSize]byte

// Sum returns the digest of p.
func Sum(p []byte) Digest { return blake3.Sum256(p) }

// ParseDigest reads the 64 lower-case hexadecimal digits that [Digest.String] writes.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	if len(s) != 2*DigestSize {
		return Digest{}, fmt.Errorf("digest %.80q: want %d hexadecimal digits, have %d characters", s, 2*DigestSize, len(s))
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return Digest{}, fmt.Errorf("digest %q: %q is not a lower-case hexadecimal digit", s, c)
		}
	}
	if _, err := hex.Decode(d[:], []byte(s)); err != nil {
		return Digest{}, fmt.Errorf("digest %q: %w", s, err)
	}
	if d.IsZero() {
		return Digest{}, fmt.Errorf("digest %q: the zero digest names nothing", s)
	}
	return d, nil
}

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

// A Hasher computes a [Digest] piece by piece. It is not safe for concurrent use.
type Hasher struct{ h *blake3.Hasher }

// NewHasher returns a Hasher that has seen no bytes.
func NewHasher() *Hasher { return &Hasher{h: blake3.New()} }

// Write adds p; it never fails.
func (h *Hasher) Write(p []byte) (int, error) { return h.h.Write(p) }

// Reset makes h as new.
func (h *Hasher) Reset() { h.h.Reset() }

// Sum returns the digest of what was written so far.
func (h *Hasher) Sum() Digest {
	var d Digest
	h.h.Sum(d[:0])
	return d
}
