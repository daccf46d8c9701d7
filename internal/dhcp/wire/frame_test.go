package wire

import (
	"bytes"
	"net"
	"net/netip"
	"reflect"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv6"
)

func mac(last byte) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, last} }

func port(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func TestFrame4(t *testing.T) {
	t.Parallel()
	from, to := port("192.0.2.1:68"), port("192.0.2.2:67")
	for _, payload := range [][]byte{nil, []byte("a"), bytes.Repeat([]byte{0xff}, 300)} {
		frame := frame4(mac(2), mac(1), from, to, payload)
		d, ok := parse4(frame)
		if !ok || !bytes.Equal(d.fromMAC, mac(1)) || d.from != from || d.to != to || !bytes.Equal(d.payload, payload) {
			t.Errorf("%d bytes are read as %+v, %v", len(payload), d, ok)
		}
		for i := range ip4Len {
			broken := bytes.Clone(frame)
			broken[ethLen+i] ^= 0x10
			if _, ok := parse4(broken); ok {
				t.Errorf("byte %d of the header is broken and was not missed", i)
			}
		}
	}
}

func TestARP(t *testing.T) {
	t.Parallel()
	a, ok := parseARP(arpProbe(mac(1), netip.MustParseAddr("192.0.2.9")))
	want := arp{true, mac(1), netip.IPv4Unspecified(), netip.MustParseAddr("192.0.2.9")}
	if !ok || !reflect.DeepEqual(a, want) {
		t.Errorf("a probe is read as %+v, %v; want %+v", a, ok, want)
	}
}

// advertisement is one of a router, with options.
func advertisement(flags byte, lifetime byte, options ...byte) []byte {
	m := append([]byte{routerAdvertisement, 0, 0, 0, 64, flags, 0, lifetime, 0, 0, 0, 0, 0, 0, 0, 0}, options...)
	return frame6(mac(9), mac(1), LinkLocal(mac(1)), netip.MustParseAddr("ff02::1"), 58, 255, m)
}

func TestRouter(t *testing.T) {
	t.Parallel()
	prefix := append([]byte{3, 4, 64, 0xc0, 0, 0, 0, 60, 0, 0, 0, 60, 0, 0, 0, 0}, netip.MustParseAddr("2001:db8::").AsSlice()...)
	dns := append([]byte{25, 3, 0, 0, 0, 0, 0, 60}, netip.MustParseAddr("2001:db8::53").AsSlice()...)
	search := []byte{31, 3, 0, 0, 0, 0, 0, 60, 3, 'l', 'a', 'n', 4, 't', 'e', 's', 't', 0, 0, 0, 0, 0, 0, 0}
	got, ok := parseRouter(advertisement(0x80, 30, bytes.Join([][]byte{prefix, dns, search}, nil)...))
	want := Router{
		Addr: LinkLocal(mac(1)), Default: true, Managed: true,
		Prefixes:    []Prefix{{netip.MustParsePrefix("2001:db8::/64"), true, true}},
		Nameservers: []netip.Addr{netip.MustParseAddr("2001:db8::53")}, Search: []string{"lan.test"},
	}
	if !ok || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v\nwant %+v", got, ok, want)
	}
	if got, ok := parseRouter(advertisement(0, 0)); !ok || got.Default || got.Managed {
		t.Errorf("one that leads nowhere is read as %+v, %v", got, ok)
	}
	far := advertisement(0, 30)
	far[ethLen+7] = 254
	if _, ok := parseRouter(far); ok {
		t.Error("one from beyond the link was believed")
	}
	if _, ok := parseRouter(advertisement(0, 30, 3, 0)); ok {
		t.Error("an option without length was taken")
	}
}

func FuzzFrames(f *testing.F) {
	f.Add(frame4(mac(2), mac(1), port("192.0.2.1:67"), port("192.0.2.2:68"), []byte("abc")))
	f.Add(arpProbe(mac(1), netip.MustParseAddr("192.0.2.9")))
	f.Add(advertisement(0xc0, 30, 31, 2, 0, 0, 0, 0, 0, 60, 3, 'l', 'a', 'n', 0, 0, 0, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		if d, ok := parse4(b); ok && len(d.payload) > len(b)-ethLen-ip4Len-udpLen {
			t.Errorf("%x has a payload of %d bytes", b, len(d.payload))
		}
		if a, ok := parseARP(b); ok && (!a.sender.Is4() || !a.target.Is4() || len(a.mac) != 6) {
			t.Errorf("%x is read as %+v", b, a)
		}
		r, ok := parseRouter(b)
		if ok && !r.Addr.IsLinkLocalUnicast() {
			t.Errorf("%x is of the router %s", b, r.Addr)
		}
		for _, p := range r.Prefixes {
			if p.Net != p.Net.Masked() || p.Auto && p.Net.Bits() != 64 {
				t.Errorf("%x has the prefix %+v", b, p)
			}
		}
	})
}

// FuzzBindings reads what a server says, as far as it is DHCP at all.
func FuzzBindings(f *testing.F) {
	four, err := dhcpv4.New(dhcpv4.WithMessageType(dhcpv4.MessageTypeAck), dhcpv4.WithYourIP(net.IPv4(192, 0, 2, 9)), dhcpv4.WithHwAddr(mac(1)),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(192, 0, 2, 1))), dhcpv4.WithOption(Option(121, []byte{0, 192, 0, 2, 1})))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(four.ToBytes())
	six := Six{ID: [16]byte{1}}
	f.Add(six.message(dhcpv6.MessageTypeReply, netip.MustParseAddr("2001:db8::9"), six.duid().ToBytes()).ToBytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		if m, err := dhcpv4.FromBytes(data); err == nil {
			if b, err := binding4(m); err == nil {
				check(t, data, netip.PrefixFrom(b.Addr.Addr(), b.Addr.Bits()).IsValid() && b.Addr.Addr().Is4() && b.Server.Is4())
				check(t, data, b.End == 0 || b.T1 > 0 && b.T1 <= b.T2 && b.T2 <= b.End)
				for _, r := range b.Routes {
					check(t, data, r.Dst.IsValid() && r.Dst == r.Dst.Masked())
				}
			}
		}
		if m, err := dhcpv6.MessageFromBytes(data); err == nil {
			if b, err := binding6(m); err == nil {
				check(t, data, b.Addr.Is6() && len(b.Server) > 0)
				check(t, data, b.End == 0 || b.T1 > 0 && b.T1 <= b.T2 && b.T2 <= b.End)
			}
		}
	})
}

func check(t *testing.T, data []byte, ok bool) {
	t.Helper()
	if !ok {
		t.Errorf("%x is read wrong", data)
	}
}
