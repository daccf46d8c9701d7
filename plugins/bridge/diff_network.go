package main

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strconv"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/endpoint"
	"github.com/bowline-net/bowline/internal/link"
)

// diffNetwork compares what all endpoints of the network rely on.
func (s *survey) diffNetwork(ctx context.Context, n bowline.NetworkConfig, o options) ([]bowline.Difference, error) {
	var ds endpoint.Differences
	name := bridgeName(n, o)
	br, there, err := s.link(ctx, name)
	switch {
	case err != nil:
		return nil, err
	case !there:
		ds.Gone(name, "bridge")
	case br.Kind != "bridge":
		ds.Link(name, "kind", br.Kind, "bridge")
	default:
		if err := s.diffBridge(ctx, &ds, o, br); err != nil {
			return ds, err
		}
		if err := s.diffGateways(ctx, &ds, n, o, br); err != nil {
			return ds, err
		}
	}
	if err := s.diffForwarding(ctx, &ds, n, o); err != nil || o.firewall == "none" {
		return ds, err
	}
	rules, err := s.firewall(ctx)
	if err != nil {
		return ds, err
	}
	rn := ruleNetwork(n, o)
	more, err := rules.DiffNetwork(ctx, rn)
	ds = append(ds, more...)
	for _, l := range o.roomLinks(name, rn.Bridge) {
		if err == nil {
			more, err = rules.DiffRoom(ctx, o.room(l))
			ds = append(ds, more...)
		}
	}
	return ds, err
}

// roomLinks are those that need room in other firewalls.
func (o options) roomLinks(bridge, gateway string) []string {
	if gateway == bridge || !o.isGateway {
		return []string{bridge}
	}
	return []string{bridge, gateway}
}

func (s *survey) diffBridge(ctx context.Context, ds *endpoint.Differences, o options, br link.Seen) error {
	ds.Link(br.Name, "state", endpoint.UpOrDown(br.Up), "up")
	if o.promisc && !br.Promisc {
		ds.Link(br.Name, "promisc", "off", "on")
	}
	if o.vlans() && !br.VLANFiltering {
		ds.Link(br.Name, "VLAN filtering", "off", "on")
	}
	if o.mtu > br.MTU { // a larger one is somebody else's
		ds.Link(br.Name, "mtu", strconv.Itoa(br.MTU), strconv.Itoa(o.mtu))
	}
	if o.gatewayMode6 == modeIsolated && ours(br.Info) {
		return s.diffSysctl(ctx, ds, "net/ipv6/conf/"+br.Name+"/disable_ipv6", "1")
	}
	return nil
}

// diffSysctl compares a setting of the host; one that there is not is none.
func (s *survey) diffSysctl(ctx context.Context, ds *endpoint.Differences, key, want string) error {
	have, err := s.d.host.Sysctl(ctx, key)
	if errors.Is(err, bowline.ErrNoKernel) {
		return nil
	}
	if err == nil && have != want {
		*ds = append(*ds, bowline.Difference{Place: "host", Key: key, Have: have, Want: want})
	}
	return err
}

// diffForwarding compares whether the host forwards.
func (s *survey) diffForwarding(ctx context.Context, ds *endpoint.Differences, n bowline.NetworkConfig, o options) error {
	if !o.isGateway {
		return nil
	}
	for _, v6 := range []bool{false, true} {
		if !slices.ContainsFunc(o.gatewayPools(n), func(p bowline.Pool) bool { return p.Prefix.Addr().Is6() == v6 }) {
			continue
		}
		key := "net/ipv4/ip_forward"
		if v6 {
			key = "net/ipv6/conf/all/forwarding"
		}
		have, err := s.d.host.Sysctl(ctx, key)
		if err != nil {
			return err
		}
		if have == "0" {
			*ds = append(*ds, bowline.Difference{Place: "host", Key: key, Have: have, Want: "1"})
		}
	}
	return nil
}

// diffGateways compares the link that the gateways' addresses are on.
func (s *survey) diffGateways(ctx context.Context, ds *endpoint.Differences, n bowline.NetworkConfig, o options, br link.Seen) error {
	if !o.isGateway {
		return nil
	}
	name := gatewayLinkName(br.Name, o)
	dev, there, err := s.link(ctx, name)
	if err != nil {
		return err
	}
	if !there {
		ds.Gone(name, "veth")
		return nil
	}
	if name != br.Name {
		ds.Link(name, "state", endpoint.UpOrDown(dev.Up), "up")
		port, there, err := s.link(ctx, link.VLANPortName(name))
		if err != nil {
			return err
		}
		if there && port.Alias == link.VLANAlias { // else it is somebody else's
			ds.Link(port.Name, "state", endpoint.UpOrDown(port.Up), "up")
			if port.Master != br.Index {
				ds.Link(port.Name, "master", "", br.Name)
			}
		}
	}
	have, err := s.d.host.Addrs(ctx, dev.Index)
	if err != nil {
		return err
	}
	for _, p := range o.gatewayPools(n) {
		if want := gatewayPrefix(p); !slices.Contains(have, want) {
			ds.Link(name, "address", "", want.String())
		} else if dev.Up {
			if err := s.diffConnected(ctx, ds, dev, p); err != nil {
				return err
			}
		}
	}
	return nil
}

// diffConnected looks for the route to the pool, which comes with the gateway's
// address and can be deleted without it.
func (s *survey) diffConnected(ctx context.Context, ds *endpoint.Differences, dev link.Seen, p bowline.Pool) error {
	if p.Prefix.IsSingleIP() {
		return nil // has none in the main table
	}
	routes, err := s.d.host.LinkRoutes(ctx, dev.Index, p.Prefix.Addr().Is6())
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(routes, func(e link.Entry) bool { return e.Dst.Masked() == p.Prefix.Masked() }) {
		ds.Link(dev.Name, "route", "", p.Prefix.Masked().String())
	}
	return nil
}

func gatewayPrefix(p bowline.Pool) netip.Prefix {
	return netip.PrefixFrom(poolGateway(p), p.Prefix.Bits())
}
