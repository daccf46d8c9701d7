package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/endpoint"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/undo"
)

var (
	_ bowline.Settler   = (*driver)(nil)
	_ bowline.Unsettler = (*driver)(nil)
	_ bowline.Shaper    = (*driver)(nil)
	_ bowline.Policer   = (*driver)(nil)
)

// inside is what keeps limits and policy of the link of that name in the
// endpoint's sandbox.
func (d *driver) inside(e bowline.EndpointSpec, in *link.Handle, name string) endpoint.Inside {
	return endpoint.Inside{Links: in, NS: e.Sandbox, Name: name, Plan: d.plan}
}

// settle limits and restricts the link of that name in the endpoint's sandbox.
// The limits go with the link.
func (d *driver) settle(ctx context.Context, u *undo.Stack, n bowline.NetworkConfig, e bowline.EndpointSpec, in *link.Handle, name string) error {
	inside := d.inside(e, in, name)
	if err := inside.Settle(ctx, n, e); err != nil || len(e.Policy) == 0 {
		return err
	}
	u.Push("delete policy of "+e.ID, func(ctx context.Context) error { return inside.EndPolicy(ctx, n.ID, e.ID) })
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

// Unsettle implements [bowline.Unsettler].
func (d *driver) Unsettle(ctx context.Context, n bowline.NetworkConfig, e bowline.EndpointSpec) error {
	in, done, err := d.in(e)
	if err != nil {
		return err
	}
	defer done()
	return d.inside(e, in, "").Unsettle(ctx, n, e)
}

// Shape implements [bowline.Shaper].
func (d *driver) Shape(ctx context.Context, n bowline.NetworkConfig, e bowline.EndpointSpec) error {
	if err := errors.Join(endpoint.ValidateRates(e), endpoint.ValidateInside(n, e)); err != nil {
		return err
	}
	in, name, done, err := d.open(ctx, n, e)
	if err != nil {
		return err
	}
	defer done()
	return d.inside(e, in, name).Shape(ctx, n, e)
}

// Enforce implements [bowline.Policer].
func (d *driver) Enforce(ctx context.Context, n bowline.NetworkConfig, e bowline.EndpointSpec) error {
	if err := errors.Join(endpoint.Resolved(e.ID, e.Policy), endpoint.ValidateInside(n, e)); err != nil {
		return err
	}
	in, name, done, err := d.open(ctx, n, e)
	if err != nil {
		return err
	}
	defer done()
	return d.inside(e, in, name).Enforce(ctx, n, e)
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
