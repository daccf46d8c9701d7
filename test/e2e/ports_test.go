package e2e

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/bowline-net/bowline/internal/netns"
)

// hostPort is an entry of portMappings.
func hostPort(host, container int, protocol, ip string) map[string]any {
	m := map[string]any{"hostPort": host, "containerPort": container, "protocol": protocol}
	if ip != "" {
		m["hostIP"] = ip
	}
	return m
}

// ports returns a copy of c as an engine passes it with published ports.
func (c conf) ports(list ...map[string]any) conf {
	return c.with("capabilities", map[string]any{"portMappings": true}).with("runtimeConfig", map[string]any{"portMappings": list})
}

// withoutRuntimeConfig is what some engines give to DEL.
func (c conf) withoutRuntimeConfig() conf {
	c = c.with("runtimeConfig", nil)
	delete(c, "runtimeConfig")
	return c
}

// local is the host as a sandbox that asks.
func (h *host) local() *sandbox { return &sandbox{h: h, id: "host", ns: h.ns} }

// answerDatagrams answers each datagram with the address of its sender.
func (s *sandbox) answerDatagrams(addr string) {
	s.h.t.Helper()
	var c net.PacketConn
	err := netns.Do(s.ns, func() (err error) {
		c, err = net.ListenPacket("udp", addr)
		return err
	})
	if err != nil {
		s.h.t.Fatal(err)
	}
	s.h.t.Cleanup(func() { c.Close() })
	go func() {
		b := make([]byte, 16)
		for {
			_, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			c.WriteTo([]byte(from.(*net.UDPAddr).IP.String()), from)
		}
	}()
}

// dialUDP returns a socket of the sandbox that talks to addr.
func (s *sandbox) dialUDP(addr string) net.Conn {
	s.h.t.Helper()
	var c net.Conn
	if err := netns.Do(s.ns, func() (err error) {
		c, err = net.Dial("udp", addr)
		return err
	}); err != nil {
		s.h.t.Fatal(err)
	}
	s.h.t.Cleanup(func() { c.Close() })
	return c
}

// query sends a datagram up to tries times and returns the answer to one.
func query(c net.Conn, tries int) (answer string, err error) {
	b := make([]byte, 64)
	for range tries {
		c.SetDeadline(time.Now().Add(300 * time.Millisecond))
		if _, err = c.Write([]byte("?")); err != nil {
			continue // the other side said that there is nobody
		}
		var n int
		if n, err = c.Read(b); err == nil {
			return string(b[:n]), nil
		}
	}
	return "", err
}

// sees fails the test unless the server that s asks at addr answers, and sees
// s under the address want, if that is not "".
func (s *sandbox) sees(addr, want string) {
	s.h.t.Helper()
	seen, err := s.ask(addr)
	if err != nil || want != "" && seen != want {
		s.h.t.Errorf("%s asks %s and is seen as %q, %v; want %q", s.id, addr, seen, err, want)
	}
}

func (s *sandbox) seesByUDP(addr, want string) {
	s.h.t.Helper()
	seen, err := query(s.dialUDP(addr), 5)
	if err != nil || want != "" && seen != want {
		s.h.t.Errorf("%s asks %s by UDP and is seen as %q, %v; want %q", s.id, addr, seen, err, want)
	}
}

// refused fails the test if anybody answers at addr.
func (s *sandbox) refused(addr string) {
	s.h.t.Helper()
	if seen, err := s.ask(addr); err == nil {
		s.h.t.Errorf("%s asks %s and is answered: %s; want nobody there", s.id, addr, seen)
	}
}

// bridgeNetfilter says whether bridged packets pass the host's IP firewall.
func (h *host) bridgeNetfilter(on bool) {
	h.t.Helper()
	value := "0"
	if on {
		value = "1"
	}
	if _, err := h.try("sysctl", "-qw", "net.bridge.bridge-nf-call-iptables="+value, "net.bridge.bridge-nf-call-ip6tables="+value); err != nil && on {
		h.t.Fatal("want bridge netfilter in the kernel: modprobe br_netfilter")
	}
}

// TestPortsFromEverywhere: a published port leads to the container from outside,
// from the host's own addresses and its loopback, from the container itself, its
// neighbour and a container of another network, by both families, with and
// without bridge netfilter. Who comes from outside, or another network, keeps
// the address that it has on the way.
func TestPortsFromEverywhere(t *testing.T) {
	for _, bridgeNF := range []bool{true, false} {
		t.Run(fmt.Sprintf("bridge netfilter %v", bridgeNF), func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			h.bridgeNetfilter(bridgeNF)
			out, host := h.outside(), h.local()
			c := network("web", web4, web6)
			a, b, other := h.sandbox("a"), h.sandbox("b"), h.sandbox("other")
			withPorts := c.ports(hostPort(8080, 80, "tcp", ""), hostPort(5300, 53, "udp", ""))
			r := a.add(withPorts)
			b.add(c)
			ro := other.add(network("db", db4, db6))
			for _, f := range []struct{ family, outside, host, loopback string }{
				{"4", "192.0.2.2", "192.0.2.1", "127.0.0.1"}, {"6", "2001:db8::2", "2001:db8::1", "::1"},
			} {
				a.serve(net.JoinHostPort(r.addr(f.family), "80"))
				a.answerDatagrams(net.JoinHostPort(r.addr(f.family), "53"))
				for _, at := range []string{f.host, r.gateway(f.family)} {
					addr, udp := net.JoinHostPort(at, "8080"), net.JoinHostPort(at, "5300")
					host.sees(addr, at)
					for _, s := range []*sandbox{a, b} {
						s.sees(addr, r.gateway(f.family))
						s.seesByUDP(udp, r.gateway(f.family))
					}
					other.sees(addr, "")
					other.seesByUDP(udp, "")
				}
				out.sees(net.JoinHostPort(f.host, "8080"), f.outside)
				out.seesByUDP(net.JoinHostPort(f.host, "5300"), f.outside)
				host.sees(net.JoinHostPort(f.loopback, "8080"), r.gateway(f.family))
				host.seesByUDP(net.JoinHostPort(f.loopback, "5300"), r.gateway(f.family))
			}
			if err := a.check(withPorts, r); err != nil {
				t.Errorf("CHECK: %v", err)
			}
			// Nothing else of the host leads there, nor to the other network.
			out.refused("192.0.2.1:80")
			if other.reaches(r.addr("4")) || a.reaches(ro.addr("4")) {
				t.Error("a published port opened the way between networks")
			}
			a.del(withPorts.withoutRuntimeConfig(), r)
			for _, addr := range []string{"192.0.2.1:8080", "[2001:db8::1]:8080"} {
				out.refused(addr)
				b.refused(addr)
			}
		})
	}
}

// TestLoopbackIsClosed: that the host's loopback leads to containers does not
// let them into it.
func TestLoopbackIsClosed(t *testing.T) {
	for _, bridgeNF := range []bool{true, false} {
		t.Run(fmt.Sprintf("bridge netfilter %v", bridgeNF), func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			h.bridgeNetfilter(bridgeNF)
			a := h.sandbox("a")
			r := a.add(network("web", web4, web6).ports(hostPort(8080, 80, "tcp", "")))
			if got := strings.TrimSpace(h.run("sysctl", "-n", "net.ipv4.conf.br-web.route_localnet")); got != "1" {
				t.Fatalf("route_localnet=%s: this test is of nothing", got)
			}
			// A container that takes its own loopback addresses for the host's.
			a.run("ip", "route", "del", "local", "127.0.0.0/8", "dev", "lo", "table", "local")
			a.run("ip", "route", "del", "local", "127.0.0.1", "dev", "lo", "table", "local")
			a.run("ip", "route", "add", "127.0.0.0/8", "via", r.gateway("4"))
			a.run("ip", "-6", "route", "del", "local", "::1", "dev", "lo", "table", "local")
			a.run("ip", "-6", "route", "add", "::1/128", "via", r.gateway("6"), "src", r.addr("6"))
			for _, loopback := range []string{"127.0.0.1:7000", "[::1]:7000"} {
				var server net.PacketConn
				if err := h.do(func() (err error) {
					server, err = net.ListenPacket("udp", loopback)
					return err
				}); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { server.Close() })
				for range 3 {
					if _, err := a.dialUDP(loopback).Write([]byte("container")); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := h.local().dialUDP(loopback).Write([]byte("host")); err != nil {
					t.Fatal(err)
				}
				b := make([]byte, 16)
				server.SetDeadline(time.Now().Add(5 * time.Second))
				if n, _, err := server.ReadFrom(b); err != nil || string(b[:n]) != "host" {
					t.Errorf("%s got %q, %v; want what the host sent, alone", loopback, b[:n], err)
				}
			}
		})
	}
}

// TestPortsOfAddresses: a port of one of the host's addresses leads there from
// that address alone, and two of them can lead to two containers.
func TestPortsOfAddresses(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	out, host := h.outside(), h.local()
	h.run("ip", "addr", "add", "192.0.2.9/24", "dev", "up0")
	c := network("web", web4, web6)
	a, b := h.sandbox("a"), h.sandbox("b")
	ra := a.add(c.ports(hostPort(8080, 80, "tcp", "192.0.2.1"), hostPort(8081, 80, "tcp", "127.0.0.1"), hostPort(8082, 80, "tcp", "::1"), hostPort(8083, 80, "tcp", "0.0.0.0"), hostPort(8084, 80, "tcp", "::")))
	rb := b.add(c.ports(hostPort(8080, 80, "tcp", "192.0.2.9")))
	for _, family := range []string{"4", "6"} {
		a.serve(net.JoinHostPort(ra.addr(family), "80"))
	}
	a.run("true")
	b.serve(rb.addr("4") + ":80")
	for _, s := range []*sandbox{out, host} {
		s.sees("192.0.2.1:8080", "")
		s.sees("192.0.2.9:8080", "")
		s.refused("[2001:db8::1]:8080")
		s.refused("192.0.2.1:8081")
		s.refused("[2001:db8::1]:8082")
		s.sees("192.0.2.1:8083", "")
		s.refused("[2001:db8::1]:8083")
		s.sees("[2001:db8::1]:8084", "")
		s.refused("192.0.2.1:8084")
	}
	host.sees("127.0.0.1:8081", "")
	host.sees("[::1]:8082", "")
	host.refused("127.0.0.1:8080")
	host.refused("[::1]:8081")
}

// TestPortsWithIPAMOfOthers: another's IPAM plugin is asked when the link is
// there already; its addresses are what ports lead to. And two networks can
// share a bridge.
func TestPortsWithIPAMOfOthers(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.bridgeNetfilter(true)
	out := h.outside()
	c := network("web", web4).ipam("type", "host-local")
	a := h.sandbox("a")
	withPorts := c.ports(hostPort(8080, 80, "tcp", ""), hostPort(0, 80, "tcp", "127.0.0.1"))
	r := a.add(withPorts)
	a.serve(r.addr("4") + ":80")
	other := network("db", db4, db6).with("bridge", "br-web")
	b := h.sandbox("b")
	rb := b.add(other.ports(hostPort(8081, 80, "tcp", "")))
	b.serve(rb.addr("4") + ":80")
	for _, port := range []string{"8080", "8081"} {
		out.sees("192.0.2.1:"+port, "192.0.2.2")
		h.local().sees("127.0.0.1:"+port, "")
		a.sees("192.0.2.1:"+port, "")
		b.sees("192.0.2.1:"+port, "")
	}
	if err := a.check(withPorts, r); err != nil {
		t.Errorf("CHECK: %v", err)
	}
	a.del(withPorts, r)
	out.refused("192.0.2.1:8080")
	out.sees("192.0.2.1:8081", "192.0.2.2")
}
