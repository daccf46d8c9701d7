package main

import (
	"net"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/nft"
)

// ruleNetwork is what the firewall knows of the network.
func ruleNetwork(n bowline.NetworkConfig, o options) nft.Network {
	r := nft.Network{ID: n.ID, Bridge: bridgeName(n, o), Internal: o.internal, ICC: o.icc && !o.portIsolation}
	for _, p := range n.Pools {
		if p.Prefix.Addr().Is4() {
			r.V4 = true
		} else {
			r.V6 = true
		}
		// An internal network has no way out, so there is nothing to hide.
		if o.ipMasq && !o.internal {
			r.Masq = append(r.Masq, p.Prefix)
		}
	}
	return r
}

// ruleEndpoint is what the firewall knows of the endpoint.
func ruleEndpoint(n bowline.NetworkConfig, o options, e bowline.EndpointSpec, mac net.HardwareAddr) nft.Endpoint {
	r := nft.Endpoint{ID: e.ID, Port: outerName(n, e.ID)}
	if o.macSpoofCheck {
		r.MAC = mac
	}
	return r
}
