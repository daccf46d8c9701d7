package overlay

import (
	"fmt"
	"net/netip"

	"github.com/bowline-net/bowline"
)

// Metrics of routes, the lowest wins: a container that is here beats a block
// that leads away, as while its address moves.
const (
	MetricBlock       = 2048
	MetricUnreachable = 1 << 20
)

// A Route leads to a block, or says of a subnet that nobody is there.
type Route struct {
	Prefix netip.Prefix
	Via    netip.Addr // of a node; zero: unreachable
	MTU    int        // bytes; 0: as the link's
	Metric int
}

// A Neighbour says which MAC a next hop has.
type Neighbour struct {
	Addr netip.Addr
	MAC  MAC
}

// A Forward says behind which VTEP a MAC is: an entry of the FDB.
type Forward struct {
	MAC  MAC
	VTEP netip.Addr
}

// Entries are what a network's tunnel has in the kernel, in no order.
type Entries struct {
	Routes     []Route
	Neighbours []Neighbour
	Forwards   []Forward
}

// Len returns how many entries there are.
func (e Entries) Len() int { return len(e.Routes) + len(e.Neighbours) + len(e.Forwards) }

// A Skipped is a block that cannot be reached, and why.
type Skipped struct {
	Block Block
	Why   string
}

// A View is all that decides about a network's entries on one node.
type View struct {
	Self     string // ID of the node
	Underlay Underlay
	Network  Network
	Nodes    []Node
	Blocks   []Block
}

// Want returns what the node must have of other nodes: those that own a block
// and, of each of their blocks, a route. mtu is that of the network's links. A
// block that cannot be reached is left out and told; it stops nobody else. The
// error wraps [bowline.ErrConflict] if two nodes, or two blocks, are the same.
func (v View) Want(mtu int) (Entries, []Skipped, error) {
	var e Entries
	nodes := map[string]Node{}
	byMAC := map[MAC]string{}
	for _, n := range v.Nodes {
		if other, taken := byMAC[n.MAC()]; taken {
			return e, nil, bowline.Wrong(bowline.ErrConflict, fmt.Sprintf("node %q: its MAC is that of node %q; want another ID", n.ID, other))
		}
		nodes[n.ID], byMAC[n.MAC()] = n, n.ID
	}
	for _, s := range v.Network.Subnets {
		e.Routes = append(e.Routes, Route{Prefix: s.Prefix, Metric: MetricUnreachable})
	}
	owners := map[netip.Prefix]string{}
	used := map[string]bool{}
	var skipped []Skipped
	for _, b := range v.Blocks {
		b.Prefix = b.Prefix.Masked()
		if other, taken := owners[b.Prefix]; taken && other != b.Node {
			return e, nil, bowline.Wrong(bowline.ErrConflict, fmt.Sprintf("block %s: both node %q and node %q have it", b.Prefix, other, b.Node))
		} else if taken || b.Node == v.Self {
			owners[b.Prefix] = b.Node
			continue
		}
		owners[b.Prefix] = b.Node
		n, known := nodes[b.Node]
		if why := v.obstacle(b, n, known); why != "" {
			skipped = append(skipped, Skipped{b, why})
			continue
		}
		e.Routes = append(e.Routes, Route{Prefix: b.Prefix, Via: n.Via(), MTU: n.routeMTU(v.Underlay, mtu), Metric: MetricBlock})
		if !used[n.ID] {
			used[n.ID] = true
			e.Neighbours = append(e.Neighbours, Neighbour{n.Via(), n.MAC()})
			e.Forwards = append(e.Forwards, Forward{n.MAC(), n.VTEP})
		}
	}
	return e, skipped, nil
}

// obstacle says why the block cannot be reached; empty if it can.
func (v View) obstacle(b Block, n Node, known bool) string {
	switch {
	case !v.Network.contains(b.Prefix):
		return "it is in no subnet of the network"
	case !known:
		return "nothing is known of its node"
	case !n.VTEP.IsValid() || n.VTEP.Is4() != v.Underlay.VTEP.Is4():
		return fmt.Sprintf("its node's VTEP %s is not of the family of %s", n.VTEP, v.Underlay.VTEP)
	case n.VTEP == v.Underlay.VTEP:
		return fmt.Sprintf("its node's VTEP %s is this node's", n.VTEP)
	}
	return ""
}

// contains reports whether the block is within a subnet.
func (n Network) contains(b netip.Prefix) bool {
	for _, s := range n.Subnets {
		if b.IsValid() && s.Prefix.Contains(b.Addr()) && b.Bits() >= s.Prefix.Bits() {
			return true
		}
	}
	return false
}

// VTEPs returns from where the network's packets may come: from all nodes that
// have a VTEP of this one's family, with blocks or without, for a block may be
// seen here later than its first packet.
func (v View) VTEPs() []netip.Addr {
	var all []netip.Addr
	for _, n := range v.Nodes {
		if n.ID != v.Self && n.VTEP.IsValid() && n.VTEP.Is4() == v.Underlay.VTEP.Is4() {
			all = append(all, n.VTEP)
		}
	}
	return all
}
