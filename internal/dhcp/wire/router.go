package wire

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNoRouter says that no IPv6 router is on the link.
var ErrNoRouter = errors.New("no IPv6 router answered")

// A Router is what one says of itself and its link (RFC 4861, 4.2).
type Router struct {
	Addr        netip.Addr // link-local
	Default     bool       // it leads to everywhere
	Managed     bool       // addresses are to be had by DHCPv6
	Prefixes    []Prefix
	Nameservers []netip.Addr // RFC 8106
	Search      []string
}

// A Prefix is one of a router's link.
type Prefix struct {
	Net    netip.Prefix
	OnLink bool // all of it is on the link
	Auto   bool // the kernel makes an address of it (SLAAC)
}

const (
	routerSolicitation  = 133
	routerAdvertisement = 134
	hopsOfNeighbours    = 255 // less has come from beyond the link
)

// Solicit asks for a router, and returns what the first one that answers within
// the time says. It needs no address. The error wraps [ErrNoRouter].
func (l Link) Solicit(ctx context.Context, within time.Duration) (r Router, err error) {
	c, err := l.dial(unix.ETH_P_IPV6, advertisements())
	if err != nil {
		return r, err
	}
	defer c.close()
	until := time.Now().Add(within)
	for every := within / 3; time.Now().Before(until); {
		if err := c.send(solicitation(l.MAC)); err != nil && !errors.Is(err, unix.ENETDOWN) {
			return r, err
		}
		next := time.Now().Add(every)
		if next.After(until) {
			next = until
		}
		done, err := c.receive(ctx, next, func(frame []byte) (ok bool) {
			r, ok = parseRouter(frame)
			return ok
		})
		if done || err != nil {
			return r, err
		}
	}
	return r, ErrNoRouter
}

func solicitation(mac net.HardwareAddr) []byte {
	allRouters := netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 15: 2})
	from := netip.IPv6Unspecified()
	m := []byte{routerSolicitation, 0, 0, 0, 0, 0, 0, 0}
	pseudo := append(append(from.AsSlice(), allRouters.AsSlice()...), 0, 0, 0, byte(len(m)), 0, 0, 0, unix.IPPROTO_ICMPV6)
	binary.BigEndian.PutUint16(m[2:], checksum(pseudo, m))
	return frame6(net.HardwareAddr{0x33, 0x33, 0, 0, 0, 2}, mac, from, allRouters, unix.IPPROTO_ICMPV6, hopsOfNeighbours, m)
}

// parseRouter reads a router's advertisement.
func parseRouter(b []byte) (r Router, ok bool) {
	const head = 16
	if len(b) < ethLen+ip6Len+head {
		return r, false
	}
	ip := b[ethLen:]
	size := int(binary.BigEndian.Uint16(ip[4:]))
	if ip[0]>>4 != 6 || ip[6] != unix.IPPROTO_ICMPV6 || ip[7] != hopsOfNeighbours || size < head || ip6Len+size > len(ip) {
		return r, false
	}
	r.Addr = netip.AddrFrom16([16]byte(ip[8:24]))
	m := ip[ip6Len : ip6Len+size]
	if m[0] != routerAdvertisement || m[1] != 0 || !r.Addr.IsLinkLocalUnicast() {
		return r, false
	}
	r.Managed = m[5]&0x80 != 0
	r.Default = binary.BigEndian.Uint16(m[6:]) > 0
	for o := m[head:]; len(o) > 0; {
		if len(o) < 2 || o[1] == 0 || int(o[1])*8 > len(o) {
			return r, false // RFC 4861, 6.1.2: all of it is invalid
		}
		size := int(o[1]) * 8
		r.option(o[0], o[2:size])
		o = o[size:]
	}
	return r, true
}

// option reads one option of an advertisement, without its type and length.
func (r *Router) option(kind byte, b []byte) {
	const prefix, nameservers, search = 3, 25, 31
	switch {
	case kind == prefix && len(b) == 30 && b[0] <= 128:
		p := netip.PrefixFrom(netip.AddrFrom16([16]byte(b[14:])), int(b[0])).Masked()
		valid := binary.BigEndian.Uint32(b[2:]) > 0
		if !p.Addr().IsLinkLocalUnicast() {
			r.Prefixes = append(r.Prefixes, Prefix{p, b[1]&0x80 != 0 && valid, b[1]&0x40 != 0 && valid && p.Bits() == 64})
		}
	case kind == nameservers && len(b) >= 6:
		for b = b[6:]; len(b) >= 16; b = b[16:] {
			r.Nameservers = append(r.Nameservers, netip.AddrFrom16([16]byte(b)))
		}
	case kind == search && len(b) >= 6:
		r.Search = append(r.Search, names(b[6:])...)
	}
}

// names reads domain names without compression (RFC 1035, 3.1), as far as they
// are well formed.
func names(b []byte) []string {
	var all, labels []string
	for len(b) > 0 {
		size := int(b[0])
		switch {
		case size == 0:
			if len(labels) > 0 {
				all = append(all, strings.Join(labels, "."))
			}
			labels, b = nil, b[1:]
			continue
		case size > 63 || size >= len(b) || !printable(b[1:1+size]):
			return all
		}
		labels, b = append(labels, string(b[1:1+size])), b[1+size:]
	}
	return all
}

// printable keeps out what would be something else in a file of name servers.
func printable(label []byte) bool {
	for _, c := range label {
		if c <= ' ' || c > '~' || c == '.' || c == '#' || c == ';' {
			return false
		}
	}
	return true
}
