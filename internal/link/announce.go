package link

import (
	"context"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline/internal/plan"
)

// AnnounceIPv6 tells the neighbours of the link that it has the addresses now:
// an unsolicited neighbour advertisement for each, to all nodes, that overrides
// what they remember (RFC 4861, 4.4 and 7.2.6). The kernel does so by itself
// for addresses that a link has when it comes up (ndisc_notify), but IPv6 ones
// are given to links that are up. The handle must be one of [OpenHere].
func (h *Handle) AnnounceIPv6(ctx context.Context, l Info, addrs ...netip.Addr) error {
	what := "announce addresses of link " + l.Name
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if dry := h.conn.dry; dry != nil {
		dry.Plan.Add(plan.Link, dry.name, "announce %v at dev %s", addrs, l.Name)
		return nil
	}
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
	if err != nil {
		return fmt.Errorf("%s: open socket: %w", what, err)
	}
	defer unix.Close(fd)
	// Anything else than 255 could have come from beyond the link, and is dropped.
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255); err != nil {
		return fmt.Errorf("%s: set hop limit: %w", what, err)
	}
	allNodes := &unix.SockaddrInet6{Addr: [16]byte{0: 0xff, 1: 0x02, 15: 1}, ZoneId: uint32(l.Index)}
	for _, a := range addrs {
		from := unix.PktInfo6(&unix.Inet6Pktinfo{Addr: a.As16(), Ifindex: uint32(l.Index)})
		if err := unix.Sendmsg(fd, advertisement(a, l.MAC), from, allNodes, 0); err != nil {
			return fmt.Errorf("%s: send: %w", what, err)
		}
	}
	return nil
}

// AnnounceIPv4 is AnnounceIPv6 for IPv4 addresses of a link that is up: an ARP
// request for each, from itself (RFC 5227, 2.3). Those that a link has when it
// comes up the kernel announces by itself ([Change.ARPNotify]).
func (h *Handle) AnnounceIPv4(ctx context.Context, l Info, addrs ...netip.Addr) error {
	what := "announce addresses of link " + l.Name
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if dry := h.conn.dry; dry != nil {
		dry.Plan.Add(plan.Link, dry.name, "announce %v at dev %s", addrs, l.Name)
		return nil
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%s: open packet socket: %w", what, err)
	}
	defer func() { go unix.Close(fd) }() // a grace period of the kernel
	for _, a := range addrs {
		if err := unix.Sendto(fd, arpRequest(a, a, l.MAC), 0, &unix.SockaddrLinklayer{Protocol: bigEndian(unix.ETH_P_ARP), Ifindex: l.Index}); err != nil {
			return fmt.Errorf("%s: send: %w", what, err)
		}
	}
	return nil
}

// advertisement returns the ICMPv6 message; the kernel fills in the checksum.
func advertisement(a netip.Addr, mac []byte) []byte {
	const override = 0x20
	b := []byte{neighbourAdvertisement, 0, 0, 0, override, 0, 0, 0}
	b = append(b, a.AsSlice()...)
	return append(append(b, targetLinkAddr, 1), mac...) // length in units of 8 bytes
}
