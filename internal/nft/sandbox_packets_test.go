package nft_test

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/nft"
)

// TestSandboxPolicyPackets: what a policy of a allows passes and what it denies
// does not, to and from another container of the host and the LAN, and replies
// pass in any case.
func TestSandboxPolicyPackets(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, policy string // B is b's addresses
		probes       [][]probe
	}{
		{"deny ingress", "deny ingress", [][]probe{
			everything("b", "a", false), everything("outside", "a", false), everything("a", "b", true), everything("a", "outside", true),
		}},
		{"deny egress", "deny egress", [][]probe{
			everything("b", "a", true), everything("outside", "a", true), everything("a", "b", false), everything("a", "outside", false),
		}},
		{"ports", "allow ingress tcp 80; deny ingress tcp; allow egress udp 53; deny egress udp", [][]probe{{
			{"b", "a", "tcp", 80, true}, {"b", "a", "tcp", 443, false}, {"outside", "a", "tcp", 443, false}, {"outside", "a", "tcp", 80, true},
			{"b", "a", "udp", 80, true}, {"b", "a", "icmp", 0, true},
			{"a", "b", "udp", 53, true}, {"a", "b", "large", 53, true}, {"a", "b", "udp", 80, false}, {"a", "outside", "large", 80, false},
			{"a", "b", "tcp", 443, true}, {"a", "outside", "icmp", 0, true},
		}}},
		{"protocols", "deny ingress icmp; allow egress icmp; deny egress", [][]probe{{
			{"b", "a", "icmp", 0, false}, {"b", "a", "tcp", 80, true}, {"a", "b", "icmp", 0, true}, {"a", "outside", "icmp", 0, true},
			{"a", "b", "tcp", 80, false}, {"a", "outside", "udp", 53, false},
		}}},
		{"peers", "deny egress to B; allow ingress from B; deny ingress", [][]probe{
			everything("b", "a", true), everything("outside", "a", false), everything("a", "b", false), everything("a", "outside", true),
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := newLAN(t, "a", "b")
			s := nft.OpenSandbox(l.at["a"])
			defer s.Close()
			peers := l.addrs["b"]["4"] + "," + l.addrs["b"]["6"]
			e := nft.Endpoint{ID: "a/eth0", Port: "eth0", Policy: policy(t, strings.ReplaceAll(tt.policy, "B", peers))}
			if err := s.EnsureEndpoint(t.Context(), "lan", e); err != nil {
				t.Fatal(err)
			}
			for _, ps := range tt.probes {
				l.try(t, ps)
			}
			if err := s.DeleteEndpoint(t.Context(), "lan", e.ID); err != nil {
				t.Fatal(err)
			}
			l.try(t, append(everything("outside", "a", true), everything("a", "b", true)...))
		})
	}
}

// TestSandboxPolicyCounts: each rule counts the packets that it decided about,
// and the first of each connection that it allowed.
func TestSandboxPolicyCounts(t *testing.T) {
	t.Parallel()
	l := newLAN(t, "a")
	s := nft.OpenSandbox(l.at["a"])
	defer s.Close()
	e := nft.Endpoint{ID: "a/eth0", Port: "eth0", Policy: policy(t, "deny egress udp 80; allow egress tcp 80; allow ingress udp 53; deny ingress tcp 443")}
	if err := s.EnsureEndpoint(t.Context(), "lan", e); err != nil {
		t.Fatal(err)
	}
	for family, addr := range l.addrs["outside"] {
		for range 10 {
			if err := exchange(10*time.Second, l.at["a"], "tcp", net.JoinHostPort(addr, "80"), "hello"); err != nil {
				t.Error(err)
			}
			if err := exchange(10*time.Second, l.outside, "udp", net.JoinHostPort(l.addrs["a"][family], "53"), "hello"); err != nil {
				t.Error(err)
			}
			if err := netns.Do(l.at["a"], func() error {
				c, err := net.Dial("udp", net.JoinHostPort(addr, "80"))
				if err != nil {
					return err
				}
				defer c.Close()
				_, err = c.Write([]byte("hello"))
				return err
			}); err != nil {
				t.Error(err)
			}
		}
	}
	hits, err := s.PolicyHits(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []uint64
	for _, h := range hits["eth0"] {
		got = append(got, h.Packets)
	}
	// A router solicitation or the like may be let out by no rule.
	if len(got) != 6 || fmt.Sprint(got[:5]) != "[20 20 20 0 0]" {
		t.Errorf("packets are %v, want 20 20 20 0 0 and any", got)
	}
	if bytes := hits["eth0"][0].Bytes; bytes != 10*(14+20+8+5)+10*(14+40+8+5) {
		t.Errorf("10 datagrams by each family count as %d bytes", bytes)
	}
}

// TestSandboxPolicyReplaced: another policy decides about connections that are
// there, too.
func TestSandboxPolicyReplaced(t *testing.T) {
	t.Parallel()
	l := newLAN(t, "a")
	s := nft.OpenSandbox(l.at["a"])
	defer s.Close()
	e := nft.Endpoint{ID: "a/eth0", Port: "eth0", Policy: policy(t, "allow egress tcp 80; deny egress; deny ingress")}
	if err := s.EnsureEndpoint(t.Context(), "lan", e); err != nil {
		t.Fatal(err)
	}
	for _, addr := range l.addrs["outside"] {
		var c net.Conn
		if err := netns.Do(l.at["a"], func() (err error) {
			c, err = net.DialTimeout("tcp", net.JoinHostPort(addr, "80"), 10*time.Second)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		talks := func(want bool) {
			t.Helper()
			patience := 500 * time.Millisecond
			if want {
				patience = 20 * time.Second
			}
			if err := again(c, "tcp", time.Now().Add(patience), "hello"); (err == nil) != want {
				t.Errorf("%s: %v, want it to pass: %v", addr, err, want)
			}
		}
		talks(true)
		other := e
		other.Policy = policy(t, "deny egress; deny ingress")
		if err := s.ReplacePolicy(t.Context(), "lan", other); err != nil {
			t.Fatal(err)
		}
		talks(false)
		if err := s.ReplacePolicy(t.Context(), "lan", e); err != nil {
			t.Fatal(err)
		}
	}
}
