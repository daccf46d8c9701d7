package link

import (
	"context"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
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

// Addrs returns the addresses of the link, IPv6 link-local ones left out.
func (h *Handle) Addrs(ctx context.Context, index int) ([]netip.Prefix, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	m := newMsg(unix.RTM_GETADDR, unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	m.b = append(m.b, unix.AF_UNSPEC, 0, 0, 0)
	m.u32s(uint32(index))
	var all []netip.Prefix
	err := h.conn.get(m, true, func(body []byte) {
		// Kernels without strict checking answer with all links.
		if p, i := parseAddr(body); p.IsValid() && i == index && !p.Addr().IsLinkLocalUnicast() {
			all = append(all, p)
		}
	})
	return all, failure("list addresses", err)
}

func parseAddr(body []byte) (p netip.Prefix, index int) {
	if len(body) < unix.SizeofIfAddrmsg {
		return netip.Prefix{}, 0
	}
	var addr netip.Addr
	attrs(body[unix.SizeofIfAddrmsg:], func(typ uint16, data []byte) {
		// The local address where the two differ (point to point).
		if typ == unix.IFA_LOCAL || typ == unix.IFA_ADDRESS && !addr.IsValid() {
			addr, _ = netip.AddrFromSlice(data)
		}
	})
	return netip.PrefixFrom(addr, int(body[1])), int(native32(body[4:]))
}

func family(a netip.Addr) uint8 {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}
