package nft

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/bowline-net/bowline"
)

// shown prints boxes as one line each: peers protocols ports -> rule.
func (b box) String() string {
	return fmt.Sprintf("%s-%s %d-%d %d-%d -> %d", b.peers[0], b.peers[1], b.protos[0], b.protos[1], b.ports[0], b.ports[1], b.rule)
}

func TestPlanPolicy(t *testing.T) {
	t.Parallel()
	const end = "255.255.255.255"
	tests := []struct {
		name, policy string
		want         []string // of ingress
		other        uint32
	}{
		{"none", "", []string{"0.0.0.0-" + end + " 0-255 0-65535 -> 0"}, 0},
		{"other direction", "deny egress", []string{"0.0.0.0-" + end + " 0-255 0-65535 -> 1"}, 1},
		{"all", "deny ingress; allow ingress tcp", []string{"0.0.0.0-" + end + " 0-255 0-65535 -> 0"}, 0},
		{"peers", "allow ingress from 10.0.0.0/8; deny ingress from 10.0.0.0/7; deny ingress", []string{
			"0.0.0.0-9.255.255.255 0-255 0-65535 -> 2",
			"10.0.0.0-10.255.255.255 0-255 0-65535 -> 0",
			"11.0.0.0-11.255.255.255 0-255 0-65535 -> 1",
			"12.0.0.0-" + end + " 0-255 0-65535 -> 2",
		}, 2},
		{"the last address", "deny ingress from " + end, []string{
			"0.0.0.0-255.255.255.254 0-255 0-65535 -> 1",
			end + "-" + end + " 0-255 0-65535 -> 0",
		}, 1},
		{"neighbours become one", "deny ingress from 10.0.0.0/9,10.128.0.0/9,10.1.0.0/16", []string{
			"0.0.0.0-9.255.255.255 0-255 0-65535 -> 1",
			"10.0.0.0-10.255.255.255 0-255 0-65535 -> 0",
			"11.0.0.0-" + end + " 0-255 0-65535 -> 1",
		}, 1},
		{"ports", "allow ingress tcp 80,81,443; deny ingress tcp", []string{
			"0.0.0.0-" + end + " 0-5 0-65535 -> 2",
			"0.0.0.0-" + end + " 6-6 0-79 -> 1",
			"0.0.0.0-" + end + " 6-6 80-81 -> 0",
			"0.0.0.0-" + end + " 6-6 82-442 -> 1",
			"0.0.0.0-" + end + " 6-6 443-443 -> 0",
			"0.0.0.0-" + end + " 6-6 444-65535 -> 1",
			"0.0.0.0-" + end + " 7-255 0-65535 -> 2",
		}, 2},
		{"peers of the other family", "deny ingress from ::/0; allow ingress from fd00::1,10.0.0.1", []string{
			"0.0.0.0-10.0.0.0 0-255 0-65535 -> 2",
			"10.0.0.1-10.0.0.1 0-255 0-65535 -> 1",
			"10.0.0.2-" + end + " 0-255 0-65535 -> 2",
		}, 2},
		{"ICMP is of both families", "allow ingress icmp; deny ingress", []string{
			"0.0.0.0-" + end + " 0-0 0-65535 -> 1",
			"0.0.0.0-" + end + " 1-1 0-65535 -> 0",
			"0.0.0.0-" + end + " 2-57 0-65535 -> 1",
			"0.0.0.0-" + end + " 58-58 0-65535 -> 0",
			"0.0.0.0-" + end + " 59-255 0-65535 -> 1",
		}, 1},
		{"the last port", "deny ingress udp 65535", []string{
			"0.0.0.0-" + end + " 0-16 0-65535 -> 1",
			"0.0.0.0-" + end + " 17-17 0-65534 -> 1",
			"0.0.0.0-" + end + " 17-17 65535-65535 -> 0",
			"0.0.0.0-" + end + " 18-255 0-65535 -> 1",
		}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			rules, err := bowline.ParsePolicy("here", tt.policy)
			if err != nil {
				t.Fatal(err)
			}
			p, err := planPolicy(rules, ingress, false)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, b := range p.boxes {
				got = append(got, b.String())
			}
			if !slices.Equal(got, tt.want) || p.other != tt.other {
				t.Errorf("boxes:\n%s\nother %d; want:\n%s\nother %d", strings.Join(got, "\n"), p.other, strings.Join(tt.want, "\n"), tt.other)
			}
		})
	}
}

func TestPlanPolicyBound(t *testing.T) {
	t.Parallel()
	var rules []bowline.PolicyRule
	for i := range bowline.MaxPolicyRules {
		// Rows of ports for everybody, before peers that have each row of their own.
		r := bowline.PolicyRule{Action: "deny", Direction: egress, Protocol: "tcp", Ports: []bowline.PortRange{{First: uint16(2*i + 1), Last: uint16(2*i + 1)}}}
		if i >= 100 {
			r.Peers = []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)}
		}
		rules = append(rules, r)
	}
	if _, err := planPolicy(rules, egress, false); !errors.Is(err, bowline.ErrInvalid) || !strings.Contains(err.Error(), "egress rules come to more than 16384 disjoint ranges") {
		t.Errorf("planPolicy: %v", err)
	}
	if p, err := planPolicy(rules, ingress, false); err != nil || len(p.boxes) != 1 {
		t.Errorf("the other direction: %v, %v", p, err)
	}
}

// FuzzPlanPolicy looks random packets up in the boxes of random policies, and
// compares with the rules one by one.
func FuzzPlanPolicy(f *testing.F) {
	for seed := range uint64(200) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 1))
		rules := randomPolicy(r)
		plans := [2]plan{}
		for i, v6 := range []bool{false, true} {
			var err error
			if plans[i], err = planPolicy(rules, ingress, v6); err != nil {
				t.Fatal(err)
			}
		}
		for range 200 {
			addr, proto, port := randomAddr(r), []byte{0, 1, 6, 17, 47, 58, 132, 255}[r.IntN(8)], uint16(r.IntN(12))
			if !hasPorts(proto) {
				port = 0
			}
			want := first(rules, addr, proto, port)
			var got []uint32
			p := plans[0]
			if addr.Is6() {
				p = plans[1]
			}
			for _, b := range p.boxes {
				if b.peers[0].Compare(addr) <= 0 && addr.Compare(b.peers[1]) <= 0 && b.protos[0] <= proto && proto <= b.protos[1] && b.ports[0] <= port && port <= b.ports[1] {
					got = append(got, b.rule)
				}
			}
			if !slices.Equal(got, []uint32{want}) {
				t.Fatalf("%v: %s protocol %d port %d: rules %v, want %d", rules, addr, proto, port, got, want)
			}
		}
	})
}

func randomAddr(r *rand.Rand) netip.Addr {
	if r.IntN(2) == 0 {
		return netip.AddrFrom4([4]byte{10, byte(r.IntN(2)), byte(r.IntN(3)), byte(r.IntN(4))})
	}
	return netip.AddrFrom16([16]byte{0: byte(0xfe + r.IntN(2)), 15: byte(r.IntN(6))})
}

func randomPolicy(r *rand.Rand) (rules []bowline.PolicyRule) {
	for range r.IntN(8) {
		rule := bowline.PolicyRule{Action: "deny", Direction: []string{ingress, egress}[r.IntN(2)], Protocol: []string{"", "tcp", "udp", "sctp", "icmp"}[r.IntN(5)]}
		for range r.IntN(3) {
			a := randomAddr(r)
			p, _ := a.Prefix(r.IntN(a.BitLen() + 1))
			rule.Peers = append(rule.Peers, p)
		}
		if rule.Protocol != "" && rule.Protocol != "icmp" {
			for range r.IntN(3) {
				lo := uint16(1 + r.IntN(9))
				rule.Ports = append(rule.Ports, bowline.PortRange{First: lo, Last: lo + uint16(r.IntN(4))})
			}
		}
		rules = append(rules, rule)
	}
	return rules
}

// first is the rule that a packet meets, by looking at one after the other.
func first(rules []bowline.PolicyRule, addr netip.Addr, proto byte, port uint16) uint32 {
	for i, r := range rules {
		n := number(r, 0, addr.Is6())
		if r.Direction == ingress &&
			(r.Peers == nil || slices.ContainsFunc(r.Peers, func(p netip.Prefix) bool { return p.Contains(addr) })) &&
			(n.protos == nil || slices.Contains(n.protos, proto)) &&
			(r.Ports == nil || slices.ContainsFunc(r.Ports, func(p bowline.PortRange) bool { return p.First <= port && port <= p.Last })) {
			return uint32(i)
		}
	}
	return noRule(rules, ingress)
}

func BenchmarkPlanPolicy(b *testing.B) {
	var rules []bowline.PolicyRule
	for i := range 1000 {
		rules = append(rules, bowline.PolicyRule{Action: "deny", Direction: egress, Protocol: "tcp", Ports: []bowline.PortRange{{First: 80, Last: 90}},
			Peers: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)}})
	}
	for b.Loop() {
		if _, err := planPolicy(rules, egress, false); err != nil {
			b.Fatal(err)
		}
	}
}
