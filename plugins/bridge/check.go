package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/link"
)

// differing makes the error that names a difference.
type differing func(format string, args ...any) error

// CheckEndpoint implements [bowline.Driver].
func (d *driver) CheckEndpoint(ctx context.Context, n bowline.NetworkConfig, e bowline.EndpointSpec) error {
	o, err := parseOptions(n)
	if err != nil {
		return err
	}
	differs := func(format string, args ...any) error {
		return bowline.Wrong(bowline.ErrDiffers, fmt.Sprintf("network %q, endpoint %q: ", n.ID, e.ID)+fmt.Sprintf(format, args...))
	}
	name := bridgeName(n, o)
	br, err := d.host.Get(ctx, name)
	switch {
	case errors.Is(err, bowline.ErrUnknown):
		return differs("bridge %s is gone", name)
	case err != nil:
		return err
	case br.Kind != "bridge" || !br.Up:
		return differs("link %s is not a bridge that is up", name)
	}
	if err := d.checkPort(ctx, o, outerName(n, e.ID), br, differs); err != nil {
		return err
	}
	if err := d.checkLimits(ctx, n, e, differs); err != nil {
		return err
	}
	if err := d.checkGateways(ctx, n, o, name, differs); err != nil {
		return err
	}
	return d.checkRules(ctx, n, o, e)
}

// checkPort compares the endpoint's link in the host.
func (d *driver) checkPort(ctx context.Context, o options, name string, br link.Info, differs differing) error {
	outer, err := d.host.Get(ctx, name)
	switch {
	case errors.Is(err, bowline.ErrUnknown):
		return differs("link %s is gone", name)
	case err != nil:
		return err
	case outer.Master != br.Index:
		return differs("link %s is not a port of bridge %s", name, br.Name)
	case !outer.Up:
		return differs("link %s is down", name)
	}
	port, err := d.host.GetPort(ctx, outer.Index)
	if err != nil {
		return err
	}
	if want := (o.portIsolation || !o.icc); port.Hairpin != o.hairpin || port.Isolated != want {
		return differs("port %s has hairpin=%v isolated=%v, want %v and %v", name, port.Hairpin, port.Isolated, o.hairpin, want)
	}
	if !o.vlans() {
		return nil
	}
	have, err := d.host.PortTags(ctx, outer.Index)
	if err != nil {
		return err
	}
	if want := link.Tags(portVLANs(o)); !maps.Equal(have, want) {
		return differs("port %s has the VLANs %v, want %v", name, have, want)
	}
	return nil
}

// checkRules compares the firewall, ours and the room that others give us.
func (d *driver) checkRules(ctx context.Context, n bowline.NetworkConfig, o options, e bowline.EndpointSpec) error {
	if o.firewall == "none" {
		return nil
	}
	mac, err := endpointMAC(n, e)
	if err != nil {
		return err
	}
	rules, name := ruleNetwork(n, o), bridgeName(n, o)
	if err := d.rules.CheckEndpoint(ctx, rules, ruleEndpoint(n, o, e, mac)); err != nil {
		return err
	}
	if err := d.rules.CheckRoom(ctx, o.room(name)); err != nil || rules.Bridge == name || !o.isGateway {
		return err
	}
	return d.rules.CheckRoom(ctx, o.room(rules.Bridge))
}

func (d *driver) checkGateways(ctx context.Context, n bowline.NetworkConfig, o options, bridge string, differs differing) error {
	if !o.isGateway {
		return nil
	}
	dev, err := d.host.Get(ctx, gatewayLinkName(bridge, o))
	if errors.Is(err, bowline.ErrUnknown) {
		return differs("link %s is gone", gatewayLinkName(bridge, o))
	}
	if err != nil {
		return err
	}
	have, err := d.host.Addrs(ctx, dev.Index)
	if err != nil {
		return err
	}
	for _, p := range o.gatewayPools(n) {
		if want := netip.PrefixFrom(poolGateway(p), p.Prefix.Bits()); !slices.Contains(have, want) {
			return differs("link %s lacks the gateway %s", dev.Name, want)
		}
	}
	return nil
}

// Status implements [bowline.StatusReporter].
func (d *driver) Status(ctx context.Context, n bowline.NetworkConfig) error {
	o, err := parseOptions(n)
	if err != nil {
		return err
	}
	name := bridgeName(n, o)
	br, err := d.host.Get(ctx, name)
	switch {
	case errors.Is(err, bowline.ErrUnknown):
		return nil // the first endpoint makes it
	case err != nil:
		return err
	case br.Kind != "bridge":
		return bowline.Wrong(bowline.ErrUnavailable, fmt.Sprintf("network %q: link %s is in the way: it is not a bridge", n.ID, name))
	case !br.Up:
		return bowline.Wrong(bowline.ErrDegraded, fmt.Sprintf("network %q: bridge %s is down; set it up with: ip link set %s up", n.ID, name, name))
	}
	return nil
}
