package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"net/netip"
	"slices"
	"strings"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/nft"
	"github.com/bowline-net/bowline/internal/plugin"
)

// accessOptions say what of a network can be reached from beyond it.
type accessOptions struct {
	gatewayMode4, gatewayMode6 string
	ingressPolicy              string
	trusted                    []string
	zone                       string
}

// Gateway modes, as Docker names them.
const (
	modeNAT         = "nat"
	modeUnprotected = "nat-unprotected"
	modeRouted      = "routed"
	modeIsolated    = "isolated"
)

func (o *accessOptions) flags(fs *flag.FlagSet) {
	modes := []string{"", modeNAT, modeUnprotected, modeRouted, modeIsolated}
	plugin.EnumVar(fs, &o.gatewayMode4, "gatewayMode4", modes, "`WORD` for what reaches containers by IPv4: nat, nat-unprotected, routed or isolated (default: open, see the guide)")
	plugin.EnumVar(fs, &o.gatewayMode6, "gatewayMode6", modes, "`WORD`: the same by IPv6")
	fs.Func("trustedInterfaces", "`LIST` of links such as eth1,wg0 from which published ports can be reached at the containers' own addresses", func(s string) (err error) {
		o.trusted, err = parseLinks(s)
		return err
	})
	plugin.EnumVar(fs, &o.ingressPolicy, "ingressPolicy", []string{"", "open", "same-bridge", "isolated"},
		"`WORD` of the reference firewall plugin: open to our other networks, same-bridge, or isolated, which is icc=false too (default same-bridge)")
	fs.Func("firewalldZone", "`NAME` of firewalld's zone for the bridge, if firewalld runs (default trusted)", func(s string) error {
		if len(s) > 17 || strings.ContainsAny(s, "/ \t\n") || strings.HasPrefix(s, "-") {
			return errors.New("not a zone")
		}
		o.zone = s
		return nil
	})
	fs.Func("iptablesAdminChainName", "`NAME` of the reference firewall plugin: leave it out; rules of yours hold in any chain of the forward hook", func(string) error {
		return errors.New("not supported")
	})
}

// parseLinks reads a,b or Docker's a:b or a list in JSON.
func parseLinks(s string) ([]string, error) {
	var names []string
	if strings.HasPrefix(s, "[") {
		if err := json.Unmarshal([]byte(s), &names); err != nil {
			return nil, err
		}
	} else {
		names = strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ':' })
	}
	for _, n := range names {
		if n == "" || len(n) > 15 || strings.ContainsAny(n, "/: \t\n") {
			return nil, errors.New("not a link's name")
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// validateAccess finds combinations that cannot work.
func (o options) validateAccess(wrong func(format string, args ...any) error) error {
	for _, m := range []struct{ key, mode string }{{"gatewayMode4", o.gatewayMode4}, {"gatewayMode6", o.gatewayMode6}} {
		switch {
		case m.mode == modeIsolated && !o.internal:
			return wrong(`option %s="isolated": want internal="true" with it, for the host is no gateway then`, m.key)
		case m.mode != "" && m.mode != modeUnprotected && m.mode != modeIsolated && o.firewall == "none":
			return wrong(`options firewall="none" and %s=%q: want firewall="nft", for this takes rules`, m.key, m.mode)
		}
	}
	switch {
	case o.firewall == "none" && o.ingressPolicy != "" && o.ingressPolicy != "open":
		return wrong(`options firewall="none" and ingressPolicy=%q: want firewall="nft", for this takes rules`, o.ingressPolicy)
	case o.firewall == "none" && len(o.trusted) > 0:
		return wrong(`options firewall="none" and trustedInterfaces: want firewall="nft", for this takes rules`)
	}
	return nil
}

// mode is the gateway mode of the family.
func (o options) mode(v6 bool) string {
	if v6 {
		return o.gatewayMode6
	}
	return o.gatewayMode4
}

// access is what the firewall knows of the family's gateway mode. An existing
// configuration of the reference plugins expects a network to be open; but who
// publishes ports of a container behind NAT does not mean the others too.
func (o options) access(v6 bool) nft.Access {
	switch o.mode(v6) {
	case modeNAT:
		return nft.AccessNAT
	case modeUnprotected:
		return nft.AccessUnprotected
	case modeRouted:
		return nft.AccessRouted
	}
	if o.ipMasq {
		return nft.AccessPublished
	}
	return nft.AccessOpen
}

// translates reports whether addresses of the family are translated.
func (o options) translates(v6 bool) bool { return o.mode(v6) != modeRouted && !o.internal }

// gatewayPools are the pools whose gateway the host is.
func (o options) gatewayPools(n bowline.NetworkConfig) []bowline.Pool {
	if o.gatewayMode4 != modeIsolated && o.gatewayMode6 != modeIsolated {
		return n.Pools
	}
	return slices.DeleteFunc(slices.Clone(n.Pools), func(p bowline.Pool) bool { return o.mode(p.Prefix.Addr().Is6()) == modeIsolated })
}

// room is what the bridge, or its link in a VLAN, needs of other firewalls.
func (o options) room(link string) nft.Room {
	opens := func(v6 bool) bool {
		m := o.mode(v6)
		return !o.internal && (m == modeUnprotected || m == modeRouted)
	}
	return nft.Room{Bridge: link, Open4: opens(false), Open6: opens(true), Trusted: o.trusted, Zone: o.zone}
}

// direct returns what of the endpoint's published ports concerns its own
// addresses: those that must not be reached past them, and the services that
// may be reached there.
func (o options) direct(e bowline.EndpointSpec) (closed []netip.Addr, open []nft.Service) {
	if len(e.Ports) == 0 || o.internal {
		return nil, nil
	}
	for _, p := range e.Addrs {
		a := p.Addr()
		access := o.access(a.Is6())
		var services []nft.Service
		for _, m := range e.Ports {
			if m.HostIP.IsValid() && m.HostIP.Is6() != a.Is6() {
				continue
			}
			services = append(services, nft.Service{Addr: a, Protocol: protocolNumber(m.Protocol), First: m.Port, Last: m.Port + uint16(m.Ports()-1)})
		}
		if len(services) > 0 && access == nft.AccessPublished {
			closed = append(closed, a)
		}
		if access == nft.AccessRouted || len(o.trusted) > 0 && (access == nft.AccessNAT || access == nft.AccessPublished) {
			open = append(open, joined(services)...)
		}
	}
	return closed, open
}

// joined returns the services of one address with those that overlap as one:
// the kernel takes no element that overlaps another.
func joined(all []nft.Service) []nft.Service {
	slices.SortFunc(all, func(a, b nft.Service) int {
		return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.First, b.First))
	})
	var out []nft.Service
	for _, s := range all {
		if n := len(out) - 1; n >= 0 && out[n].Protocol == s.Protocol && int(s.First) <= int(out[n].Last)+1 {
			out[n].Last = max(out[n].Last, s.Last)
			continue
		}
		out = append(out, s)
	}
	return out
}

// protocolNumber is what the IP header calls a mapping's protocol.
func protocolNumber(name string) byte {
	switch name {
	case "udp":
		return 17
	case "sctp":
		return 132
	}
	return 6
}
