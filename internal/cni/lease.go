package cni

import (
	"net/netip"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/bowline-net/bowline"
)

// A lease is what IPAM gave: addresses, and what goes with them.
type lease struct {
	ips    []leaseIP
	routes []bowline.Route
	dns    types.DNS
}

type leaseIP struct {
	addr    netip.Prefix // the address, with the length of its pool's prefix
	gateway netip.Addr   // zero: none
}

func (l lease) addrs() []netip.Prefix {
	var as []netip.Prefix
	for _, ip := range l.ips {
		as = append(as, ip.addr)
	}
	return as
}

// pools returns the prefixes that the addresses are from.
func (l lease) pools() []bowline.Pool {
	var ps []bowline.Pool
	for _, ip := range l.ips {
		ps = append(ps, bowline.Pool{Prefix: ip.addr.Masked(), Gateway: ip.gateway})
	}
	return ps
}

// check finds addresses that the network cannot use.
func (l lease) check(cfg Config) error {
	if cfg.IPAMType != "" && len(l.ips) == 0 {
		return invalid("network %q: ipam type %q gave no address", cfg.Name, cfg.IPAMType)
	}
	return nil
}

// adopt takes the addresses that the driver gave where IPAM gave none.
func (l *lease) adopt(a bowline.Attachment) {
	if len(l.ips) > 0 {
		return
	}
	for _, addr := range a.Addrs {
		l.ips = append(l.ips, leaseIP{addr: addr})
	}
}

// applyGateways fills in what the driver decided: addresses without a gateway
// get that of their pool, if it has one now, and default routes go through the
// gateways of the attachment. Routes without a next hop take the gateway of
// their family.
func (l *lease) applyGateways(a bowline.Attachment) {
	for i := range l.ips {
		for _, p := range a.Pools {
			if ip := &l.ips[i]; !ip.gateway.IsValid() && ip.addr.Masked() == p.Prefix {
				ip.gateway = p.Gateway
			}
		}
	}
	for _, gw := range a.Gateways {
		for i := range l.ips {
			if ip := &l.ips[i]; !ip.gateway.IsValid() && ip.addr.Masked().Contains(gw) {
				ip.gateway = gw
			}
		}
		dst := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if gw.Is6() {
			dst = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		if !l.hasRoute(dst) {
			l.routes = append(l.routes, bowline.Route{Dst: dst, Via: gw})
		}
	}
	for i := range l.routes {
		r := &l.routes[i]
		if !r.Via.IsValid() && r.Scope == nil {
			r.Via = l.gateway(r.Dst.Addr().Is6())
		}
	}
	l.routes = append(l.routes, a.Routes...)
}

// hasRoute reports whether there is a route to dst in the main table.
func (l lease) hasRoute(dst netip.Prefix) bool {
	for _, r := range l.routes {
		if r.Dst == dst && r.Table == nil {
			return true
		}
	}
	return false
}

// gateway returns the first gateway of the family, or the zero Addr.
func (l lease) gateway(v6 bool) netip.Addr {
	for _, ip := range l.ips {
		if ip.gateway.IsValid() && ip.gateway.Is6() == v6 {
			return ip.gateway
		}
	}
	return netip.Addr{}
}

// leaseOf takes a lease out of a result. Addresses of other interfaces than
// ifname are not ours; a delegated plugin's result names no interface at all.
func leaseOf(r *types100.Result, ifname string) lease {
	l := lease{dns: r.DNS}
	for _, ip := range r.IPs {
		if i := ip.Interface; i != nil && *i >= 0 && *i < len(r.Interfaces) && r.Interfaces[*i].Name != ifname {
			continue
		}
		a, ok := netip.AddrFromSlice(ip.Address.IP)
		if !ok {
			continue
		}
		ones, _ := ip.Address.Mask.Size()
		l4 := leaseIP{addr: netip.PrefixFrom(a.Unmap(), ones)}
		if gw, ok := netip.AddrFromSlice(ip.Gateway); ok {
			l4.gateway = gw.Unmap()
		}
		l.ips = append(l.ips, l4)
	}
	for _, t := range r.Routes {
		if route, ok := fromRoute(t); ok {
			l.routes = append(l.routes, route)
		}
	}
	return l
}
