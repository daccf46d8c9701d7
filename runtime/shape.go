package runtime

import (
	"context"
	"errors"

	"github.com/bowline-net/bowline"
)

// A Shape is the rates of one attachment.
type Shape struct {
	Driver    string `json:"driver"`
	Network   string `json:"network"`
	Container string `json:"container"`
	Interface string `json:"interface"`
	ID        string `json:"id"` // of the endpoint, unique within driver and network
	bowline.Rates
}

// Shape changes the rates of the attachments that w means, whichever engine made
// them, and returns what they are then. rates holds some of [bowline.RateKeys];
// what it does not name stays as it is, and nothing is changed if it is empty.
// The error is as of a search for w, or wraps [bowline.ErrInvalid].
func (r *Runtime) Shape(ctx context.Context, w Wanted, rates map[string]string) ([]Shape, error) {
	if _, err := bowline.RatesOf(rates); err != nil {
		return nil, err
	}
	found, err := r.find(ctx, w)
	if err != nil {
		return nil, err
	}
	var flags []string
	for _, key := range bowline.RateKeys() {
		if v, given := rates[key]; given {
			flags = append(flags, "-"+key, v)
		}
	}
	var all []Shape
	var errs []error
	for _, e := range found {
		answers, err := Ask[Shape](ctx, r, Verb{Name: "shape", Driver: e.Driver, Args: append(flags[:len(flags):len(flags)], e.Network, e.ID)})
		errs = append(errs, err)
		for _, a := range answers {
			a.Row.Container = w.Container
			all = append(all, a.Row)
		}
	}
	return all, errors.Join(errs...)
}
