package nft_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
	"github.com/bowline-net/bowline/internal/nft"
)

func policy(t testing.TB, text string) []bowline.PolicyRule {
	t.Helper()
	rules, err := bowline.ParsePolicy("test", text)
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

func TestPolicyComesAndGoes(t *testing.T) {
	t.Parallel()
	ns := netnstest.New(t)
	h := nft.Open(ns)
	a, b, c := c1, c1, c1
	a.ID, a.Port, a.Policy = "a/eth0", "bwoa", policy(t, "allow ingress tcp 80,443 from 10.0.0.0/8; deny ingress from ::/0; deny ingress")
	b.ID, b.Port, b.Policy = "b/eth0", "bwob", a.Policy
	c.ID, c.Port, c.Policy = "c/eth0", "bwoc", policy(t, "deny egress icmp to fd00::/8; deny egress sctp")
	before := ""
	for i, e := range []nft.Endpoint{a, a, b, c} { // the second time is no change
		if err := h.EnsureEndpoint(t.Context(), web, e); err != nil {
			t.Fatal(err)
		}
		switch rules := ruleset(t, ns); i {
		case 0:
			before = rules
		case 1:
			if rules != before {
				t.Errorf("the second time changed the ruleset:\n%s\nwas:\n%s", rules, before)
			}
		}
	}
	rules := ruleset(t, ns)
	for _, want := range []string{
		"10.0.0.0/8 . tcp . 80 comment", "update @policy-flows4 { iifname . ip daddr . meta l4proto . tcp sport . tcp dport timeout 5d } accept", "iifname vmap @policy-from", "oifname vmap @policy-to",
		"b/eth0 web", "counter packets 0 bytes 0",
	} {
		if !strings.Contains(rules, want) {
			t.Errorf("ruleset lacks %q", want)
		}
	}
	if t.Failed() {
		t.Log(rules)
	}
	save := exec.Command("nft", "-c", "-f", "-")
	save.Stdin = strings.NewReader(rules)
	if err := netns.Do(netnstest.New(t), func() error {
		if out, err := save.CombinedOutput(); err != nil {
			t.Errorf("nft cannot read its own listing: %s", out)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := h.CheckEndpoint(t.Context(), web, b); err != nil {
		t.Errorf("CheckEndpoint: %v", err)
	}
	// The plan stays as long as somebody has it.
	if err := h.DeleteEndpoint(t.Context(), web, a); err != nil {
		t.Fatal(err)
	}
	for _, e := range []nft.Endpoint{b, c} {
		if err := h.CheckEndpoint(t.Context(), web, e); err != nil {
			t.Errorf("CheckEndpoint after another has gone: %v", err)
		}
	}
	if err := h.DeleteEndpoint(t.Context(), web, b); err != nil {
		t.Fatal(err)
	}
	if rules := ruleset(t, ns); strings.Contains(rules, "bwob") || strings.Contains(rules, "10.255.255.255") || !strings.Contains(rules, "bwoc") {
		t.Errorf("b left something, or took what is c's: %s", rules)
	}
	for range 2 {
		if err := h.DeleteEndpoint(t.Context(), web, c); err != nil {
			t.Fatal(err)
		}
	}
	if rules := ruleset(t, ns); strings.Contains(rules, "policy-") || strings.Contains(rules, "bwoc") {
		t.Errorf("the last policy left something: %s", rules)
	}
}

// A policy whose record is lost goes by comment, and with its network.
func TestPolicyGoesWithoutRecord(t *testing.T) {
	t.Parallel()
	e := c1
	e.MAC, e.Policy = nil, policy(t, "deny egress")
	for name, remove := range map[string]func(*nft.Handle) error{
		"by ID": func(h *nft.Handle) error {
			err := h.DeleteEndpoint(t.Context(), nft.Network{ID: "web"}, nft.Endpoint{ID: e.ID})
			return errors.Join(err, h.DeleteNetwork(t.Context(), web))
		},
		"others": func(h *nft.Handle) error {
			err := h.DeleteOthers(t.Context(), "web", []string{"c9/eth0"})
			return errors.Join(err, h.DeleteNetwork(t.Context(), web))
		},
		"network": func(h *nft.Handle) error { return h.DeleteNetwork(t.Context(), web) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := netnstest.New(t)
			h := nft.Open(ns)
			if err := h.EnsureEndpoint(t.Context(), web, e); err != nil {
				t.Fatal(err)
			}
			if err := remove(h); err != nil {
				t.Fatal(err)
			}
			if rules := ruleset(t, ns); rules != "" {
				t.Errorf("left: %s", rules)
			}
		})
	}
}

func TestPolicyCheckSees(t *testing.T) {
	t.Parallel()
	e := c1
	e.Policy = policy(t, "deny egress to 10.0.0.0/8; allow ingress tcp 80; deny ingress")
	for _, damage := range []string{
		"delete element bridge bowline policy-from { bwo1 }",
		"flush map bridge bowline PLAN-2",
		"flush map bridge bowline PLAN-ingress-4",
		"flush chain bridge bowline policy-remember-egress4",
		"flush chain bridge bowline policy-egress",
	} {
		t.Run(damage, func(t *testing.T) {
			t.Parallel()
			ns := netnstest.New(t)
			h := nft.Open(ns)
			if err := h.EnsureEndpoint(t.Context(), web, e); err != nil {
				t.Fatal(err)
			}
			_, plan, _ := strings.Cut(ruleset(t, ns), `: goto policy-`)
			netnstest.Command(t, ns, "nft", strings.Replace(damage, "PLAN", "policy-"+plan[:12], 1))
			if err := h.CheckEndpoint(t.Context(), web, e); !errors.Is(err, bowline.ErrDiffers) || !strings.Contains(err.Error(), "policy-") {
				t.Errorf("CheckEndpoint: %v", err)
			}
		})
	}
}

// A policy of thousands of rules goes in and out by one transaction each.
func TestPolicyOfThousands(t *testing.T) {
	t.Parallel()
	ns := netnstest.New(t)
	h := nft.Open(ns)
	e := c1
	for i := range bowline.MaxPolicyRules {
		e.Policy = append(e.Policy, bowline.PolicyRule{Action: "deny", Direction: "egress", Protocol: "tcp", Ports: []bowline.PortRange{{First: 80, Last: 80}},
			Peers: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 26)}})
	}
	if err := h.EnsureEndpoint(t.Context(), web, e); !errors.Is(err, bowline.ErrInvalid) || !strings.Contains(err.Error(), "more than 16384") {
		t.Fatalf("too many boxes: %v", err)
	}
	if rules := ruleset(t, ns); rules != "" {
		t.Fatalf("a refused policy left: %s", rules)
	}
	e.Policy = e.Policy[:2000]
	if err := h.EnsureEndpoint(t.Context(), web, e); err != nil {
		t.Fatal(err)
	}
	if err := h.CheckEndpoint(t.Context(), web, e); err != nil {
		t.Error(err)
	}
	hits, err := h.PolicyHits(t.Context())
	if err != nil || len(hits[e.Port]) != 2002 {
		t.Errorf("%d hits, %v; want 2002", len(hits[e.Port]), err)
	}
	if err := h.DeleteEndpoint(t.Context(), web, e); err != nil {
		t.Fatal(err)
	}
	if rules := ruleset(t, ns); strings.Contains(rules, "policy-") {
		t.Errorf("left something")
	}
}

// Policies that come and go at once, equal ones among them, do not take each
// other's plans away.
func TestPoliciesAtOnce(t *testing.T) {
	t.Parallel()
	ns := netnstest.New(t)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			h := nft.Open(ns)
			defer h.Close()
			e := nft.Endpoint{ID: fmt.Sprint(i), Port: fmt.Sprint("bwo", i), Policy: policy(t, fmt.Sprintf("deny egress tcp %d", 1+i%3))}
			for range 10 {
				if err := h.EnsureEndpoint(t.Context(), web, e); err != nil {
					t.Errorf("EnsureEndpoint %d: %v", i, err)
				}
				if err := h.CheckEndpoint(t.Context(), web, e); err != nil {
					t.Errorf("CheckEndpoint %d: %v", i, err)
				}
				if err := h.DeleteEndpoint(t.Context(), web, e); err != nil {
					t.Errorf("DeleteEndpoint %d: %v", i, err)
				}
			}
		})
	}
	all.Wait()
	if rules := ruleset(t, ns); strings.Contains(rules, "policy-") {
		t.Errorf("left: %s", rules)
	}
}

// What replaces a policy is all that is left, whatever was there before.
func TestReplacePolicy(t *testing.T) {
	t.Parallel()
	ns := netnstest.New(t)
	h := nft.Open(ns)
	a, b := c1, c1
	a.Policy = policy(t, "deny egress tcp 80; deny ingress")
	b.ID, b.Port, b.Policy = "b/eth0", "bwob", a.Policy
	for _, e := range []nft.Endpoint{a, b} {
		if err := h.EnsureEndpoint(t.Context(), web, e); err != nil {
			t.Fatal(err)
		}
	}
	for _, rules := range []string{"deny egress tcp 443", "", "deny egress tcp 80; deny ingress", "deny egress tcp 80; deny ingress"} {
		a.Policy = policy(t, rules)
		if err := h.ReplacePolicy(t.Context(), web, a); err != nil {
			t.Fatalf("%q: %v", rules, err)
		}
		for _, e := range []nft.Endpoint{a, b} {
			if err := h.CheckEndpoint(t.Context(), web, e); err != nil {
				t.Errorf("%q: %v", rules, err)
			}
		}
		if got := strings.Contains(ruleset(t, ns), "tcp . 443"); got != (rules == "deny egress tcp 443") {
			t.Errorf("%q: the plan for port 443 is there: %v", rules, got)
		}
	}
	if n := strings.Count(ruleset(t, ns), `"bwo1" counter`); n != 4 {
		t.Errorf("%d counters of a, want 4", n)
	}
	b.Policy = []bowline.PolicyRule{{Action: "deny", Direction: "egress"}}
	if err := h.EnsureEndpoint(t.Context(), web, b); !errors.Is(err, bowline.ErrConflict) {
		t.Errorf("another policy by EnsureEndpoint: %v, want ErrConflict", err)
	}
}
