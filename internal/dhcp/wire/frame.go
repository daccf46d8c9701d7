package wire

import (
	"encoding/binary"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Frames are written and read here byte by byte, because the link has no address
// yet that a socket of the kernel could use, or none any more.

const (
	ethLen  = 14
	ip4Len  = 20
	ip6Len  = 40
	udpLen  = 8
	arpLen  = 28
	tos     = 0xc0 // internetwork control, as other DHCP clients have it
	hops    = 64
	arpHead = "\x00\x01\x08\x00\x06\x04" // Ethernet, IPv4, and the lengths of both addresses
)

func broadcastMAC() net.HardwareAddr { return net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff} }

func ethernet(to, from net.HardwareAddr, ethertype uint16, size int) []byte {
	b := make([]byte, 0, ethLen+size)
	b = append(append(b, to...), from...)
	return binary.BigEndian.AppendUint16(b, ethertype)
}

// checksum is that of RFC 1071 over the parts, each but the last of even length.
func checksum(parts ...[]byte) uint16 {
	var sum uint32
	for _, b := range parts {
		for ; len(b) >= 2; b = b[2:] {
			sum += uint32(binary.BigEndian.Uint16(b))
		}
		if len(b) == 1 {
			sum += uint32(b[0]) << 8
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

func udp(from, to uint16, payload []byte) []byte {
	b := make([]byte, 0, udpLen+len(payload))
	b = binary.BigEndian.AppendUint16(b, from)
	b = binary.BigEndian.AppendUint16(b, to)
	b = binary.BigEndian.AppendUint16(b, uint16(udpLen+len(payload)))
	return append(append(b, 0, 0), payload...)
}

// setUDPChecksum fills in the checksum of the datagram d; 0 would mean none.
func setUDPChecksum(d []byte, from, to netip.Addr) {
	pseudo := append(from.AsSlice(), to.AsSlice()...)
	pseudo = append(pseudo, 0, unix.IPPROTO_UDP)
	pseudo = binary.BigEndian.AppendUint16(pseudo, uint16(len(d)))
	sum := checksum(pseudo, d)
	if sum == 0 {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(d[6:], sum)
}

// frame4 is a UDP datagram over IPv4 in an Ethernet frame.
func frame4(toMAC, fromMAC net.HardwareAddr, from, to netip.AddrPort, payload []byte) []byte {
	d := udp(from.Port(), to.Port(), payload)
	setUDPChecksum(d, from.Addr(), to.Addr())
	b := ethernet(toMAC, fromMAC, unix.ETH_P_IP, ip4Len+len(d))
	b = append(b, 0x45, tos)
	b = binary.BigEndian.AppendUint16(b, uint16(ip4Len+len(d)))
	b = append(b, 0, 0, 0, 0, hops, unix.IPPROTO_UDP, 0, 0)
	b = append(append(b, from.Addr().AsSlice()...), to.Addr().AsSlice()...)
	binary.BigEndian.PutUint16(b[ethLen+10:], checksum(b[ethLen:]))
	return append(b, d...)
}

// A datagram is what a frame carried; payload is a part of the frame.
type datagram struct {
	fromMAC  net.HardwareAddr
	from, to netip.AddrPort
	payload  []byte
}

// parse4 reads a frame as frame4 makes it. The checksum of UDP is not looked at:
// it is often left to a network card that does not exist.
func parse4(b []byte) (d datagram, ok bool) {
	if len(b) < ethLen+ip4Len || binary.BigEndian.Uint16(b[12:]) != unix.ETH_P_IP {
		return d, false
	}
	ip := b[ethLen:]
	head, total := int(ip[0]&0xf)*4, int(binary.BigEndian.Uint16(ip[2:]))
	fragment := binary.BigEndian.Uint16(ip[6:]) & 0x3fff
	if ip[0]>>4 != 4 || head < ip4Len || total < head+udpLen || total > len(ip) ||
		ip[9] != unix.IPPROTO_UDP || fragment != 0 || checksum(ip[:head]) != 0 {
		return d, false
	}
	u := ip[head:total]
	size := int(binary.BigEndian.Uint16(u[4:]))
	if size < udpLen || size > len(u) {
		return d, false
	}
	return datagram{
		fromMAC: net.HardwareAddr(b[6:12]),
		from:    netip.AddrPortFrom(netip.AddrFrom4([4]byte(ip[12:16])), binary.BigEndian.Uint16(u)),
		to:      netip.AddrPortFrom(netip.AddrFrom4([4]byte(ip[16:20])), binary.BigEndian.Uint16(u[2:])),
		payload: u[udpLen:size],
	}, true
}

// arpProbe asks who has addr without saying who asks (RFC 5227, 2.1.1).
func arpProbe(mac net.HardwareAddr, addr netip.Addr) []byte {
	b := ethernet(broadcastMAC(), mac, unix.ETH_P_ARP, arpLen)
	b = append(append(b, arpHead...), 0, 1)
	b = append(append(b, mac...), 0, 0, 0, 0)
	b = append(b, 0, 0, 0, 0, 0, 0)
	return append(b, addr.AsSlice()...)
}

// An arp is what a frame of ARP says.
type arp struct {
	request        bool
	mac            net.HardwareAddr // of the sender
	sender, target netip.Addr
}

func parseARP(b []byte) (a arp, ok bool) {
	if len(b) < ethLen+arpLen || binary.BigEndian.Uint16(b[12:]) != unix.ETH_P_ARP || string(b[ethLen:ethLen+6]) != arpHead {
		return a, false
	}
	b = b[ethLen+6:]
	op := binary.BigEndian.Uint16(b)
	return arp{
		request: op == 1,
		mac:     net.HardwareAddr(b[2:8]),
		sender:  netip.AddrFrom4([4]byte(b[8:12])),
		target:  netip.AddrFrom4([4]byte(b[18:22])),
	}, op == 1 || op == 2
}

// frame6 is an IPv6 packet of the protocol in an Ethernet frame.
func frame6(toMAC, fromMAC net.HardwareAddr, from, to netip.Addr, protocol, hopLimit uint8, payload []byte) []byte {
	b := ethernet(toMAC, fromMAC, unix.ETH_P_IPV6, ip6Len+len(payload))
	b = append(b, 0x60, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(len(payload)))
	b = append(b, protocol, hopLimit)
	b = append(append(b, from.AsSlice()...), to.AsSlice()...)
	return append(b, payload...)
}

// LinkLocal returns the IPv6 address that the kernel makes of a MAC by default
// (RFC 4291, appendix A).
func LinkLocal(mac net.HardwareAddr) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5]})
}
