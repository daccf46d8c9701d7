package main

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/endpoint"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/nft"
	"github.com/bowline-net/bowline/internal/undo"
)

// ensureRules tells the firewalls of a network whose bridge, or whose bridge's
// link in its VLAN, is new, and makes sure of the room in those of others.
func (d *driver) ensureRules(ctx context.Context, u *undo.Stack, n bowline.NetworkConfig, o options, made, madeVLAN bool) error {
	rules, bridge := ruleNetwork(n, o), bridgeName(n, o)
	if made || madeVLAN {
		u.Push("delete firewall elements of network "+n.ID, func(ctx context.Context) error { return d.deleteRules(ctx, n, o, rules.Bridge) })
		err := d.rules.EnsureNetwork(ctx, rules)
		if errors.Is(err, bowline.ErrConflict) { // left of a link of that name that is gone
			if err = d.rules.DeleteNetwork(ctx, rules); err == nil {
				err = d.rules.EnsureNetwork(ctx, rules)
			}
		}
		if err != nil {
			return err
		}
	}
	if made {
		u.Push("give back room of bridge "+bridge, func(ctx context.Context) error { return d.rules.GiveBackRoom(ctx, o.room(bridge)) })
	}
	// What one port sends to another passes the firewalls too where bridged
	// packets do, whatever their VLAN.
	if err := d.rules.MakeRoom(ctx, o.room(bridge)); err != nil || rules.Bridge == bridge || !o.isGateway {
		return err
	}
	return d.rules.MakeRoom(ctx, o.room(rules.Bridge))
}

// endpointRules tells the firewall of an endpoint that is on the bridge. What an
// earlier configuration of the network left gives way if it is the only one.
func (d *driver) endpointRules(ctx context.Context, n bowline.NetworkConfig, br link.Info, rn nft.Network, re nft.Endpoint) error {
	if err := endpoint.Resolved(re.ID, re.Policy); err != nil {
		return err
	}
	err := d.rules.EnsureEndpoint(ctx, rn, re)
	if !errors.Is(err, bowline.ErrConflict) || errors.As(err, new(*nft.TakenError)) {
		return err
	}
	p, perr := d.ports(ctx, n, br)
	if perr != nil {
		return perr
	}
	if p.networks > 0 || len(p.mine) > 1 {
		return fmt.Errorf("network %q: endpoints are attached to bridge %s with other options than now; want them detached, or the options as they were: %w", n.ID, br.Name, err)
	}
	if err := d.rules.DeleteNetwork(ctx, rn); err != nil {
		return err
	}
	return d.rules.EnsureEndpoint(ctx, rn, re)
}

// ruleNetwork is what the firewall knows of the network. What leaves a VLAN
// passes the bridge's link there, not the bridge.
func ruleNetwork(n bowline.NetworkConfig, o options) nft.Network {
	r := nft.Network{
		ID: n.ID, Bridge: gatewayLinkName(bridgeName(n, o), o), Internal: o.internal, ICC: o.icc && !o.portIsolation,
		Publishing: o.publishing(n), Access4: o.access(false), Access6: o.access(true), Open: o.ingressPolicy == "open", Trusted: o.trusted,
	}
	// There is no way out by a family that the network has no pool of either:
	// every bridge has a link-local address that containers could route through.
	r.V4, r.V6 = o.internal, o.internal
	for _, p := range n.Pools {
		if p.Prefix.Addr().Is4() {
			r.V4 = true
		} else {
			r.V6 = true
		}
		// An internal network has no way out, so there is nothing to hide.
		if o.ipMasq && o.translates(p.Prefix.Addr().Is6()) {
			r.Masq = append(r.Masq, p.Prefix)
		}
	}
	if o.vlan != 0 && !o.isGateway && !o.ipMasq && !o.internal { // the host has no part in it
		r.V4, r.V6 = false, false
	}
	return r
}

// ownRules reports whether the endpoint has rule elements of its own, or may have:
// one without a MAC has no record that could tell.
func ownRules(o options, e bowline.EndpointSpec) bool {
	return o.macSpoofCheck || len(e.Ports) > 0 || len(e.Policy) > 0 || e.MAC == nil && o.firewall != "none"
}

// ruleEndpoint is what the firewall knows of the endpoint.
func ruleEndpoint(n bowline.NetworkConfig, o options, e bowline.EndpointSpec, mac net.HardwareAddr) nft.Endpoint {
	r := nft.Endpoint{ID: e.ID, Port: outerName(n, e.ID)}
	r.Closed, r.Open = o.direct(e)
	if o.macSpoofCheck {
		r.MAC = mac
	}
	r.Policy = e.Policy
	r.Ports, r.Unsure = o.ports(n, e)
	return r
}
