package e2e

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// TestPublishOptions: who reaches a published port, and is seen how, by the keys
// of the network.
func TestPublishOptions(t *testing.T) {
	const outside, itself, neighbour, host, loopback = "outside", "itself", "neighbour", "host", "loopback"
	gateway := map[string]string{"4": "10.1.0.1", "6": "fd00:1::1"}
	tests := []struct {
		name    string
		options map[string]any
		want    map[string]string // by who asks: as whom it is seen by IPv4, "" for not at all
	}{
		{"none", nil, map[string]string{outside: "192.0.2.2", itself: gateway["4"], neighbour: gateway["4"], host: "192.0.2.1", loopback: gateway["4"]}},
		{"keys of the reference", map[string]any{"backend": "iptables", "markMasqBit": 5, "externalSetMarkChain": "KUBE-MARK-MASQ", "snat": true},
			map[string]string{outside: "192.0.2.2", itself: gateway["4"], neighbour: gateway["4"], host: "192.0.2.1", loopback: gateway["4"]}},
		{"masqAll", map[string]any{"masqAll": true},
			map[string]string{outside: gateway["4"], itself: gateway["4"], neighbour: gateway["4"], host: gateway["4"], loopback: gateway["4"]}},
		{"no snat", map[string]any{"snat": false}, map[string]string{outside: "192.0.2.2", host: "192.0.2.1", loopback: ""}},
		{"conditions of nft", map[string]any{"conditionsV4": []string{"ip", "saddr", "192.0.2.2"}, "conditionsV6": []string{"ip6", "saddr", "2001:db8::2"}},
			map[string]string{outside: "192.0.2.2", itself: "", neighbour: "", host: "", loopback: ""}},
		{"conditions of iptables", map[string]any{"conditionsV4": []string{"!", "-s", "192.0.2.0/24"}, "conditionsV6": []string{"!", "-s", "2001:db8::/32"}},
			map[string]string{outside: "", itself: gateway["4"], neighbour: gateway["4"], host: "", loopback: gateway["4"]}},
		{"conditions on links", map[string]any{"conditionsV4": []string{"-i", "up+"}, "conditionsV6": []string{"iifname", "up*"}},
			map[string]string{outside: "192.0.2.2", itself: "", neighbour: "", host: "", loopback: ""}},
		{"one address", map[string]any{"publishAddress": "127.0.0.1,::1"}, map[string]string{outside: "", host: "", loopback: gateway["4"]}},
		{"an isolated neighbour", map[string]any{"icc": false}, map[string]string{outside: "192.0.2.2", host: "192.0.2.1", neighbour: gateway["4"], loopback: gateway["4"]}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			h.bridgeNetfilter(false) // with it, isolated ports of a bridge never reach each other
			out := h.outside()
			c := network("web", web4, web6)
			for k, v := range tt.options {
				c = c.with(k, v)
			}
			a, b := h.sandbox("a"), h.sandbox("b")
			r := a.add(c.ports(hostPort(8080, 80, "tcp", "")))
			b.add(c)
			// Another network's ports are its own affair.
			d := h.sandbox("d")
			rd := d.add(network("db", db4, db6).ports(hostPort(8081, 80, "tcp", "")))
			d.serve(rd.addr("4") + ":80")
			out.sees("192.0.2.1:8081", "192.0.2.2")
			for _, family := range []string{"4", "6"} {
				a.serve(net.JoinHostPort(r.addr(family), "80"))
				at, lo := "192.0.2.1", "127.0.0.1"
				if family == "6" {
					at, lo = "2001:db8::1", "::1"
				}
				for who, want := range tt.want {
					s, addr := map[string]*sandbox{outside: out, itself: a, neighbour: b, host: h.local(), loopback: h.local()}[who], net.JoinHostPort(at, "8080")
					if who == loopback {
						addr = net.JoinHostPort(lo, "8080")
					}
					if want == "" {
						s.refused(addr)
						continue
					}
					if family == "6" {
						want = strings.NewReplacer("192.0.2.", "2001:db8::", gateway["4"], gateway["6"]).Replace(want)
					}
					s.sees(addr, want)
				}
			}
			if err := a.check(c.ports(hostPort(8080, 80, "tcp", "")), r); err != nil {
				t.Errorf("CHECK: %v", err)
			}
		})
	}
}

// TestWrongPorts: what cannot be published is refused before anything is made.
func TestWrongPorts(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	c := network("web", web4)
	before := h.snapshot()
	for i, tt := range []struct {
		c    conf
		want string
	}{
		{c.with("firewall", "none").with("ipMasq", false).ports(hostPort(80, 80, "tcp", "")), `want option firewall="nft"`},
		{c.with("internal", true).ports(hostPort(80, 80, "tcp", "")), "want a network that is not internal"},
		{c.ports(hostPort(80, 80, "tcp", "::1")), "[::1]:80->80/tcp: ::1 leads to no address of the endpoint; want one of IPv6"},
		{c.ports(hostPort(80, 80, "tcp", ""), hostPort(80, 81, "tcp", "")), "which it overlaps"},
		{c.with("conditionsV4", []string{"-p", "tcp"}).ports(hostPort(80, 80, "tcp", "")), `"-p" is not a match that is known here`},
		{c.with("publish-policy", "closed"), "open, or respect-input"},
		{c.with("publishAddress", "127.0.0.1,127.0.0.2"), "at most one per family"},
	} {
		s := h.sandbox(fmt.Sprintf("s%d", i))
		if _, err := s.tryAdd(tt.c); code(err) != 7 || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("ADD: %v, want code 7 and %s", err, tt.want)
		}
		s.end()
	}
	if err := h.gc(c, []string{}); err != nil {
		t.Fatal(err)
	}
	if d := diff(before, h.snapshot()); d != "" {
		t.Errorf("refused ports left\n%s", d)
	}
}

// TestRespectInput: a published port is reachable from outside only if the
// host's input policy would let a packet to it in; from the host itself always.
func TestRespectInput(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	out := h.outside()
	c := network("web", web4, web6).with("publish-policy", "respect-input")
	a := h.sandbox("a")
	r := a.add(c.ports(hostPort(8080, 80, "tcp", ""), hostPort(8081, 80, "tcp", ""), hostPort(5300, 53, "udp", "")))
	for _, family := range []string{"4", "6"} {
		a.serve(net.JoinHostPort(r.addr(family), "80"))
		a.answerDatagrams(net.JoinHostPort(r.addr(family), "53"))
	}
	// As an administrator would, in a table that knows nothing of containers.
	h.run("nft", `table inet admin { chain input { type filter hook input priority 0; policy drop; iifname "lo" accept; ct state established,related accept; icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept; tcp dport 8080 accept; udp dport 5300 accept; }; }`)
	for _, host := range []string{"192.0.2.1", "2001:db8::1"} {
		out.refused(net.JoinHostPort(host, "8081"))
		began := time.Now()
		out.sees(net.JoinHostPort(host, "8080"), "") // after the second try that TCP makes by itself
		first := time.Since(began)
		began = time.Now()
		out.sees(net.JoinHostPort(host, "8080"), "")
		t.Logf("%s: the first connection took %v, the second %v", host, first, time.Since(began))
		out.seesByUDP(net.JoinHostPort(host, "5300"), "")
		h.local().sees(net.JoinHostPort(host, "8081"), "")
	}
	h.local().sees("127.0.0.1:8081", "")
	h.local().sees("[::1]:8081", "")
	h.run("nft", "delete", "table", "inet", "admin")
	out.sees("192.0.2.1:8081", "192.0.2.2")
}
