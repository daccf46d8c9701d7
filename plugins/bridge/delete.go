package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/link"
)

// DeleteEndpoint implements [bowline.Driver].
func (d *driver) DeleteEndpoint(ctx context.Context, n bowline.NetworkConfig, e bowline.EndpointSpec) error {
	o, err := parseOptions(n)
	if err != nil {
		return err
	}
	var errs []error
	if o.macSpoofCheck { // the only rule elements that are an endpoint's own
		mac, err := endpointMAC(n, e)
		errs = append(errs, err, d.rules.DeleteEndpoint(ctx, ruleNetwork(n, o), ruleEndpoint(n, o, e, mac)))
	}
	errs = append(errs, d.host.Delete(ctx, outerName(n, e.ID)))
	return errors.Join(errs...)
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
	if !gone && br.Kind == "bridge" {
		mine, others, err := d.ports(ctx, n, br)
		if err != nil {
			return err
		}
		if len(mine) > 0 {
			return bowline.Wrong(bowline.ErrConflict, fmt.Sprintf("network %q: %d endpoints are still attached, %s for one", n.ID, len(mine), mine[0].Alias))
		}
		if others > 0 { // another network uses the bridge, or its owner does
			return d.deleteGateways(ctx, n, o, br)
		}
	}
	if o.firewall == "nft" {
		if err := errors.Join(d.rules.DeleteNetwork(ctx, ruleNetwork(n, o)), d.rules.GiveBackRoom(ctx, name)); err != nil {
			return err
		}
	}
	if gone || br.Kind != "bridge" {
		return nil
	}
	if strings.HasPrefix(br.Alias, alias) {
		return d.host.Delete(ctx, name)
	}
	return d.deleteGateways(ctx, n, o, br)
}

// ports returns the bridge's ports that are endpoints of n, and how many others
// it has. A VLAN link of the bridge itself does not count.
func (d *driver) ports(ctx context.Context, n bowline.NetworkConfig, br link.Info) (mine []link.Info, others int, err error) {
	all, err := d.host.Links(ctx)
	for _, l := range all {
		switch {
		case l.Master != br.Index:
		case strings.HasPrefix(l.Alias, endpointPrefix(n)):
			mine = append(mine, l)
		case l.Alias != link.VLANAlias:
			others++
		}
	}
	return mine, others, err
}

// deleteGateways takes our addresses from a bridge that stays.
func (d *driver) deleteGateways(ctx context.Context, n bowline.NetworkConfig, o options, br link.Info) error {
	if !o.isGateway {
		return nil
	}
	ours, err := d.host.OurAddrs(ctx, br.Index)
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range n.Pools {
		for _, a := range ours {
			if a == netip.PrefixFrom(poolGateway(p), p.Prefix.Bits()) {
				errs = append(errs, d.host.DeleteAddr(ctx, br.Index, a))
			}
		}
	}
	return errors.Join(errs...)
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
		kept[outerName(n, id)] = true
	}
	all, err := d.host.Links(ctx)
	errs = append(errs, err)
	for _, l := range all {
		if strings.HasPrefix(l.Alias, endpointPrefix(n)) && !kept[l.Name] {
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
		if id, ours := strings.CutPrefix(l.Alias, alias); ours && l.Kind == "bridge" && !used[l.Index] {
			ns = append(ns, bowline.NetworkConfig{ID: id, Options: map[string]string{"bridge": l.Name}})
		}
	}
	return ns, nil
}
