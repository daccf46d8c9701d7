package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline/internal/plan"
)

// probes is how many are sent per address: one of three may get lost, or come
// while a port of a bridge is not ready yet.
const probes = 3

// Conflicts returns which of the addresses somebody else on the link's L2 has,
// or is about to take, each with the MAC of who that is. It sends three probes
// for each, spread evenly over the time within: ARP requests without a sender
// address (RFC 5227, 2.1.1) and IPv6 neighbour solicitations from the unspecified
// address (RFC 4862, 5.4.2). It listens all the time and returns after it, or
// as soon as all addresses have been answered for. Who probes for the same
// address meanwhile counts as one who has it. Nobody is answered, and our own
// packets, by the link's MAC, are not heard.
//
// The link must be up and have none of the addresses. It waits for a carrier as
// long, too. Without one nobody can be asked, so a conflict cannot be seen: it
// returns none. A NIC may take seconds to find its carrier after it came up.
//
// Silence is no proof. RFC 5227 itself probes for 4 to 9 seconds.
func (h *Handle) Conflicts(ctx context.Context, l Info, within time.Duration, addrs ...netip.Addr) (map[netip.Addr]net.HardwareAddr, error) {
	return h.ConflictsBeside(ctx, l, within, nil, addrs...)
}

// A host that is there answers in about the time that another one takes: so the
// wait ends after patience times as long as a known one took, and not before
// leastWait.
const (
	patience  = 4
	leastWait = 5 * time.Millisecond
)

// ConflictsBeside is Conflicts where some on the L2 are known to be there, such
// as a gateway. They are asked, too, and once one of them has answered it is clear
// how long answers take there: then the probes come closer together, and it need
// not take all the time within.
func (h *Handle) ConflictsBeside(ctx context.Context, l Info, within time.Duration, known []netip.Addr, addrs ...netip.Addr) (map[netip.Addr]net.HardwareAddr, error) {
	what := "probe addresses at link " + l.Name
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if dry := h.conn.dry; dry != nil {
		dry.Plan.Add(plan.Link, dry.name, "probe for %v at dev %s, %d times in %v", addrs, l.Name, probes, within)
		return nil, nil
	}
	if len(addrs) == 0 {
		return nil, nil
	}
	now, err := h.waitCarrier(l.Name, within)
	if err != nil || !now.Carrier {
		return nil, err
	}
	known = slices.DeleteFunc(slices.Clone(known), func(a netip.Addr) bool { return slices.Contains(addrs, a) })
	p := prober{index: now.Index, mac: now.MAC, known: known, found: map[netip.Addr]net.HardwareAddr{}}
	defer p.close()
	if err := h.inside(func() error { return p.open(slices.Concat(addrs, known)) }); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	p.start, p.within, p.want = time.Now(), within, len(addrs)
	for i := range probes {
		if err := p.send(); err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		if err := p.listen(i + 1); err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%s: %w", what, ctx.Err())
		default:
		}
	}
	return p.found, nil
}

// waitCarrier returns the link as soon as it has a carrier, or what it is when
// the time is over.
func (h *Handle) waitCarrier(name string, within time.Duration) (Info, error) {
	l, err := h.get(name)
	if err != nil || l.Carrier {
		return l, err
	}
	var watch int
	if err := h.inside(func() (err error) {
		watch, err = linkSocket(unix.RTMGRP_LINK)
		return err
	}); err != nil {
		return l, err
	}
	defer unix.Close(watch)
	for until := time.Now().Add(within); ; {
		left := time.Until(until)
		if l, err = h.get(name); err != nil || l.Carrier || left <= 0 {
			return l, err
		}
		t := unix.NsecToTimespec(int64(left))
		fds := []unix.PollFd{{Fd: int32(watch), Events: unix.POLLIN}}
		if _, err := unix.Ppoll(fds, &t, nil); err != nil && !errors.Is(err, unix.EINTR) {
			return l, fmt.Errorf("wait for a carrier of link %s: %w", name, err)
		}
		if fds[0].Revents != 0 { // what changed is asked anew
			_, _, _ = unix.Recvfrom(watch, make([]byte, 8192), unix.MSG_DONTWAIT)
		}
	}
}

// A prober asks for addresses on one link.
type prober struct {
	index int
	mac   net.HardwareAddr
	ears  []ear // at most one per family
	group int   // socket that is a member of the groups of IPv6 addresses, or 0
	found map[netip.Addr]net.HardwareAddr
	known []netip.Addr // answer, if they are there
	heard bool         // one of them has
	want  int          // addresses that are asked for because nobody should have them

	start  time.Time     // of the first probe
	within time.Duration // from start, until enough has been listened
}

// An ear is a packet socket that hears what concerns addresses of one family.
type ear struct {
	fd    int
	proto uint16
	addrs []netip.Addr
}

// open opens the sockets, in the namespace of the calling thread.
func (p *prober) open(addrs []netip.Addr) error {
	v4, v6 := ear{proto: unix.ETH_P_ARP}, ear{proto: unix.ETH_P_IPV6}
	for _, a := range addrs {
		if a.Is4() {
			v4.addrs = append(v4.addrs, a)
		} else {
			v6.addrs = append(v6.addrs, a)
		}
	}
	for _, e := range []ear{v4, v6} {
		if len(e.addrs) == 0 {
			continue
		}
		// Of no protocol at first, so that nothing is heard that the filter would not let through.
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return fmt.Errorf("open packet socket: %w", err)
		}
		e.fd = fd
		p.ears = append(p.ears, e)
		filter := e.filter()
		if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}); err != nil {
			return fmt.Errorf("attach packet filter: %w", err)
		}
		if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: bigEndian(e.proto), Ifindex: p.index}); err != nil {
			return fmt.Errorf("bind packet socket: %w", err)
		}
	}
	return p.join(v6.addrs)
}

// join has the link receive what is sent to the groups in which answers and
// other probes come (RFC 4862, 5.4.2): by the packet socket, which works
// without IPv6 on the link, and by a socket of IPv6, which also tells switches
// that forward groups to their members only.
func (p *prober) join(addrs []netip.Addr) error {
	if len(addrs) == 0 {
		return nil
	}
	fd := p.ears[len(p.ears)-1].fd
	groups := []netip.Addr{netip.IPv6LinkLocalAllNodes()}
	for _, a := range addrs {
		groups = append(groups, solicitedNode(a))
	}
	for _, g := range groups {
		m := unix.PacketMreq{Ifindex: int32(p.index), Type: unix.PACKET_MR_MULTICAST, Alen: 6}
		copy(m.Address[:], groupMAC(g))
		if err := unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &m); err != nil {
			return fmt.Errorf("listen to group %s: %w", g, err)
		}
	}
	s, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil { // a kernel without IPv6
		return nil
	}
	p.group = s
	for _, g := range groups[1:] {
		_ = unix.SetsockoptIPv6Mreq(s, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP, &unix.IPv6Mreq{Multiaddr: g.As16(), Interface: uint32(p.index)})
	}
	return nil
}

// close does not wait for the kernel, which takes a grace period of 10 to 30 ms
// for each packet socket. Nothing is heard any more meanwhile.
func (p *prober) close() {
	for _, e := range p.ears {
		go unix.Close(e.fd)
	}
	if p.group != 0 {
		unix.Close(p.group)
	}
}

// send sends one probe for each address that nobody has answered for.
func (p *prober) send() error {
	for _, e := range p.ears {
		for _, a := range e.addrs {
			if p.found[a] != nil || p.heard && slices.Contains(p.known, a) {
				continue
			}
			err := unix.Sendto(e.fd, probe(a, p.mac), 0, &unix.SockaddrLinklayer{Protocol: bigEndian(e.proto), Ifindex: p.index})
			// A queue that is full drops it, as the network may.
			if err != nil && !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EAGAIN) {
				return fmt.Errorf("send probe for %s: %w", a, err)
			}
		}
	}
	return nil
}

// left is how long to listen after that many probes.
func (p *prober) left(sent int) time.Duration {
	return time.Until(p.start.Add(p.within * time.Duration(sent) / probes))
}

// listen hears until the time after that many probes is over, or until all
// addresses have been answered for.
func (p *prober) listen(sent int) error {
	fds := make([]unix.PollFd, len(p.ears))
	for i, e := range p.ears {
		fds[i] = unix.PollFd{Fd: int32(e.fd), Events: unix.POLLIN}
	}
	buf := make([]byte, 256)
	for left := p.left(sent); left > 0 && len(p.found) < p.want; left = p.left(sent) {
		t := unix.NsecToTimespec(int64(left))
		if _, err := unix.Ppoll(fds, &t, nil); err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		for _, e := range p.ears {
			for {
				n, _, err := unix.Recvfrom(e.fd, buf, 0)
				if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
					break
				}
				if err != nil { // the link went down, or away
					return fmt.Errorf("listen: %w", err)
				}
				p.hear(e, buf[:n])
			}
		}
	}
	return nil
}

// hear notes who claims one of the addresses with the frame.
func (p *prober) hear(e ear, frame []byte) {
	claims := claimOfARP
	if e.proto == unix.ETH_P_IPV6 {
		claims = claimOfND
	}
	a, mac := claims(frame)
	if mac == nil || mac.String() == p.mac.String() {
		return
	}
	if slices.Contains(p.known, a) {
		if !p.heard {
			p.heard, p.within = true, min(p.within, max(patience*time.Since(p.start), leastWait))
		}
		return
	}
	for _, want := range e.addrs {
		if want == a && p.found[a] == nil {
			p.found[a] = mac
		}
	}
}

func bigEndian(v uint16) uint16 { return v<<8 | v>>8 }
