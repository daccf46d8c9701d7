package wire

import (
	"context"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/bowline-net/bowline"
)

// message returns one of the client's, with what all of its kind say.
func (f Four) message(kind dhcpv4.MessageType, options ...dhcpv4.Option) *dhcpv4.DHCPv4 {
	m, err := dhcpv4.New(dhcpv4.WithMessageType(kind), dhcpv4.WithHwAddr(f.MAC))
	if err != nil { // there is no randomness to be had
		panic("dhcp: make a transaction ID: " + err.Error())
	}
	for _, o := range options {
		m.UpdateOption(o)
	}
	if kind == dhcpv4.MessageTypeDiscover || kind == dhcpv4.MessageTypeRequest {
		codes := dhcpv4.OptionCodeList{
			dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionClasslessStaticRoute, dhcpv4.OptionStaticRoutingTable,
			dhcpv4.OptionDomainNameServer, dhcpv4.OptionDomainName, dhcpv4.OptionDNSDomainSearchList,
			dhcpv4.OptionRenewTimeValue, dhcpv4.OptionRebindingTimeValue,
		}
		for _, code := range f.Ask {
			codes.Add(dhcpv4.GenericOptionCode(code))
		}
		m.UpdateOption(dhcpv4.OptParameterRequestList(codes...))
		m.UpdateOption(dhcpv4.OptMaxMessageSize(1500))
		if f.Hostname != "" {
			m.UpdateOption(dhcpv4.OptHostName(f.Hostname))
		}
		for _, o := range f.Send {
			m.UpdateOption(o)
		}
	}
	m.UpdateOption(dhcpv4.OptClientIdentifier(f.ClientID))
	return m
}

// request sends a REQUEST until it is answered.
func (f Four) request(ctx context.Context, c *conn, m *dhcpv4.DHCPv4, to destination) (b Binding4, err error) {
	var refused, bad error
	_, err = f.exchange(ctx, c, m, to, func(a *dhcpv4.DHCPv4, d datagram) bool {
		switch a.MessageType() {
		case dhcpv4.MessageTypeNak:
			refused = fmt.Errorf("%w: %s", ErrRefused, a.Message())
			return true
		case dhcpv4.MessageTypeAck:
			b, bad = binding4(a)
			b.ServerMAC = slices.Clone(d.fromMAC)
			return bad == nil
		}
		return false
	})
	if err == nil {
		err = refused
	} else if bad != nil {
		err = fmt.Errorf("%w that can be used: %w", err, bad)
	}
	return b, err
}

// binding4 reads an ACK.
func binding4(a *dhcpv4.DHCPv4) (Binding4, error) {
	addr, ok := netip.AddrFromSlice(a.YourIPAddr.To4())
	if !ok || addr.IsUnspecified() || addr.IsMulticast() || addr.IsLoopback() {
		return Binding4{}, fmt.Errorf("it gives the address %s", a.YourIPAddr)
	}
	server, ok := netip.AddrFromSlice(a.ServerIdentifier().To4())
	if !ok {
		return Binding4{}, fmt.Errorf("it does not say who it is")
	}
	bits, size := a.SubnetMask().Size()
	if bits == 0 || size != 32 { // RFC 950: then by class
		bits, _ = net.IP(addr.AsSlice()).DefaultMask().Size()
	}
	b := Binding4{Addr: netip.PrefixFrom(addr, bits), Server: server, Domain: a.DomainName(),
		Routers: addrs(a.Router()), Nameservers: addrs(a.DNS())}
	if labels := a.DomainSearch(); labels != nil {
		b.Search = labels.Labels
	}
	b.routes(a)
	b.times(a)
	return b, nil
}

func addrs(ips []net.IP) []netip.Addr {
	var all []netip.Addr
	for _, ip := range ips {
		if a, ok := netip.AddrFromSlice(ip); ok && !a.Unmap().IsUnspecified() {
			all = append(all, a.Unmap())
		}
	}
	return all
}

// routes reads the classless routes, or else the static ones, which are of
// classes and never the default route.
func (b *Binding4) routes(a *dhcpv4.DHCPv4) {
	for _, r := range a.ClasslessStaticRoute() {
		bits, _ := r.Dest.Mask.Size()
		dst, ok1 := netip.AddrFromSlice(r.Dest.IP.To4())
		via, ok2 := netip.AddrFromSlice(r.Router.To4())
		if !ok1 || !ok2 {
			continue
		}
		b.Classless = true
		route := bowline.Route{Dst: netip.PrefixFrom(dst, bits).Masked(), Via: via}
		if via.IsUnspecified() { // RFC 3442: on the link
			link := scopeLink
			route.Via, route.Scope = netip.Addr{}, &link
		}
		b.Routes = append(b.Routes, route)
	}
	if b.Classless {
		return
	}
	for raw := a.Options.Get(dhcpv4.OptionStaticRoutingTable); len(raw) >= 8; raw = raw[8:] {
		dst := netip.AddrFrom4([4]byte(raw))
		bits, size := net.IP(raw[:4]).DefaultMask().Size()
		if size == 32 && !dst.IsUnspecified() {
			b.Routes = append(b.Routes, bowline.Route{Dst: netip.PrefixFrom(dst, bits).Masked(), Via: netip.AddrFrom4([4]byte(raw[4:8]))})
		}
	}
}

// scopeLink is RT_SCOPE_LINK.
const scopeLink = 253

// times reads for how long it is, with the defaults of RFC 2131 (4.4.5).
func (b *Binding4) times(a *dhcpv4.DHCPv4) {
	b.End = a.IPAddressLeaseTime(time.Hour)
	if b.End >= math.MaxUint32*time.Second {
		b.End = 0
	} else {
		b.End = max(b.End, 10*time.Second) // or we should do nothing else
	}
	b.T1, b.T2 = within(b.End, a.IPAddressRenewalTime(0), a.IPAddressRebindingTime(0), 7)
}

// within returns when to renew and to rebind: as the server says, if that makes
// sense, or after half the time and after so many eighths of it. 0 is never.
func within(end, t1, t2 time.Duration, eighths int) (renew, rebind time.Duration) {
	if end == 0 {
		return 0, 0
	}
	if t2 <= 0 || t2 > end {
		t2 = time.Duration(int64(end) / 8 * int64(eighths))
	}
	if t1 <= 0 || t1 > t2 {
		t1 = min(end/2, t2)
	}
	return max(t1, time.Second), max(t2, time.Second)
}

// Option returns an option of any code.
func Option(code uint8, value []byte) dhcpv4.Option {
	return dhcpv4.OptGeneric(dhcpv4.GenericOptionCode(code), value)
}
