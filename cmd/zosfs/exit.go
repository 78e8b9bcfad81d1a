package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"github.com/zosfs/zosfs/errs"
)

// The exit codes are a contract: docs/cli.md.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitDamaged     = 3
	exitNotFound    = 4
	exitDenied      = 5
	exitUnavailable = 6
	exitInterrupted = 130
)

// exitCodes translates kinds of failure, the first that fits; others are exitFailure.
var exitCodes = []struct {
	kind error
	code int
}{
	{errs.ErrCorrupt, exitDamaged},
	{errs.ErrFormat, exitDamaged},
	{errs.ErrDenied, exitDenied},
	{fs.ErrPermission, exitDenied},
	{errs.ErrUnavailable, exitUnavailable},
	{context.DeadlineExceeded, exitUnavailable},
	{errs.ErrNotFound, exitNotFound},
	{fs.ErrNotExist, exitNotFound},
	{errs.ErrFull, exitFailure},
}

func exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	if _, ok := errors.AsType[*usageError](err); ok {
		return exitUsage
	}
	if _, ok := errors.AsType[interrupted](err); ok {
		return exitInterrupted
	}
	for _, e := range exitCodes {
		if errors.Is(err, e.kind) {
			return e.code
		}
	}
	return exitFailure
}

// usageError says that a command line makes no sense.
type usageError struct {
	cmd string
	err error
}

func usage(c *cobra.Command, err error) error {
	if _, ok := errors.AsType[*usageError](err); ok {
		return err
	}
	return &usageError{cmd: c.CommandPath(), err: err}
}

func (e *usageError) Error() string {
	return strings.TrimSuffix(e.err.Error(), ": "+errs.ErrFormat.Error()) // usage says as much
}

func (e *usageError) Unwrap() error { return e.err }

// badWords makes an error about what the user wrote a usage error.
func badWords(cmd string, err error) error {
	if errors.Is(err, errs.ErrFormat) || errors.Is(err, errors.ErrUnsupported) {
		return &usageError{cmd: cmd, err: err}
	}
	return err
}

// several are errors of a command that went on after the first, whose kind it has.
type several []error

func (s several) Error() string { return errors.Join(s...).Error() }
func (s several) Unwrap() error { return s[0] }

// interrupted is what a command failed with after a signal.
type interrupted struct{ err error }

func (e interrupted) Error() string { return "interrupted" }
func (e interrupted) Unwrap() error { return e.err }

// hintFor says what to try next, where the error does not say it itself.
func hintFor(err error) string {
	if u, ok := errors.AsType[*usageError](err); ok {
		return fmt.Sprintf("see %q", u.cmd+" --help")
	}
	return ""
}
