package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/undo"
)

// ensureGateways gives the bridge, or its link in the network's VLAN, the
// gateways of the network's pools and lets the host forward. It reports whether
// it made such a link.
func (d *driver) ensureGateways(ctx context.Context, u *undo.Stack, n bowline.NetworkConfig, o options, br link.Info) (made bool, err error) {
	dev := br
	if o.vlan != 0 {
		dev, made, err = d.host.EnsureVLANLink(ctx, br, o.vlan)
		if err != nil {
			return false, err
		}
		if made {
			u.Push("delete link "+dev.Name, func(ctx context.Context) error { return d.host.Delete(ctx, dev.Name) })
		}
	}
	for _, p := range o.gatewayPools(n) {
		want := netip.PrefixFrom(poolGateway(p), p.Prefix.Bits())
		if err := d.ensureGateway(ctx, u, n, o, dev, want); err != nil {
			return false, err
		}
		if err := d.host.Forward(ctx, p.Prefix.Addr().Is6()); err != nil {
			return false, err
		}
	}
	return made, nil
}

// ensureGateway adds one address. Another address of the same subnet is in the
// way, as the reference plugin has it: an error, or replaced with forceAddress.
func (d *driver) ensureGateway(ctx context.Context, u *undo.Stack, n bowline.NetworkConfig, o options, dev link.Info, want netip.Prefix) error {
	have, err := d.host.Addrs(ctx, dev.Index)
	if err != nil {
		return err
	}
	for _, a := range have {
		if a == want {
			return nil
		}
	}
	for _, a := range have {
		if !inTheWay(n, o, a, want) {
			continue
		}
		if !o.forceAddress {
			return bowline.Wrong(bowline.ErrConflict, fmt.Sprintf(
				`network %q: gateway %s: bridge %s has the address %s already; want that one, or forceAddress="true"`, n.ID, want, dev.Name, a))
		}
		if err := d.host.DeleteAddr(ctx, dev.Index, a); err != nil {
			return err
		}
		u.Push("restore address "+a.String(), func(ctx context.Context) error {
			_, err := d.host.EnsureAddr(ctx, dev.Index, link.Addr{Prefix: a})
			return err
		})
	}
	made, err := d.host.EnsureAddr(ctx, dev.Index, link.Addr{Prefix: want})
	if made {
		u.Push("delete address "+want.String(), func(ctx context.Context) error { return d.host.DeleteAddr(ctx, dev.Index, want) })
	}
	if err != nil || !made || dev.Kind != "bridge" || ours(dev) {
		return err
	}
	return d.pinMAC(ctx, dev)
}

// pinMAC keeps a bridge that has a gateway's address from changing its MAC with
// its ports: containers remember it.
func (d *driver) pinMAC(ctx context.Context, br link.Info) error {
	mac := br.MAC
	if bytes.Equal(mac, make(net.HardwareAddr, 6)) { // it has lost that of its last port
		mac = bowline.MAC("foreign bridge", br.Name)
	}
	return d.host.Set(ctx, br.Name, link.Change{MAC: mac})
}

// inTheWay reports whether a, an address of the bridge, cannot stay beside want:
// its subnet overlaps; or, with forceAddress, it is a gateway that the
// reference plugin would replace, any other IPv4 address.
func inTheWay(n bowline.NetworkConfig, o options, a, want netip.Prefix) bool {
	if a.Addr().Is4() != want.Addr().Is4() {
		return false
	}
	for _, p := range n.Pools {
		if a.Addr() == poolGateway(p) && a.Bits() == p.Prefix.Bits() {
			return false // another gateway of this network
		}
	}
	return a.Masked().Overlaps(want.Masked()) || o.forceAddress && a.Addr().Is4()
}

// isolate6 takes from the bridge the link-local address by which the host could
// be reached, as Docker does.
func (d *driver) isolate6(ctx context.Context, bridge string) error {
	_, err := d.host.SetSysctl(ctx, "net/ipv6/conf/"+bridge+"/disable_ipv6", "1")
	if errors.Is(err, bowline.ErrNoKernel) { // no IPv6 to take away
		return nil
	}
	return err
}
