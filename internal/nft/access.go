package nft

import (
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// An Access says what of a network can be reached from beyond it, in one
// family. Replies, and what the host itself sends, always pass.
type Access int

const (
	// AccessOpen: the containers' addresses can be reached from outside, not
	// from our other networks, which reach published ports only.
	AccessOpen Access = iota
	// AccessPublished: as AccessOpen, but a container with published ports can
	// be reached by way of them only.
	AccessPublished
	// AccessNAT: published ports only, from everywhere.
	AccessNAT
	// AccessUnprotected: everything can be reached from everywhere.
	AccessUnprotected
	// AccessRouted: nothing is translated. The ports that are published can be
	// reached at the containers' own addresses from everywhere, and ICMP passes.
	AccessRouted
)

// Names of the chains that decide about what enters a network. Elements of to
// and into lead to them, so that a network costs elements and no rules.
const (
	toNAT       = "to-nat"
	toRouted    = "to-routed"
	toPublished = "to-published"
	toOpen      = "to-open"
)

func (n Network) access(f family) Access {
	if f.size == 4 {
		return n.Access4
	}
	return n.Access6
}

// A way is a verdict with its comment, by which CHECK knows it again.
type way struct {
	text string
	*expr.Verdict
}

func leadsTo(chain string) way { return way{"goto " + chain, verdict(expr.VerdictGoto, chain)} }
func drops() way               { return way{"drop", verdict(expr.VerdictDrop, "")} }
func accepts() way             { return way{"accept", verdict(expr.VerdictAccept, "")} }

func (w way) element(s *nftables.Set, key []byte) element {
	return element{s, nftables.SetElement{Key: key, VerdictData: w.Verdict, Comment: w.text}}
}

// entrances returns the network's elements about what comes from outside (to),
// from our other networks (into) and from links that it trusts.
func (n Network) entrances(f family) []element {
	var es []element
	bridge := name16(n.Bridge)
	into := leadsTo(toNAT)
	switch a := n.access(f); {
	case n.Internal:
		into = drops()
		es = append(es, drops().element(f.to(), bridge))
	case a == AccessNAT:
		es = append(es, leadsTo(toNAT).element(f.to(), bridge))
	case a == AccessRouted:
		into = leadsTo(toRouted)
		es = append(es, into.element(f.to(), bridge))
	case a == AccessUnprotected:
		into = accepts()
	}
	if n.Open && !n.Internal {
		into = accepts()
	}
	es = append(es, into.element(f.into(), bridge))
	for _, link := range n.Trusted {
		es = append(es, leadsTo(toOpen).element(f.trusted(), append(name16(n.Bridge), name16(link)...)))
	}
	return es
}

func (f family) to() *nftables.Set   { return verdictMap(f.table, "to", nftables.TypeIFName) }
func (f family) into() *nftables.Set { return verdictMap(f.table, "into", nftables.TypeIFName) }
func (f family) trusted() *nftables.Set {
	return verdictMap(f.table, "trusted", concat(nftables.TypeIFName, nftables.TypeIFName))
}

// published holds the addresses of containers with published ports of networks
// with AccessPublished.
func (f family) published() *nftables.Set {
	return set(f.table, "published", concat(nftables.TypeIFName, f.addr))
}

// open holds the containers' ports that can be reached at their own address.
func (f family) open() *nftables.Set {
	s := set(f.table, "open", concat(nftables.TypeIFName, f.addr, nftables.TypeInetProto, nftables.TypeInetService))
	s.Interval = true
	return s
}

// entranceChains returns the chains that entrances and the endpoints' own
// elements lead to.
func (f family) entranceChains() []chain {
	chainOf := func(name string, rules ...rule) chain {
		return chain{&nftables.Chain{Name: name, Table: f.table}, rules}
	}
	icmp, icmpName := byte(unix.IPPROTO_ICMP), "icmp"
	if f.size == 16 {
		icmp, icmpName = unix.IPPROTO_ICMPV6, "ipv6-icmp"
	}
	established := rule{"ct state established,related accept", []expr.Any{
		&expr.Ct{Register: 1, Key: expr.CtKeySTATE}, bits(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED), notZero(), verdict(expr.VerdictAccept, ""),
	}}
	translated := rule{"ct status dnat accept", []expr.Any{
		&expr.Ct{Register: 1, Key: expr.CtKeySTATUS}, bits(statusDNAT), notZero(), verdict(expr.VerdictAccept, ""),
	}}
	trusted := rule{"oifname . iifname vmap @trusted", []expr.Any{
		ifname(expr.MetaKeyOIFNAME, 1), ifname(expr.MetaKeyIIFNAME, 2), vmap("trusted"),
	}}
	drop := rule{"drop", []expr.Any{verdict(expr.VerdictDrop, "")}}
	return []chain{
		chainOf(toOpen,
			rule{"oifname . daddr . l4proto . th dport @open accept", append(f.service(), lookup("open"), verdict(expr.VerdictAccept, ""))},
			drop),
		chainOf(toNAT, established, translated, trusted, drop),
		chainOf(toPublished, established, translated, trusted,
			rule{"oifname . daddr @published drop", []expr.Any{
				ifname(expr.MetaKeyOIFNAME, 1), f.load(f.daddr, 2), lookup("published"), verdict(expr.VerdictDrop, ""),
			}}),
		chainOf(toRouted, established,
			rule{"l4proto " + icmpName + " accept", []expr.Any{
				&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
				&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{icmp}},
				verdict(expr.VerdictAccept, ""),
			}},
			rule{"goto " + toOpen, []expr.Any{verdict(expr.VerdictGoto, toOpen)}}),
	}
}

// statusDNAT is IPS_DST_NAT: the connection's receiver was translated.
const statusDNAT = 1 << 5

func bits(mask uint32) expr.Any {
	return &expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(mask), Xor: make([]byte, 4)}
}

func notZero() expr.Any {
	return &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)}
}

// service loads a key of the set open.
func (f family) service() []expr.Any {
	// A name takes the first register of 16 bytes; what follows is counted in
	// registers of 4.
	const second = unix.NFT_REG32_04
	words := f.size / 4
	return []expr.Any{
		ifname(expr.MetaKeyOIFNAME, 1), f.load(f.daddr, second),
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: second + words},
		&expr.Payload{DestRegister: second + words + 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
	}
}

// A Service is a port of an endpoint, or a row of them.
type Service struct {
	Addr        netip.Addr
	Protocol    byte // IPPROTO_TCP and the like
	First, Last uint16
}

// key returns the element's key for one end of the row.
func (s Service) key(bridge string, port uint16) []byte {
	return append(append(name16(bridge), s.Addr.AsSlice()...), s.Protocol, 0, 0, 0, byte(port>>8), byte(port), 0, 0)
}

// shared returns the network's elements that only endpoints such as e need.
func (e Endpoint) shared(n Network) []element {
	var es []element
	for _, f := range n.families() {
		if n.access(f) == AccessPublished && !n.Internal && e.closes(f) {
			es = append(es, leadsTo(toPublished).element(f.to(), name16(n.Bridge)))
		}
	}
	return es
}

func (e Endpoint) closes(f family) bool {
	return slices.ContainsFunc(e.Closed, func(a netip.Addr) bool { return a.BitLen() == int(f.size)*8 })
}

// entrances returns the endpoint's own elements about what reaches it directly.
func (e Endpoint) entrances(n Network) []element {
	var es []element
	key := comments(n.ID, e.ID)
	for _, a := range e.Closed {
		f := familyOf(netip.PrefixFrom(a, a.BitLen()))
		es = append(es, element{f.published(), nftables.SetElement{Key: append(name16(n.Bridge), a.AsSlice()...), Comment: key}})
	}
	for _, s := range e.Open {
		f := familyOf(netip.PrefixFrom(s.Addr, s.Addr.BitLen()))
		es = append(es, element{f.open(), nftables.SetElement{
			Key: s.key(n.Bridge, s.First), KeyEnd: s.key(n.Bridge, s.Last), Comment: key,
		}})
	}
	return es
}
