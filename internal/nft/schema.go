// Package nft keeps our one nftables table per family. It is the only room that
// speaks nftables.
//
// The rules never change: they look things up in sets and maps, and a network
// or an endpoint is a few elements. So attaching a container, and each packet
// of it, costs the same with one container as with a thousand. What a network
// or an endpoint adds goes in by one transaction.
//
// What all containers of a network have in common is an element of the network.
// That keeps deletions out of DEL: a process that closes its nftables socket
// while a deleted element awaits its grace period waits for that, some 10 ms
// (nft_rcv_nl_event in net/netfilter/nf_tables_api.c).
//
//	table ip bowline {                      # and ip6
//	  map pair    { ifname . ifname : verdict }   bridge to itself: accept, or drop without icc
//	  map from    { ifname : verdict }            out of a bridge: goto from-open, or drop if internal
//	  map to      { ifname : verdict }            into a bridge from outside: goto a to-chain, or drop if internal
//	  map into    { ifname : verdict }            into a bridge from another of ours, likewise
//	  map trusted { ifname . ifname : verdict }   into a bridge, from a link that may reach its open ports
//	  set published { ifname . addr }             out to a container that can be reached by published ports only
//	  set open    { ifname . addr . proto . port } out to a port that can be reached directly
//	  map masq    { ifname . prefix : verdict }   out of a bridge, sent by: jump to the prefix's chain
//	  chain forward     { iifname . oifname vmap @pair; iifname vmap @from; oifname vmap @to }
//	  chain from-open   { oifname vmap @into }
//	  chain to-nat      { established accept; ct status dnat accept; oifname . iifname vmap @trusted; drop }
//	  chain to-published { as to-nat, but: oifname . daddr @published drop }
//	  chain to-routed   { established accept; icmp accept; goto to-open }
//	  chain to-open     { oifname . daddr . l4proto . th dport @open accept; drop }
//	  chain postrouting { iifname . oifname vmap @pair; iifname . saddr vmap @masq }
//	  chain masq-PREFIX { daddr PREFIX return; daddr multicast return; masquerade }
//	}
//
// A family with published ports has this as well, until nothing is published any
// more and no network is left that published:
//
//	table ip bowline {                      # and ip6
//	  map port      { proto . port : addr . port }         to any local address
//	  map port-at   { addr . proto . port : addr . port }  to one
//	  map port-row  { addrs . proto . ports : addr }       long rows, which keep their numbers
//	  map port-gate { addrs . proto . ports : verdict }    ports with conditions: goto port-if-HASH or port-admitted
//	  map port-owner { proto, port, addr : ifname }        as IPv6 addresses; on no packet's path: see portOwner
//	  set port-user { ifname }                    endpoints with ports
//	  map port-hide { ifname . prefix : verdict } into a bridge, led to: jump port-hide-PREFIX, or port-hide-all with masqAll
//	  set port-local { ifname }                   bridges to which the host's loopback is led
//	  map port-home { ifname . prefix : addr }    ip6: from a bridge, sent by: an address of the host
//	  set port-asks { addrs . proto . ports }     ports of networks that respect the host's input policy
//	  set port-admitted { addr . proto . port }   dynamic: who may use such a port
//	  chain port-in     { nat prerouting: fib daddr type local goto ports }
//	  chain port-out    { nat output: likewise }
//	  chain ports       { daddr . l4proto . th dport vmap @port-gate; goto port-lead }
//	  chain port-lead   { dnat to ... map @port-at; @port; @port-row }
//	  chain port-if-HASH { CONDITIONS goto port-lead, or port-admitted }
//	  chain port-admitted { saddr local or @port-admitted goto port-lead }
//	  chain port-asked  { input, last: ct state new @port-asks add @port-admitted drop }
//	  chain port-back   { nat postrouting, before ours: ct status dnat oifname . daddr vmap @port-hide }
//	  chain port-hide-PREFIX { saddr PREFIX, or loopback: masquerade }
//	  chain port-guard  { prerouting, raw: daddr loopback iifname @port-local drop }
//	  chain port-home   { ip6 prerouting, after nat: daddr ::1 daddr set @port-home }
//	  chain port-arrive { ip6 input, after nat: saddr ::1 iifname @port-local daddr set ::1 }
//	}
//
// What IPv4 has route_localnet for, port-home and port-arrive do for ::1. The
// source ::1 of a connection is masqueraded on its way to the bridge, and would
// be the receiver of the answers before they are routed; but the kernel takes no
// packet for ::1 from a link, neither where bridge netfilter translated it
// before the IP layer saw it, nor by a route, for that must be of the link. So
// answers go by an address of the host up to the socket.
//
//	table bridge bowline {
//	  set guarded { ifname }                      ports whose sender address is checked
//	  set allowed { ifname . ether_addr }
//	  chain prerouting { iifname @guarded iifname . ether saddr != @allowed drop }
//	}
//
// What policies have in it is in policy.go. A table of the netdev family, which is
// hooked to single links, is in sandboxes with policies (sandbox.go), and in the
// host if it has shims (shim.go). One of the inet family is where tunnels end
// (tunnel.go).
package nft

import (
	"net"
	"net/netip"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// Table is the name of our tables.
const Table = "bowline"

// A family holds what differs between IPv4 and IPv6.
type family struct {
	table        *nftables.Table
	addr         nftables.SetDatatype
	saddr, daddr uint32 // offsets in the IP header
	size         uint32 // of an address
	multicast    netip.Prefix
}

func ipv4() family {
	return family{
		&nftables.Table{Name: Table, Family: nftables.TableFamilyIPv4},
		nftables.TypeIPAddr, 12, 16, 4, netip.PrefixFrom(netip.AddrFrom4([4]byte{224}), 4),
	}
}

func ipv6() family {
	return family{
		&nftables.Table{Name: Table, Family: nftables.TableFamilyIPv6},
		nftables.TypeIP6Addr, 8, 24, 16, netip.PrefixFrom(netip.AddrFrom16([16]byte{0xff}), 8),
	}
}

func bridgeTable() *nftables.Table {
	return &nftables.Table{Name: Table, Family: nftables.TableFamilyBridge}
}

func set(t *nftables.Table, name string, key nftables.SetDatatype) *nftables.Set {
	s := &nftables.Set{Table: t, Name: name, KeyType: key, KeyByteOrder: binaryutil.NativeEndian}
	s.Concatenation = strings.Contains(key.Name, " . ")
	return s
}

func verdictMap(t *nftables.Table, name string, key nftables.SetDatatype) *nftables.Set {
	s := set(t, name, key)
	s.IsMap, s.DataType = true, nftables.TypeVerdict
	return s
}

func concat(types ...nftables.SetDatatype) nftables.SetDatatype {
	return nftables.MustConcatSetType(types...)
}

func (f family) pair() *nftables.Set {
	return verdictMap(f.table, "pair", concat(nftables.TypeIFName, nftables.TypeIFName))
}
func (f family) from() *nftables.Set { return verdictMap(f.table, "from", nftables.TypeIFName) }
func (f family) masq() *nftables.Set {
	s := verdictMap(f.table, "masq", concat(nftables.TypeIFName, f.addr))
	s.Interval = true
	return s
}

func guarded() *nftables.Set { return set(bridgeTable(), "guarded", nftables.TypeIFName) }
func allowed() *nftables.Set {
	return set(bridgeTable(), "allowed", concat(nftables.TypeIFName, nftables.TypeEtherAddr))
}

// A chain and its rules, each with the text by which CHECK knows it again.
type chain struct {
	*nftables.Chain
	rules []rule
}

type rule struct {
	text  string
	exprs []expr.Any
}

const fromOpen = "from-open"

// sets returns all sets of the family's table, those that rules use among them.
func (f family) sets() []*nftables.Set {
	return []*nftables.Set{f.pair(), f.from(), f.to(), f.into(), f.trusted(), f.published(), f.open(), f.masq()}
}

// chains returns the fixed chains.
func (f family) chains() []chain {
	accept := nftables.ChainPolicyAccept
	return append(f.entranceChains(), []chain{
		{&nftables.Chain{Name: fromOpen, Table: f.table}, []rule{
			{"oifname vmap @into", []expr.Any{ifname(expr.MetaKeyOIFNAME, 1), vmap("into")}},
		}},
		{&nftables.Chain{
			Name: "forward", Table: f.table, Type: nftables.ChainTypeFilter, Policy: &accept,
			Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter,
		}, []rule{
			{"iifname . oifname vmap @pair", []expr.Any{ifname(expr.MetaKeyIIFNAME, 1), ifname(expr.MetaKeyOIFNAME, 2), vmap("pair")}},
			{"iifname vmap @from", []expr.Any{ifname(expr.MetaKeyIIFNAME, 1), vmap("from")}},
			{"oifname vmap @to", []expr.Any{ifname(expr.MetaKeyOIFNAME, 1), vmap("to")}},
		}},
		{&nftables.Chain{
			Name: "postrouting", Table: f.table, Type: nftables.ChainTypeNAT, Policy: &accept,
			Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
		}, []rule{
			{"iifname . oifname vmap @pair", []expr.Any{ifname(expr.MetaKeyIIFNAME, 1), ifname(expr.MetaKeyOIFNAME, 2), vmap("pair")}},
			{"iifname . saddr vmap @masq", []expr.Any{ifname(expr.MetaKeyIIFNAME, 1), f.load(f.saddr, 2), vmap("masq")}},
		}},
	}...)
}

// masqChain returns the chain of a prefix. It is a function of the prefix
// alone, so networks can share it and anybody can make it again.
func (f family) masqChain(p netip.Prefix) chain {
	p = p.Masked()
	back := func(p netip.Prefix) rule {
		mask := net.CIDRMask(p.Bits(), int(f.size)*8)
		return rule{"daddr " + p.String() + " return", []expr.Any{
			f.load(f.daddr, 1),
			&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: f.size, Mask: mask, Xor: make([]byte, f.size)},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: p.Masked().Addr().AsSlice()},
			verdict(expr.VerdictReturn, ""),
		}}
	}
	return chain{
		&nftables.Chain{Name: masqChainName(p), Table: f.table},
		[]rule{back(p), back(f.multicast), {"masquerade", []expr.Any{&expr.Masq{}}}},
	}
}

// masqChainName spells the prefix in characters that the nft command can parse.
func masqChainName(p netip.Prefix) string {
	return "masq-" + strings.ReplaceAll(p.Masked().String(), ":", "_")
}

// bridgeChain checks senders where the packet enters the bridge.
func bridgeChain() chain {
	accept := nftables.ChainPolicyAccept
	priority := nftables.ChainPriority(-300) // before everything else that looks at bridged packets
	return chain{
		&nftables.Chain{
			Name: "prerouting", Table: bridgeTable(), Type: nftables.ChainTypeFilter, Policy: &accept,
			Hooknum: nftables.ChainHookPrerouting, Priority: &priority,
		}, []rule{
			{"iifname @guarded iifname . ether saddr != @allowed drop", []expr.Any{
				ifname(expr.MetaKeyIIFNAME, 1), lookup("guarded"),
				ifname(expr.MetaKeyIIFNAME, 1),
				&expr.Payload{DestRegister: 2, Base: expr.PayloadBaseLLHeader, Offset: 6, Len: 6},
				&expr.Lookup{SourceRegister: 1, SetName: "allowed", Invert: true},
				verdict(expr.VerdictDrop, ""),
			}},
		},
	}
}

// ifname loads the 16 bytes of an interface's name, a whole register.
func ifname(key expr.MetaKey, reg uint32) expr.Any { return &expr.Meta{Key: key, Register: reg} }

func (f family) load(offset, reg uint32) expr.Any {
	return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: f.size}
}

func lookup(set string) expr.Any { return &expr.Lookup{SourceRegister: 1, SetName: set} }

func vmap(name string) expr.Any {
	return &expr.Lookup{SourceRegister: 1, DestRegister: unix.NFT_REG_VERDICT, IsDestRegSet: true, SetName: name}
}

func verdict(kind expr.VerdictKind, chain string) *expr.Verdict {
	return &expr.Verdict{Kind: kind, Chain: chain}
}

func comment(text string) []byte { return userdata.AppendString(nil, userdata.TypeComment, text) }

// name16 is the key of an interface.
func name16(name string) []byte {
	b := make([]byte, 16)
	copy(b, name)
	return b
}
