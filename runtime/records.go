package runtime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/bowline-net/bowline/internal/state"
)

// all returns the records directly below dir of a store. Damaged ones have been
// set aside, are reported to the log and hinder nothing else.
func all[T any](ctx context.Context, r *Runtime, s state.Store, dir string) ([]T, error) {
	names, err := s.List(ctx, dir)
	if err != nil {
		return nil, err
	}
	var found []T
	for _, name := range names {
		var v T
		switch err := s.Get(ctx, name, &v); {
		case err == nil:
			found = append(found, v)
		case errors.Is(err, fs.ErrNotExist): // ended meanwhile
		case r.reported(err):
		default:
			return nil, err
		}
	}
	return found, nil
}

// reported writes err to the log if it says that records were damaged, and
// nothing else. It reports whether that was so.
func (r *Runtime) reported(err error) bool {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			if !r.reported(e) {
				return false
			}
		}
		return true
	}
	var damaged *state.DamagedError
	if !errors.As(err, &damaged) {
		return false
	}
	fmt.Fprintf(r.log, "bowline: %v\n", err)
	return true
}
