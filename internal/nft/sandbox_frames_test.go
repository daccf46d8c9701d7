package nft_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
	"github.com/bowline-net/bowline/internal/nft"
)

// TestSandboxForgedFrames: by a packet socket of its own a container can say that
// what it sends is something else than it is. That leads around no policy.
func TestSandboxForgedFrames(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		claims uint16   // protocol that the sender says
		tags   []uint16 // EtherTypes before IP's, each with a VLAN of 0
		bypass bool     // of queues
	}{
		{"honest", unix.ETH_P_IP, nil, false},
		{"honest, past queues", unix.ETH_P_IP, nil, true},
		{"as ARP", unix.ETH_P_ARP, nil, false},
		{"as ARP, past queues", unix.ETH_P_ARP, nil, true},
		{"as IPv6", unix.ETH_P_IPV6, nil, false},
		{"as something", 0x1234, nil, false},
		{"with a tag", unix.ETH_P_8021Q, []uint16{unix.ETH_P_8021Q}, false},
		{"with a tag, as IP", unix.ETH_P_IP, []uint16{unix.ETH_P_8021Q}, false},
		{"with a tag, as ARP", unix.ETH_P_ARP, []uint16{unix.ETH_P_8021Q}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := newLAN(t, "a")
			netnstest.Command(t, l.outside, "ip", "addr", "add", "10.9.0.100/24", "dev", "eth0")
			s := nft.OpenSandbox(l.at["a"])
			defer s.Close()
			var got net.PacketConn
			if err := netns.Do(l.outside, func() (err error) { got, err = net.ListenPacket("udp4", ":5300"); return err }); err != nil {
				t.Fatal(err)
			}
			defer got.Close()
			send := func(to, text string, claims uint16, tags []uint16, bypass bool) {
				t.Helper()
				if err := sendFrame(l, netip.MustParseAddr(to), text, claims, tags, bypass); err != nil {
					t.Fatal(err)
				}
			}
			receive := func(want string) {
				t.Helper()
				var b [64]byte
				_ = got.SetReadDeadline(time.Now().Add(20 * time.Second))
				n, _, err := got.ReadFrom(b[:])
				if err != nil || string(b[:n]) != want {
					t.Errorf("outside got %q, %v; want %q", b[:n], err, want)
				}
			}
			for _, rules := range []string{"deny egress to 10.9.0.1", "allow egress to 10.9.0.100; deny egress"} {
				e := nft.Endpoint{ID: "a/eth0", Port: "eth0", Policy: policy(t, rules)}
				if err := s.ReplacePolicy(t.Context(), "lan", e); err != nil {
					t.Fatal(err)
				}
				send("10.9.0.1", "forged", tt.claims, tt.tags, tt.bypass)
				send("10.9.0.100", "allowed", unix.ETH_P_IP, nil, false)
				receive("allowed")
				hits, err := s.PolicyHits(t.Context())
				if i := slices.IndexFunc(e.Policy, deniesEgress); err != nil || hits["eth0"][i].Packets == 0 {
					t.Errorf("%s: hits are %v, %v; want the frame counted where it was denied", rules, hits, err)
				}
			}
			// Where nothing is kept from leaving, any frame leaves.
			e := nft.Endpoint{ID: "a/eth0", Port: "eth0", Policy: policy(t, "deny ingress")}
			if err := s.ReplacePolicy(t.Context(), "lan", e); err != nil {
				t.Fatal(err)
			}
			send("10.9.0.1", "any", tt.claims, tt.tags, tt.bypass)
			receive("any")
		})
	}
}

// sendFrame sends a datagram from a's packet socket to port 5300 of outside.
func sendFrame(l *lan, to netip.Addr, text string, claims uint16, tags []uint16, bypass bool) error {
	var target net.HardwareAddr
	if err := netns.Do(l.outside, func() error {
		link, err := net.InterfaceByName("eth0")
		if err == nil {
			target = link.HardwareAddr
		}
		return err
	}); err != nil {
		return err
	}
	return netns.Do(l.at["a"], func() error {
		link, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if bypass {
			if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1); err != nil {
				return err
			}
		}
		frame := slices.Concat(target, link.HardwareAddr)
		for _, tag := range tags {
			frame = append(binary.BigEndian.AppendUint16(frame, tag), 0, 0)
		}
		frame = append(binary.BigEndian.AppendUint16(frame, unix.ETH_P_IP), datagram(netip.MustParseAddr(l.addrs["a"]["4"]), to, text)...)
		swapped := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, claims))
		err = unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Protocol: swapped, Ifindex: link.Index, Halen: 6})
		if err == unix.ENOBUFS { // dropped on its way out
			err = nil
		}
		if err != nil {
			return fmt.Errorf("send a frame: %w", err)
		}
		return nil
	})
}

// datagram is an IPv4 packet with text, for port 5300.
func datagram(from, to netip.Addr, text string) []byte {
	n := 20 + 8 + len(text)
	p := slices.Concat([]byte{0x45, 0, 0, byte(n), 0, 1, 0, 0, 64, unix.IPPROTO_UDP, 0, 0}, from.AsSlice(), to.AsSlice())
	sum := uint32(0)
	for i := 0; i < len(p); i += 2 {
		sum += uint32(p[i])<<8 | uint32(p[i+1])
	}
	sum = sum&0xffff + sum>>16
	binary.BigEndian.PutUint16(p[10:], ^uint16(sum+sum>>16))
	p = binary.BigEndian.AppendUint16(p, 9)
	p = binary.BigEndian.AppendUint16(p, 5300)
	p = binary.BigEndian.AppendUint16(p, uint16(8+len(text)))
	return append(append(p, 0, 0), text...) // without a checksum
}

func deniesEgress(r bowline.PolicyRule) bool { return r.Direction == "egress" && r.Action == "deny" }
