package link

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
)

// failure wraps err with what was being done and with the cause that callers
// tell apart. It returns nil for nil.
func failure(what string, err error) error {
	var cause error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENODEV):
		cause = bowline.ErrUnknown
	case errors.Is(err, unix.EEXIST):
		cause = bowline.ErrConflict
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EAFNOSUPPORT), errors.Is(err, unix.EPROTONOSUPPORT):
		cause = bowline.ErrNoKernel
	default:
		return fmt.Errorf("%s: %w", what, err)
	}
	return &opError{what, err, cause}
}

// An opError prints the kernel's words and is both the kernel's error and ours.
type opError struct {
	what   string
	kernel error
	cause  error
}

func (e *opError) Error() string   { return e.what + ": " + e.kernel.Error() }
func (e *opError) Unwrap() []error { return []error{e.kernel, e.cause} }
