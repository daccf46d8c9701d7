package link

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// ourRoutes is the protocol of routes and neighbours of a single peer, so that
// they are known as ours (linux/rtnetlink.h leaves 64 to 255 free).
const ourRoutes = 0xb0

// ndaProtocol is NDA_PROTOCOL, which x/sys does not have.
const ndaProtocol = 12

// A Peer is an address that is reached through a link without asking who has it.
type Peer struct {
	Addr netip.Addr
	MAC  net.HardwareAddr
	Src  netip.Addr // sender's address of what goes there; the zero Addr: the kernel chooses
	Part bool       // told by Peers: there is no route, or no MAC
}

// EnsurePeer makes the route to the peer through the link, and tells the link
// its MAC for ever, in place of what was there.
func (h *Handle) EnsurePeer(ctx context.Context, index int, p Peer) error {
	what := "add peer " + p.Addr.String()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	neigh := newMsg(unix.RTM_NEWNEIGH, unix.NLM_F_REQUEST|unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_REPLACE)
	// struct ndmsg: family, padding, index, state, flags, type.
	neigh.b = append(neigh.b, family(p.Addr), 0, 0, 0)
	neigh.u32s(uint32(index))
	neigh.b = append(neigh.b, unix.NUD_PERMANENT, 0, 0, 0)
	neigh.attr(unix.NDA_DST, p.Addr.AsSlice())
	neigh.attr(unix.NDA_LLADDR, p.MAC)
	neigh.attr(ndaProtocol, []byte{ourRoutes})
	route := peerRoute(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, index, p.Addr)
	if p.Src.IsValid() {
		route.attr(unix.RTA_PREFSRC, p.Src.AsSlice())
	}
	return failure(what, h.conn.do(neigh, route))
}

// DeletePeer takes back what EnsurePeer made. It succeeds if there is nothing.
func (h *Handle) DeletePeer(ctx context.Context, index int, addr netip.Addr) error {
	what := "delete peer " + addr.String()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	err := h.conn.do(peerRoute(unix.RTM_DELROUTE, 0, index, addr))
	if err != nil && !isErrno(err, unix.ESRCH) && !isNoDevice(err) {
		return failure(what, err)
	}
	neigh := newMsg(unix.RTM_DELNEIGH, unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	neigh.b = append(neigh.b, family(addr), 0, 0, 0)
	neigh.u32s(uint32(index))
	neigh.b = append(neigh.b, 0, 0, 0, 0)
	neigh.attr(unix.NDA_DST, addr.AsSlice())
	err = h.conn.do(neigh)
	if isErrno(err, unix.ENOENT) || isNoDevice(err) {
		return nil
	}
	return failure(what, err)
}

func peerRoute(typ, flags uint16, index int, addr netip.Addr) *msg {
	m := newMsg(typ, unix.NLM_F_REQUEST|unix.NLM_F_ACK|flags)
	scope := uint8(unix.RT_SCOPE_LINK)
	if addr.Is6() {
		scope = unix.RT_SCOPE_UNIVERSE
	}
	m.b = append(m.b, family(addr), uint8(addr.BitLen()), 0, 0, unix.RT_TABLE_MAIN, ourRoutes, scope, unix.RTN_UNICAST)
	m.u32s(0)
	m.attr(unix.RTA_DST, addr.AsSlice())
	m.u32(unix.RTA_OIF, uint32(index))
	return m
}

// Peers returns the peers of the link: those to which there is a route of ours,
// or whose MAC we told it. Who has one of the two only is there in part: after a
// kill, or because somebody took the other.
func (h *Handle) Peers(ctx context.Context, index int) (map[netip.Addr]Peer, error) {
	const what = "list peers"
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	macs, all := map[netip.Addr]net.HardwareAddr{}, map[netip.Addr]Peer{}
	ask := newMsg(unix.RTM_GETNEIGH, unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	ask.b = append(ask.b, unix.AF_UNSPEC, 0, 0, 0)
	ask.u32s(0)
	ask.u32s(0)
	ask.u32(unix.NDA_IFINDEX, uint32(index))
	err := h.conn.get(ask, true, func(body []byte) {
		if len(body) < unix.SizeofNdMsg || int(native32(body[4:])) != index || body[8]&unix.NUD_PERMANENT == 0 {
			return
		}
		p := Peer{Part: true}
		ours := false
		attrs(body[unix.SizeofNdMsg:], func(typ uint16, data []byte) {
			switch typ {
			case unix.NDA_DST:
				p.Addr, _ = netip.AddrFromSlice(data)
			case unix.NDA_LLADDR:
				p.MAC = append(net.HardwareAddr{}, data...)
			case ndaProtocol:
				ours = len(data) == 1 && data[0] == ourRoutes
			}
		})
		macs[p.Addr] = p.MAC
		if ours {
			all[p.Addr] = p
		}
	})
	if err != nil {
		return nil, failure(what, err)
	}
	for _, v6 := range []bool{false, true} {
		routes, err := h.LinkRoutes(ctx, index, v6)
		if err != nil {
			return nil, err
		}
		for _, r := range routes {
			if a := r.Dst.Addr(); r.Protocol == ourRoutes && r.Dst.IsSingleIP() {
				all[a] = Peer{Addr: a, MAC: macs[a], Src: r.Src, Part: macs[a] == nil}
			}
		}
	}
	return all, nil
}
