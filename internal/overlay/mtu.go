package overlay

import (
	"fmt"
	"net/netip"

	"github.com/bowline-net/bowline"
)

// What VXLAN adds to a packet, in bytes: the outer IP header, 8 of UDP, 8 of
// VXLAN and the 14 of the inner Ethernet header (RFC 7348).
const (
	overheadV4 = 20 + 8 + 8 + 14
	overheadV6 = 40 + 8 + 8 + 14
)

// The least that IPv6 takes for a link (RFC 8200), and IPv4 (RFC 791), in bytes.
const (
	leastV6 = 1280
	leastV4 = 576
)

// InnerMTU returns the largest packet, in bytes, that fits a packet of the
// underlay between VTEPs of vtep's family. It may be nonsense, even negative, of
// an underlay that is too small.
func InnerMTU(underlay int, vtep netip.Addr) int {
	if vtep.Is4() {
		return underlay - overheadV4
	}
	return underlay - overheadV6
}

// FitMTU returns the MTU of the network's links on this node: what the network
// says, or else what fits the way to each of the nodes. The error wraps
// [bowline.ErrInvalid] if that is less than its families take.
func (n Network) FitMTU(u Underlay, nodes []Node) (int, error) {
	fits := InnerMTU(u.MTU, u.VTEP)
	for _, node := range nodes {
		if node.MTU != 0 && node.VTEP.Is4() == u.VTEP.Is4() {
			fits = min(fits, InnerMTU(node.MTU, u.VTEP))
		}
	}
	least := leastV4
	if n.HasV6() {
		least = leastV6
	}
	switch {
	case n.MTU == 0 && fits < least:
		return 0, bowline.Wrong(bowline.ErrInvalid,
			fmt.Sprintf("network with VNI %d: its underlay leaves %d bytes for a packet; want %d at least", n.VNI, fits, least))
	case n.MTU == 0:
		return fits, nil
	case n.MTU < least || n.MTU > 65535:
		return 0, bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("network with VNI %d: mtu=%d: want %d to 65535", n.VNI, n.MTU, least))
	}
	return n.MTU, nil
}

// routeMTU returns the MTU of routes to the node, 0 if it is no less than mtu, the
// one of the network's links.
func (n Node) routeMTU(u Underlay, mtu int) int {
	way := u.MTU
	if n.MTU != 0 {
		way = min(way, n.MTU)
	}
	if fits := InnerMTU(way, u.VTEP); fits < mtu {
		return fits
	}
	return 0
}
