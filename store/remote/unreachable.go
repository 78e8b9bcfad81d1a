package remote

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"github.com/zosfs/zosfs/errs"
)

// UnreachableError says that a hub gave no answer. It is errs.ErrUnavailable.
type UnreachableError struct {
	Hub string // host and port
	Err error
}

// Error implements error. It has the cause alone, not the ways to it.
func (e *UnreachableError) Error() string {
	return fmt.Sprintf("hub %s does not answer: %s", e.Hub, cause(e.Err))
}

// Unwrap returns errs.ErrUnavailable and Err.
func (e *UnreachableError) Unwrap() []error { return []error{errs.ErrUnavailable, e.Err} }

// cause returns what the system or the resolver said.
func cause(err error) string {
	if errors.Is(err, errStalled) {
		return errStalled.Error()
	}
	if d, ok := errors.AsType[*net.DNSError](err); ok {
		return d.Err
	}
	op, ok := errors.AsType[*net.OpError](err)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "it closed the connection"
	case !ok:
		return err.Error()
	}
	said := op.Err
	if sys, ok := errors.AsType[*os.SyscallError](said); ok {
		said = sys.Err
	}
	if op.Op == "proxyconnect" {
		return fmt.Sprintf("proxy: %v", said)
	}
	return said.Error()
}

// silent reports whether err, of a request that failed, means that nobody answered.
func silent(err error) bool {
	if !errors.Is(err, errs.ErrUnavailable) {
		return false
	}
	_, ok := errors.AsType[net.Error](err) // of dialling, resolving, a time-out
	return ok || errors.Is(err, errStalled) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}
