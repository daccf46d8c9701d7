package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/endpoint"
	"github.com/bowline-net/bowline/internal/link"
)

// DeleteEndpoint implements [bowline.Driver].
func (d *driver) DeleteEndpoint(ctx context.Context, n bowline.NetworkConfig, e bowline.EndpointSpec) error {
	o, err := parseOptions(n)
	if err != nil { // options that became wrong since must not keep it there
		o = options{macSpoofCheck: true}
	}
	var errs []error
	if ownRules(o, e) {
		errs = append(errs, d.endRules(ctx, n, o, e))
	}
	errs = append(errs, d.host.DeleteIf(ctx, own(n, e.ID), outerName(n, e.ID), ifbName(n, e.ID)))
	return errors.Join(errs...)
}

// own tells the endpoint's links from those of somebody else that have their
// names. Links get their alias after birth: if a kill came before it, the kind
// says whose it is, and of a veth the MAC.
func own(n bowline.NetworkConfig, id string) func(link.Info) bool {
	return func(l link.Info) bool {
		switch {
		case l.Kind == "veth" && l.Alias == "":
			return bytes.Equal(l.MAC, bowline.MAC("outer", n.ID, id))
		case l.Kind == "veth":
			return strings.HasPrefix(l.Alias, endpoint.Mark)
		}
		return endpoint.OwnIFB(l)
	}
}

// DeleteNetwork implements [bowline.Driver]. A bridge that we made goes when it
// has no port left; another one stays, without the addresses that we gave it.
func (d *driver) DeleteNetwork(ctx context.Context, n bowline.NetworkConfig) error {
	o, err := parseOptions(n)
	if err != nil {
		return err
	}
	name := bridgeName(n, o)
	br, err := d.host.Get(ctx, name)
	gone := errors.Is(err, bowline.ErrUnknown)
	if err != nil && !gone {
		return err
	}
	if gone || br.Kind != "bridge" {
		return errors.Join(d.deleteVLANLink(ctx, n, o, link.Info{Name: name}), d.deleteRules(ctx, n, o, name, gatewayLinkName(name, o)))
	}
	p, err := d.ports(ctx, n, br)
	switch {
	case err != nil:
		return err
	case len(p.mine) > 0:
		return bowline.Wrong(bowline.ErrConflict, fmt.Sprintf("network %q: %d endpoints are still attached, %s for one", n.ID, len(p.mine), p.mine[0].Alias))
	case p.networks > 0:
		return d.deleteGateways(ctx, n, o, br)
	}
	if more, err := d.deleteVLANLinks(ctx, n, o, br); err != nil || more {
		return err
	}
	if err := errors.Join(d.closeLoopback(ctx, gatewayLinkName(name, o)), d.deleteRules(ctx, n, o, name)); err != nil {
		return err
	}
	if ours(br) && p.owner == 0 {
		return d.host.Delete(ctx, name)
	}
	return d.deleteGateways(ctx, n, o, br)
}

// deleteRules removes what the firewalls know of the network whose traffic
// passes the links.
func (d *driver) deleteRules(ctx context.Context, n bowline.NetworkConfig, o options, links ...string) error {
	if o.firewall != "nft" {
		return nil
	}
	var errs []error
	slices.Sort(links)
	for _, l := range slices.Compact(links) {
		r := ruleNetwork(n, o)
		r.Bridge = l
		errs = append(errs, d.rules.DeleteNetwork(ctx, r), d.rules.GiveBackRoom(ctx, o.room(l)))
	}
	return errors.Join(errs...)
}

// ports are those of a bridge, but for the bridge's own links in VLANs.
type ports struct {
	mine            []link.Info // endpoints of the network in question
	networks, owner int         // endpoints of other networks, and ports of somebody else
}

func (d *driver) ports(ctx context.Context, n bowline.NetworkConfig, br link.Info) (p ports, err error) {
	all, err := d.host.Links(ctx)
	for _, l := range all {
		switch {
		case l.Master != br.Index || l.Alias == link.VLANAlias:
		case strings.HasPrefix(l.Alias, endpoint.Prefix(n)):
			p.mine = append(p.mine, l)
		case strings.HasPrefix(l.Alias, endpoint.Mark):
			p.networks++
		default:
			p.owner++
		}
	}
	return p, err
}

// deleteGateways takes our addresses from a bridge that stays, or from its link
// in the network's VLAN, and removes such a link.
func (d *driver) deleteGateways(ctx context.Context, n bowline.NetworkConfig, o options, br link.Info) error {
	if !o.isGateway {
		return nil
	}
	dev, err := d.host.Get(ctx, gatewayLinkName(br.Name, o))
	if errors.Is(err, bowline.ErrUnknown) {
		return nil
	}
	if err != nil {
		return err
	}
	have, err := d.host.OurAddrs(ctx, dev.Index)
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range n.Pools {
		for _, a := range have {
			if a == netip.PrefixFrom(poolGateway(p), p.Prefix.Bits()) {
				errs = append(errs, d.host.DeleteAddr(ctx, dev.Index, a))
			}
		}
	}
	return errors.Join(append(errs, d.deleteVLANLink(ctx, n, o, br))...)
}

// Prune implements [bowline.Collector].
func (d *driver) Prune(ctx context.Context, n bowline.NetworkConfig, keep []string) error {
	o, err := parseOptions(n)
	if err != nil {
		return err
	}
	var errs []error
	if o.firewall == "nft" {
		errs = append(errs, d.rules.DeleteOthers(ctx, n.ID, keep))
	}
	kept := map[string]bool{}
	for _, id := range keep {
		kept[outerName(n, id)], kept[ifbName(n, id)] = true, true
	}
	all, err := d.host.Links(ctx)
	errs = append(errs, err)
	for _, l := range all {
		if (strings.HasPrefix(l.Alias, endpoint.Prefix(n)) || strings.HasPrefix(l.Alias, endpoint.LimitsPrefix(n))) && !kept[l.Name] {
			errs = append(errs, d.host.Delete(ctx, l.Name))
		}
	}
	return errors.Join(errs...)
}

// Networks implements [bowline.Collector]: bridges of ours without a port.
func (d *driver) Networks(ctx context.Context) ([]bowline.NetworkConfig, error) {
	all, err := d.host.Links(ctx)
	if err != nil {
		return nil, err
	}
	used := map[int]bool{}
	for _, l := range all {
		if l.Alias != link.VLANAlias {
			used[l.Master] = true
		}
	}
	var ns []bowline.NetworkConfig
	for _, l := range all {
		if id, ours := strings.CutPrefix(l.Alias, endpoint.NetworkMark); ours && l.Kind == "bridge" && !used[l.Index] {
			ns = append(ns, bowline.NetworkConfig{ID: id, Options: map[string]string{"bridge": l.Name}})
		}
	}
	return ns, nil
}
