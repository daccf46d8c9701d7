package e2e

import (
	"strings"
	"testing"
)

// TestPortsEnd: however an attachment ends, its ports end with it, and those of
// others stay: of the same container on another network, of its neighbours.
func TestPortsEnd(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(h *host, s *sandbox, c conf, r result) error{
		"DEL as specified": func(h *host, s *sandbox, c conf, r result) error {
			return s.tryDel(c.with("prevResult", r.raw), s.path)
		},
		"DEL alone": func(h *host, s *sandbox, c conf, r result) error { return s.tryDel(c.withoutRuntimeConfig(), "") },
		"DEL without capabilities": func(h *host, s *sandbox, c conf, r result) error {
			return s.tryDel(c.withoutRuntimeConfig().with("capabilities", map[string]any{}), "")
		},
		"DEL without record": func(h *host, s *sandbox, c conf, r result) error {
			h.run("rm", "-r", h.dir+"/run/endpoints")
			return s.tryDel(c.withoutRuntimeConfig().with("prevResult", r.raw), "")
		},
		"GC": func(h *host, s *sandbox, c conf, r result) error {
			return h.gc(c.withoutRuntimeConfig(), []string{"b/eth0"})
		},
		"GC without record": func(h *host, s *sandbox, c conf, r result) error {
			h.run("rm", "-r", h.dir+"/run/endpoints")
			return h.gc(c.withoutRuntimeConfig(), []string{"b/eth0"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			out := h.outside()
			web, db := network("web", web4, web6), network("db", db4)
			a, b := h.sandbox("a"), h.sandbox("b")
			rb := b.add(web.ports(hostPort(8081, 80, "tcp", "")))
			other, err := a.tryAddAs(db.ports(hostPort(8082, 81, "tcp", "")), "eth1", "")
			if err != nil {
				t.Fatal(err)
			}
			before := h.run("nft", "list", "ruleset")
			withPorts := web.ports(hostPort(8080, 80, "tcp", ""), hostPort(0, 80, "tcp", "127.0.0.1"), hostPort(5300, 53, "udp", ""))
			ra := a.add(withPorts)
			a.serve(ra.addr("4") + ":80")
			b.serve(rb.addr("4") + ":80")
			a.serve(other.addr("4") + ":81")
			out.sees("192.0.2.1:8080", "192.0.2.2")
			for range 2 {
				if err := end(h, a, withPorts, ra); err != nil && !strings.Contains(err.Error(), "cannot access") {
					t.Fatal(err)
				}
				if name == "DEL without record" || name == "GC without record" {
					break
				}
			}
			if after := h.run("nft", "list", "ruleset"); after != before {
				t.Errorf("the rules are\n%s\nwere\n%s", after, before)
			}
			out.refused("192.0.2.1:8080")
			out.sees("192.0.2.1:8081", "192.0.2.2")
			h.sandbox("c").add(withPorts) // free once more
		})
	}
}

// TestPortsRepaired: what somebody took from published ports, CHECK tells and
// repair brings back.
func TestPortsRepaired(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.bridgeNetfilter(true)
	out := h.outside()
	c := network("web", web4, web6).ports(hostPort(8080, 80, "tcp", ""), hostPort(0, 81, "tcp", ""), hostPort(5300, 53, "udp", "127.0.0.1"))
	a := h.sandbox("a")
	r := a.add(c)
	a.serve(r.addr("4") + ":80")
	whole := h.run("nft", "list", "ruleset")
	for _, harm := range [][]string{
		{"nft", "flush", "ruleset"},
		{"nft", "flush", "map", "ip", "bowline", "port"},
		{"nft", "flush", "map", "ip", "bowline", "port-owner"},
		{"nft", "flush", "map", "ip6", "bowline", "port-hide"},
		{"nft", "flush", "chain", "ip", "bowline", "port-in"},
		{"nft", "delete", "element", "ip", "bowline", "port", "{ tcp . 8080 }"},
		{"sysctl", "-qw", "net.ipv4.conf.br-web.route_localnet=0"},
		{"sh", "-c", "for l in $(ip -o link show master br-web | cut -d: -f2 | cut -d@ -f1); do bridge link set dev $l hairpin off; done"},
	} {
		h.run(harm[0], harm[1:]...)
		if err := a.check(c, r); code(err) != 102 {
			t.Errorf("CHECK after %v: %v, want code 102", harm, err)
		}
		h.run(bin("bowline-bridge"), "repair")
		if err := a.check(c, r); err != nil {
			t.Errorf("CHECK after repair of %v: %v", harm, err)
		}
		if after := h.run("nft", "list", "ruleset"); len(strings.Fields(after)) != len(strings.Fields(whole)) {
			t.Errorf("after repair of %v the rules are\n%s\nwere\n%s", harm, after, whole)
		}
		out.sees("192.0.2.1:8080", "192.0.2.2")
		h.local().sees("127.0.0.1:8080", r.gateway("4"))
		a.sees("192.0.2.1:8080", r.gateway("4"))
	}
}
