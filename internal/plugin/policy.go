package plugin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/cnm"
	"github.com/bowline-net/bowline/internal/state"
	"github.com/bowline-net/bowline/internal/table"
)

// A Policy is whom one endpoint may talk to, as policy prints it.
type Policy struct {
	Driver    string   `json:"driver"`
	Network   string   `json:"network"`
	Container string   `json:"container"`
	Interface string   `json:"interface"`
	ID        string   `json:"id"`
	Rules     []string `json:"rules"`
}

// policy changes the rules of an endpoint that lives, and prints them. Those of
// its network come after them, as when it was attached.
func (s Spec) policy(ctx context.Context, c *call) error {
	args, err := c.parse(c.flags(), "NETWORK", "ENDPOINT", "RULES")
	if err != nil {
		return err
	}
	own, err := bowline.ParsePolicy(fmt.Sprintf("endpoint %.80q", args[1]), args[2])
	if err != nil {
		return err
	}
	r, err := s.enforce(ctx, args[0], args[1], own)
	if err != nil {
		return err
	}
	row := Policy{s.Name, r.Network, cmp.Or(r.Name, r.Container, r.ID), r.IfName, r.ID, []string{}}
	for _, rule := range r.Policy {
		row.Rules = append(row.Rules, rule.String())
	}
	return table.Print(c.stdout, c.json, "NETWORK\tCONTAINER\tINTERFACE\tRULE", []Policy{row}, func(w io.Writer, p Policy) {
		for _, rule := range p.Rules {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", p.Network, p.Container, cmp.Or(p.Interface, "-"), rule)
		}
	})
}

// enforce changes the rules and returns the record as it is then. The record
// comes first, and is what it was if the driver cannot.
func (s Spec) enforce(ctx context.Context, network, id string, own []bowline.PolicyRule) (state.Endpoint, error) {
	endpoints := state.OpenEndpoints()
	unlock, err := endpoints.Changing(s.Name)
	if err != nil {
		return state.Endpoint{}, err
	}
	defer unlock()
	r, err := endpoints.Get(ctx, s.Name, network, id)
	if err == nil && !r.Ready {
		err = fs.ErrNotExist
	}
	if errors.Is(err, fs.ErrNotExist) {
		return r, bowline.Wrong(bowline.ErrUnknown, fmt.Sprintf("network %q has no endpoint %q", network, id))
	}
	if err != nil {
		return r, err
	}
	was := r
	all, err := bowline.ParsePolicy(fmt.Sprintf("network %q", network), r.Options["policy"])
	if err != nil {
		return was, err
	}
	if r.Policy, err = bowline.ResolvePolicy(r.Config(), append(own, all...), func(network string) ([]netip.Prefix, error) {
		return cnm.OpenNetworks(s.Name).Prefixes(ctx, network)
	}); err != nil {
		return was, err
	}
	d, err := s.New(false)
	if err != nil {
		return was, err
	}
	policer, ok := d.(bowline.Policer)
	if !ok {
		return was, bowline.Wrong(bowline.ErrInvalid, s.Name+" has no policies")
	}
	if err := endpoints.Replace(ctx, r); err != nil {
		return was, err
	}
	e, done := specOf(r)
	defer done()
	if err := policer.Enforce(ctx, r.Config(), e); err != nil {
		back := endpoints.Replace(context.WithoutCancel(ctx), was)
		if errors.Is(back, fs.ErrNotExist) { // it was detached meanwhile
			back = nil
		}
		return was, errors.Join(err, back)
	}
	return r, nil
}
