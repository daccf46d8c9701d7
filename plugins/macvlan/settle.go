package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/endpoint"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/nft"
	"github.com/bowline-net/bowline/internal/undo"
)

var (
	_ bowline.Settler = (*driver)(nil)
	_ bowline.Shaper  = (*driver)(nil)
	_ bowline.Policer = (*driver)(nil)
)

// ifbName names the link of the sandbox that what the endpoint receives waits
// at.
func ifbName(n bowline.NetworkConfig, id string) string { return bowline.LinkName("bwf", n.ID, id) }

// limits are e's rates as the link in the sandbox has them: what comes in there
// is what comes to the endpoint.
func limits(n bowline.NetworkConfig, e bowline.EndpointSpec) link.Limits {
	l := endpoint.Limits(n, e, ifbName(n, e.ID))
	l.Out, l.In = l.In, l.Out
	return l
}

// inside returns a handle on the firewall of the endpoint's sandbox.
func (d *driver) inside(e bowline.EndpointSpec) *nft.Sandbox {
	if d.plan != nil {
		return nft.OpenDrySandbox(e.Sandbox, d.plan)
	}
	return nft.OpenSandbox(e.Sandbox)
}

// compatible refuses what the kernel cannot do both: what waits at an ifb for its
// turn comes back behind the hook where a policy decides, and so past it.
func compatible(n bowline.NetworkConfig, e bowline.EndpointSpec) error {
	if e.Rates.IngressRate == 0 || len(e.Policy) == 0 {
		return nil
	}
	return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf(
		"network %q: endpoint %q: ingressRate=%d and a policy: want one of them, for what a macvlan receives would come past its policy; egressRate goes with both", n.ID, e.ID, e.Rates.IngressRate))
}

// settle limits and restricts the link of that name in the endpoint's sandbox.
func (d *driver) settle(ctx context.Context, u *undo.Stack, n bowline.NetworkConfig, e bowline.EndpointSpec, in *link.Handle, name string) error {
	if e.Rates != (bowline.Rates{}) {
		if err := in.Limit(ctx, name, limits(n, e)); err != nil {
			return err
		}
	}
	if len(e.Policy) == 0 {
		return nil
	}
	if err := endpoint.Resolved(e.ID, e.Policy); err != nil {
		return err
	}
	rules := d.inside(e)
	defer rules.Close()
	re := nft.Endpoint{ID: e.ID, Port: name, Policy: e.Policy}
	if err := rules.EnsureEndpoint(ctx, n.ID, re); err != nil {
		return err
	}
	u.Push("delete policy of "+e.ID, func(ctx context.Context) error {
		rules := d.inside(e)
		defer rules.Close()
		return rules.DeleteEndpoint(ctx, n.ID, e.ID)
	})
	return nil
}

// Settle implements [bowline.Settler].
func (d *driver) Settle(ctx context.Context, n bowline.NetworkConfig, e bowline.EndpointSpec) error {
	in, done, err := d.in(e)
	if err != nil {
		return err
	}
	defer done()
	if _, err := d.host.Identify(ctx, e.Sandbox); err != nil {
		return err
	}
	var u undo.Stack
	defer u.Rollback(ctx)
	if err := d.settle(ctx, &u, n, e, in, e.IfName); err != nil {
		return err
	}
	u.Commit()
	return nil
}

// Shape implements [bowline.Shaper].
func (d *driver) Shape(ctx context.Context, n bowline.NetworkConfig, e bowline.EndpointSpec) error {
	if err := errors.Join(endpoint.ValidateRates(e), compatible(n, e)); err != nil {
		return err
	}
	in, name, done, err := d.open(ctx, n, e)
	if err != nil {
		return err
	}
	defer done()
	return in.Limit(ctx, name, limits(n, e))
}

// Enforce implements [bowline.Policer].
func (d *driver) Enforce(ctx context.Context, n bowline.NetworkConfig, e bowline.EndpointSpec) error {
	if err := errors.Join(endpoint.Resolved(e.ID, e.Policy), compatible(n, e)); err != nil {
		return err
	}
	_, name, done, err := d.open(ctx, n, e)
	if err != nil {
		return err
	}
	defer done()
	rules := d.inside(e)
	defer rules.Close()
	return rules.ReplacePolicy(ctx, n.ID, nft.Endpoint{ID: e.ID, Port: name, Policy: e.Policy})
}

// open returns a handle on the endpoint's sandbox and the name of its link there,
// which an engine may have chosen. The error wraps [bowline.ErrUnknown] if the
// link, or the sandbox, is gone.
func (d *driver) open(ctx context.Context, n bowline.NetworkConfig, e bowline.EndpointSpec) (*link.Handle, string, func(), error) {
	if e.Sandbox == nil {
		return nil, "", nil, bowline.Wrong(bowline.ErrUnknown, fmt.Sprintf("network %q: endpoint %q: its sandbox is gone", n.ID, e.ID))
	}
	in, done, err := d.in(e)
	if err != nil {
		return nil, "", nil, err
	}
	l, err := find(ctx, in, n, e)
	if err != nil {
		done()
		return nil, "", nil, err
	}
	return in, l.Name, done, nil
}

// find returns the endpoint's link in the sandbox that in is a handle of.
func find(ctx context.Context, in *link.Handle, n bowline.NetworkConfig, e bowline.EndpointSpec) (link.Seen, error) {
	if e.IfName != "" {
		l, err := in.See(ctx, e.IfName)
		if err == nil && !own(n, e)(l) {
			err = bowline.Wrong(bowline.ErrUnknown, fmt.Sprintf("network %q: endpoint %q: link %s is another one", n.ID, e.ID, e.IfName))
		}
		return l, err
	}
	all, err := in.SeeAll(ctx)
	if err != nil {
		return link.Seen{}, err
	}
	for _, l := range all {
		if l.Kind == "macvlan" && l.Alias == endpoint.Alias(n, e.ID) {
			return l, nil
		}
	}
	return link.Seen{}, bowline.Wrong(bowline.ErrUnknown, fmt.Sprintf("network %q: endpoint %q: its link is gone", n.ID, e.ID))
}

// gone reports whether there is no such link.
func gone(err error) bool { return errors.Is(err, bowline.ErrUnknown) }
