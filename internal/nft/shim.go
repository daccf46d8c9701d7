package nft

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
)

// A shim is a macvlan link of the host, by which the host and its macvlan
// containers reach each other. To the LAN it is a second MAC with the host's
// addresses: it would answer ARP requests of everybody, and whoever heard it ask
// would send to it what is meant for the host. So it hears and reaches nobody but
// our containers.
//
//	table netdev bowline {                 # of the host
//	  set shim-peers { ifname . ether_addr }         containers, by the shim
//	  chain shim-ingress-LINK { hook ingress device LINK; iifname . ether saddr @shim-peers accept } drop
//	  chain shim-egress-LINK  { hook egress device LINK; oifname . ether daddr @shim-peers accept } drop
//	}

const shimPeersName = "shim-peers"

func shimPeers() *nftables.Set {
	return set(netdevTable(), shimPeersName, concat(nftables.TypeIFName, nftables.TypeEtherAddr))
}

// shimChains returns the chains of a shim. What no rule accepts they drop.
func shimChains(link string) []chain {
	no := nftables.ChainPolicyDrop
	filter := func(direction string, hook nftables.ChainHook, text string, exprs ...expr.Any) chain {
		return chain{
			&nftables.Chain{
				Name: "shim-" + direction + "-" + link, Table: netdevTable(), Type: nftables.ChainTypeFilter, Policy: &no,
				Hooknum: &hook, Priority: nftables.ChainPriorityFilter, Device: link,
			}, []rule{{text, append(exprs, lookup(shimPeersName), verdict(expr.VerdictAccept, ""))}},
		}
	}
	mac := func(offset uint32) expr.Any {
		return &expr.Payload{DestRegister: 2, Base: expr.PayloadBaseLLHeader, Offset: offset, Len: 6}
	}
	return []chain{
		// Only by this type of the link does the nft command know MACs in the frame,
		// and it has no such type for what leaves: there it prints "@ll,0,48".
		filter(ingress, unix.NF_NETDEV_INGRESS, "iifname . ether saddr @shim-peers accept",
			&expr.Meta{Key: expr.MetaKeyIIFTYPE, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.NativeEndian.AppendUint16(nil, unix.ARPHRD_ETHER)},
			ifname(expr.MetaKeyIIFNAME, 1), mac(6)),
		filter(egress, netdevEgress, "oifname . ether daddr @shim-peers accept", ifname(expr.MetaKeyOIFNAME, 1), mac(0)),
	}
}

// A ShimPeer is a container that the host reaches by a shim.
type ShimPeer struct {
	Network, Endpoint string
	Link              string           // the shim
	MAC               net.HardwareAddr // the container's, of 6 bytes
}

func (p ShimPeer) element() element {
	key := append(append(name16(p.Link), p.MAC...), 0, 0)
	return element{shimPeers(), nftables.SetElement{Key: key, Comment: comments(p.Network, p.Endpoint)}}
}

// setUpShim adds what a shim's elements need.
func setUpShim(c *nftables.Conn, link string) {
	c.AddTable(netdevTable())
	_ = c.AddSet(shimPeers(), nil) // fails for anonymous sets only
	for _, ch := range shimChains(link) {
		c.AddChain(ch.Chain)
		ch.fill(c)
	}
}

// EnsureShim makes sure that nobody is heard or reached by the shim but whom
// AdmitToShim lets. The shim should be down until then. Since Linux 6.16 it need
// not be there yet, and the filter outlives it; before, the filter goes with it.
//
// The error wraps [bowline.ErrUnknown] if the link must be there and is not,
// [bowline.ErrConflict] if somebody else has a table of our name, and
// [bowline.ErrNoKernel] if the kernel has no hooks for what leaves a link.
func (h *Handle) EnsureShim(ctx context.Context, link string) error {
	return h.withShim(ctx, "add the filter of shim "+link, link, unix.LOCK_SH, func(c *nftables.Conn) error {
		there := true
		for _, ch := range shimChains(link) {
			use, err := h.chainUse(ch.Table, ch.Name)
			if err != nil {
				return err
			}
			there = there && int(use) == len(ch.rules)
		}
		if there {
			return nil
		}
		if err := unowned(c, nftables.TableFamilyNetdev); err != nil {
			return err
		}
		setUpShim(c, link)
		return c.Flush()
	})
}

// withShim runs f with the handle's connection, under a lock.
func (h *Handle) withShim(ctx context.Context, what, link string, how int, f func(*nftables.Conn) error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	unlock, err := h.lock(how)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer unlock()
	return h.linkFailure(what, link, h.with(f))
}

// AdmitToShim lets the host and the container reach each other by the shim. Who
// had the container's MAC there before has it no longer: no two links of a parent
// have the same. Errors are as in EnsureShim.
func (h *Handle) AdmitToShim(ctx context.Context, p ShimPeer) error {
	what := fmt.Sprintf("admit endpoint %q to shim %s", p.Endpoint, p.Link)
	if len(p.MAC) != 6 {
		return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("%s: MAC=%q: want one of 6 bytes", what, p.MAC))
	}
	return h.withShim(ctx, what, p.Link, unix.LOCK_SH, func(c *nftables.Conn) error {
		e := p.element()
		for try := 0; ; try++ {
			err := h.admit(c, e)
			if !errors.Is(err, unix.ENOENT) || try == tries {
				return err
			}
			// No such set, or somebody expelled the other one meanwhile.
			if err := unowned(c, nftables.TableFamilyNetdev); err != nil {
				return err
			}
			setUpShim(c, p.Link)
			if err := c.Flush(); err != nil {
				return err
			}
		}
	})
}

// admit adds a shim's element, in place of another one for the same MAC.
func (h *Handle) admit(c *nftables.Conn, e element) error {
	have, there, err := h.commentOf(e.set, e.Key)
	if err != nil || there && have == e.Comment {
		return err
	}
	if there {
		if err := queue(c, []element{{e.set, nftables.SetElement{Key: e.Key}}}, (*nftables.Conn).SetDeleteElements); err != nil {
			return err
		}
	}
	return flush(c, []element{e}, (*nftables.Conn).SetAddElements)
}

// ExpelFromShim ends what AdmitToShim began, whatever the shim. It succeeds if
// there is nothing.
func (h *Handle) ExpelFromShim(ctx context.Context, network, endpoint string) error {
	what := fmt.Sprintf("expel endpoint %q from its shim", endpoint)
	return h.withShim(ctx, what, "", unix.LOCK_SH, func(c *nftables.Conn) error {
		return h.again(func() (bool, error) {
			mine, _, err := shimElements(c, func(e element) bool { return strings.HasPrefix(e.Comment, networkTag(network)+tag(endpoint)) })
			if err != nil || len(mine) == 0 {
				return true, err
			}
			return true, flush(c, mine, (*nftables.Conn).SetDeleteElements)
		})
	})
}

// DeleteShim removes the shim's filter and whom it lets, and the table if that
// was all. It succeeds if there is nothing. The link should be gone, or down.
func (h *Handle) DeleteShim(ctx context.Context, link string) error {
	return h.withShim(ctx, "delete the filter of shim "+link, link, unix.LOCK_EX, func(c *nftables.Conn) error {
		return h.again(func() (bool, error) {
			ours, err := ourTables(c)
			if err != nil || !ours[nftables.TableFamilyNetdev] {
				return true, err
			}
			return true, deleteShim(c, link)
		})
	})
}

func deleteShim(c *nftables.Conn, link string) error {
	mine, others, err := shimElements(c, func(e element) bool { return strings.HasPrefix(string(e.Key), string(name16(link))) })
	if err != nil {
		return err
	}
	all, err := c.ListChainsOfTableFamily(nftables.TableFamilyNetdev)
	if err != nil {
		return err
	}
	names := map[string]bool{}
	for _, ch := range shimChains(link) {
		names[ch.Name] = true
	}
	for _, ch := range all {
		switch {
		case ch.Table.Name != Table:
		case names[ch.Name]:
			c.FlushChain(ch)
			c.DelChain(ch)
		default:
			others = true
		}
	}
	if !others {
		c.DelTable(netdevTable())
		return c.Flush()
	}
	return flush(c, mine, (*nftables.Conn).SetDeleteElements)
}

// shimElements returns the elements of shims that are wanted, and whether there
// are others.
func shimElements(c *nftables.Conn, want func(element) bool) (wanted []element, others bool, err error) {
	s := shimPeers()
	all, err := dump(c, s)
	for _, have := range all {
		if e := (element{s, have}); want(e) {
			wanted = append(wanted, e)
		} else {
			others = true
		}
	}
	return wanted, others, err
}

// commentOf returns the comment of an element, and whether there is one.
func (h *Handle) commentOf(s *nftables.Set, key []byte) (comment string, there bool, err error) {
	answer, err := h.askElement(s, key)
	eachField(readFields(answer)[unix.NFTA_SET_ELEM_LIST_ELEMENTS], func(_ uint16, data []byte) {
		comment, _ = userdata.GetString(readFields(data)[unix.NFTA_SET_ELEM_USERDATA], userdata.TypeComment)
	})
	return comment, answer != nil, err
}
