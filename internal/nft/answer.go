package nft

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// IPv6 has no proxy for whole prefixes. So solicitations that a container sends
// are turned into the advertisement that answers them, and sent back, where they
// enter: for each address of the network, with one MAC. Duplicate address
// detection asks from the unspecified address and is never answered. The table is
// in the network's own namespace.
//
//	table netdev bowline {
//	  set tunnel-subnet { ip6 prefix }
//	  chain answer-LINK-INDEX { hook ingress device LINK; icmpv6 solicitation of @tunnel-subnet: answer }
//	}

func tunnelSubnet() *nftables.Set {
	s := set(netdevTable(), tunnelSet+"-subnet", nftables.TypeIP6Addr)
	s.Interval = true
	return s
}

// answerChain returns the chain of the link, which has that index.
func answerChain(link string, index int, mac net.HardwareAddr) chain {
	accept := nftables.ChainPolicyAccept
	ll, nh, th := expr.PayloadBaseLLHeader, expr.PayloadBaseNetworkHeader, expr.PayloadBaseTransportHeader
	load := func(base expr.PayloadBase, offset, size uint32) expr.Any {
		return &expr.Payload{DestRegister: 1, Base: base, Offset: offset, Len: size}
	}
	is := func(op expr.CmpOp, data ...byte) expr.Any { return &expr.Cmp{Op: op, Register: 1, Data: data} }
	put := func(base expr.PayloadBase, offset, size uint32) expr.Any {
		p := &expr.Payload{OperationType: expr.PayloadWrite, SourceRegister: 1, Base: base, Offset: offset, Len: size}
		switch base { // the checksum of ICMPv6 is of the IP header's addresses, too, and 40 bytes on
		case nh:
			p.CsumType, p.CsumOffset = expr.CsumTypeInet, 40+2
		case th:
			p.CsumType, p.CsumOffset = expr.CsumTypeInet, 2
		}
		return p
	}
	value := func(data ...byte) expr.Any { return &expr.Immediate{Register: 1, Data: data} }
	const solicitation, advertisement, sourceMAC, targetMAC = 135, 136, 1, 2 // RFC 4861
	return chain{
		&nftables.Chain{
			Name: answersOf(link) + strconv.Itoa(index), Table: netdevTable(), Type: nftables.ChainTypeFilter, Policy: &accept,
			Hooknum: nftables.ChainHookIngress, Priority: nftables.ChainPriorityFilter, Device: link,
		}, []rule{{"icmpv6 solicitation of @tunnel-subnet: answer", []expr.Any{
			&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: 1}, is(expr.CmpOpEq, 0x86, 0xdd),
			load(nh, 6, 1), is(expr.CmpOpEq, unix.IPPROTO_ICMPV6), // right behind the IP header
			load(th, 0, 2), is(expr.CmpOpEq, solicitation, 0),
			load(nh, 7, 1), is(expr.CmpOpEq, 255), // the hop limit: it comes from this link
			load(nh, 8, 16), is(expr.CmpOpNeq, make([]byte, 16)...),
			load(th, 24, 2), is(expr.CmpOpEq, sourceMAC, 1),
			load(th, 8, 16), lookup(tunnelSet + "-subnet"),
			load(ll, 6, 6), put(ll, 0, 6), value(mac...), put(ll, 6, 6),
			load(nh, 8, 16), put(nh, 24, 16), load(th, 8, 16), put(nh, 8, 16),
			value(advertisement, 0), put(th, 0, 2),
			value(0xe0, 0, 0, 0), put(th, 4, 4), // router, solicited, override
			value(targetMAC, 1), put(th, 24, 2), value(mac...), put(th, 26, 6),
			&expr.Immediate{Register: 1, Data: binary.NativeEndian.AppendUint32(nil, uint32(index))},
			&expr.Dup{RegDev: 1, IsRegDevSet: true}, verdict(expr.VerdictDrop, ""),
		}}},
	}
}

// EnsureAnswers has solicitations that come in by the link answered with mac, for
// all of the subnets of IPv6. It reports whether there was something to do. All
// links of a namespace have the same subnets.
func (h *Handle) EnsureAnswers(ctx context.Context, link string, index int, mac net.HardwareAddr, subnets []netip.Prefix) (made bool, err error) {
	what := "answer neighbour solicitations at " + link
	if err := ctx.Err(); err != nil {
		return false, fmt.Errorf("%s: %w", what, err)
	}
	ch := answerChain(link, index, mac)
	err = h.with(func(c *nftables.Conn) error {
		if whole, err := h.hasChains([]chain{ch}); err != nil || whole {
			return err
		}
		if err := unowned(c, nftables.TableFamilyNetdev); err != nil {
			return err
		}
		made = true
		// Those of a link that had the name before: they would send by its index.
		if err := dropAnswers(c, link); err != nil {
			return err
		}
		s := tunnelSubnet()
		c.AddTable(netdevTable())
		_ = c.AddSet(s, nil) // fails for anonymous sets only
		c.AddChain(ch.Chain)
		ch.fill(c)
		c.FlushSet(s)
		var es []nftables.SetElement
		for _, p := range subnets {
			if p.Addr().Is6() {
				es = append(es, nftables.SetElement{Key: p.Addr().AsSlice()}, nftables.SetElement{Key: after(p), IntervalEnd: true})
			}
		}
		if err := c.SetAddElements(s, es); err != nil {
			return err
		}
		return c.Flush()
	})
	return made && err == nil, h.linkFailure(what, link, err)
}

// after returns the first address beyond the prefix.
func after(p netip.Prefix) []byte {
	a, _ := netip.AddrFromSlice(last(p))
	return a.Next().AsSlice()
}

// DeleteAnswers ends what EnsureAnswers began. It succeeds if there is nothing.
func (h *Handle) DeleteAnswers(ctx context.Context, link string) error {
	what := "answer no neighbour solicitations at " + link
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return failure(what, h.with(func(c *nftables.Conn) error {
		if err := dropAnswers(c, link); err != nil {
			return err
		}
		return c.Flush()
	}))
}

// answersOf is how the names of the link's chains begin; its index follows.
func answersOf(link string) string { return "answer-" + link + "-" }

func dropAnswers(c *nftables.Conn, link string) error {
	all, err := c.ListChainsOfTableFamily(nftables.TableFamilyNetdev)
	if err != nil {
		return err
	}
	for _, ch := range all {
		if ch.Table.Name == Table && strings.HasPrefix(ch.Name, answersOf(link)) {
			c.FlushChain(ch)
			c.DelChain(ch)
		}
	}
	return nil
}
