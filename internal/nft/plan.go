package nft

import (
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
)

// A kernel's interval map takes no two elements that overlap, and a policy's
// rules do: the first one that is met decides. So a plan cuts the space of all
// peers, protocols and ports into boxes, each of which one rule decides.

// maxBoxes bounds what one direction of a policy may take of the kernel.
const maxBoxes = 16384

// A box is a range of peers, of protocols and of the receiver's ports, all with
// both ends in it.
type box struct {
	peers  [2]netip.Addr
	protos [2]byte
	ports  [2]uint16
	rule   uint32 // its number in the policy
}

// A plan is one direction of a policy in one family. Its boxes are disjoint, and
// every packet is in one. Port 0 stands for packets without.
type plan struct {
	boxes []box
	other uint32 // the rule for what is neither IP nor ARP: the first that names no peer, protocol or port
}

// The directions of a rule.
const (
	ingress = "ingress"
	egress  = "egress"
)

// noRule is the number of what no rule of the direction met, after those of the
// policy's rules.
func noRule(rules []bowline.PolicyRule, direction string) uint32 {
	if direction == ingress {
		return uint32(len(rules))
	}
	return uint32(len(rules)) + 1
}

// A numbered rule is one of a direction in the planner's words; nil is any.
type numbered struct {
	rule   uint32
	peers  [][2]netip.Addr
	protos []byte
	ports  []bowline.PortRange
}

// planPolicy cuts one direction of a policy. The error wraps
// [bowline.ErrInvalid] if it takes too many boxes.
func planPolicy(rules []bowline.PolicyRule, direction string, v6 bool) (plan, error) {
	p := plan{other: noRule(rules, direction)}
	var mine []numbered
	for i, r := range rules {
		if r.Direction != direction {
			continue
		}
		n := number(r, uint32(i), v6)
		if len(r.Peers) > 0 && n.peers == nil {
			continue // all of the other family
		}
		mine = append(mine, n)
		if n.peers == nil && n.protos == nil {
			p.other = n.rule
			break // no later rule is ever met
		}
	}
	mine = append(mine, numbered{rule: noRule(rules, direction)})
	zero := netip.IPv4Unspecified()
	if v6 {
		zero = netip.IPv6Unspecified()
	}
	starts := peerStarts(mine, zero)
	applying := apply(mine, starts)
	var before []box // what the range before this one has
	for i, first := range starts {
		end := lastOf(netip.PrefixFrom(zero, 0))
		if i+1 < len(starts) {
			end = starts[i+1].Prev()
		}
		services := cutServices(applying[i])
		if i > 0 && slices.Equal(services, before) { // then they are one range
			for j := range services {
				p.boxes[len(p.boxes)-1-j].peers[1] = end
			}
			continue
		}
		before = services
		for _, b := range services {
			b.peers = [2]netip.Addr{first, end}
			p.boxes = append(p.boxes, b)
		}
		if len(p.boxes) > maxBoxes {
			return plan{}, bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf(
				"policy: its %s rules come to more than %d disjoint ranges of peers, protocols and ports: want fewer rules, or fewer that overlap", direction, maxBoxes))
		}
	}
	return p, nil
}

func number(r bowline.PolicyRule, i uint32, v6 bool) numbered {
	n := numbered{rule: i, ports: r.Ports}
	for _, p := range r.Peers {
		if p.Addr().Is6() == v6 {
			n.peers = append(n.peers, [2]netip.Addr{p.Masked().Addr(), lastOf(p.Masked())})
		}
	}
	switch r.Protocol {
	case "tcp":
		n.protos = []byte{unix.IPPROTO_TCP}
	case "udp":
		n.protos = []byte{unix.IPPROTO_UDP}
	case "sctp":
		n.protos = []byte{unix.IPPROTO_SCTP}
	case "icmp":
		n.protos = []byte{unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6}
	}
	return n
}

func lastOf(p netip.Prefix) netip.Addr {
	a, _ := netip.AddrFromSlice(last(p))
	return a
}

// peerStarts returns where ranges of peers start, within each of which the same
// rules apply to all.
func peerStarts(rules []numbered, zero netip.Addr) []netip.Addr {
	starts := []netip.Addr{zero}
	for _, r := range rules {
		for _, p := range r.peers {
			starts = append(starts, p[0])
			if after := p[1].Next(); after.IsValid() {
				starts = append(starts, after)
			}
		}
	}
	slices.SortFunc(starts, netip.Addr.Compare)
	return slices.Compact(starts)
}

// apply returns, for each range, the rules that apply there, in their order.
func apply(rules []numbered, starts []netip.Addr) [][]numbered {
	applying := make([][]numbered, len(starts))
	closed := make([]bool, len(starts)) // a rule decides all that is left
	add := func(r numbered, from, to int) {
		for i := from; i < to; i++ {
			have := applying[i]
			if closed[i] || len(have) > 0 && have[len(have)-1].rule == r.rule {
				continue
			}
			applying[i], closed[i] = append(have, r), r.protos == nil
		}
	}
	for _, r := range rules {
		if r.peers == nil {
			add(r, 0, len(starts))
		}
		for _, p := range r.peers {
			from, _ := slices.BinarySearchFunc(starts, p[0], netip.Addr.Compare)
			to := len(starts)
			if after := p[1].Next(); after.IsValid() {
				to, _ = slices.BinarySearchFunc(starts, after, netip.Addr.Compare)
			}
			add(r, from, to)
		}
	}
	return applying
}

// cutServices returns the boxes of a range of peers, without the peers.
func cutServices(rules []numbered) []box {
	if rules[0].protos == nil {
		return []box{{protos: [2]byte{0, 255}, ports: [2]uint16{0, 65535}, rule: rules[0].rule}}
	}
	var all, before []box // before: of the protocols before
	first := 0
	for first <= 255 {
		last := first
		if !named(byte(first)) {
			for last < 255 && !named(byte(last+1)) {
				last++
			}
		}
		row := cutPorts(rules, byte(first))
		if len(all) > 0 && slices.Equal(row, before) {
			for j := range row {
				all[len(all)-1-j].protos[1] = byte(last)
			}
		} else {
			before = row
			for _, b := range row {
				b.protos = [2]byte{byte(first), byte(last)}
				all = append(all, b)
			}
		}
		first = last + 1
	}
	return all
}

// named reports whether rules can name the protocol.
func named(proto byte) bool {
	return hasPorts(proto) || proto == unix.IPPROTO_ICMP || proto == unix.IPPROTO_ICMPV6
}

func hasPorts(proto byte) bool {
	return proto == unix.IPPROTO_TCP || proto == unix.IPPROTO_UDP || proto == unix.IPPROTO_SCTP
}

// cutPorts returns the boxes of a protocol, with ports only.
func cutPorts(rules []numbered, proto byte) []box {
	starts := []int{0}
	var mine []numbered
	for _, r := range rules {
		if r.protos != nil && !slices.Contains(r.protos, proto) {
			continue
		}
		mine = append(mine, r)
		for _, p := range r.ports {
			starts = append(starts, int(p.First), int(p.Last)+1)
		}
	}
	slices.Sort(starts)
	starts = slices.Compact(starts)
	var row []box
	for i, first := range starts {
		last := 65535
		if i+1 < len(starts) {
			last = starts[i+1] - 1
		}
		if first > 65535 {
			break
		}
		met := slices.IndexFunc(mine, func(r numbered) bool {
			return r.ports == nil || slices.ContainsFunc(r.ports, func(p bowline.PortRange) bool { return int(p.First) <= first && first <= int(p.Last) })
		})
		rule := mine[met].rule // the last one meets all
		if n := len(row); n > 0 && row[n-1].rule == rule {
			row[n-1].ports[1] = uint16(last)
			continue
		}
		row = append(row, box{ports: [2]uint16{uint16(first), uint16(last)}, rule: rule})
	}
	return row
}
