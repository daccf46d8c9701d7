package nft

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// A Tunnel is a VXLAN of the host. Its packets are not tracked, and come in from
// its peers only. Tunnels of others, of the same port even, are left alone.
//
//	table inet bowline {
//	  set tunnel       { port . vni }             ours
//	  set tunnel-peer4 { port . vni . ip }        who may send, and tunnel-peer6
//	  chain tunnel-in    { prerouting, raw: udp dport . vni @tunnel notrack }
//	  chain tunnel-out   { output, raw: likewise }
//	  chain tunnel-check { input: udp dport . vni . saddr @tunnel-peer4 or 6 accept; udp dport . vni @tunnel drop }
//	}
//
// The check is where packets have been put together again: of fragments one could
// be too short to tell what it is of.
type Tunnel struct {
	Port  uint16
	VNI   uint32
	Peers []netip.Addr // VTEPs of other hosts
}

func inetTable() *nftables.Table {
	return &nftables.Table{Name: Table, Family: nftables.TableFamilyINet}
}

const tunnelSet = "tunnel"

func tunnels() *nftables.Set {
	return set(inetTable(), tunnelSet, concat(nftables.TypeInetService, nftables.TypeMark))
}
func tunnelPeers4() *nftables.Set {
	return set(inetTable(), tunnelSet+"-peer4", concat(nftables.TypeInetService, nftables.TypeMark, nftables.TypeIPAddr))
}
func tunnelPeers6() *nftables.Set {
	return set(inetTable(), tunnelSet+"-peer6", concat(nftables.TypeInetService, nftables.TypeMark, nftables.TypeIP6Addr))
}

// key is the port and the VNI as the packet has it: three bytes, and one that is
// zero.
func (t Tunnel) key() []byte {
	key := append(binary.BigEndian.AppendUint16(nil, t.Port), 0, 0)
	return binary.BigEndian.AppendUint32(key, t.VNI<<8)
}

func (t Tunnel) comment() string { return fmt.Sprintf("VNI %d", t.VNI) }

// elements returns those of the tunnel. The sets are shared, so that what is next
// to each other goes in one message.
func (t Tunnel) elements(all, peers4, peers6 *nftables.Set) []element {
	es := []element{{all, nftables.SetElement{Key: t.key(), Comment: t.comment()}}}
	for _, p := range t.Peers {
		s := peers6
		if p.Is4() {
			s = peers4
		}
		es = append(es, element{s, nftables.SetElement{Key: append(t.key(), p.AsSlice()...), Comment: t.comment()}})
	}
	return es
}

func tunnelChains() []chain {
	accept := nftables.ChainPolicyAccept
	base := func(name string, hook *nftables.ChainHook, priority *nftables.ChainPriority, rules ...rule) chain {
		return chain{&nftables.Chain{Name: name, Table: inetTable(), Type: nftables.ChainTypeFilter, Policy: &accept, Hooknum: hook, Priority: priority}, rules}
	}
	// dport and VNI into the registers from 8 (of 4 bytes each) on; what is no
	// UDP, or too short, ends the rule here.
	which := func(more ...expr.Any) []expr.Any {
		return append([]expr.Any{
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_UDP}},
			&expr.Payload{DestRegister: unix.NFT_REG32_00, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
			&expr.Payload{DestRegister: unix.NFT_REG32_01, Base: expr.PayloadBaseTransportHeader, Offset: 12, Len: 4},
			&expr.Bitwise{SourceRegister: unix.NFT_REG32_01, DestRegister: unix.NFT_REG32_01, Len: 4, Mask: []byte{255, 255, 255, 0}, Xor: make([]byte, 4)},
		}, more...)
	}
	in := func(set string) expr.Any { return &expr.Lookup{SourceRegister: unix.NFT_REG32_00, SetName: set} }
	from := func(proto byte, f family, set string) []expr.Any {
		load := &expr.Payload{DestRegister: unix.NFT_REG32_02, Base: expr.PayloadBaseNetworkHeader, Offset: f.saddr, Len: f.size}
		return append([]expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{proto}}},
			which(load, in(set), verdict(expr.VerdictAccept, ""))...)
	}
	notrack := rule{"udp dport . vni @tunnel notrack", which(in(tunnelSet), &expr.Notrack{})}
	return []chain{
		base("tunnel-in", nftables.ChainHookPrerouting, nftables.ChainPriorityRaw, notrack),
		base("tunnel-out", nftables.ChainHookOutput, nftables.ChainPriorityRaw, notrack),
		base("tunnel-check", nftables.ChainHookInput, nftables.ChainPriorityFilter,
			rule{"udp dport . vni . ip saddr @tunnel-peer4 accept", from(unix.NFPROTO_IPV4, ipv4(), tunnelSet+"-peer4")},
			rule{"udp dport . vni . ip6 saddr @tunnel-peer6 accept", from(unix.NFPROTO_IPV6, ipv6(), tunnelSet+"-peer6")},
			rule{"udp dport . vni @tunnel drop", which(in(tunnelSet), verdict(expr.VerdictDrop, ""))}),
	}
}

// EnsureTunnel lets in what the peers send by the tunnel and keeps out what others
// do, and reports how many elements it added or removed, or made the table anew.
// The error wraps [bowline.ErrConflict] if somebody else has a table of our name.
func (h *Handle) EnsureTunnel(ctx context.Context, t Tunnel) (changes int, err error) {
	what := fmt.Sprintf("guard the tunnel of VNI %d", t.VNI)
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("%s: %w", what, err)
	}
	unlock, err := h.lock(unix.LOCK_EX)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", what, err)
	}
	defer unlock()
	err = h.with(func(c *nftables.Conn) error {
		if err := unowned(c, nftables.TableFamilyINet); err != nil {
			return err
		}
		all, peers4, peers6 := tunnels(), tunnelPeers4(), tunnelPeers6()
		have, err := t.present(c)
		if err != nil {
			return err
		}
		var lacking []element
		for _, e := range t.elements(all, peers4, peers6) {
			id := e.set.Name + string(e.Key)
			if _, there := have[id]; !there {
				lacking = append(lacking, e)
			}
			delete(have, id)
		}
		changes = len(lacking) + len(have)
		whole, err := h.hasChains(tunnelChains())
		if err != nil || whole && changes == 0 {
			return err
		}
		if !whole {
			changes++
			c.AddTable(inetTable())
			for _, s := range []*nftables.Set{all, peers4, peers6} {
				_ = c.AddSet(s, nil) // fails for anonymous sets only
			}
			for _, ch := range tunnelChains() {
				c.AddChain(ch.Chain)
				ch.fill(c)
			}
		}
		var stale []element
		for _, e := range have {
			stale = append(stale, e)
		}
		if err := queue(c, lacking, (*nftables.Conn).SetAddElements); err != nil {
			return err
		}
		if err := queue(c, stale, (*nftables.Conn).SetDeleteElements); err != nil {
			return err
		}
		return c.Flush()
	})
	return changes, failure(what, err)
}

// present returns the tunnel's elements by set and key.
func (t Tunnel) present(c *nftables.Conn) (map[string]element, error) {
	have := map[string]element{}
	for _, s := range []*nftables.Set{tunnels(), tunnelPeers4(), tunnelPeers6()} {
		all, err := dump(c, s)
		if err != nil {
			return nil, err
		}
		for _, e := range all {
			if strings.HasPrefix(string(e.Key), string(t.key())) {
				have[s.Name+string(e.Key)] = element{s, e}
			}
		}
	}
	return have, nil
}

// hasChains reports whether the chains are there with as many rules.
func (h *Handle) hasChains(chains []chain) (bool, error) {
	for _, ch := range chains {
		use, err := h.chainUse(ch.Table, ch.Name)
		if err != nil || int(use) != len(ch.rules) {
			return false, err
		}
	}
	return true, nil
}

// DeleteTunnel removes the tunnel's elements, and the table with the last one. It
// succeeds if there are none. Of t only Port and VNI count.
func (h *Handle) DeleteTunnel(ctx context.Context, t Tunnel) error {
	what := fmt.Sprintf("end the guard of the tunnel of VNI %d", t.VNI)
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	unlock, err := h.lock(unix.LOCK_EX)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer unlock()
	return failure(what, h.with(func(c *nftables.Conn) error {
		ours, err := ourTables(c)
		if err != nil || !ours[nftables.TableFamilyINet] {
			return err
		}
		have, err := t.present(c)
		if err != nil {
			return err
		}
		var stale []element
		for _, e := range have {
			stale = append(stale, e)
		}
		if err := flush(c, stale, (*nftables.Conn).SetDeleteElements); err != nil {
			return err
		}
		return pruneTable(c, inetTable(), tunnels())
	}))
}
