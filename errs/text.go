package errs

import "fmt"

// Textf returns an error of a kind whose text is the format alone: for messages that say all
// that the name of the kind would.
func Textf(kind error, format string, args ...any) error {
	return &textError{text: fmt.Sprintf(format, args...), kind: kind}
}

type textError struct {
	text string
	kind error
}

func (e *textError) Error() string { return e.text }
func (e *textError) Unwrap() error { return e.kind }
