package store

import (
	"fmt"
	"time"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/errs"
)

// RetryAfterError says that a peer is busy and when to come back. Backends make it of an
// answer such as HTTP 429 or 503 with Retry-After; store/retry honours it.
type RetryAfterError struct {
	After time.Duration // counted from the answer; 0 if the peer did not say
	Err   error         // what the peer said; may be nil
}

// Error implements error.
func (e *RetryAfterError) Error() string {
	why := errs.ErrUnavailable
	if e.Err != nil {
		why = e.Err
	}
	if e.After <= 0 {
		return why.Error()
	}
	return fmt.Sprintf("%v; asked to wait %v", why, e.After)
}

// Unwrap returns errs.ErrUnavailable and Err.
func (e *RetryAfterError) Unwrap() []error {
	if e.Err == nil {
		return []error{errs.ErrUnavailable}
	}
	return []error{errs.ErrUnavailable, e.Err}
}

// RangeError says that a range does not lie inside a blob. It is none of the kinds: who
// asks for such a range has wrong information about the blob.
type RangeError struct {
	Blob   blob.Digest
	Off, N int64 // as they were given to Get, in bytes
	Size   int64 // of the blob in bytes, -1 if it is not known
}

// Error implements error.
func (e *RangeError) Error() string {
	if e.Size < 0 {
		return fmt.Sprintf("blob %v: %d bytes at %d do not lie inside it", e.Blob, e.N, e.Off)
	}
	return fmt.Sprintf("blob %v: %d bytes at %d do not lie inside its %d bytes", e.Blob, e.N, e.Off, e.Size)
}

// CheckRange returns how many bytes the range [off, off+n), as [Getter] has it, covers in
// the blob id of size bytes, or a [RangeError].
func CheckRange(id blob.Digest, size, off, n int64) (int64, error) {
	if off < 0 || off > size || n > size-off {
		return 0, &RangeError{Blob: id, Off: off, N: n, Size: size}
	}
	if n < 0 {
		n = size - off
	}
	return n, nil
}
