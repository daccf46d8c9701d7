package e2e

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline/internal/netns"
)

// TestPolicyKnowsLinks: no other address makes a policy lose sight of its
// container, nor does another protocol; without what it must not cut there would
// be no connection in TestPolicy at all, but for DHCP.
func TestPolicyKnowsLinks(t *testing.T) {
	t.Parallel()
	s := newScene(t, "0")
	a := s.h.sandbox("a")
	r := a.add(s.web.with("policy", "deny ingress; deny egress"))
	s.join("a", a, r.addr("4"), r.addr("6"))
	a.run("ip", "addr", "add", "10.1.0.99/24", "dev", "eth0")
	a.run("ip", "addr", "add", "fd00:1::99/64", "dev", "eth0", "nodad")
	link := func(ns *netns.Handle) string {
		out := strings.Fields(mustRun(t, ns, s.h.env, "ip", "-o", "-6", "addr", "show", "dev", "eth0", "scope", "link"))
		return strings.Split(out[3], "/")[0] + "%eth0"
	}
	for _, addr := range []string{"10.1.0.99", "fd00:1::99", link(s.at["a"])} {
		if err := exchange(s.at["b"], "tcp", net.JoinHostPort(addr, "80"), "hello"); err == nil {
			t.Errorf("b reaches a at %s", addr)
		}
	}
	if err := exchange(s.at["a"], "tcp", net.JoinHostPort(link(s.at["b"]), "80"), "hello"); err == nil {
		t.Error("a reaches b's link-local address")
	}
	if out, err := a.try("ping", "-n", "-c", "1", "-W", "1", "-I", "10.1.0.99", s.addrs["b"]["4"]); err == nil {
		t.Errorf("a reaches b from another address: %s", out)
	}
	const ethertype = 0x88b5 // for experiments (IEEE 802)
	if heard := s.frames(t, ethertype, func() { frame(t, s.at["a"], ethertype) }); heard {
		t.Error("a frame that is not IP passes a policy that denies everything")
	}
	if err := s.dhcp(t); err != nil {
		t.Errorf("DHCP: %v", err)
	}
	a.del(s.web, r)
	a.end()
	a = s.h.sandbox("a3")
	r = a.add(s.web.with("policy", "deny egress tcp; deny ingress udp"))
	s.join("a", a, r.addr("4"), r.addr("6"))
	if heard := s.frames(t, ethertype, func() { frame(t, s.at["a"], ethertype) }); !heard {
		t.Error("a frame that is not IP is cut by a policy about TCP")
	}
}

// dhcp asks b, as a DHCP client would ask a server, and waits for the answer.
func (s *scene) dhcp(t *testing.T) error {
	t.Helper()
	listen := func(ns *netns.Handle, addr string) net.PacketConn {
		var c net.PacketConn
		if err := netns.Do(ns, func() (err error) { c, err = net.ListenPacket("udp4", addr); return err }); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	client, server := listen(s.at["a"], ":68"), listen(s.at["b"], ":67")
	server.SetDeadline(time.Now().Add(3 * time.Second))
	client.SetDeadline(time.Now().Add(3 * time.Second))
	if _, err := client.WriteTo([]byte("request"), &net.UDPAddr{IP: net.ParseIP(s.addrs["b"]["4"]), Port: 67}); err != nil {
		return err
	}
	var b [64]byte
	_, from, err := server.ReadFrom(b[:])
	if err != nil {
		return fmt.Errorf("the request: %w", err)
	}
	if _, err := server.WriteTo([]byte("offer"), from); err != nil {
		return err
	}
	if _, _, err = client.ReadFrom(b[:]); err != nil {
		return fmt.Errorf("the answer: %w", err)
	}
	return nil
}

// frame sends an Ethernet broadcast from eth0 of ns.
func frame(t testing.TB, ns *netns.Handle, ethertype uint16) {
	t.Helper()
	if err := netns.Do(ns, func() error {
		link, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		to := &unix.SockaddrLinklayer{Protocol: ethertype<<8 | ethertype>>8, Ifindex: link.Index, Halen: 6}
		copy(to.Addr[:], []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
		return unix.Sendto(fd, make([]byte, 46), 0, to)
	}); err != nil {
		t.Fatal(err)
	}
}

// frames reports whether b hears a frame of that type after f, for a second.
func (s *scene) frames(t testing.TB, ethertype uint16, f func()) (heard bool) {
	t.Helper()
	var fd int
	if err := netns.Do(s.at["b"], func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(ethertype<<8|ethertype>>8))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}); err != nil {
		t.Fatal(err)
	}
	f()
	var b [64]byte
	_, _, err := unix.Recvfrom(fd, b[:], 0)
	return err == nil
}
