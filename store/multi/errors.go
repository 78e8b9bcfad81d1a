package multi

import (
	"errors"
	"fmt"
	"strings"

	"github.com/zosfs/zosfs/blob"
	"github.com/zosfs/zosfs/errs"
)

// Failure is what one source answered.
type Failure struct {
	Source string
	Err    error
}

// Error says that no source gave a range of a blob. It unwraps to the error of one of the
// sources, the one that leaves most hope: errs.ErrUnavailable if any was that, since trying
// later may succeed; then what is none of the kinds; errs.ErrCorrupt, errs.ErrDenied,
// errs.ErrFormat, errs.ErrFull; and errs.ErrNotFound only if all said so. If the context ended first,
// it unwraps to the context's error as well.
type Error struct {
	Blob   blob.Digest
	Off, N int64     // the range, in bytes; N < 0 means up to the end
	Tried  []Failure // every source, in the order in which they failed
	Ended  error     // the context's error, if that ended the search
}

// Error implements error.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "blob %v, %d bytes at %d: ", e.Blob, e.N, e.Off)
	if e.Ended != nil {
		fmt.Fprintf(&b, "%v; ", e.Ended)
	}
	if len(e.Tried) == 0 {
		b.WriteString("no source was asked")
	}
	for i, f := range e.Tried {
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "%s: %v", f.Source, f.Err)
	}
	return b.String()
}

// Unwrap returns the errors as the type says.
func (e *Error) Unwrap() []error {
	var out []error
	if e.Ended != nil {
		out = append(out, e.Ended)
	}
	if best := e.best(); best != nil {
		out = append(out, best)
	}
	return out
}

func (e *Error) best() error {
	if len(e.Tried) == 0 && e.Ended == nil {
		return errs.ErrUnavailable // no source at all
	}
	var best error
	rank := -1
	for _, f := range e.Tried {
		if r := hope(f.Err); r > rank {
			best, rank = f.Err, r
		}
	}
	return best
}

// hope ranks kinds of failure.
func hope(err error) int {
	least := []error{errs.ErrNotFound, errs.ErrFull, errs.ErrFormat, errs.ErrDenied, errs.ErrCorrupt}
	if errors.Is(err, errs.ErrUnavailable) {
		return len(least) + 1
	}
	for i, kind := range least {
		if errors.Is(err, kind) {
			return i
		}
	}
	return len(least)
}
