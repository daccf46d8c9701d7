package wire

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
	"golang.org/x/sys/unix"
)

// A Six is a client of DHCPv6 (RFC 8415) that asks for one address.
type Six struct {
	Link
	ID [16]byte // that the server knows the client by, whatever its MAC is
}

// A Binding6 is what a server has promised. Times are counted from when the
// request was sent that it answers.
type Binding6 struct {
	Addr        netip.Addr    `json:"addr"`
	Server      []byte        `json:"server"` // its DUID
	Nameservers []netip.Addr  `json:"nameservers,omitempty"`
	Search      []string      `json:"search,omitempty"`
	T1          time.Duration `json:"t1"`
	T2          time.Duration `json:"t2"`
	End         time.Duration `json:"end"` // 0: never
}

const (
	clientPort6 = 546
	serverPort6 = 547
)

func allServers() netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 13: 1, 15: 2})
}

// duid is one of type 4 (RFC 6355).
func (s Six) duid() dhcpv6.DUID { return &dhcpv6.DUIDUUID{UUID: s.ID} }

func (s Six) iaid() [4]byte { return [4]byte(s.ID[:4]) }

// Acquire gets a binding. It tries until ctx ends; the error wraps [ErrSilent]
// then, or is what servers said instead.
func (s Six) Acquire(ctx context.Context) (b Binding6, err error) {
	c, err := s.dial6()
	if err != nil {
		return b, err
	}
	defer c.Close()
	var server []byte
	m := s.message(dhcpv6.MessageTypeSolicit, netip.Addr{}, nil)
	if _, err = s.exchange(ctx, c, m, dhcpv6.MessageTypeAdvertise, func(a *dhcpv6.Message) error {
		b, err = binding6(a)
		server = b.Server
		return err
	}); err != nil {
		return b, err
	}
	offered := b
	b, err = s.ask(ctx, c, s.message(dhcpv6.MessageTypeRequest, netip.Addr{}, server))
	if errors.Is(err, ErrSilent) { // it may have said yes just when nobody listened any more
		_ = s.Release(offered)
	}
	return b, err
}

// Renew asks the server of b for more time, Rebind any server. The error wraps
// [ErrRefused] if the address is lost.
func (s Six) Renew(ctx context.Context, b Binding6) (Binding6, error) {
	return s.extend(ctx, s.message(dhcpv6.MessageTypeRenew, b.Addr, b.Server))
}

// Rebind is as Renew.
func (s Six) Rebind(ctx context.Context, b Binding6) (Binding6, error) {
	return s.extend(ctx, s.message(dhcpv6.MessageTypeRebind, b.Addr, nil))
}

func (s Six) extend(ctx context.Context, m *dhcpv6.Message) (Binding6, error) {
	c, err := s.dial6()
	if err != nil {
		return Binding6{}, err
	}
	defer c.Close()
	return s.ask(ctx, c, m)
}

func (s Six) ask(ctx context.Context, c *net.UDPConn, m *dhcpv6.Message) (b Binding6, err error) {
	_, err = s.exchange(ctx, c, m, dhcpv6.MessageTypeReply, func(a *dhcpv6.Message) (err error) {
		b, err = binding6(a)
		return err
	})
	return b, err
}

// Release gives b up. It does not wait for the answer, which could not come back
// to where the link was.
func (s Six) Release(b Binding6) error {
	c, err := s.dial(unix.ETH_P_IPV6, advertisements())
	if err != nil {
		return err
	}
	defer c.close()
	from, to := LinkLocal(s.MAC), allServers()
	d := udp(clientPort6, serverPort6, s.message(dhcpv6.MessageTypeRelease, b.Addr, b.Server).ToBytes())
	setUDPChecksum(d, from, to)
	return c.send(frame6(net.HardwareAddr{0x33, 0x33, 0, 1, 0, 2}, s.MAC, from, to, unix.IPPROTO_UDP, 1, d))
}

// message returns one of the client's; addr and server are left out if zero.
func (s Six) message(kind dhcpv6.MessageType, addr netip.Addr, server []byte) *dhcpv6.Message {
	m, err := dhcpv6.NewMessage()
	if err != nil { // there is no randomness to be had
		panic("dhcp: make a transaction ID: " + err.Error())
	}
	m.MessageType = kind
	m.AddOption(dhcpv6.OptClientID(s.duid()))
	if server != nil {
		if id, err := dhcpv6.DUIDFromBytes(server); err == nil {
			m.AddOption(dhcpv6.OptServerID(id))
		}
	}
	ia := &dhcpv6.OptIANA{IaId: s.iaid()}
	if addr.IsValid() {
		ia.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: addr.AsSlice()})
	}
	m.AddOption(ia)
	m.AddOption(dhcpv6.OptRequestedOption(dhcpv6.OptionDNSRecursiveNameServer, dhcpv6.OptionDomainSearchList))
	return m
}

// dial6 opens a socket of the client's port on the link.
func (s Six) dial6() (*net.UDPConn, error) {
	fd := -1
	err := s.do(func() (err error) {
		fd, err = unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open socket: %w", err)
	}
	f := os.NewFile(uintptr(fd), "DHCPv6 socket of "+s.Name)
	defer f.Close()
	if err = unix.BindToDevice(fd, s.Name); err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet6{Port: clientPort6})
	}
	if err != nil {
		return nil, fmt.Errorf("bind port %d of link %s: %w", clientPort6, s.Name, err)
	}
	c, err := net.FilePacketConn(f)
	if err != nil {
		return nil, err
	}
	return c.(*net.UDPConn), nil
}

// exchange sends m, again and again, until accept takes an answer of that kind
// or ctx ends. The error wraps [ErrSilent], and says what was wrong with the
// answers that came.
func (s Six) exchange(ctx context.Context, c *net.UDPConn, m *dhcpv6.Message, kind dhcpv6.MessageType, accept func(*dhcpv6.Message) error) (sent time.Time, err error) {
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	to := netip.AddrPortFrom(allServers().WithZone(strconv.Itoa(s.Index)), serverPort6)
	sent = time.Now()
	var last error
	buf := make([]byte, 4096)
	for try := 0; ctx.Err() == nil; {
		m.UpdateOption(dhcpv6.OptElapsedTime(time.Since(sent)))
		pause := patience(try)
		switch _, err := c.WriteToUDPAddrPort(m.ToBytes(), to); {
		case err == nil:
			try++
		case errors.Is(err, unix.EADDRNOTAVAIL), errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.ENETDOWN):
			pause = 50 * time.Millisecond // the link-local address is still being looked at by the kernel
		default:
			return sent, fmt.Errorf("send: %w", err)
		}
		_ = c.SetReadDeadline(time.Now().Add(pause))
		if ctx.Err() != nil {
			break
		}
		for {
			n, from, err := c.ReadFromUDPAddrPort(buf)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return sent, fmt.Errorf("receive: %w", err)
			}
			a, err := dhcpv6.MessageFromBytes(buf[:n])
			if err != nil || from.Port() != serverPort6 || a.MessageType != kind || a.TransactionID != m.TransactionID {
				continue
			}
			if id := a.Options.ClientID(); id == nil || !id.Equal(s.duid()) {
				continue
			}
			last = accept(a)
			if last == nil || errors.Is(last, ErrRefused) && kind == dhcpv6.MessageTypeReply {
				return sent, last
			}
		}
	}
	if last != nil {
		return sent, fmt.Errorf("%w that can be used: %w", ErrSilent, last)
	}
	return sent, ErrSilent
}

// binding6 reads an ADVERTISE or a REPLY.
func binding6(a *dhcpv6.Message) (Binding6, error) {
	server := a.Options.ServerID()
	if server == nil {
		return Binding6{}, errors.New("it does not say who it is")
	}
	b := Binding6{Server: server.ToBytes(), Nameservers: addrs(a.Options.DNS())}
	if labels := a.Options.DomainSearchList(); labels != nil {
		b.Search = labels.Labels
	}
	status := a.Options.Status()
	for _, ia := range a.Options.IANA() {
		if s := ia.Options.Status(); s != nil && s.StatusCode != iana.StatusSuccess {
			status = s
			continue
		}
		for _, o := range ia.Options.Addresses() {
			addr, ok := netip.AddrFromSlice(o.IPv6Addr)
			if !ok || !addr.IsGlobalUnicast() || o.ValidLifetime <= 0 {
				continue
			}
			b.Addr, b.End = addr, max(o.ValidLifetime, 10*time.Second)
			if o.ValidLifetime >= 0xffffffff*time.Second {
				b.End = 0
			}
			b.T1, b.T2 = within(b.End, ia.T1, ia.T2, 6)
			return b, nil
		}
	}
	if status != nil && status.StatusCode != iana.StatusSuccess {
		return Binding6{}, fmt.Errorf("%w: %s %s", ErrRefused, status.StatusCode, status.StatusMessage)
	}
	return Binding6{}, fmt.Errorf("%w: it gives no address", ErrRefused)
}
