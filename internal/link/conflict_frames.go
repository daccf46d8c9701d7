package link

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// Where things are in a frame, in bytes.
const (
	etherLen = 14
	arpLen   = 28
	arpSHA   = etherLen + 8 // sender's MAC
	arpSPA   = etherLen + 14
	arpTPA   = etherLen + 24

	ip6Len   = 40
	ip6Next  = etherLen + 6
	ip6Hops  = etherLen + 7
	ip6Src   = etherLen + 8
	icmpType = etherLen + ip6Len
	ndTarget = icmpType + 8
	ndLen    = 24 // of a message without options

	neighbourSolicitation  = 135
	neighbourAdvertisement = 136
	targetLinkAddr         = 2 // option of an advertisement
)

// probe returns the frame that asks who has the address.
func probe(a netip.Addr, mac net.HardwareAddr) []byte {
	if a.Is4() {
		return arpRequest(netip.IPv4Unspecified(), a, mac)
	}
	return solicitation(a, mac)
}

func ether(to, from net.HardwareAddr, proto uint16) []byte {
	return binary.BigEndian.AppendUint16(slices.Concat(to, from), proto)
}

// arpRequest asks on behalf of from, which may be nobody yet.
func arpRequest(from, a netip.Addr, mac net.HardwareAddr) []byte {
	b := ether(net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, mac, unix.ETH_P_ARP)
	b = append(b, 0, 1, 8, 0, 6, 4, 0, 1) // Ethernet, IPv4, their lengths, request
	b = append(append(b, mac...), from.AsSlice()...)
	b = append(b, 0, 0, 0, 0, 0, 0) // the target's MAC
	return append(b, a.AsSlice()...)
}

func solicitation(a netip.Addr, mac net.HardwareAddr) []byte {
	group := solicitedNode(a)
	b := ether(groupMAC(group), mac, unix.ETH_P_IPV6)
	b = append(b, 0x60, 0, 0, 0, 0, ndLen, unix.IPPROTO_ICMPV6, 255) // a hop limit of 255: from this link
	b = append(b, make([]byte, 16)...)
	b = append(b, group.AsSlice()...)
	b = append(b, neighbourSolicitation, 0, 0, 0, 0, 0, 0, 0)
	b = append(b, a.AsSlice()...)
	binary.BigEndian.PutUint16(b[icmpType+2:], checksum6(b[etherLen:]))
	return b
}

// checksum6 returns that of an ICMPv6 message without one, in its packet (RFC 8200, 8.1).
func checksum6(packet []byte) uint16 {
	sum := uint32(len(packet)-ip6Len) + unix.IPPROTO_ICMPV6
	for b := packet[8:]; len(b) > 1; b = b[2:] { // from the addresses on
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// solicitedNode is the group in which a neighbour hears questions for a (RFC 4291, 2.7.1).
func solicitedNode(a netip.Addr) netip.Addr {
	b := [16]byte{0: 0xff, 1: 0x02, 11: 1, 12: 0xff}
	tail := a.As16()
	copy(b[13:], tail[13:])
	return netip.AddrFrom16(b)
}

// groupMAC is where an IPv6 group's packets go (RFC 2464, 7).
func groupMAC(g netip.Addr) net.HardwareAddr {
	b := g.As16()
	return net.HardwareAddr{0x33, 0x33, b[12], b[13], b[14], b[15]}
}

// claimOfARP returns the address that the frame claims, and for whom: its
// sender's, or the one that another host probes for. No MAC: none.
func claimOfARP(b []byte) (netip.Addr, net.HardwareAddr) {
	if len(b) < etherLen+arpLen || binary.BigEndian.Uint16(b[etherLen:]) != 1 {
		return netip.Addr{}, nil
	}
	a := netip.AddrFrom4([4]byte(b[arpSPA:]))
	if a.IsUnspecified() {
		a = netip.AddrFrom4([4]byte(b[arpTPA:]))
	}
	return a, slices.Clone(b[arpSHA : arpSHA+6])
}

// claimOfND is claimOfARP for IPv6. Who asks for an address from one of his own
// only looks for whoever has it.
func claimOfND(b []byte) (netip.Addr, net.HardwareAddr) {
	if len(b) < ndTarget+16 || b[ip6Next] != unix.IPPROTO_ICMPV6 || b[ip6Hops] != 255 || b[icmpType+1] != 0 {
		return netip.Addr{}, nil
	}
	a, mac := netip.AddrFrom16([16]byte(b[ndTarget:])), net.HardwareAddr(slices.Clone(b[6:12]))
	switch b[icmpType] {
	case neighbourAdvertisement:
		for o := b[ndTarget+16:]; len(o) >= 8 && o[1] > 0 && len(o) >= 8*int(o[1]); o = o[8*int(o[1]):] {
			if o[0] == targetLinkAddr {
				mac = slices.Clone(o[2:8])
			}
		}
		return a, mac
	case neighbourSolicitation:
		if netip.AddrFrom16([16]byte(b[ip6Src:])).IsUnspecified() {
			return a, mac
		}
	}
	return netip.Addr{}, nil
}

// filter returns the program by which the kernel drops all that claims none of
// the addresses, so that a busy LAN costs nothing, and what is for other hosts:
// so the kernel marks frames of VLANs that the link has not, when it has taken
// their tag away. What passes is looked at again.
func (e ear) filter() []unix.SockFilter {
	load := func(size uint16, at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_ABS | size, K: at}
	}
	end := func(n uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: n} }
	equal := func(v uint32, yes, no uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: v, Jt: yes, Jf: no}
	}
	const all, packetType = 256, 1<<32 - 0x1000 + 4 // SKF_AD_OFF + SKF_AD_PKTTYPE
	const word, octet = unix.BPF_W, unix.BPF_B
	// Each question goes on after the end that follows it, or to that.
	p := []unix.SockFilter{load(word, packetType), equal(unix.PACKET_OTHERHOST, 0, 1), end(0)}
	among := func() {
		for _, a := range e.addrs {
			b := a.AsSlice()
			p = append(p, equal(binary.BigEndian.Uint32(b[len(b)-4:]), 0, 1), end(all))
		}
	}
	if e.proto == unix.ETH_P_ARP {
		p = append(p, load(word, arpSPA))
		among()
		p = append(p, equal(0, 1, 0), end(0), load(word, arpTPA))
	} else {
		p = append(p, load(octet, ip6Next), equal(unix.IPPROTO_ICMPV6, 1, 0), end(0),
			load(octet, icmpType), equal(neighbourAdvertisement, 2, 0), equal(neighbourSolicitation, 1, 0), end(0),
			load(word, ndTarget+12))
	}
	among()
	return append(p, end(0))
}
