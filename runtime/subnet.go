package runtime

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
)

// freeSubnet returns a subnet that overlaps none of taken: a /24 of
// 10.200.0.0/13, or a unique local /64 made of the machine and the network's
// name (RFC 4193, 3.2.2).
func freeSubnet(name string, v6 bool, taken []netip.Prefix) (netip.Prefix, error) {
	const tries = 8 * 256
	machine, _ := os.ReadFile("/etc/machine-id")
	for i := range tries {
		var p netip.Prefix
		if v6 {
			seed := fmt.Sprintf("%s\x00%s\x00%d", machine, name, i)
			d := sha256.Sum256([]byte(seed))
			addr := [16]byte{0: 0xfd}
			copy(addr[1:6], d[:5])
			p = netip.PrefixFrom(netip.AddrFrom16(addr), 64)
		} else {
			var addr [4]byte
			binary.BigEndian.PutUint32(addr[:], 10<<24|200<<16+uint32(i)<<8)
			p = netip.PrefixFrom(netip.AddrFrom4(addr), 24)
		}
		if _, clash := overlap(p, taken); !clash {
			return p, nil
		}
	}
	return netip.Prefix{}, bowline.Wrong(bowline.ErrExhausted,
		fmt.Sprintf("network %q: no free subnet among %d tried: name one with --subnet", name, tries))
}

// overlap returns the first of others that shares an address with p.
func overlap(p netip.Prefix, others []netip.Prefix) (netip.Prefix, bool) {
	for _, o := range others {
		if p.Overlaps(o) {
			return o, true
		}
	}
	return netip.Prefix{}, false
}

// hostRoutes returns the destinations of all routes of the current namespace, in
// all tables, but default routes and those that every IPv6 link has.
func hostRoutes() ([]netip.Prefix, error) {
	rib, err := syscall.NetlinkRIB(unix.RTM_GETROUTE, unix.AF_UNSPEC)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	messages, err := syscall.ParseNetlinkMessage(rib)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	var found []netip.Prefix
	for _, m := range messages {
		// struct rtmsg: family, length of destination in bits, ...
		if m.Header.Type != unix.RTM_NEWROUTE || len(m.Data) < unix.SizeofRtMsg || m.Data[1] == 0 {
			continue
		}
		attrs, err := syscall.ParseNetlinkRouteAttr(&m)
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		for _, a := range attrs {
			if addr, ok := netip.AddrFromSlice(a.Value); ok && a.Attr.Type == unix.RTA_DST &&
				!addr.IsLinkLocalUnicast() && !addr.IsMulticast() {
				found = append(found, netip.PrefixFrom(addr, int(m.Data[1])).Masked())
			}
		}
	}
	return found, nil
}

// hostAddrs returns the networks that the current namespace has an address in.
func hostAddrs() ([]netip.Prefix, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	var found []netip.Prefix
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLinkLocalUnicast() {
			found = append(found, p.Masked())
		}
	}
	return found, nil
}
