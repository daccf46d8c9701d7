package nft

import (
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Names of chains that elements lead to.
const (
	portLead    = "port-lead"
	portHideAll = "port-hide-all"
	portHide    = "port-hide-"
)

// What a network's published ports need besides the ports themselves: port-hide
// hides senders that the endpoint could not answer, or all of them; port-local
// holds bridges that lead connections from the host's loopback; port-home has an
// address of the host for answers to ::1.
func (f family) portHide() *nftables.Set {
	s := verdictMap(f.table, "port-hide", concat(nftables.TypeIFName, f.addr))
	s.Interval = true
	return s
}
func (f family) portLocal() *nftables.Set { return set(f.table, "port-local", nftables.TypeIFName) }
func (f family) portHome() *nftables.Set {
	s := f.portMap("port-home", f.addr, nftables.TypeIFName, f.addr)
	s.Interval = true
	return s
}

func (f family) loopback() netip.Prefix {
	if f.size == 4 {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 8)
	}
	return netip.PrefixFrom(netip.IPv6Loopback(), 128)
}

// portFamilies are those that the endpoint has ports of.
func (e Endpoint) portFamilies() []family {
	return slices.DeleteFunc([]family{ipv4(), ipv6()}, func(f family) bool {
		return !slices.ContainsFunc(e.Ports, func(p Port) bool { return p.Host.BitLen() == int(f.size)*8 })
	})
}

// publishingElements are the network's that endpoints with ports need.
func (e Endpoint) publishingElements(n Network) []element {
	var es []element
	p := n.Publishing
	for _, f := range e.portFamilies() {
		if !p.SNAT && !p.MasqAll {
			continue
		}
		es = append(es, element{f.portLocal(), nftables.SetElement{Key: name16(n.Bridge)}})
		for _, pool := range p.Pools {
			if pool.Prefix.Addr().BitLen() != int(f.size)*8 {
				continue
			}
			lo, hi := append(name16(n.Bridge), pool.Prefix.Masked().Addr().AsSlice()...), append(name16(n.Bridge), last(pool.Prefix)...)
			chain := hideChainName(pool.Prefix)
			if p.MasqAll {
				chain = portHideAll
			}
			es = append(es, element{f.portHide(), nftables.SetElement{
				Key: lo, KeyEnd: hi, VerdictData: verdict(expr.VerdictJump, chain), Comment: "jump " + chain,
			}})
			if f.size == 16 && pool.Gateway.IsValid() {
				es = append(es, element{f.portHome(), nftables.SetElement{Key: lo, KeyEnd: hi, Val: pool.Gateway.AsSlice()}})
			}
		}
	}
	return es
}

// portChains returns the chains for what publishes like n.
func (e Endpoint) portChains(n Network) []chain {
	var cs []chain
	for _, f := range e.portFamilies() {
		cs = append(cs, f.portChains()...)
		for _, pool := range n.Publishing.Pools {
			if pool.Prefix.Addr().BitLen() == int(f.size)*8 {
				cs = append(cs, f.hideChain(pool.Prefix))
			}
		}
		if n.Publishing.RespectInput {
			cs = append(cs, f.admissionChains()...)
		}
		if g := n.Publishing.gate(f); len(g.conditions) > 0 {
			cs = append(cs, g.chain())
		}
	}
	return cs
}

// setUpPorts adds what publishing needs, as [Network.setUp] does.
func (e Endpoint) setUpPorts(c *nftables.Conn, n Network) {
	for _, f := range e.portFamilies() {
		c.AddTable(f.table)
		for _, s := range append(f.portSets(), f.portOwner(), f.portHide(), f.portLocal(), f.portHome(), f.portAdmitted()) {
			_ = c.AddSet(s, nil)
		}
	}
	chains := e.portChains(n)
	for _, ch := range chains {
		c.AddChain(ch.Chain)
	}
	for _, ch := range chains {
		ch.fill(c)
	}
}

// portChains returns the chains that all published ports share.
func (f family) portChains() []chain {
	base := func(name string, kind nftables.ChainType, hook *nftables.ChainHook, priority nftables.ChainPriority, rules ...rule) chain {
		accept := nftables.ChainPolicyAccept
		return chain{&nftables.Chain{Name: name, Table: f.table, Type: kind, Policy: &accept, Hooknum: hook, Priority: &priority}, rules}
	}
	here := rule{"fib daddr type local goto ports", []expr.Any{
		&expr.Fib{Register: 1, ResultADDRTYPE: true, FlagDADDR: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)},
		verdict(expr.VerdictGoto, "ports"),
	}}
	lo := f.loopback().String()
	chains := []chain{
		{&nftables.Chain{Name: portLead, Table: f.table}, []rule{
			{"dnat daddr . l4proto . th dport map @port-at", f.translate(f.thisPort(), "port-at", true)},
			{"dnat l4proto . th dport map @port", f.translate(anyPort(), "port", true)},
			{"dnat daddr . l4proto . th dport map @port-row", f.translate(f.thisPort(), "port-row", false)},
		}},
		{&nftables.Chain{Name: portHideAll, Table: f.table}, []rule{{"masquerade", []expr.Any{&expr.Masq{}}}}},
		{&nftables.Chain{Name: "ports", Table: f.table}, []rule{
			{"daddr . l4proto . th dport vmap @port-gate", append(f.thisPort(), vmap("port-gate"))},
			{"goto " + portLead, []expr.Any{verdict(expr.VerdictGoto, portLead)}},
		}},
		base("port-in", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, -100, here),
		base("port-out", nftables.ChainTypeNAT, nftables.ChainHookOutput, -100, here),
		base("port-back", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, 99, rule{"ct status dnat oifname . daddr vmap @port-hide", []expr.Any{
			&expr.Ct{Register: 1, Key: expr.CtKeySTATUS}, bits(statusDNAT), notZero(),
			ifname(expr.MetaKeyOIFNAME, 1), f.load(f.daddr, 2), vmap("port-hide"),
		}}),
		base("port-guard", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, -300, rule{"daddr " + lo + " iifname @port-local drop", append(
			f.within(f.daddr, f.loopback()), ifname(expr.MetaKeyIIFNAME, 1), lookup("port-local"), verdict(expr.VerdictDrop, ""))}),
	}
	if f.size == 4 {
		return chains
	}
	return append(chains,
		base("port-home", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, -90, rule{"daddr ::1 daddr set iifname . saddr map @port-home", append(
			f.within(f.daddr, f.loopback()), ifname(expr.MetaKeyIIFNAME, 1), f.load(f.saddr, 2), mapped("port-home"), f.writeDaddr())}),
		base("port-arrive", nftables.ChainTypeFilter, nftables.ChainHookInput, 110, rule{"saddr ::1 iifname @port-local daddr set ::1", append(
			f.within(f.saddr, f.loopback()), ifname(expr.MetaKeyIIFNAME, 1), lookup("port-local"),
			&expr.Immediate{Register: 1, Data: f.loopback().Addr().AsSlice()}, f.writeDaddr())}),
	)
}

// hideChain hides what the endpoints of the prefix could not answer: a sender of
// their own link, to whom they would answer without the host, and loopback.
func (f family) hideChain(p netip.Prefix) chain {
	hide := func(p netip.Prefix) rule {
		return rule{"saddr " + p.String() + " masquerade", append(f.within(f.saddr, p), &expr.Masq{})}
	}
	return chain{&nftables.Chain{Name: hideChainName(p), Table: f.table}, []rule{hide(p.Masked()), hide(f.loopback())}}
}

func hideChainName(p netip.Prefix) string {
	return portHide + strings.ReplaceAll(p.Masked().String(), ":", "_")
}

// within matches an address, at the offset, of the prefix.
func (f family) within(offset uint32, p netip.Prefix) []expr.Any {
	return f.compares(offset, p, expr.CmpOpEq)
}

func (f family) compares(offset uint32, p netip.Prefix, op expr.CmpOp) []expr.Any {
	es := []expr.Any{f.load(offset, 1)}
	if p.Bits() < int(f.size)*8 {
		es = append(es, &expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: f.size, Mask: net.CIDRMask(p.Bits(), int(f.size)*8), Xor: make([]byte, f.size)})
	}
	return append(es, &expr.Cmp{Op: op, Register: 1, Data: p.Masked().Addr().AsSlice()})
}

// anyPort loads a key of the map port.
func anyPort() []expr.Any { return loadService(unix.NFT_REG32_00) }

// thisPort loads a key of the map port-at.
func (f family) thisPort() []expr.Any {
	return append([]expr.Any{f.load(f.daddr, 1)}, loadService(unix.NFT_REG32_00+f.size/4)...)
}

func loadService(reg uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg},
		&expr.Payload{DestRegister: reg + 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
	}
}

// translate leads to what the map has for the key; a map without ports keeps
// the port as it is.
func (f family) translate(key []expr.Any, name string, port bool) []expr.Any {
	n := &expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(f.table.Family), RegAddrMin: 1}
	if port {
		n.RegProtoMin = unix.NFT_REG32_00 + f.size/4
	}
	return append(key, mapped(name), n)
}

// mapped replaces the key in the first register by what the map has for it.
func mapped(name string) expr.Any {
	return &expr.Lookup{SourceRegister: 1, DestRegister: 1, IsDestRegSet: true, SetName: name}
}

// writeDaddr sets the receiver's address from the first register.
func (f family) writeDaddr() expr.Any {
	return &expr.Payload{
		OperationType: expr.PayloadWrite, SourceRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: f.daddr, Len: f.size,
		CsumFlags: unix.NFT_PAYLOAD_L4CSUM_PSEUDOHDR,
	}
}

// prunePorts removes what publishing took, once nothing is published and no
// network is left that published: then no packet passes its chains. Nobody may
// add elements meanwhile.
func prunePorts(c *nftables.Conn, f family) error {
	for _, s := range []*nftables.Set{f.portUser(), f.portLocal(), f.portHide()} {
		es, err := dump(c, s)
		if err != nil || len(es) > 0 {
			return err
		}
	}
	ours := func(name string) bool { return name == "port" || name == "ports" || strings.HasPrefix(name, "port-") }
	chains, err := c.ListChainsOfTableFamily(f.table.Family)
	if err != nil {
		return err
	}
	chains = slices.DeleteFunc(chains, func(ch *nftables.Chain) bool { return ch.Table.Name != Table || !ours(ch.Name) })
	if len(chains) == 0 {
		return nil
	}
	sets, err := c.GetSets(f.table)
	if err != nil {
		return err
	}
	for _, ch := range chains {
		c.FlushChain(ch)
	}
	for _, ch := range chains {
		c.DelChain(ch)
	}
	for _, s := range sets {
		if ours(s.Name) {
			c.DelSet(s)
		}
	}
	return c.Flush()
}
