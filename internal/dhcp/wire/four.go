package wire

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
)

// A Four is a client of DHCPv4 (RFC 2131).
type Four struct {
	Link
	ClientID []byte // with its type; required
	Hostname string
	Send     []dhcpv4.Option // further ones
	Ask      []uint8         // codes of further ones
	Probe    bool            // ask whether an address is in use before taking it
}

// A Binding4 is what a server has promised. Times are counted from when the
// request was sent that it answers.
type Binding4 struct {
	Addr        netip.Prefix     `json:"addr"`
	Routers     []netip.Addr     `json:"routers,omitempty"`
	Routes      []bowline.Route  `json:"routes,omitempty"` // RFC 3442, or the static routes of RFC 2132
	Classless   bool             `json:"classless,omitempty"`
	Nameservers []netip.Addr     `json:"nameservers,omitempty"`
	Domain      string           `json:"domain,omitempty"`
	Search      []string         `json:"search,omitempty"`
	Server      netip.Addr       `json:"server"`
	ServerMAC   net.HardwareAddr `json:"serverMAC"` // of the server, or of the relay before it
	T1          time.Duration    `json:"t1"`
	T2          time.Duration    `json:"t2"`
	End         time.Duration    `json:"end"` // 0: never
}

// What can go wrong in ways that callers tell apart.
var (
	// ErrSilent: nobody answered.
	ErrSilent = errors.New("no DHCP server answered")
	// ErrRefused: the server does not let the client have the address.
	ErrRefused = errors.New("the DHCP server refused")
	// ErrInUse: somebody on the link has the address.
	ErrInUse = errors.New("address in use")
)

const (
	clientPort = 68
	serverPort = 67
)

// patience are the waits for answers to the first, second, ... sending of a
// message. RFC 2131 (4.1) has 4 s and on, for hosts that boot after a power cut
// all at once; a container that waits is one of few.
func patience(try int) time.Duration {
	wait := time.Second << min(try, 4)
	return wait + time.Duration(rand.Int64N(int64(wait/4)))
}

// Acquire gets a binding: the one of hint again if it is valid and the server
// lets it, else a new one. An address that somebody uses is declined, and
// another one asked for. It tries until ctx ends; the error wraps [ErrSilent] or
// [ErrInUse] then.
func (f Four) Acquire(ctx context.Context, hint netip.Addr) (Binding4, error) {
	c, err := f.dial(unix.ETH_P_IP, udp4To(clientPort))
	if err != nil {
		return Binding4{}, err
	}
	defer c.close()
	if hint.IsValid() {
		short, cancel := context.WithTimeout(ctx, 4*time.Second)
		b, err := f.request(short, c, f.message(dhcpv4.MessageTypeRequest, dhcpv4.OptRequestedIPAddress(hint.AsSlice())), broadcast4())
		cancel()
		if err == nil || ctx.Err() != nil {
			return b, err // somebody uses it: that is its own link
		}
	}
	var last error
	for declined := 0; ; {
		b, err := f.discover(ctx, c)
		if err == nil && f.Probe {
			err = f.probe(ctx, b.Addr.Addr())
		}
		switch {
		case err == nil:
			return b, nil
		case errors.Is(err, ErrInUse):
			last = err
			if err := f.decline(c, b, "somebody else answers for it"); err != nil {
				return Binding4{}, err
			}
			if declined++; declined > 1 { // RFC 2131, 3.1 (5): not to go round and round
				wait(ctx, 10*time.Second)
			}
		case errors.Is(err, ErrRefused): // of its own offer: it was given to somebody else
			last = err
			wait(ctx, time.Second)
		default:
			f.giveUp(c, b)
			return Binding4{}, err
		}
		if ctx.Err() != nil {
			return Binding4{}, last
		}
	}
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// discover goes from DISCOVER to ACK once.
func (f Four) discover(ctx context.Context, c *conn) (Binding4, error) {
	m := f.message(dhcpv4.MessageTypeDiscover)
	var offer *dhcpv4.DHCPv4
	var from net.HardwareAddr
	_, err := f.exchange(ctx, c, m, broadcast4(), func(a *dhcpv4.DHCPv4, d datagram) bool {
		offer, from = a, slices.Clone(d.fromMAC)
		return a.MessageType() == dhcpv4.MessageTypeOffer && a.ServerIdentifier() != nil && a.YourIPAddr.To4() != nil
	})
	if err != nil {
		return Binding4{}, err
	}
	r := f.message(dhcpv4.MessageTypeRequest, dhcpv4.OptRequestedIPAddress(offer.YourIPAddr), dhcpv4.OptServerIdentifier(offer.ServerIdentifier()))
	r.TransactionID = m.TransactionID
	short, cancel := context.WithTimeout(ctx, 8*time.Second)
	defer cancel()
	b, err := f.request(short, c, r, broadcast4())
	if errors.Is(err, ErrSilent) {
		// It may have said yes just when nobody listened any more.
		if of, oerr := binding4(offer); oerr == nil {
			of.ServerMAC = from
			f.giveUp(c, of)
		}
		if ctx.Err() == nil {
			err = fmt.Errorf("%w: it offered %s and then said no more", ErrRefused, offer.YourIPAddr)
		}
	}
	return b, err
}

// giveUp releases what nobody will use. There is nothing to be done if that
// cannot be sent: it ends by itself.
func (f Four) giveUp(c *conn, b Binding4) {
	if b.Addr.IsValid() {
		_ = f.release(c, b)
	}
}

// Renew asks the server of b for more time. The error wraps [ErrRefused] if the
// address is lost.
func (f Four) Renew(ctx context.Context, b Binding4) (Binding4, error) {
	return f.extend(ctx, b, destination{b.ServerMAC, b.Server})
}

// Rebind asks any server for more time, as Renew does.
func (f Four) Rebind(ctx context.Context, b Binding4) (Binding4, error) {
	return f.extend(ctx, b, broadcast4())
}

func (f Four) extend(ctx context.Context, b Binding4, to destination) (Binding4, error) {
	c, err := f.dial(unix.ETH_P_IP, udp4To(clientPort))
	if err != nil {
		return Binding4{}, err
	}
	defer c.close()
	// The answer comes to the address, of which the kernel would tell the server
	// that nobody listens there. Where the container does, there is no need.
	if quiet, err := f.listen4(); err == nil {
		defer unix.Close(quiet)
	}
	m := f.message(dhcpv4.MessageTypeRequest)
	m.ClientIPAddr = b.Addr.Addr().AsSlice()
	return f.request(ctx, c, m, to)
}

// listen4 binds the client's port on the link, for nothing to be read there.
func (f Four) listen4() (fd int, err error) {
	err = f.do(func() error {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return -1, err
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 0)
	if err = unix.BindToDevice(fd, f.Name); err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Port: clientPort})
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// Release gives b up. The server does not answer.
func (f Four) Release(b Binding4) error {
	c, err := f.dial(unix.ETH_P_IP, udp4To(clientPort))
	if err != nil {
		return err
	}
	defer c.close()
	return f.release(c, b)
}

func (f Four) release(c *conn, b Binding4) error {
	m := f.message(dhcpv4.MessageTypeRelease, dhcpv4.OptServerIdentifier(b.Server.AsSlice()))
	m.ClientIPAddr = b.Addr.Addr().AsSlice()
	return f.sendTo(c, m, destination{b.ServerMAC, b.Server})
}

// decline tells the server that the address cannot be used.
func (f Four) decline(c *conn, b Binding4, why string) error {
	m := f.message(dhcpv4.MessageTypeDecline, dhcpv4.OptServerIdentifier(b.Server.AsSlice()),
		dhcpv4.OptRequestedIPAddress(b.Addr.Addr().AsSlice()), dhcpv4.OptMessage(why))
	return f.sendTo(c, m, broadcast4())
}

// A destination is where a message goes.
type destination struct {
	mac  net.HardwareAddr
	addr netip.Addr
}

func broadcast4() destination {
	return destination{broadcastMAC(), netip.AddrFrom4([4]byte{255, 255, 255, 255})}
}

func (f Four) sendTo(c *conn, m *dhcpv4.DHCPv4, to destination) error {
	from := netip.IPv4Unspecified()
	if a, ok := netip.AddrFromSlice(m.ClientIPAddr.To4()); ok {
		from = a
	}
	return c.send(frame4(to.mac, f.MAC, netip.AddrPortFrom(from, clientPort), netip.AddrPortFrom(to.addr, serverPort), m.ToBytes()))
}

// exchange sends m, again and again, until accept takes an answer to it or ctx
// ends: then the error wraps [ErrSilent]. It returns when the message was sent
// first.
func (f Four) exchange(ctx context.Context, c *conn, m *dhcpv4.DHCPv4, to destination, accept func(*dhcpv4.DHCPv4, datagram) bool) (sent time.Time, err error) {
	sent = time.Now()
	for try := 0; ; try++ {
		m.NumSeconds = uint16(min(time.Since(sent)/time.Second, 0xffff))
		if err := f.sendTo(c, m, to); err != nil && !errors.Is(err, unix.ENETDOWN) {
			return sent, err
		}
		done, err := c.receive(ctx, time.Now().Add(patience(try)), func(frame []byte) bool {
			d, ok := parse4(frame)
			if !ok || d.from.Port() != serverPort || d.to.Port() != clientPort {
				return false
			}
			a, err := dhcpv4.FromBytes(d.payload)
			return err == nil && a.OpCode == dhcpv4.OpcodeBootReply && a.TransactionID == m.TransactionID &&
				string(a.ClientHWAddr) == string(f.MAC) && accept(a, d)
		})
		if done {
			return sent, nil
		}
		if ctx.Err() != nil {
			return sent, ErrSilent
		}
		if err != nil {
			return sent, err
		}
	}
}
