package main

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/endpoint"
	"github.com/bowline-net/bowline/internal/nft"
)

// A lead is a mapping of an endpoint, and what it takes of the firewall: one
// port of the host, or a row, for each family. The host's port is 0 until it is
// chosen.
type lead struct {
	bowline.PortMapping
	ports []nft.Port
}

// chosen reports whether it is for us to choose the host's port.
func (l lead) chosen() bool { return l.HostPort == 0 || l.HostPortEnd != 0 }

// at returns the lead with its row beginning at that port of the host.
func (l lead) at(port uint16) lead {
	l.HostPort, l.HostPortEnd = port, 0
	l.ports = slices.Clone(l.ports)
	for i := range l.ports {
		l.ports[i].First = port
	}
	return l
}

// validatePorts is options.validatePorts for an endpoint of a network whose
// options are right.
func validatePorts(n bowline.NetworkConfig, e bowline.EndpointSpec) error {
	if len(e.Ports) == 0 {
		return nil
	}
	o, err := parseOptions(n)
	if err != nil {
		return nil // ValidateNetwork tells
	}
	return o.validatePorts(n, e)
}

// validatePorts finds mappings that are wrong whatever address the endpoint has.
func (o options) validatePorts(n bowline.NetworkConfig, e bowline.EndpointSpec) error {
	for _, m := range e.Ports {
		wrong := func(format string, args ...any) error {
			return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("network %q, endpoint %q: port %s: ", n.ID, e.ID, m)+fmt.Sprintf(format, args...))
		}
		switch rest := m.Ports() - 1; {
		case o.firewall == "none":
			return wrong(`want option firewall="nft", for publishing takes rules`)
		case o.internal:
			return wrong("want a network that is not internal, for nothing gets into one")
		case m.Protocol != "tcp" && m.Protocol != "udp" && m.Protocol != "sctp":
			return wrong("want protocol tcp, udp or sctp")
		case m.Port == 0 || int(m.Port)+rest > 65535 || int(m.HostPort)+rest > 65535:
			return wrong("want ports from 1 to 65535")
		case m.HostPortEnd != 0 && (rest > 0 || m.HostPortEnd < m.HostPort || m.HostPort == 0):
			return wrong("want one port, to be chosen from a first to a last of the host")
		}
	}
	return nil
}

// planPorts says what the endpoint's mappings take, rows joined. The error wraps
// [bowline.ErrInvalid].
func (o options) planPorts(n bowline.NetworkConfig, e bowline.EndpointSpec) ([]lead, error) {
	if err := o.validatePorts(n, e); err != nil || len(e.Ports) == 0 {
		return nil, err
	}
	to := map[bool]netip.Addr{} // of the endpoint, by whether it is IPv6
	for _, a := range slices.Backward(e.Addrs) {
		to[a.Addr().Is6()] = a.Addr()
	}
	var leads []lead
	for _, m := range bowline.JoinPorts(e.Ports) {
		l := lead{PortMapping: m}
		for _, host := range o.hosts(m) {
			v6 := host.Is6()
			switch {
			case !o.translates(v6): // reached at its own address
				continue
			case !to[v6].IsValid() && (m.HostIP.IsValid() || len(o.addresses) > 0):
				return nil, bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("network %q, endpoint %q: port %s: %s leads to no address of the endpoint; want one of IPv%s",
					n.ID, e.ID, m, host, map[bool]string{false: "4", true: "6"}[v6]))
			case to[v6].IsValid():
				l.ports = append(l.ports, nft.Port{
					Host: host, First: m.HostPort, Count: m.Ports(), Protocol: protocolNumber(m.Protocol), To: netip.AddrPortFrom(to[v6], m.Port),
				})
			}
		}
		for _, other := range leads {
			if !l.chosen() && !other.chosen() && overlap(l, other) {
				return nil, bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("network %q, endpoint %q: port %s: want another one than %s, which it overlaps", n.ID, e.ID, m, other.PortMapping))
			}
		}
		leads = append(leads, l)
	}
	return leads, nil
}

// overlap reports whether a packet can be for both.
func overlap(a, b lead) bool {
	return slices.ContainsFunc(a.ports, func(p nft.Port) bool { return slices.ContainsFunc(b.ports, p.Overlaps) })
}

// hosts are the addresses of the host that a mapping is for.
func (o options) hosts(m bowline.PortMapping) []netip.Addr {
	switch {
	case m.HostIP.IsValid():
		return []netip.Addr{m.HostIP}
	case len(o.addresses) > 0:
		return o.addresses
	}
	return []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
}

// mappings are those of the leads.
func mappings(leads []lead) []bowline.PortMapping {
	var ms []bowline.PortMapping
	for _, l := range leads {
		ms = append(ms, l.PortMapping)
	}
	return ms
}

// taken returns what the leads take of the firewall.
func taken(leads []lead) []nft.Port {
	var ps []nft.Port
	for _, l := range leads {
		ps = append(ps, l.ports...)
	}
	return ps
}

// known reports whether every host port is known, of those that lead somewhere.
func known(leads []lead) bool {
	return !slices.ContainsFunc(leads, func(l lead) bool { return l.chosen() && len(l.ports) > 0 })
}

// ports are what the firewall knows of the endpoint's mappings. They are not
// known if a port has yet to be chosen, or if nothing is known of the endpoint
// but its ID, as a spec without MAC says.
func (o options) ports(n bowline.NetworkConfig, e bowline.EndpointSpec) (ps []nft.Port, unsure bool) {
	leads, err := o.planPorts(n, e)
	if err != nil || !known(leads) {
		return nil, true
	}
	return taken(leads), e.MAC == nil
}

// publishing is what the firewall knows of how the network's ports are
// published.
func (o options) publishing(n bowline.NetworkConfig) nft.Publishing {
	p := nft.Publishing{
		SNAT: o.snat, MasqAll: o.masqAll, RespectInput: o.publishPolicy == respectInput,
		Conditions4: o.conditions4, Conditions6: o.conditions6,
	}
	for _, pool := range n.Pools {
		if o.isGateway { // else the host has no address there
			pool.Gateway = poolGateway(pool)
		}
		p.Pools = append(p.Pools, pool)
	}
	return p
}

// checkedMAC is the endpoint's MAC if the firewall is to know it.
func (o options) checkedMAC(n bowline.NetworkConfig, e bowline.EndpointSpec) net.HardwareAddr {
	if !o.macSpoofCheck {
		return nil
	}
	mac, _ := endpoint.MAC(n, e) // the caller has read it
	return mac
}
