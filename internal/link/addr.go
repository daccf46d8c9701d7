package link

import (
	"context"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Addresses that we add carry our mark where the kernel keeps it (Linux 5.18),
// so that we can take them back from a bridge that is not ours.
const (
	ifaProto = 11   // IFA_PROTO
	ourProto = 0xb0 // not one of the kernel's, which are below 4
)

// An Addr is an address of a link.
type Addr struct {
	Prefix netip.Prefix // the address itself, with the length of its prefix
	DAD    bool         // IPv6: let it go through duplicate address detection, 1 to 2 s
}

// EnsureAddr gives the link the address unless it has it. It reports whether
// it made it.
func (h *Handle) EnsureAddr(ctx context.Context, index int, a Addr) (made bool, err error) {
	what := fmt.Sprintf("add address %s", a.Prefix)
	if err := ctx.Err(); err != nil {
		return false, fmt.Errorf("%s: %w", what, err)
	}
	err = h.conn.do(addrMessage(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, index, a))
	if isExist(err) {
		return false, nil
	}
	return err == nil, failure(what, err)
}

// DeleteAddr takes the address from the link. It succeeds if it has none such.
func (h *Handle) DeleteAddr(ctx context.Context, index int, p netip.Prefix) error {
	what := fmt.Sprintf("delete address %s", p)
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	err := h.conn.do(addrMessage(unix.RTM_DELADDR, 0, index, Addr{Prefix: p}))
	if isErrno(err, unix.EADDRNOTAVAIL) {
		return nil
	}
	return failure(what, err)
}

func addrMessage(typ, flags uint16, index int, a Addr) *msg {
	m := newMsg(typ, unix.NLM_F_REQUEST|unix.NLM_F_ACK|flags)
	var ifa uint8
	if a.Prefix.Addr().Is6() && !a.DAD {
		ifa = unix.IFA_F_NODAD
	}
	// struct ifaddrmsg: family, prefix length, flags, scope, index.
	m.b = append(m.b, family(a.Prefix.Addr()), uint8(a.Prefix.Bits()), ifa, unix.RT_SCOPE_UNIVERSE)
	m.u32s(uint32(index))
	addr := a.Prefix.Addr().AsSlice()
	m.attr(unix.IFA_LOCAL, addr)
	m.attr(unix.IFA_ADDRESS, addr)
	m.u8(ifaProto, ourProto)
	if a.Prefix.Addr().Is4() && a.Prefix.Bits() < 31 {
		m.attr(unix.IFA_BROADCAST, broadcast(a.Prefix))
	}
	return m
}

func broadcast(p netip.Prefix) []byte {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return b
}

// Addrs returns the addresses of the link. IPv6 link-local ones are left out,
// which the kernel makes by itself, unless we added them.
func (h *Handle) Addrs(ctx context.Context, index int) ([]netip.Prefix, error) {
	return h.addrs(ctx, index, false)
}

// OurAddrs returns those of the link's addresses that we added.
func (h *Handle) OurAddrs(ctx context.Context, index int) ([]netip.Prefix, error) {
	return h.addrs(ctx, index, true)
}

func (h *Handle) addrs(ctx context.Context, index int, oursOnly bool) ([]netip.Prefix, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	m := newMsg(unix.RTM_GETADDR, unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	m.b = append(m.b, unix.AF_UNSPEC, 0, 0, 0)
	m.u32s(uint32(index))
	var all []netip.Prefix
	err := h.conn.get(m, true, func(body []byte) {
		// Kernels without strict checking answer with all links.
		p, i, ours := parseAddr(body)
		byKernel := p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() && !ours
		if p.IsValid() && i == index && !byKernel && (ours || !oursOnly) {
			all = append(all, p)
		}
	})
	return all, failure("list addresses", err)
}

func parseAddr(body []byte) (p netip.Prefix, index int, ours bool) {
	if len(body) < unix.SizeofIfAddrmsg {
		return netip.Prefix{}, 0, false
	}
	var addr netip.Addr
	attrs(body[unix.SizeofIfAddrmsg:], func(typ uint16, data []byte) {
		// The local address where the two differ (point to point).
		if typ == unix.IFA_LOCAL || typ == unix.IFA_ADDRESS && !addr.IsValid() {
			addr, _ = netip.AddrFromSlice(data)
		}
		ours = ours || typ == ifaProto && len(data) == 1 && data[0] == ourProto
	})
	return netip.PrefixFrom(addr, int(body[1])), int(native32(body[4:])), ours
}

func family(a netip.Addr) uint8 {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}
