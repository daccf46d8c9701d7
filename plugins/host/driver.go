package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/endpoint"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/plan"
)

// A driver lends NICs of the host to sandboxes, one to one at a time, and takes
// them back.
type driver struct {
	host  *link.Handle
	ns    bowline.Namespace // of the host; nil: that of the process
	loans loans
	sys   string     // [sysfs]
	plan  *plan.Plan // not nil: nothing is done but written there
}

var (
	_ bowline.Driver         = (*driver)(nil)
	_ bowline.Validator      = (*driver)(nil)
	_ bowline.StatusReporter = (*driver)(nil)
	_ bowline.Collector      = (*driver)(nil)
	_ bowline.Sharer         = (*driver)(nil)
	_ bowline.Lender         = (*driver)(nil)
)

// newDriver returns a driver for the host whose namespace is ns, or the
// process's own if ns is nil.
func newDriver(ns bowline.Namespace, s loans) (*driver, error) {
	host, err := link.Open(ns)
	if err != nil {
		return nil, err
	}
	return &driver{host: host, ns: ns, loans: s, sys: sysfs}, nil
}

// home opens the host's namespace, to move links there.
func (d *driver) home() (ns bowline.Namespace, closeIt func(), err error) {
	if d.ns != nil {
		return d.ns, func() {}, nil
	}
	h, err := netns.Current()
	if err != nil {
		return nil, nil, err
	}
	return h, func() { h.Close() }, nil
}

// ValidateNetwork implements [bowline.Validator].
func (d *driver) ValidateNetwork(n bowline.NetworkConfig) error {
	o, err := parseOptions(n)
	if err != nil {
		return err
	}
	if _, err := bowline.RatesOf(n.Options); err != nil {
		return fmt.Errorf("network %q: %w", n.ID, err)
	}
	return endpoint.ValidateTuning(fmt.Sprintf("network %q", n.ID), o.tuning)
}

// ValidateEndpoint implements [bowline.Validator].
func (d *driver) ValidateEndpoint(n bowline.NetworkConfig, e bowline.EndpointSpec) error {
	o, err := parseEndpoint(n, e)
	if err != nil {
		return err
	}
	if e.Sandbox != nil && o.want == (wanted{}) {
		return noneWanted(n)
	}
	own := e
	own.Options = map[string]string{}
	for k, v := range e.Options {
		if k != "deviceID" {
			own.Options[k] = v
		}
	}
	return errors.Join(endpoint.Validate(own), endpoint.ValidateInside(n, e))
}

func noneWanted(n bowline.NetworkConfig) error {
	return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf(
		"network %q: want one of the options device, hwaddr, kernelpath and pciBusID, or deviceID of the engine, for the NIC that the container gets; "+
			"without any, a container shares all that the host has, and so must be in the host's own namespace", n.ID))
}

// CreateNetwork implements [bowline.Driver]. There is nothing to make.
func (d *driver) CreateNetwork(ctx context.Context, n bowline.NetworkConfig) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return d.ValidateNetwork(n)
}

// DeleteNetwork implements [bowline.Driver].
func (d *driver) DeleteNetwork(ctx context.Context, n bowline.NetworkConfig) error {
	all, err := d.loans.all(ctx, n.ID)
	if err != nil || len(all) == 0 {
		return err
	}
	return bowline.Wrong(bowline.ErrConflict, fmt.Sprintf("network %q: %d endpoints are still attached, %s for one", n.ID, len(all), all[0].Endpoint))
}

// Status implements [bowline.StatusReporter]. A NIC that some container has is
// all right: it is there for nobody else, but works.
func (d *driver) Status(ctx context.Context, n bowline.NetworkConfig) error {
	o, err := parseOptions(n)
	if err != nil || o.want == (wanted{}) || d.isUserspace(o.want) {
		return err
	}
	if _, err = d.choose(ctx, o.want); err == nil || !errors.Is(err, bowline.ErrUnknown) {
		return err
	}
	if lent, lerr := d.lent(ctx, o.want); lent || lerr != nil {
		return lerr
	}
	return bowline.Wrong(bowline.ErrUnavailable, fmt.Sprintf("network %q: %v", n.ID, err))
}

// lent reports whether some container has the NIC that is wanted.
func (d *driver) lent(ctx context.Context, w wanted) (bool, error) {
	all, err := d.loans.all(ctx, "")
	return slices.ContainsFunc(all, func(l loan) bool { return d.names(w, l) }), err
}

// attachment says how the NIC is to be dressed: with what IPAM gave, or with
// what it had.
func (l loan) attachment(n bowline.NetworkConfig, o options, e bowline.EndpointSpec) bowline.Attachment {
	a := bowline.Attachment{Link: l.Name, MTU: l.MTU, Addrs: e.Addrs, DAD: o.dad, Quiet: !o.announce, Sysctls: o.tuning.Sysctls}
	if a.MAC = o.mac; a.MAC == nil {
		a.MAC, _ = net.ParseMAC(l.MAC) // empty: a NIC without one
	}
	if o.mtu != 0 {
		a.MTU = o.mtu
	}
	if e.IfName != "" {
		a.Link = e.IfName
	}
	if kept := l.Settings.Prefixes(); o.keep && (len(e.Addrs) == 0 || slices.Equal(e.Addrs, kept)) {
		a.Addrs = kept
		for _, r := range l.routes() {
			if r.Dst.Bits() > 0 || !r.Via.IsValid() {
				a.Routes = append(a.Routes, r)
			} else if !o.internal && !has(a.Gateways, r.Via.Is6()) {
				a.Gateways = append(a.Gateways, r.Via)
			}
		}
		return a
	}
	a.Shared = o.acd
	if o.isDefaultGateway && !o.internal {
		for _, p := range n.Pools {
			for _, addr := range e.Addrs {
				if p.Gateway.IsValid() && p.Prefix.Contains(addr.Addr()) && !has(a.Gateways, p.Gateway.Is6()) {
					a.Gateways = append(a.Gateways, p.Gateway)
				}
			}
		}
	}
	return a
}
