package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bowline-net/bowline/internal/netns"
)

// A scene has a host, a machine outside and the container b on the network web.
type scene struct {
	h     *host
	web   conf
	at    map[string]*netns.Handle
	addrs map[string]map[string]string // of each, by family
}

func newScene(t *testing.T, bridgeNF string) *scene {
	t.Helper()
	h := newHost(t)
	out := h.outside()
	s := &scene{h, network("web", web4, web6), map[string]*netns.Handle{"host": h.ns}, map[string]map[string]string{
		"host": {"4": "10.1.0.1", "6": "fd00:1::1"},
	}}
	for _, f := range []string{"iptables", "ip6tables"} {
		h.run("sysctl", "-qw", "net.bridge.bridge-nf-call-"+f+"="+bridgeNF)
	}
	b, d := h.sandbox("b"), h.sandbox("d")
	r := b.add(s.web)
	d.add(network("db", db4, db6))
	serveAll(t, h.ns)
	s.join("b", b, r.addr("4"), r.addr("6"))
	s.join("outside", out, "192.0.2.2", "2001:db8::2")
	out.run("ip", "route", "add", web4, "via", "192.0.2.1")
	out.run("ip", "route", "add", web6, "via", "2001:db8::1")
	return s
}

// join has x serve, and be served, at its addresses.
func (s *scene) join(name string, x *sandbox, v4, v6 string) {
	s.h.t.Helper()
	s.at[name], s.addrs[name] = x.ns, map[string]string{"4": v4, "6": v6}
	serveAll(s.h.t, x.ns)
}

// try makes the probes, all at once.
func (s *scene) try(t *testing.T, probes []probe) {
	t.Helper()
	var all sync.WaitGroup
	for _, p := range probes {
		for _, family := range []string{"4", "6"} {
			all.Go(func() {
				if err := s.talk(p, s.addrs[p.to][family]); (err == nil) != p.want {
					t.Errorf("%s to %s, %s %d, IPv%s: %v; want it to pass: %v", p.from, p.to, p.proto, p.port, family, err, p.want)
				}
			})
		}
	}
	all.Wait()
}

func (s *scene) talk(p probe, addr string) error {
	if p.proto == "icmp" {
		for _, size := range []string{"56", "4000"} {
			tries := []string{"ping", "-n", "-c", "2", "-i", "0.2", "-W", "1", "-s", size, addr}
			if p.want { // until one is answered
				tries = []string{"ping", "-n", "-c", "1", "-w", "5", "-s", size, addr}
			}
			if _, err := tryRun(s.at[p.from], s.h.env, tries[0], tries[1:]...); err != nil {
				return err
			}
		}
		return nil
	}
	network, text, patience := p.proto, "hello", time.Second
	if p.proto == "large" {
		network, text = "udp", strings.Repeat("x", 4000)
	}
	if p.want {
		patience = 5 * time.Second
	}
	return exchangeFor(patience, s.at[p.from], network, net.JoinHostPort(addr, fmt.Sprint(p.port)), text)
}

// exchange sends text and waits for it to come back.
func exchange(ns *netns.Handle, network, addr, text string) error {
	return exchangeFor(time.Second, ns, network, addr, text)
}

// mustExchange is exchange for what is meant to work, however slow the machine.
func mustExchange(ns *netns.Handle, network, addr, text string) error {
	return exchangeFor(5*time.Second, ns, network, addr, text)
}

func exchangeFor(patience time.Duration, ns *netns.Handle, network, addr, text string) error {
	end := time.Now().Add(patience)
	return netns.Do(ns, func() error {
		c, err := net.DialTimeout(network, addr, patience)
		if err != nil {
			return err
		}
		defer c.Close()
		var got [8192]byte
		for { // a datagram may be lost while a neighbour is being found
			c.SetDeadline(time.Now().Add(400 * time.Millisecond))
			if network == "tcp" {
				c.SetDeadline(end)
			}
			var n int
			_, err := c.Write([]byte(text))
			if err == nil {
				n, err = c.Read(got[:])
			}
			switch timeout := errors.Is(err, os.ErrDeadlineExceeded); {
			case err == nil && string(got[:n]) == text:
				return nil
			case err == nil:
				return fmt.Errorf("got %d bytes, want %d", n, len(text))
			case !timeout || network == "tcp" || time.Now().After(end):
				return err
			}
		}
	})
}

// serveAll echoes what comes to some ports, until the test ends.
func serveAll(t testing.TB, ns *netns.Handle) {
	t.Helper()
	for _, port := range []string{":80", ":443", ":8009", ":8010"} {
		var l net.Listener
		if err := netns.Do(ns, func() (err error) { l, err = net.Listen("tcp", port); return err }); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					var b [8192]byte
					if n, err := c.Read(b[:]); err == nil {
						c.Write(b[:n])
					}
				}()
			}
		}()
	}
	// A socket for each family answers from the address that was asked.
	for _, network := range []string{"udp4", "udp6"} {
		for _, port := range []string{":53", ":80"} {
			var c net.PacketConn
			if err := netns.Do(ns, func() (err error) { c, err = net.ListenPacket(network, port); return err }); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			go func() {
				var b [8192]byte
				for {
					n, from, err := c.ReadFrom(b[:])
					if errors.Is(err, net.ErrClosed) {
						return
					}
					if err == nil {
						c.WriteTo(b[:n], from)
					}
				}
			}()
		}
	}
}
