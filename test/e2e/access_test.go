package e2e

import (
	"errors"
	"strings"
	"sync"
	"testing"
)

// A direct machine is one beyond the host that has a route to the containers
// behind it.
func direct(h *host, networks ...string) *sandbox {
	h.t.Helper()
	out := h.outside()
	for _, n := range networks {
		via := "192.0.2.1"
		if isIPv6(n) {
			via = "2001:db8::1"
		}
		out.run("ip", "route", "add", n, "via", via)
	}
	// Neighbours are asked for under link-local addresses, which take a second.
	eventually(h.t, func() error {
		if tentative := h.run("ip", "-6", "addr", "show", "tentative") + out.run("ip", "-6", "addr", "show", "tentative"); tentative != "" {
			return errors.New(tentative)
		}
		return nil
	})
	return out
}

func isIPv6(addr string) bool {
	for _, c := range addr {
		if c == ':' {
			return true
		}
	}
	return false
}

// at is where a server of the container with that address is asked.
func at(addr, port string) string {
	if isIPv6(addr) {
		addr = "[" + addr + "]"
	}
	return addr + ":" + port
}

// TestGatewayModes: what of a container can be reached directly, by its own
// address, from outside and from another network of ours. The host itself
// reaches all of it in every mode, and containers reach out.
func TestGatewayModes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name           string
		options        map[string]any
		outside, pings bool // a port of the container from outside; an echo
		across, echoes bool // the same from another network of ours
		hidden         bool // the container, behind the host's address
	}{
		{"unset", map[string]any{"ipMasq": false}, true, true, false, false, false},
		{"masquerading", nil, true, true, false, false, true},
		{"ingressPolicy open", map[string]any{"ingressPolicy": "open"}, true, true, true, true, true},
		{"ingressPolicy same-bridge", map[string]any{"ingressPolicy": "same-bridge"}, true, true, false, false, true},
		{"nat", map[string]any{"gatewayMode4": "nat", "gatewayMode6": "nat"}, false, false, false, false, true},
		{"nat-unprotected", map[string]any{"gatewayMode4": "nat-unprotected", "gatewayMode6": "nat-unprotected"}, true, true, true, true, true},
		{"routed", map[string]any{"gatewayMode4": "routed", "gatewayMode6": "routed"}, false, true, false, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			out := direct(h, web4, web6)
			out.serve("192.0.2.2:80")
			out.serve("[2001:db8::2]:80")
			c := network("web", web4, web6)
			for k, v := range tt.options {
				c = c.with(k, v)
			}
			a, other := h.sandbox("a"), h.sandbox("other")
			ra := a.add(c)
			other.add(network("db", db4, db6))
			for _, family := range []string{"4", "6"} {
				addr := ra.addr(family)
				a.serve(at(addr, "80"))
				for _, from := range []struct {
					*sandbox
					asks, pings bool
				}{{out, tt.outside, tt.pings}, {other, tt.across, tt.echoes}} {
					if _, err := from.ask(at(addr, "80")); (err == nil) != from.asks {
						t.Errorf("v%s: %s asks the container: %v; want an answer: %v", family, from.id, err, from.asks)
					}
					if got := from.reaches(addr); got != from.pings {
						t.Errorf("v%s: %s reaches the container: %v, want %v", family, from.id, got, from.pings)
					}
				}
				if _, err := h.try("ping", "-n", "-c", "1", "-W", "2", addr); err != nil {
					t.Errorf("v%s: the host does not reach the container", family)
				}
				server, want := "192.0.2.2:80", "192.0.2.1"
				if family == "6" {
					server, want = "[2001:db8::2]:80", "2001:db8::1"
				}
				if !tt.hidden {
					want = addr
				}
				if seen, err := a.ask(server); err != nil || seen != want {
					t.Errorf("v%s: the container asks the outside, which sees %q, %v; want %s", family, seen, err, want)
				}
			}
			if err := a.check(c, ra); err != nil {
				t.Errorf("CHECK: %v", err)
			}
		})
	}
}

// TestDirectPorts: published ports at the containers' own addresses, where the
// network is routed, and from a link that it trusts; nothing else is led there.
func TestDirectPorts(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name       string
		options    map[string]any
		translated bool // the host's port leads there too
		across     bool // another network of ours reaches the port there
	}{
		{"routed", map[string]any{"gatewayMode4": "routed", "gatewayMode6": "routed"}, false, true},
		{"trusted by nat", map[string]any{"gatewayMode4": "nat", "gatewayMode6": "nat", "trustedInterfaces": "up0"}, true, false},
		{"trusted", map[string]any{"trustedInterfaces": []any{"up0"}}, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			out := direct(h, web4, web6)
			c := network("web", web4, web6).publishing(8080)
			for k, v := range tt.options {
				c = c.with(k, v)
			}
			a, other := h.sandbox("a"), h.sandbox("other")
			r := a.add(c)
			other.add(network("db", db4, db6))
			a.serve("[::]:80")
			a.serve("[::]:81")
			var wg sync.WaitGroup
			for _, family := range []string{"4", "6"} {
				addr, host := r.addr(family), host4
				if family == "6" {
					host = host6
				}
				wg.Go(func() { out.asks(at(addr, "80"), true) })
				wg.Go(func() { out.asks(at(addr, "81"), false) })
				wg.Go(func() { out.asks(at(host, "8080"), tt.translated) })
				wg.Go(func() { other.asks(at(addr, "80"), tt.across) })
				wg.Go(func() { other.asks(at(addr, "81"), false) })
			}
			wg.Wait()
			if err := a.check(c, r); err != nil {
				t.Errorf("CHECK: %v", err)
			}
			a.del(c, r)
			for _, table := range []string{"ip", "ip6"} {
				if left := h.run("nft", "list", "table", table, "bowline"); strings.Contains(left, "8080") || strings.Contains(left, "a/eth0") {
					t.Errorf("DEL left %s", left)
				}
			}
		})
	}
}

// TestNeighboursReachWhatIsPublished: with icc=false they reach each other's
// published ports, at the host's address as everybody does, and nothing else.
// Where bridged packets pass the IP firewall they do not: there the kernel
// translates on the bridge, whose ports are isolated from each other.
func TestNeighboursReachWhatIsPublished(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.try("sysctl", "-w", "net.bridge.bridge-nf-call-iptables=0", "net.bridge.bridge-nf-call-ip6tables=0") // where there are any
	c := network("web", web4, web6).with("icc", false)
	a, b := h.sandbox("a"), h.sandbox("b")
	r := a.add(c.publishing(8080))
	rb := b.add(c)
	a.serve("[::]:80")
	var wg sync.WaitGroup
	for _, family := range []string{"4", "6"} {
		gw := rb.gateway(family)
		wg.Go(func() { b.asks(at(gw, "8080"), true) })
		wg.Go(func() { a.asks(at(gw, "8080"), true) })
		wg.Go(func() { b.asks(at(r.addr(family), "80"), false) })
	}
	wg.Wait()
}
