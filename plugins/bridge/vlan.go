package main

import "github.com/bowline-net/bowline/internal/link"

// portVLANs is what the container's port carries: vlan untagged, vlanTrunk
// tagged, and VLAN 1 untagged where nothing else is.
func portVLANs(o options) []link.VLAN {
	var vs []link.VLAN
	if o.vlan != 0 {
		vs = append(vs, link.VLAN{Min: o.vlan, Max: o.vlan, Untagged: true})
	}
	if o.preserveDefaultVLAN || o.vlan == 0 {
		vs = append(vs, link.VLAN{Min: 1, Max: 1, Untagged: true, NotPVID: o.vlan != 0})
	}
	for _, r := range o.vlanTrunk {
		vs = append(vs, link.VLAN{Min: r.min, Max: r.max})
	}
	return vs
}

func gatewayLinkName(bridge string, o options) string {
	if o.vlan == 0 {
		return bridge
	}
	return link.VLANLinkName(bridge, o.vlan)
}
