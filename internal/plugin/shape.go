package plugin

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/state"
	"github.com/bowline-net/bowline/internal/table"
)

// A Shape is the rates of one endpoint, as shape prints them.
type Shape struct {
	Driver    string `json:"driver"`
	Network   string `json:"network"`
	Container string `json:"container"`
	Interface string `json:"interface"`
	ID        string `json:"id"`
	bowline.Rates
}

// shape changes the rates of an endpoint that lives, and prints what they are
// then. What no flag names stays as it is.
func (s Spec) shape(ctx context.Context, c *call) error {
	given := map[string]string{}
	flags := c.flags()
	rateFlags(flags, given)
	names, err := c.parse(flags, "NETWORK", "ENDPOINT")
	if err != nil {
		return err
	}
	r, err := s.reshape(ctx, names[0], names[1], given)
	if err != nil {
		return err
	}
	row := Shape{s.Name, r.Network, cmp.Or(r.Name, r.Container, r.ID), r.IfName, r.ID, r.Rates}
	return table.Print(c.stdout, c.json, "NETWORK\tCONTAINER\tINTERFACE\tINGRESS\tEGRESS", []Shape{row}, func(w io.Writer, r Shape) {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", r.Network, r.Container, cmp.Or(r.Interface, "-"), bowline.FormatRate(r.IngressRate), bowline.FormatRate(r.EgressRate))
	})
}

// rateFlags adds a flag per key of rates, which puts its text into given.
func rateFlags(flags *flag.FlagSet, given map[string]string) {
	for _, key := range bowline.RateKeys() {
		flags.Func(key, "", func(s string) error {
			_, err := bowline.ParseRate(s)
			given[key] = s
			return err
		})
	}
}

// reshape changes the rates and returns the record as it is then. The record
// comes first, and is what it was if the driver cannot.
func (s Spec) reshape(ctx context.Context, network, id string, given map[string]string) (state.Endpoint, error) {
	endpoints := state.OpenEndpoints()
	unlock, err := endpoints.Changing(s.Name)
	if err != nil {
		return state.Endpoint{}, err
	}
	defer unlock()
	// Not while it is being removed: what shaping makes would stay.
	defer endpoints.Hold(s.Name, network, id)()
	r, err := endpoints.Get(ctx, s.Name, network, id)
	if err == nil && !r.Ready {
		err = fs.ErrNotExist
	}
	if errors.Is(err, fs.ErrNotExist) {
		return r, bowline.Wrong(bowline.ErrUnknown, fmt.Sprintf("network %q has no endpoint %q", network, id))
	}
	if err != nil || len(given) == 0 {
		return r, err
	}
	was := r
	if r.Rates, err = changed(r.Rates, given); err != nil {
		return was, err
	}
	d, err := s.New(false)
	if err != nil {
		return was, err
	}
	shaper, ok := d.(bowline.Shaper)
	if !ok {
		return was, bowline.Wrong(bowline.ErrInvalid, s.Name+" limits no rates")
	}
	if err := endpoints.Replace(ctx, r); err != nil {
		return was, err
	}
	e, done := specOf(r)
	defer done()
	if err := shaper.Shape(ctx, r.Config(), e); err != nil {
		back := endpoints.Replace(context.WithoutCancel(ctx), was)
		if errors.Is(back, fs.ErrNotExist) { // it was detached meanwhile
			back = nil
		}
		return was, errors.Join(err, back)
	}
	return r, nil
}

// changed returns the rates with what was given in place of what was. A new
// rate has a burst of its own, or one that the driver chooses.
func changed(r bowline.Rates, given map[string]string) (bowline.Rates, error) {
	now, err := bowline.RatesOf(given)
	if err != nil {
		return r, err
	}
	if _, in := given["ingressRate"]; !in {
		now.IngressRate, now.IngressBurst = r.IngressRate, r.IngressBurst
	}
	if _, out := given["egressRate"]; !out {
		now.EgressRate, now.EgressBurst = r.EgressRate, r.EgressBurst
	}
	return now, nil
}
