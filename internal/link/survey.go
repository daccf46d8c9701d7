package link

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// A Seen is a link with what else there is to compare of bridges and ports.
type Seen struct {
	Info
	Port
	Promisc       bool
	VLANFiltering bool // of a bridge
	// Peer is the ID that the namespace has for that of a veth's peer, or of a
	// macvlan's parent; -1 if it is in the same one.
	Peer   int
	Parent int // index of the link that it is on, in the namespace Peer; 0: none
	// Of a macvlan.
	Mode       string
	Sources    []net.HardwareAddr
	BCQueueLen int
	BCLim      int
}

// See returns the link of that name. The error wraps [bowline.ErrUnknown] if
// there is none.
func (h *Handle) See(ctx context.Context, name string) (Seen, error) {
	if err := ctx.Err(); err != nil {
		return Seen{}, fmt.Errorf("look at link %s: %w", name, err)
	}
	m := newMsg(unix.RTM_GETLINK, unix.NLM_F_REQUEST)
	m.ifinfo(unix.AF_UNSPEC, 0, 0, 0)
	m.str(unix.IFLA_IFNAME, name)
	var seen Seen
	err := h.conn.get(m, false, func(body []byte) { seen = parseSeen(body) })
	return seen, failure("look at link "+name, err)
}

// SeeAll returns all links by name, in one question to the kernel.
func (h *Handle) SeeAll(ctx context.Context) (map[string]Seen, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("look at all links: %w", err)
	}
	m := newMsg(unix.RTM_GETLINK, unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	m.ifinfo(unix.AF_UNSPEC, 0, 0, 0)
	all := map[string]Seen{}
	err := h.conn.get(m, true, func(body []byte) {
		if s := parseSeen(body); s.Name != "" {
			all[s.Name] = s
		}
	})
	return all, failure("look at all links", err)
}

func parseSeen(body []byte) Seen {
	s := Seen{Peer: -1}
	if len(body) < unix.SizeofIfInfomsg {
		return s
	}
	s.Index = int(int32(native32(body[4:])))
	flags := native32(body[8:])
	s.Up, s.Promisc = flags&unix.IFF_UP != 0, flags&unix.IFF_PROMISC != 0
	attrs(body[unix.SizeofIfInfomsg:], func(typ uint16, data []byte) {
		switch typ {
		case unix.IFLA_IFNAME:
			s.Name = unix.ByteSliceToString(data)
		case unix.IFLA_IFALIAS:
			s.Alias = unix.ByteSliceToString(data)
		case unix.IFLA_ADDRESS:
			s.MAC = slices.Clone(data)
		case unix.IFLA_MTU:
			s.MTU = int(native32(data))
		case unix.IFLA_MASTER:
			s.Master = int(native32(data))
		case unix.IFLA_LINK:
			s.Parent = int(native32(data))
		case unix.IFLA_LINK_NETNSID:
			s.Peer = int(int32(native32(data)))
		case unix.IFLA_LINKINFO:
			s.parseKind(data)
		}
	})
	return s
}

func (s *Seen) parseKind(b []byte) {
	attrs(b, func(typ uint16, data []byte) {
		switch typ {
		case unix.IFLA_INFO_KIND:
			s.Kind = unix.ByteSliceToString(data)
		case unix.IFLA_INFO_DATA: // comes after the kind
			switch s.Kind {
			case "macvlan":
				s.parseMacvlan(data)
			case "bridge":
				attrs(data, func(typ uint16, data []byte) {
					s.VLANFiltering = s.VLANFiltering || typ == unix.IFLA_BR_VLAN_FILTERING && data[0] == 1
				})
			}
		case unix.IFLA_INFO_SLAVE_DATA:
			attrs(data, func(typ uint16, data []byte) {
				s.Hairpin = s.Hairpin || typ == unix.IFLA_BRPORT_MODE && data[0] == 1
				s.Isolated = s.Isolated || typ == unix.IFLA_BRPORT_ISOLATED && data[0] == 1
			})
		}
	})
}

// LinkRoutes returns the unicast routes of the main table through the link.
func (h *Handle) LinkRoutes(ctx context.Context, index int, v6 bool) ([]Entry, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("list routes of link %d: %w", index, err)
	}
	m := newMsg(unix.RTM_GETROUTE, unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	fam := byte(unix.AF_INET)
	if v6 {
		fam = unix.AF_INET6
	}
	m.b = append(m.b, fam, 0, 0, 0, unix.RT_TABLE_MAIN, 0, 0, 0)
	m.u32s(0)
	m.u32(unix.RTA_OIF, uint32(index))
	var all []Entry
	err := h.conn.get(m, true, func(body []byte) {
		// Kernels without strict checking answer with all routes.
		if e, ok := parseRoute(body); ok && e.Index == index && *e.Table == unix.RT_TABLE_MAIN {
			all = append(all, e)
		}
	})
	return all, failure(fmt.Sprintf("list routes of link %d", index), err)
}

// EnsureConnected adds the route to the address's prefix, as the kernel does by
// itself when the link gets the address.
func (h *Handle) EnsureConnected(ctx context.Context, index int, p netip.Prefix) error {
	what := fmt.Sprintf("add route to %s", p.Masked())
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	m := newMsg(unix.RTM_NEWROUTE, unix.NLM_F_REQUEST|unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	scope := uint8(unix.RT_SCOPE_LINK)
	if p.Addr().Is6() {
		scope = unix.RT_SCOPE_UNIVERSE
	}
	// struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags.
	m.b = append(m.b, family(p.Addr()), uint8(p.Bits()), 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_KERNEL, scope, unix.RTN_UNICAST)
	m.u32s(0)
	m.attr(unix.RTA_DST, p.Masked().Addr().AsSlice())
	m.u32(unix.RTA_OIF, uint32(index))
	if p.Addr().Is4() {
		m.attr(unix.RTA_PREFSRC, p.Addr().AsSlice())
	} else {
		m.u32(unix.RTA_PRIORITY, 256)
	}
	if err := h.conn.do(m); !isExist(err) {
		return failure(what, err)
	}
	return nil
}

// PortTags returns the VLANs of all bridge ports by index, in the form of [Tags].
func (h *Handle) PortTags(ctx context.Context) (map[int]map[int]TagState, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("list VLANs of ports: %w", err)
	}
	m := newMsg(unix.RTM_GETLINK, unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	m.ifinfo(unix.AF_BRIDGE, 0, 0, 0)
	m.u32(unix.IFLA_EXT_MASK, filterVLAN)
	all := map[int]map[int]TagState{}
	err := h.conn.get(m, true, func(body []byte) {
		index := int(native32(body[4:]))
		all[index] = portTags(body, all[index])
	})
	return all, failure("list VLANs of ports", err)
}
