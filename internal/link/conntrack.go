package link

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline/internal/plan"
)

// Flows are those of UDP that the kernel tracks to a row of the host's ports: for
// UDP nobody tells the kernel when a flow ends.
type Flows struct {
	First uint16 // of the ports that they were sent to
	Count int
	// To is the host's address that they were sent to; the unspecified address
	// of a family: all of its local ones.
	To netip.Addr
	// Endpoint is who gets what is sent to the first port.
	Endpoint netip.AddrPort
}

// ForgetStale makes the kernel forget those of the flows that lead somewhere
// else than to their endpoint: a flow that began before the ports were published
// would lead there for as long as it lasts. The kernel looks through its whole
// table once, which takes one to two milliseconds for 65,536 slots, however many
// flows there are. Without flows it costs nothing.
func (h *Handle) ForgetStale(ctx context.Context, fs []Flows) error {
	var local []netip.Addr
	return h.forget(ctx, fs, func(f Flows, e flow) (bool, error) {
		if e.server == f.server(e.port) {
			return false, nil
		}
		if !f.To.IsUnspecified() {
			return e.to == f.To, nil
		}
		if local == nil {
			var err error
			if local, err = h.local(); err != nil {
				return false, err
			}
		}
		return e.to.IsLoopback() || slices.Contains(local, e.to), nil
	})
}

// ForgetLed makes the kernel forget those of the flows that lead to their
// endpoint. It costs as much as ForgetStale.
func (h *Handle) ForgetLed(ctx context.Context, fs []Flows) error {
	return h.forget(ctx, fs, func(f Flows, e flow) (bool, error) {
		return e.server == f.server(e.port) && (f.To.IsUnspecified() || e.to == f.To), nil
	})
}

// server is who gets what is sent to the port.
func (f Flows) server(port uint16) netip.AddrPort {
	return netip.AddrPortFrom(f.Endpoint.Addr(), f.Endpoint.Port()+port-f.First)
}

// A flow is an entry of the kernel's table, as far as it matters here.
type flow struct {
	to       netip.Addr // where it was sent to
	port     uint16
	server   netip.AddrPort // who answers: after translation
	protocol uint8
	identity [][]byte // attributes that name it
}

// isOf reports whether the flow is to f's ports.
func (e flow) isOf(f Flows) bool {
	return e.protocol == unix.IPPROTO_UDP && e.to.Is4() == f.To.Is4() && int(e.port) >= int(f.First) && int(e.port) < int(f.First)+f.Count
}

// forget deletes the flows that the filter takes. Each is named to the kernel
// with its ID, so a new one in its place stays.
func (h *Handle) forget(ctx context.Context, fs []Flows, takes func(Flows, flow) (bool, error)) error {
	const what = "forget flows to published ports"
	if len(fs) == 0 {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if dry := h.conn.dry; dry != nil {
		for _, f := range fs {
			dry.Plan.Add(plan.Note, dry.name, "flows that the kernel remembers at ports %d to %d would be forgotten", f.First, int(f.First)+f.Count-1)
		}
		return nil
	}
	var c *conn
	tracked := few
	err := h.inside(func() (err error) {
		if text, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_count"); err == nil {
			_, _ = fmt.Sscan(string(text), &tracked)
		}
		c, err = dialTo(unix.NETLINK_NETFILTER)
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer c.close()
	if tracked == 0 {
		return nil
	}
	var found []flow
	var failed error
	for _, m := range dumpsOf(fs, tracked) {
		err = c.get(m, true, func(body []byte) {
			e, ok := parseFlow(body)
			for _, f := range fs {
				if !ok || !e.isOf(f) {
					continue
				}
				if yes, err := takes(f, e); err != nil {
					failed = err
				} else if yes {
					found = append(found, e)
					return
				}
			}
		})
		if err = errors.Join(err, failed); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	if err := c.delete(found); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// delete makes the kernel forget the flows; some may have ended meanwhile.
func (c *conn) delete(found []flow) error {
	for _, e := range found {
		m := conntrackMessage(ctDelete, unix.NLM_F_ACK, family(e.to))
		for _, a := range e.identity {
			m.b = append(m.b, a...)
			m.pad()
		}
		if err := c.do(m); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return nil
}

// What the kernel's header linux/netfilter/nfnetlink_conntrack.h says.
const (
	nfnlConntrack    = 1 << 8
	ctGet            = 1
	ctDelete         = 2
	ctTupleOrig      = 1
	ctTupleReply     = 2
	ctID             = 12
	ctZone           = 18
	ctFilter         = 25
	ctFilterOrig     = 1
	ctFilterReply    = 2
	ctTupleIP        = 1
	ctTupleProto     = 2
	ctFilterProto    = 1 << 3
	ctFilterDestPort = 1 << 5
)

func conntrackMessage(typ, flags uint16, family uint8) *msg {
	m := newMsg(nfnlConntrack|typ, unix.NLM_F_REQUEST|flags)
	m.b = append(m.b, family, 0, 0, 0) // struct nfgenmsg
	return m
}

// few flows are read faster than the kernel looks through its table once more.
const few = 1000

// dumpsOf returns what to ask the kernel: for the flows of each family, or for
// all at once if few are tracked.
func dumpsOf(fs []Flows, tracked int) []*msg {
	var v4, v6 []Flows
	for _, f := range fs {
		if f.To.Is4() {
			v4 = append(v4, f)
		} else {
			v6 = append(v6, f)
		}
	}
	switch {
	case len(v6) == 0:
		return []*msg{dumpFlows(unix.AF_INET, v4)}
	case len(v4) == 0:
		return []*msg{dumpFlows(unix.AF_INET6, v6)}
	case tracked < few:
		return []*msg{conntrackMessage(ctGet, unix.NLM_F_DUMP, unix.AF_UNSPEC)}
	}
	return []*msg{dumpFlows(unix.AF_INET, v4), dumpFlows(unix.AF_INET6, v6)}
}

// dumpFlows asks for the flows of UDP of a family, and to one port if it is the
// only one. The kernel filters since Linux 5.8, and ignores the filter before.
// It is not asked for addresses: of IPv6 it returns all but the one that it is
// asked for.
func dumpFlows(family uint8, fs []Flows) *msg {
	m := conntrackMessage(ctGet, unix.NLM_F_DUMP, family)
	orig := uint32(ctFilterProto)
	one := !slices.ContainsFunc(fs, func(f Flows) bool { return f.Count != 1 || f.First != fs[0].First })
	m.nest(ctTupleOrig|unix.NLA_F_NESTED, func() {
		m.nest(ctTupleProto|unix.NLA_F_NESTED, func() {
			m.u8(1, unix.IPPROTO_UDP) // CTA_PROTO_NUM
			if one {
				orig |= ctFilterDestPort
				m.attr(3, binary.BigEndian.AppendUint16(nil, fs[0].First)) // CTA_PROTO_DST_PORT
			}
		})
	})
	m.nest(ctFilter|unix.NLA_F_NESTED, func() {
		m.u32(ctFilterOrig, orig)
		m.u32(ctFilterReply, 0)
	})
	return m
}

// parseFlow reads an answer to dump.
func parseFlow(body []byte) (e flow, ok bool) {
	if len(body) < 4 {
		return e, false
	}
	attrs(body[4:], func(typ uint16, data []byte) {
		switch typ {
		case ctTupleOrig:
			_, _, e.to, e.port, e.protocol = parseTuple(data)
		case ctTupleReply:
			src, port, _, _, _ := parseTuple(data)
			e.server = netip.AddrPortFrom(src, port)
		}
		if typ == ctTupleOrig || typ == ctID || typ == ctZone {
			e.identity = append(e.identity, newAttr(typ, data, typ == ctTupleOrig))
		}
	})
	return e, e.to.IsValid() && e.server.IsValid()
}

// newAttr copies an attribute, for what it is a part of will be overwritten.
func newAttr(typ uint16, data []byte, nested bool) []byte {
	if nested {
		typ |= unix.NLA_F_NESTED
	}
	a := binary.NativeEndian.AppendUint16(nil, uint16(attrLen+len(data)))
	a = binary.NativeEndian.AppendUint16(a, typ)
	return append(a, data...)
}

func parseTuple(b []byte) (src netip.Addr, srcPort uint16, dst netip.Addr, dstPort uint16, protocol uint8) {
	attrs(b, func(typ uint16, data []byte) {
		switch typ {
		case ctTupleIP:
			attrs(data, func(typ uint16, data []byte) {
				a, _ := netip.AddrFromSlice(data)
				if typ%2 == 1 { // CTA_IP_V4_SRC, V4_DST, V6_SRC, V6_DST
					src = a
				} else {
					dst = a
				}
			})
		case ctTupleProto:
			attrs(data, func(typ uint16, data []byte) {
				switch {
				case typ == 1 && len(data) == 1:
					protocol = data[0]
				case typ == 2 && len(data) == 2:
					srcPort = binary.BigEndian.Uint16(data)
				case typ == 3 && len(data) == 2:
					dstPort = binary.BigEndian.Uint16(data)
				}
			})
		}
	})
	return src, srcPort, dst, dstPort, protocol
}

// local returns all addresses of the namespace.
func (h *Handle) local() ([]netip.Addr, error) {
	m := newMsg(unix.RTM_GETADDR, unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	m.b = append(m.b, make([]byte, unix.SizeofIfAddrmsg)...)
	found := []netip.Addr{}
	err := h.conn.get(m, true, func(body []byte) {
		if len(body) < unix.SizeofIfAddrmsg {
			return
		}
		var local, addr netip.Addr
		attrs(body[unix.SizeofIfAddrmsg:], func(typ uint16, data []byte) {
			switch typ {
			case unix.IFA_LOCAL: // where it differs from IFA_ADDRESS, the peer's
				local, _ = netip.AddrFromSlice(data)
			case unix.IFA_ADDRESS:
				addr, _ = netip.AddrFromSlice(data)
			}
		})
		if local.IsValid() {
			addr = local
		}
		found = append(found, addr)
	})
	return found, err
}
