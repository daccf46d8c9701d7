package link

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// What a tunnel's end is told of others goes to the kernel by the hundred, and in
// place of what was there: a new entry must win over an old one.

// A Neighbour is an address with the MAC that it has for ever.
type Neighbour struct {
	Addr netip.Addr
	MAC  net.HardwareAddr
}

// A Forward is an entry of a VXLAN's FDB: the VTEP behind which a MAC is.
type Forward struct {
	MAC  net.HardwareAddr
	VTEP netip.Addr
}

// A TunnelRoute is a route of the main table to what is behind a next hop, which
// may be of another family; or a prefix that nothing leads to.
type TunnelRoute struct {
	Dst         netip.Prefix
	Via         netip.Addr
	Unreachable bool // then Via is not valid
	MTU         int  // bytes; 0: as the link's
	Priority    int
}

// PutForwards makes each MAC be behind its VTEP.
func (h *Handle) PutForwards(ctx context.Context, index int, fs []Forward) error {
	return h.many(ctx, fmt.Sprintf("replace %d FDB entries", len(fs)), len(fs), func(i int) *msg {
		return forwardMessage(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, index, fs[i])
	})
}

// DeleteForwards removes the entries, as far as they are there.
func (h *Handle) DeleteForwards(ctx context.Context, index int, fs []Forward) error {
	return h.many(ctx, fmt.Sprintf("delete %d FDB entries", len(fs)), len(fs), func(i int) *msg {
		return forwardMessage(unix.RTM_DELNEIGH, 0, index, fs[i])
	})
}

// PutNeighbours tells the link the MAC of each address.
func (h *Handle) PutNeighbours(ctx context.Context, index int, ns []Neighbour) error {
	return h.many(ctx, fmt.Sprintf("replace %d neighbours", len(ns)), len(ns), func(i int) *msg {
		m := neighbourMessage(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, index, ns[i].Addr)
		m.attr(unix.NDA_LLADDR, ns[i].MAC)
		return m
	})
}

// DeleteNeighbours removes the entries, as far as they are there.
func (h *Handle) DeleteNeighbours(ctx context.Context, index int, ns []Neighbour) error {
	return h.many(ctx, fmt.Sprintf("delete %d neighbours", len(ns)), len(ns), func(i int) *msg {
		return neighbourMessage(unix.RTM_DELNEIGH, 0, index, ns[i].Addr)
	})
}

// PutTunnelRoutes makes the routes, through the link as far as they lead anywhere.
func (h *Handle) PutTunnelRoutes(ctx context.Context, index int, rs []TunnelRoute) error {
	return h.many(ctx, fmt.Sprintf("replace %d routes", len(rs)), len(rs), func(i int) *msg {
		return tunnelRoute(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, index, rs[i])
	})
}

// DeleteTunnelRoutes removes the routes, as far as they are there.
func (h *Handle) DeleteTunnelRoutes(ctx context.Context, index int, rs []TunnelRoute) error {
	return h.many(ctx, fmt.Sprintf("delete %d routes", len(rs)), len(rs), func(i int) *msg {
		return tunnelRoute(unix.RTM_DELROUTE, 0, index, rs[i])
	})
}

// many sends n messages, so many at a time that the answers find room. Deleting
// what is not there is no error. It stops after the first error, when the rest of
// that time's messages has been tried as well.
func (h *Handle) many(ctx context.Context, what string, n int, message func(int) *msg) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	const most = 128 // answers; a socket has room for 200 at least
	for from := 0; from < n; from += most {
		var ms []*msg
		for i := from; i < min(from+most, n); i++ {
			ms = append(ms, message(i))
		}
		if err := h.conn.do(ms...); err != nil {
			if ms[0].typ() != unix.RTM_DELNEIGH && ms[0].typ() != unix.RTM_DELROUTE {
				return failure(what, err)
			}
			// What had gone already may hide another error.
			for _, m := range ms {
				if err := h.conn.do(m); err != nil && !isErrno(err, unix.ENOENT) && !isErrno(err, unix.ESRCH) {
					return failure(what, err)
				}
			}
		}
	}
	return nil
}

func forwardMessage(typ, flags uint16, index int, f Forward) *msg {
	m := newMsg(typ, unix.NLM_F_REQUEST|unix.NLM_F_ACK|flags)
	// struct ndmsg: family, padding, index, state, flags, type.
	m.b = append(m.b, unix.AF_BRIDGE, 0, 0, 0)
	m.u32s(uint32(index))
	m.b = binary.NativeEndian.AppendUint16(m.b, unix.NUD_PERMANENT)
	m.b = append(m.b, unix.NTF_SELF, 0)
	m.attr(unix.NDA_LLADDR, f.MAC)
	m.attr(unix.NDA_DST, f.VTEP.AsSlice())
	return m
}

func neighbourMessage(typ, flags uint16, index int, a netip.Addr) *msg {
	m := newMsg(typ, unix.NLM_F_REQUEST|unix.NLM_F_ACK|flags)
	m.b = append(m.b, family(a), 0, 0, 0)
	m.u32s(uint32(index))
	m.b = binary.NativeEndian.AppendUint16(m.b, unix.NUD_PERMANENT)
	m.b = append(m.b, 0, 0)
	m.attr(unix.NDA_DST, a.AsSlice())
	return m
}

func tunnelRoute(typ, flags uint16, index int, r TunnelRoute) *msg {
	m := newMsg(typ, unix.NLM_F_REQUEST|unix.NLM_F_ACK|flags)
	kind := uint8(unix.RTN_UNICAST)
	if r.Unreachable {
		kind = unix.RTN_UNREACHABLE
	}
	// struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags.
	m.b = append(m.b, family(r.Dst.Addr()), uint8(r.Dst.Bits()), 0, 0, unix.RT_TABLE_MAIN, ourRoutes, unix.RT_SCOPE_UNIVERSE, kind)
	m.u32s(0)
	m.attr(unix.RTA_DST, r.Dst.Masked().Addr().AsSlice())
	m.u32(unix.RTA_PRIORITY, uint32(r.Priority))
	if r.Unreachable {
		return m
	}
	m.u32(unix.RTA_OIF, uint32(index))
	if r.Via.Is4() == r.Dst.Addr().Is4() {
		m.attr(unix.RTA_GATEWAY, r.Via.AsSlice())
	} else { // struct rtvia (Linux 5.2)
		m.attr(unix.RTA_VIA, append(binary.NativeEndian.AppendUint16(nil, uint16(family(r.Via))), r.Via.AsSlice()...))
	}
	if r.MTU != 0 {
		m.nest(unix.RTA_METRICS, func() { m.u32(unix.RTAX_MTU, uint32(r.MTU)) })
	}
	return m
}

// Forwards returns the entries of the link's FDB that were told to stay.
func (h *Handle) Forwards(ctx context.Context, index int) ([]Forward, error) {
	const what = "list FDB entries"
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	ask := newMsg(unix.RTM_GETNEIGH, unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	ask.b = append(ask.b, unix.AF_BRIDGE, 0, 0, 0)
	ask.u32s(uint32(index))
	ask.u32s(0)
	var all []Forward
	err := h.conn.get(ask, true, func(body []byte) {
		if mac, to, ok := parseNeighbour(body, index); ok && to.IsValid() && len(mac) == 6 {
			all = append(all, Forward{mac, to})
		}
	})
	return all, failure(what, err)
}

// Neighbours returns those of the link, of both families, that were told to stay.
func (h *Handle) Neighbours(ctx context.Context, index int) ([]Neighbour, error) {
	const what = "list neighbours"
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	ask := newMsg(unix.RTM_GETNEIGH, unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	ask.b = append(ask.b, unix.AF_UNSPEC, 0, 0, 0)
	ask.u32s(0, 0)
	ask.u32(unix.NDA_IFINDEX, uint32(index))
	var all []Neighbour
	err := h.conn.get(ask, true, func(body []byte) {
		// Kernels without strict checking answer with all links; and those of
		// bridges are another family's.
		if mac, a, ok := parseNeighbour(body, index); ok && (body[0] == unix.AF_INET || body[0] == unix.AF_INET6) {
			all = append(all, Neighbour{a, mac})
		}
	})
	return all, failure(what, err)
}

// parseNeighbour reads struct ndmsg of an entry of the link that was told to stay.
func parseNeighbour(body []byte, index int) (mac net.HardwareAddr, dst netip.Addr, ok bool) {
	if len(body) < unix.SizeofNdMsg || int(native32(body[4:])) != index || body[8]&unix.NUD_PERMANENT == 0 {
		return nil, netip.Addr{}, false
	}
	attrs(body[unix.SizeofNdMsg:], func(typ uint16, data []byte) {
		switch typ {
		case unix.NDA_DST:
			dst, _ = netip.AddrFromSlice(data)
		case unix.NDA_LLADDR:
			mac = append(net.HardwareAddr{}, data...)
		}
	})
	return mac, dst, true
}

// TunnelRoutes returns the routes of the main table through the link, but for the
// kernel's own, and the prefixes of ours that nothing leads to.
func (h *Handle) TunnelRoutes(ctx context.Context, index int) ([]TunnelRoute, error) {
	const what = "list routes of a tunnel"
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	var all []TunnelRoute
	for _, fam := range []byte{unix.AF_INET, unix.AF_INET6} {
		m := newMsg(unix.RTM_GETROUTE, unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
		m.b = append(m.b, fam, 0, 0, 0, unix.RT_TABLE_MAIN, 0, 0, 0)
		m.u32s(0)
		err := h.conn.get(m, true, func(body []byte) {
			if r, ok := parseTunnelRoute(body, index); ok {
				all = append(all, r)
			}
		})
		if err != nil {
			return nil, failure(what, err)
		}
	}
	return all, nil
}

func parseTunnelRoute(body []byte, index int) (TunnelRoute, bool) {
	if len(body) < unix.SizeofRtMsg || body[4] != unix.RT_TABLE_MAIN {
		return TunnelRoute{}, false
	}
	unreachable := body[7] == unix.RTN_UNREACHABLE && body[5] == ourRoutes
	if unreachable {
		body = append([]byte(nil), body...)
		body[7] = unix.RTN_UNICAST // the rest of it is written as if it led somewhere
	}
	e, ok := parseRoute(body)
	if !ok || !unreachable && (e.Index != index || e.Protocol == unix.RTPROT_KERNEL) {
		return TunnelRoute{}, false
	}
	return TunnelRoute{Dst: e.Dst, Via: e.Via, Unreachable: unreachable, MTU: e.MTU, Priority: e.Priority}, true
}

// EnsureGateway gives the loopback the address, alone, so that every link of the
// namespace answers for it. It succeeds if it has it.
func (h *Handle) EnsureGateway(ctx context.Context, a netip.Addr) (made bool, err error) {
	lo, err := h.Get(ctx, "lo")
	if err != nil {
		return false, err
	}
	if !lo.Up {
		if err := h.Set(ctx, "lo", Change{Up: true}); err != nil {
			return false, err
		}
	}
	return h.EnsureAddr(ctx, lo.Index, Addr{Prefix: netip.PrefixFrom(a, a.BitLen())})
}

// A route whose next hop is of the other family says so in RTA_VIA.
func parseVia(data []byte) (a netip.Addr) {
	if len(data) > 2 {
		a, _ = netip.AddrFromSlice(data[2:])
	}
	return a
}

// sayNeighbour says what a message asks for of neighbours, or of an FDB.
func sayNeighbour(m *msg, dev string) string {
	to, _ := netip.AddrFromSlice(m.attr1(unix.NDA_DST))
	mac := net.HardwareAddr(m.attr1(unix.NDA_LLADDR))
	fdb := m.b[headerLen] == unix.AF_BRIDGE
	switch put := m.typ() == unix.RTM_NEWNEIGH; {
	case fdb && put:
		return fmt.Sprintf("bridge fdb replace %s%s dst %s self permanent", mac, dev, to)
	case fdb:
		return fmt.Sprintf("bridge fdb del %s%s dst %s", mac, dev, to)
	case put:
		return fmt.Sprintf("ip neigh replace %s lladdr %s%s nud permanent", to, mac, dev)
	}
	return "ip neigh del " + to.String() + dev
}
