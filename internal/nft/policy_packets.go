package nft

import (
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// What follows are the parts that the rules of policies are made of: they match
// in a packet, or load of it into registers.

func then(parts ...[]expr.Any) []expr.Any {
	var es []expr.Any
	for _, p := range parts {
		es = append(es, p...)
	}
	return es
}

func accept() []expr.Any { return []expr.Any{verdict(expr.VerdictAccept, "")} }

func goTo(chain string) []expr.Any { return []expr.Any{verdict(expr.VerdictGoto, chain)} }

// vmapOf looks the key at the first register up.
func vmapOf(name string) expr.Any {
	return &expr.Lookup{SourceRegister: reg0, DestRegister: unix.NFT_REG_VERDICT, IsDestRegSet: true, SetName: name}
}

func l4proto(reg uint32) expr.Any { return &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg} }

// th reads n bytes of the transport header.
func th(offset, n, reg uint32) expr.Any {
	return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: n}
}

func is(value ...byte) expr.Any { return &expr.Cmp{Op: expr.CmpOpEq, Register: reg0, Data: value} }

func proto(p byte) []expr.Any { return []expr.Any{l4proto(reg0), is(p)} }

// hasAnyPort matches protocols that have ports.
func hasAnyPort() []expr.Any {
	return []expr.Any{l4proto(reg0), &expr.Lookup{SourceRegister: reg0, SetName: "policy-ports"}}
}

func etherType(t uint16) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: reg0}, is(byte(t>>8), byte(t))}
}

// masked compares what is loaded under a mask.
func masked(load expr.Any, mask, value []byte, op expr.CmpOp) []expr.Any {
	return []expr.Any{
		load, &expr.Bitwise{SourceRegister: reg0, DestRegister: reg0, Len: uint32(len(mask)), Mask: mask, Xor: make([]byte, len(mask))},
		&expr.Cmp{Op: op, Register: reg0, Data: value},
	}
}

// The bits of TCP's flags.
const (
	fin = 1 << iota
	syn
	rst
	psh
	ack
)

// tcpFlags matches segments that have all these flags.
func tcpFlags(flags byte) []expr.Any {
	return then(proto(unix.IPPROTO_TCP), masked(th(13, 1, reg0), []byte{flags}, []byte{flags}, expr.CmpOpEq))
}

// icmpTypes matches ICMP messages of types from lo to hi.
func (s side) icmpTypes(lo, hi byte) []expr.Any {
	es := append(proto(s.icmp()), th(0, 1, reg0))
	if lo == hi {
		return append(es, is(lo))
	}
	return append(es, &expr.Range{Op: expr.CmpOpEq, Register: reg0, FromData: []byte{lo}, ToData: []byte{hi}})
}

func (s side) echoRequest() []expr.Any {
	if s.v6 {
		return s.icmpTypes(128, 128)
	}
	return s.icmpTypes(8, 8)
}

func (s side) echoReply() []expr.Any {
	if s.v6 {
		return s.icmpTypes(129, 129)
	}
	return s.icmpTypes(0, 0)
}

// exempt returns the rules for what no policy cuts: that without which there is
// no address or no neighbour, which is DHCP with the endpoint as the client, and
// neighbour discovery with its multicast groups; and ICMP's errors, by which
// among others the path's MTU is found: from anybody, for any router can send
// them and the endpoint's kernel looks whether they are about something that it
// sent, but only to whom they can be about something that was let in.
func (s side) exempt() []rule {
	client, server := []byte{0, 68}, []byte{0, 67}
	if s.v6 {
		client, server = []byte{0x02, 0x22}, []byte{0x02, 0x23} // 546, 547
	}
	from, to := client, server
	if s.direction == ingress {
		from, to = server, client
	}
	rules := []rule{{"dhcp accept", then(proto(unix.IPPROTO_UDP), []expr.Any{th(0, 4, reg0), is(from[0], from[1], to[0], to[1])}, accept())}}
	errors := [][]expr.Any{s.icmpTypes(3, 4), s.icmpTypes(11, 12)} // unreachable, source quench; time exceeded, parameter problem
	if s.v6 {
		errors = [][]expr.Any{s.icmpTypes(1, 4)} // and too big
		rules = append(rules,
			rule{"mld accept", then(s.icmpTypes(130, 132), accept())},
			rule{"nd accept", then(s.icmpTypes(133, 137), accept())},
			rule{"mld2 accept", then(s.icmpTypes(143, 143), accept())},
		)
	}
	for _, e := range errors {
		if s.direction == ingress {
			rules = append(rules, rule{"icmp error accept", then(e, accept())})
			continue
		}
		rules = append(rules, rule{"icmp error @" + s.senders().set + " accept", then(e, s.senders().has(), accept())})
	}
	return rules
}

// Only the first fragment of a packet has ports. The others pass after it.

// laterFragment matches fragments that are not the first.
func (s side) laterFragment() []expr.Any {
	if s.v6 {
		return masked(fragmentHeader(), []byte{0xff, 0xf8}, []byte{0, 0}, expr.CmpOpNeq)
	}
	return masked(fragmentOffset(), []byte{0x1f, 0xff}, []byte{0, 0}, expr.CmpOpNeq)
}

// firstFragment matches the first fragment of several.
func (s side) firstFragment() []expr.Any {
	if s.v6 {
		return masked(fragmentHeader(), []byte{0xff, 0xf9}, []byte{0, 1}, expr.CmpOpEq)
	}
	return masked(fragmentOffset(), []byte{0x3f, 0xff}, []byte{0x20, 0}, expr.CmpOpEq)
}

// fragmentOffset reads the flags and the offset of IPv4 (RFC 791, 3.1).
func fragmentOffset() expr.Any {
	return &expr.Payload{DestRegister: reg0, Base: expr.PayloadBaseNetworkHeader, Offset: 6, Len: 2}
}

// fragmentHeader reads the same of IPv6's extension header (RFC 8200, 4.5).
func fragmentHeader() expr.Any {
	return &expr.Exthdr{DestRegister: reg0, Type: unix.IPPROTO_FRAGMENT, Offset: 2, Len: 2, Op: expr.ExthdrOpIpv6}
}
