package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/endpoint"
	"github.com/bowline-net/bowline/internal/link"
)

var (
	_ bowline.Settler   = (*driver)(nil)
	_ bowline.Unsettler = (*driver)(nil)
	_ bowline.Shaper    = (*driver)(nil)
	_ bowline.Policer   = (*driver)(nil)
)

// inside is what keeps limits and policy of the NIC, which has that name in the
// sandbox.
func (d *driver) inside(in *link.Handle, ns bowline.Namespace, name string) endpoint.Inside {
	return endpoint.Inside{Links: in, NS: ns, Name: name, Plan: d.plan}
}

func (d *driver) insideOf(at found) endpoint.Inside { return d.inside(at.in, at.ns, at.nic.Name) }

// settleIn limits and restricts the NIC, which is in e's sandbox under that name.
// The loan says first what is to be taken away before it comes back.
func (d *driver) settleIn(ctx context.Context, l *loan, n bowline.NetworkConfig, e bowline.EndpointSpec, in *link.Handle, name string) error {
	limited, restricted := l.Limited || e.Rates != bowline.Rates{}, l.Restricted || len(e.Policy) > 0
	if limited != l.Limited || restricted != l.Restricted {
		l.Limited, l.Restricted = limited, restricted
		if err := d.loans.put(ctx, *l); err != nil {
			return err
		}
	}
	return d.inside(in, e.Sandbox, name).Settle(ctx, n, e)
}

// unsettle takes away what settleIn made: it would stay in the sandbox.
func (d *driver) unsettle(ctx context.Context, l loan, at found) error {
	if l.Limited {
		if err := at.in.Limit(ctx, at.nic.Name, link.Limits{IFB: endpoint.IFB(l.Network, l.Endpoint)}); err != nil {
			return err
		}
	}
	if !l.Restricted {
		return nil
	}
	return d.insideOf(at).EndPolicy(ctx, l.Network, l.Endpoint)
}

// Settle implements [bowline.Settler]: dockerd has moved the NIC, so now its
// namespace can be pinned, and the NIC limited and restricted.
func (d *driver) Settle(ctx context.Context, n bowline.NetworkConfig, e bowline.EndpointSpec) error {
	return d.inSandbox(ctx, n, e, func(l *loan, at found) error {
		if err := d.pinDocker(ctx, l, at); err != nil {
			return err
		}
		return d.settleIn(ctx, l, n, e, at.in, at.nic.Name)
	})
}

// Unsettle implements [bowline.Unsettler].
func (d *driver) Unsettle(ctx context.Context, n bowline.NetworkConfig, e bowline.EndpointSpec) error {
	in, err := d.host.In(e.Sandbox)
	if err != nil {
		return err
	}
	defer in.Close()
	return d.inside(in, e.Sandbox, "").Unsettle(ctx, n, e)
}

// Shape implements [bowline.Shaper].
func (d *driver) Shape(ctx context.Context, n bowline.NetworkConfig, e bowline.EndpointSpec) error {
	if err := errors.Join(endpoint.ValidateRates(e), endpoint.ValidateInside(n, e)); err != nil {
		return err
	}
	return d.inSandbox(ctx, n, e, func(l *loan, at found) error {
		l.Limited = true
		if err := d.loans.put(ctx, *l); err != nil {
			return err
		}
		return d.insideOf(at).Shape(ctx, n, e)
	})
}

// Enforce implements [bowline.Policer].
func (d *driver) Enforce(ctx context.Context, n bowline.NetworkConfig, e bowline.EndpointSpec) error {
	if err := errors.Join(endpoint.Resolved(e.ID, e.Policy), endpoint.ValidateInside(n, e)); err != nil {
		return err
	}
	return d.inSandbox(ctx, n, e, func(l *loan, at found) error {
		l.Restricted = true
		if err := d.loans.put(ctx, *l); err != nil {
			return err
		}
		return d.insideOf(at).Enforce(ctx, n, e)
	})
}

// inSandbox calls f with the endpoint's loan and where its NIC is, which must be
// in a sandbox: else the error wraps [bowline.ErrUnknown].
func (d *driver) inSandbox(ctx context.Context, n bowline.NetworkConfig, e bowline.EndpointSpec, f func(*loan, found) error) error {
	unlock, err := d.loans.lock()
	if err != nil {
		return err
	}
	defer unlock()
	l, there, err := d.loans.get(ctx, n.ID, e.ID)
	if err != nil {
		return err
	}
	at := found{}
	if there {
		if l = d.joined(ctx, l); e.Sandbox != nil { // the record of Docker's endpoint may say it a little later
			l = l.in(e.Sandbox)
		}
		if at, err = d.find(ctx, l); err != nil {
			return err
		}
	}
	defer at.close()
	if at.where != away {
		return bowline.Wrong(bowline.ErrUnknown, fmt.Sprintf("network %q: endpoint %q has no NIC in a sandbox", n.ID, e.ID))
	}
	return f(&l, at)
}

// pinDocker pins the namespace that dockerd has moved the NIC to.
func (d *driver) pinDocker(ctx context.Context, l *loan, at found) (err error) {
	if !l.Docker || l.Pin != "" {
		return nil
	}
	l.Sandbox, l.NetnsIno = at.ns.Path(), at.ino
	if l.Pin, err = d.pinFor(ctx, *l); err != nil {
		return err
	}
	if err := d.loans.put(ctx, *l); err != nil || l.Pin == "" {
		return err
	}
	return d.pin(ctx, at.ns, l.Pin)
}

// repairInside makes limits and policy right.
func (d *driver) repairInside(ctx context.Context, n bowline.NetworkConfig, e bowline.EndpointSpec) error {
	if e.Rates != (bowline.Rates{}) {
		if err := d.Shape(ctx, n, e); err != nil {
			return err
		}
	}
	if len(e.Policy) == 0 {
		return nil
	}
	return d.inSandbox(ctx, n, e, func(_ *loan, at found) error { return d.insideOf(at).Repair(ctx, n, e) })
}
