package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/endpoint"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/nft"
	"github.com/bowline-net/bowline/internal/plan"
	"github.com/bowline-net/bowline/internal/state"
	"github.com/bowline-net/bowline/internal/tune"
	"github.com/bowline-net/bowline/internal/undo"
)

// A driver puts containers on a parent link of the host: each endpoint is a
// macvlan, which is in the sandbox from its first moment. It has no end in the
// host, so that limits and policy are kept in the sandbox, and whose a link is
// says its alias there.
type driver struct {
	host  *link.Handle
	rules *nft.Handle
	plan  *plan.Plan // not nil: nothing is changed
	// hold keeps other processes from the host's link of that name until the
	// function that it returns is called: what the last endpoint removes, the
	// next one makes.
	hold func(shim string) (release func())
}

var (
	_ bowline.Driver         = (*driver)(nil)
	_ bowline.Validator      = (*driver)(nil)
	_ bowline.Planner        = (*driver)(nil)
	_ bowline.StatusReporter = (*driver)(nil)
	_ bowline.Collector      = (*driver)(nil)
)

func innerName(n bowline.NetworkConfig, e bowline.EndpointSpec) string {
	if e.Sandbox != nil && e.IfName != "" {
		return e.IfName
	}
	return bowline.LinkName("bwi", n.ID, e.ID)
}

// newDriver returns a driver for the host whose namespace is ns, or the process's
// own if ns is nil.
func newDriver(ns bowline.Namespace) (*driver, error) {
	host, err := link.Open(ns)
	if err != nil {
		return nil, err
	}
	return &driver{host: host, rules: nft.Open(ns), hold: holdShim}, nil
}

// holdShim waits, but not for ever, for who holds the shim.
func holdShim(shim string) (release func()) {
	return state.OpenEndpoints().Hold("macvlan", "shim", shim)
}

// in returns a handle on the endpoint's sandbox, or on the host if it has none,
// and what closes it.
func (d *driver) in(e bowline.EndpointSpec) (*link.Handle, func(), error) {
	if e.Sandbox == nil {
		return d.host, func() {}, nil
	}
	h, err := d.host.In(e.Sandbox)
	if err != nil {
		return nil, nil, err
	}
	return h, h.Close, nil
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
	return errors.Join(endpoint.Validate(e), endpoint.ValidateInside(n, e))
}

// PlanEndpoint implements [bowline.Planner].
func (d *driver) PlanEndpoint(n bowline.NetworkConfig, e bowline.EndpointSpec) (string, net.HardwareAddr, error) {
	o, err := parseOptions(n)
	if err != nil {
		return "", nil, err
	}
	mac, err := askedMAC(n, o, e)
	return "", mac, err
}

// askedMAC is that of the endpoint's link, nil for the parent's, which a link
// in mode passthru has unless another one is asked for.
func askedMAC(n bowline.NetworkConfig, o options, e bowline.EndpointSpec) (net.HardwareAddr, error) {
	if o.mode == link.ModePassthru && e.MAC == nil && n.Options["mac"] == "" {
		own, err := endpoint.Parse(e)
		return own.MAC, err
	}
	return endpoint.MAC(n, e)
}

// CreateNetwork implements [bowline.Driver]. All that a network has of its own is
// a parent in a VLAN.
func (d *driver) CreateNetwork(ctx context.Context, n bowline.NetworkConfig) error {
	o, err := parseOptions(n)
	if err != nil {
		return err
	}
	if err := endpoint.ValidateMTU(n, o.mtu); err != nil || o.linkInContainer {
		return err
	}
	parent, err := d.ensureParent(ctx, n, o)
	if err != nil {
		return err
	}
	return fits(n, o.mtu, parent)
}

// fits refuses packets larger than the parent's.
func fits(n bowline.NetworkConfig, mtu int, parent link.Info) error {
	if mtu <= parent.MTU {
		return nil
	}
	return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("network %q: option mtu=\"%d\": want at most %d bytes, as the parent %s has", n.ID, mtu, parent.MTU, parent.Name))
}

// CreateEndpoint implements [bowline.Driver].
func (d *driver) CreateEndpoint(ctx context.Context, n bowline.NetworkConfig, e bowline.EndpointSpec) (bowline.Attachment, error) {
	o, err := parseOptions(n)
	if err = errors.Join(err, endpoint.ValidateInside(n, e)); err != nil {
		return bowline.Attachment{}, err
	}
	in, done, err := d.in(e)
	if err != nil {
		return bowline.Attachment{}, err
	}
	defer done()
	var u undo.Stack
	defer u.Rollback(ctx)
	parent, err := d.parent(ctx, n, o, in)
	if err != nil {
		return bowline.Attachment{}, err
	}
	v, err := macvlan(n, o, e, parent)
	if err != nil {
		return bowline.Attachment{}, err
	}
	if o.linkInContainer && e.Sandbox != nil { // by which it is found, as where the parent is the host's
		if _, err := d.host.Identify(ctx, e.Sandbox); err != nil {
			return bowline.Attachment{}, err
		}
	}
	made, err := d.ensureMacvlan(ctx, n, o, in, v)
	if err != nil {
		return bowline.Attachment{}, err
	}
	if made {
		u.Push("delete macvlan "+v.Name, func(ctx context.Context) error { return in.Delete(ctx, v.Name, endpoint.IFB(n.ID, e.ID)) })
	}
	if e.Sandbox != nil {
		if err := d.settle(ctx, &u, n, e, in, v.Name); err != nil {
			return bowline.Attachment{}, err
		}
	}
	l, err := in.Get(ctx, v.Name)
	if err != nil {
		return bowline.Attachment{}, err
	}
	if o.hostAccess && len(e.Addrs) > 0 {
		if err := d.admit(ctx, &u, n, o, e, parent, l.MAC); err != nil {
			return bowline.Attachment{}, err
		}
	}
	u.Commit()
	return attachment(n, o, e, l), nil
}

// macvlan is the endpoint's link.
func macvlan(n bowline.NetworkConfig, o options, e bowline.EndpointSpec, parent link.Info) (link.Macvlan, error) {
	mac, err := askedMAC(n, o, e)
	if err != nil {
		return link.Macvlan{}, err
	}
	own := endpoint.OptionsOf(e)
	v := link.Macvlan{
		Name: innerName(n, e), Parent: parent.Index, Mode: o.mode, Sources: o.sources, MAC: mac, Alias: endpoint.Alias(n, e.ID),
		MTU: cmp.Or(own.MTU, o.mtu), BCQueueLen: o.bcQueueLen, BCLim: o.bcLim, Tuning: o.tuning.With(own.Tuning).Link(),
	}
	return v, fits(n, v.MTU, parent)
}

// ensureMacvlan makes the link unless it is there as asked for. It reports
// whether it made it.
func (d *driver) ensureMacvlan(ctx context.Context, n bowline.NetworkConfig, o options, in *link.Handle, v link.Macvlan) (bool, error) {
	from := d.host
	if o.linkInContainer {
		from = in
	}
	err := from.CreateMacvlan(ctx, in, v)
	if err == nil || !errors.Is(err, fs.ErrExist) {
		return err == nil, err
	}
	have, err := in.See(ctx, v.Name)
	if err != nil {
		return false, err
	}
	if have.Kind == "macvlan" && have.Alias == v.Alias && (v.MAC == nil || have.MAC.String() == v.MAC.String()) && have.Parent == v.Parent {
		return false, nil
	}
	return false, bowline.Wrong(bowline.ErrConflict, fmt.Sprintf("network %q: add macvlan %s: the sandbox has a link of that name already", n.ID, v.Name))
}

// attachment says how the link is to be dressed.
func attachment(n bowline.NetworkConfig, o options, e bowline.EndpointSpec, l link.Info) bowline.Attachment {
	a := bowline.Attachment{
		Link: l.Name, MAC: l.MAC, MTU: l.MTU, Addrs: e.Addrs, DAD: o.dad, Quiet: !o.announce, Shared: o.acd,
		Sysctls: tuning(o, e).Sysctls, Tuning: tuning(o, e).Link(),
	}
	if o.defaultGateway && !o.internal {
		a.Gateways = endpoint.Gateways(n, e, func(p bowline.Pool) netip.Addr { return p.Gateway })
	}
	return a
}

func tuning(o options, e bowline.EndpointSpec) tune.Options {
	return o.tuning.With(endpoint.OptionsOf(e).Tuning)
}
