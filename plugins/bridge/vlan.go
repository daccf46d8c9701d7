package main

import (
	"context"
	"errors"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/link"
)

// portVLANs is what the container's port carries: vlanTrunk tagged, vlan
// untagged, and VLAN 1 untagged where nothing else is.
func portVLANs(o options) []link.VLAN {
	var vs []link.VLAN
	for _, r := range o.vlanTrunk {
		vs = append(vs, link.VLAN{Min: r.min, Max: r.max})
	}
	if o.vlan != 1 && (o.preserveDefaultVLAN || o.vlan == 0) {
		vs = append(vs, link.VLAN{Min: 1, Max: 1, Untagged: true, NotPVID: o.vlan != 0})
	}
	if o.vlan != 0 {
		vs = append(vs, link.VLAN{Min: o.vlan, Max: o.vlan, Untagged: true})
	}
	return vs
}

// gatewayLinkName names the link that the network's traffic leaves it by: the
// bridge itself, or the bridge's own link in the network's VLAN.
func gatewayLinkName(bridge string, o options) string {
	if o.vlan == 0 {
		return bridge
	}
	return link.VLANLinkName(bridge, o.vlan)
}

// deleteVLANLink removes the bridge's link in the network's VLAN, and the rules
// for it, unless another network has an address there. br has no index if the
// bridge is gone.
func (d *driver) deleteVLANLink(ctx context.Context, n bowline.NetworkConfig, o options, br link.Info) error {
	if o.vlan == 0 {
		return nil
	}
	name := gatewayLinkName(br.Name, o)
	made, err := d.host.VLANLinks(ctx, br)
	if err != nil {
		return err
	}
	for _, l := range made {
		if l.Name != name {
			continue
		}
		if have, err := d.host.Addrs(ctx, l.Index); err != nil || len(have) > 0 && br.Index != 0 {
			return err
		}
		return errors.Join(d.deleteRules(ctx, n, o, name), d.host.Delete(ctx, name))
	}
	return nil // there is none, or it is somebody else's
}

// deleteVLANLinks removes such links of a bridge that no endpoint is on: the
// network's own, or all if the network is the bridge's. It reports whether
// another network has one still.
func (d *driver) deleteVLANLinks(ctx context.Context, n bowline.NetworkConfig, o options, br link.Info) (more bool, err error) {
	if o.vlan != 0 {
		if err := errors.Join(d.deleteGateways(ctx, n, o, br), d.deleteRules(ctx, n, o, gatewayLinkName(br.Name, o))); err != nil {
			return false, err
		}
	}
	left, err := d.host.VLANLinks(ctx, br)
	if err != nil || o.vlan != 0 {
		return len(left) > 0, err
	}
	var errs []error
	for _, l := range left {
		errs = append(errs, d.deleteRules(ctx, n, o, l.Name), d.host.Delete(ctx, l.Name))
	}
	return false, errors.Join(errs...)
}
