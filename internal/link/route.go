package link

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
)

func native32(b []byte) uint32 { return binary.NativeEndian.Uint32(b) }

func isErrno(err error, e unix.Errno) bool { return errors.Is(err, e) }

// EnsureRoute makes the route through the link unless it is there. It reports
// whether it made it.
func (h *Handle) EnsureRoute(ctx context.Context, index int, r bowline.Route) (made bool, err error) {
	what := "add route to " + r.Dst.String()
	if r.Via.IsValid() {
		what += " via " + r.Via.String()
	}
	if err := ctx.Err(); err != nil {
		return false, fmt.Errorf("%s: %w", what, err)
	}
	err = h.conn.do(routeMessage(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, index, r))
	if isExist(err) {
		return false, nil
	}
	return err == nil, failure(what, err)
}

// DeleteRoute removes the route. It succeeds if there is none.
func (h *Handle) DeleteRoute(ctx context.Context, index int, r bowline.Route) error {
	what := "delete route to " + r.Dst.String()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	err := h.conn.do(routeMessage(unix.RTM_DELROUTE, 0, index, r))
	if isErrno(err, unix.ESRCH) {
		return nil
	}
	return failure(what, err)
}

func routeMessage(typ, flags uint16, index int, r bowline.Route) *msg {
	m := newMsg(typ, unix.NLM_F_REQUEST|unix.NLM_F_ACK|flags)
	table, scope := unix.RT_TABLE_MAIN, unix.RT_SCOPE_UNIVERSE
	if r.Table != nil {
		table = *r.Table
	}
	switch {
	case r.Scope != nil:
		scope = *r.Scope
	case !r.Via.IsValid():
		scope = unix.RT_SCOPE_LINK
	}
	// struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags.
	m.b = append(m.b, family(r.Dst.Addr()), uint8(r.Dst.Bits()), 0, 0, unix.RT_TABLE_UNSPEC, unix.RTPROT_BOOT, uint8(scope), unix.RTN_UNICAST)
	m.u32s(0)
	m.u32(unix.RTA_TABLE, uint32(table))
	if r.Dst.Bits() > 0 {
		m.attr(unix.RTA_DST, r.Dst.Masked().Addr().AsSlice())
	}
	m.u32(unix.RTA_OIF, uint32(index))
	if r.Via.IsValid() {
		m.attr(unix.RTA_GATEWAY, r.Via.AsSlice())
	}
	if r.Priority != 0 {
		m.u32(unix.RTA_PRIORITY, uint32(r.Priority))
	}
	if r.MTU != 0 || r.AdvMSS != 0 {
		m.nest(unix.RTA_METRICS, func() {
			if r.MTU != 0 {
				m.u32(unix.RTAX_MTU, uint32(r.MTU))
			}
			if r.AdvMSS != 0 {
				m.u32(unix.RTAX_ADVMSS, uint32(r.AdvMSS))
			}
		})
	}
	return m
}

// An Entry is a route of the kernel with the link it leaves by.
type Entry struct {
	bowline.Route // Table is set
	Index         int
	Protocol      uint8      // RTPROT_KERNEL, RTPROT_RA, ...
	Src           netip.Addr // sender's address of what goes there, if the route says
}

// Routes returns all unicast routes of the family that addr is of, in all tables.
func (h *Handle) Routes(ctx context.Context, v6 bool) ([]Entry, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	m := newMsg(unix.RTM_GETROUTE, unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	fam := byte(unix.AF_INET)
	if v6 {
		fam = unix.AF_INET6
	}
	m.b = append(m.b, fam, 0, 0, 0, 0, 0, 0, 0)
	m.u32s(0)
	var all []Entry
	err := h.conn.get(m, true, func(body []byte) {
		if e, ok := parseRoute(body); ok {
			all = append(all, e)
		}
	})
	return all, failure("list routes", err)
}

func parseRoute(body []byte) (e Entry, ok bool) {
	if len(body) < unix.SizeofRtMsg || body[7] != unix.RTN_UNICAST {
		return Entry{}, false
	}
	zero := netip.IPv4Unspecified()
	if body[0] == unix.AF_INET6 {
		zero = netip.IPv6Unspecified()
	}
	table, scope := int(body[4]), int(body[6])
	dst := zero
	e.Protocol = body[5]
	attrs(body[unix.SizeofRtMsg:], func(typ uint16, data []byte) {
		switch typ {
		case unix.RTA_DST:
			dst, _ = netip.AddrFromSlice(data)
		case unix.RTA_OIF:
			e.Index = int(native32(data))
		case unix.RTA_GATEWAY:
			e.Via, _ = netip.AddrFromSlice(data)
		case unix.RTA_VIA:
			e.Via = parseVia(data)
		case unix.RTA_PREFSRC:
			e.Src, _ = netip.AddrFromSlice(data)
		case unix.RTA_PRIORITY:
			e.Priority = int(native32(data))
		case unix.RTA_TABLE:
			table = int(native32(data))
		case unix.RTA_METRICS:
			attrs(data, func(typ uint16, data []byte) {
				switch typ {
				case unix.RTAX_MTU:
					e.MTU = int(native32(data))
				case unix.RTAX_ADVMSS:
					e.AdvMSS = int(native32(data))
				}
			})
		}
	})
	e.Dst, e.Table, e.Scope = netip.PrefixFrom(dst, int(body[1])), &table, &scope
	return e, true
}

// Forward lets the namespace forward IPv4 or IPv6. A host that forwards IPv6
// forgets the routes that routers have advertised to it (accept_ra in the
// kernel's ip-sysctl.rst), so the links of its default routes are told to go on
// accepting them first.
func (h *Handle) Forward(ctx context.Context, v6 bool) error {
	if !v6 {
		_, err := h.SetSysctl(ctx, "net/ipv4/ip_forward", "1")
		return err
	}
	const key = "net/ipv6/conf/all/forwarding"
	on, err := h.Sysctl(ctx, key)
	if err != nil || on != "0" {
		return err
	}
	routes, err := h.Routes(ctx, true)
	if err != nil {
		return err
	}
	for _, r := range routes {
		if r.Dst.Bits() == 0 && r.Protocol == unix.RTPROT_RA && r.Index != 0 {
			l, err := h.byIndex(r.Index)
			if err == nil {
				_, err = h.SetSysctl(ctx, "net/ipv6/conf/"+l.Name+"/accept_ra", "2")
			}
			if err != nil {
				return err
			}
		}
	}
	_, err = h.SetSysctl(ctx, key, "1")
	return err
}

// DefaultLink returns the link of the main table's default route with the
// lowest metric, IPv4 before IPv6. The error wraps [bowline.ErrUnknown] if
// there is no default route.
func (h *Handle) DefaultLink(ctx context.Context) (Info, error) {
	for _, v6 := range []bool{false, true} {
		routes, err := h.Routes(ctx, v6)
		if err != nil {
			return Info{}, err
		}
		best := Entry{}
		for _, r := range routes {
			if r.Dst.Bits() == 0 && *r.Table == unix.RT_TABLE_MAIN && r.Index != 0 && (best.Index == 0 || r.Priority < best.Priority) {
				best = r
			}
		}
		if best.Index != 0 {
			return h.byIndex(best.Index)
		}
	}
	return Info{}, bowline.Wrong(bowline.ErrUnknown, "find link of the default route: there is no default route")
}

func (h *Handle) byIndex(index int) (Info, error) {
	m := newMsg(unix.RTM_GETLINK, unix.NLM_F_REQUEST)
	m.ifinfo(unix.AF_UNSPEC, index, 0, 0)
	var info Info
	var perr error
	err := h.conn.get(m, false, func(body []byte) { info, perr = parseLink(body) })
	if err = errors.Join(err, perr); err != nil {
		return Info{}, failure(fmt.Sprintf("get link %d", index), err)
	}
	return info, nil
}
