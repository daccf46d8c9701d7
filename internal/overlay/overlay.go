// Package overlay says what a node must have in its kernel so that the
// containers of one network reach each other across hosts. It is values and
// arithmetic; internal/overlay/kernel does what it says.
//
// Blocks are routes: who has a block of addresses is all that other nodes need
// to know. Of each other node a network has one neighbour and one FDB entry, of
// each block one route, and of a container nothing.
//
//	10.1.4.0/24 via fe80::NODE dev VTEP    a block: [Route]
//	fe80::NODE lladdr MAC-OF-NODE          a node: [Neighbour]
//	MAC-OF-NODE dst VTEP-OF-NODE           a node: [Forward]
//	unreachable 10.1.0.0/16                the rest of the network
//
// MAC and next hop are derived from the node's ID, so nobody hands them out, and
// one next hop serves both families.
package overlay

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/bowline-net/bowline"
)

// A Node is a host of the cluster.
type Node struct {
	ID   string
	VTEP netip.Addr // where its tunnel ends, in the underlay
	MTU  int        // bytes, the largest packet of the underlay on the way to it; 0: as this node's underlay
	// Suspended says that it does not show life. What leads to it stays: only
	// whoever reclaims its blocks takes that away.
	Suspended bool
}

// A MAC is an Ethernet address that can be compared.
type MAC [6]byte

func (m MAC) String() string { return net.HardwareAddr(m[:]).String() }

// GatewayMAC is what containers of all networks have for a neighbour, on every
// node: so a container needs not learn anything when an address moves.
func GatewayMAC() MAC { return MAC{0x02, 0x6f, 0x76, 0, 0, 1} }

// MAC returns the address of the node's end of every tunnel.
func (n Node) MAC() MAC { return MAC(bowline.MAC("overlay", n.ID)) }

// Via returns the link-local address by which routes name the node.
func (n Node) Via() netip.Addr {
	m := n.MAC()
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: m[0] ^ 2, 9: m[1], 10: m[2], 11: 0xff, 12: 0xfe, 13: m[3], 14: m[4], 15: m[5]})
}

// A Block is a piece of a subnet that one node owns; a single address is one, too.
type Block struct {
	Prefix netip.Prefix
	Node   string // its ID
}

// A Subnet is a prefix of a network, and the address that every node has in it.
type Subnet struct {
	Prefix  netip.Prefix
	Gateway netip.Addr
}

// A Network is containers that reach each other across hosts.
type Network struct {
	VNI     uint32 // 1 to 16777215
	Subnets []Subnet
	MTU     int // bytes, of the containers' links; 0: what fits all nodes
}

// An Underlay is what this node's tunnels run over.
type Underlay struct {
	VTEP netip.Addr // this node's
	Port uint16     // UDP, the same on all nodes
	MTU  int        // bytes, of the link that has VTEP
}

// Check returns what is wrong with the network, naming key and value.
func (n Network) Check() error {
	place := fmt.Sprintf("network with VNI %d", n.VNI)
	if n.VNI == 0 || n.VNI >= 1<<24 {
		return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("network: vni=%d: want 1 to 16777215", n.VNI))
	}
	if len(n.Subnets) == 0 {
		return bowline.Wrong(bowline.ErrInvalid, place+": it has no subnet; want one at least")
	}
	for i, s := range n.Subnets {
		if !s.Prefix.IsValid() || s.Prefix != s.Prefix.Masked() {
			return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("%s: subnet=%s: want a prefix without host bits", place, s.Prefix))
		}
		if !s.Prefix.Contains(s.Gateway) {
			return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("%s: gateway=%s: want an address in %s", place, s.Gateway, s.Prefix))
		}
		for _, other := range n.Subnets[:i] {
			if other.Prefix.Overlaps(s.Prefix) {
				return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("%s: subnet=%s: overlaps %s", place, s.Prefix, other.Prefix))
			}
		}
	}
	return nil
}

// HasV6 reports whether the network has a subnet of IPv6.
func (n Network) HasV6() bool {
	for _, s := range n.Subnets {
		if s.Prefix.Addr().Is6() {
			return true
		}
	}
	return false
}
