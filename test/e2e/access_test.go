package e2e

import (
	"errors"
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
