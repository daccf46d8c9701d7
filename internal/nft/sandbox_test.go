package nft_test

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
	"github.com/bowline-net/bowline/internal/nft"
)

// sandbox returns a namespace with links of these names.
func sandbox(t testing.TB, links ...string) *netns.Handle {
	t.Helper()
	ns := netnstest.New(t)
	for _, name := range links {
		netnstest.Command(t, ns, "ip", "link", "add", name, "type", "veth", "peer", "name", "p"+name)
	}
	return ns
}

// checkInside compares the endpoint's policy in the sandbox.
func checkInside(t testing.TB, s *nft.Sandbox, network string, e nft.Endpoint) []bowline.Difference {
	t.Helper()
	look, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer look.Close()
	found, err := look.DiffEndpoint(t.Context(), nft.Network{ID: network}, e)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestSandboxPolicyComesAndGoes: two networks' endpoints share the sandbox's
// table, and the last takes it along.
func TestSandboxPolicyComesAndGoes(t *testing.T) {
	t.Parallel()
	ns := sandbox(t, "eth0", "net1")
	s := nft.OpenSandbox(ns)
	defer s.Close()
	a := nft.Endpoint{ID: "c/eth0", Port: "eth0", Policy: policy(t, "allow ingress tcp 80 from 10.0.0.0/8; deny ingress; deny egress udp")}
	b := nft.Endpoint{ID: "c/net1", Port: "net1", Policy: policy(t, "deny egress icmp")}
	none := nft.Endpoint{ID: "c/net2", Port: "net2"}
	ensure := func(network string, e nft.Endpoint) {
		t.Helper()
		if err := s.EnsureEndpoint(t.Context(), network, e); err != nil {
			t.Fatal(err)
		}
	}
	ensure("lan", none)
	if rules := ruleset(t, ns); rules != "" {
		t.Errorf("without a policy there is %s", rules)
	}
	ensure("lan", a)
	before := ruleset(t, ns)
	ensure("lan", a)
	if rules := ruleset(t, ns); rules != before {
		t.Errorf("the second time changed the ruleset:\n%s\nwas:\n%s", rules, before)
	}
	ensure("dmz", b)
	rules := ruleset(t, ns)
	for _, want := range []string{
		"table netdev bowline", `type filter hook egress device "eth0" priority filter; policy accept;`, `type filter hook ingress device "net1"`,
		"oifname vmap @policy-from", "iifname vmap @policy-to", "meta protocol ip @ll,96,16 0x800 oifname vmap @policy-from", "c/net1 dmz", "counter packets 0 bytes 0 comment",
	} {
		if !strings.Contains(rules, want) {
			t.Errorf("ruleset lacks %q", want)
		}
	}
	if strings.Contains(rules, "translated") || strings.Contains(rules, "policy-deny") || strings.Contains(rules, "policy-links") {
		t.Error("ruleset has what only bridges need")
	}
	if t.Failed() {
		t.Log(rules)
	}
	read := exec.Command("nft", "-c", "-f", "-")
	read.Stdin = strings.NewReader(rules)
	if err := netns.Do(sandbox(t, "eth0", "net1"), func() error {
		if out, err := read.CombinedOutput(); err != nil {
			t.Errorf("nft cannot read its own listing: %s", out)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if found := append(checkInside(t, s, "lan", a), checkInside(t, s, "dmz", b)...); len(found) > 0 {
		t.Errorf("differs: %v", found)
	}
	remove := func(network, endpoint string) {
		t.Helper()
		for range 2 {
			if err := s.DeleteEndpoint(t.Context(), network, endpoint); err != nil {
				t.Fatal(err)
			}
		}
	}
	remove("dmz", a.ID) // another network's
	if found := checkInside(t, s, "lan", a); len(found) > 0 {
		t.Errorf("another network's endpoint took a's policy: %v", found)
	}
	remove("lan", a.ID)
	if rules := ruleset(t, ns); strings.Contains(rules, "eth0") || strings.Contains(rules, "10.0.0.0/8") {
		t.Errorf("a left something: %s", rules)
	}
	if found := checkInside(t, s, "dmz", b); len(found) > 0 {
		t.Errorf("a took what is b's: %v", found)
	}
	remove("dmz", b.ID)
	if rules := ruleset(t, ns); rules != "" {
		t.Errorf("the last policy left: %s", rules)
	}
}

// TestSandboxReplacePolicy: what replaces a policy is all that is left.
func TestSandboxReplacePolicy(t *testing.T) {
	t.Parallel()
	ns := sandbox(t, "eth0", "net1")
	s := nft.OpenSandbox(ns)
	defer s.Close()
	a := nft.Endpoint{ID: "c/eth0", Port: "eth0", Policy: policy(t, "deny egress tcp 80")}
	b := nft.Endpoint{ID: "c/net1", Port: "net1", Policy: a.Policy}
	for _, e := range []nft.Endpoint{a, b} {
		if err := s.EnsureEndpoint(t.Context(), "lan", e); err != nil {
			t.Fatal(err)
		}
	}
	other := a
	other.Policy = policy(t, "deny egress tcp 443")
	if err := s.EnsureEndpoint(t.Context(), "lan", other); !errors.Is(err, bowline.ErrConflict) {
		t.Errorf("another policy by EnsureEndpoint: %v, want ErrConflict", err)
	}
	for _, rules := range []string{"deny egress tcp 443", "", "deny egress tcp 80", "deny egress tcp 80"} {
		a.Policy = policy(t, rules)
		if err := s.ReplacePolicy(t.Context(), "lan", a); err != nil {
			t.Fatalf("%q: %v", rules, err)
		}
		if found := append(checkInside(t, s, "lan", a), checkInside(t, s, "lan", b)...); len(found) > 0 {
			t.Errorf("%q: %v", rules, found)
		}
		have := ruleset(t, ns)
		if got := strings.Contains(have, "443"); got != (rules == "deny egress tcp 443") {
			t.Errorf("%q: the plan for port 443 is there: %v", rules, got)
		}
		if got := strings.Contains(have, `device "eth0"`); got != (rules != "") {
			t.Errorf("%q: hooks are there: %v", rules, got)
		}
	}
	renamed := a
	renamed.Port = "peth0"
	if err := s.ReplacePolicy(t.Context(), "lan", renamed); err != nil {
		t.Fatal(err)
	}
	if rules := ruleset(t, ns); strings.Contains(rules, `"eth0"`) {
		t.Errorf("the policy at another link left: %s", rules)
	}
	for _, e := range []nft.Endpoint{a, b} {
		e.Policy = nil
		if err := s.ReplacePolicy(t.Context(), "lan", e); err != nil {
			t.Fatal(err)
		}
	}
	if rules := ruleset(t, ns); rules != "" {
		t.Errorf("no policies left: %s", rules)
	}
}

// breakAtEach breaks f at each step where it asks its context; then left must
// say what it said before.
func breakAtEach(t *testing.T, what string, left func() string, f func(context.Context) error) {
	t.Helper()
	before := left()
	for steps := 0; ; steps++ {
		err := f(netnstest.FailAfter(t.Context(), steps))
		if err == nil {
			if steps == 0 {
				t.Errorf("%s asks no context", what)
			}
			return
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("%s broken at step %d: %v", what, steps, err)
		}
		if after := left(); after != before {
			t.Fatalf("%s broken at step %d left\n%s\nwas\n%s", what, steps, after, before)
		}
	}
}

func TestSandboxBrokenAtEachStep(t *testing.T) {
	t.Parallel()
	ns := sandbox(t, "eth0")
	s := nft.OpenSandbox(ns)
	defer s.Close()
	left := func() string { return ruleset(t, ns) }
	e := nft.Endpoint{ID: "c/eth0", Port: "eth0", Policy: policy(t, "deny egress tcp 80")}
	breakAtEach(t, "EnsureEndpoint", left, func(ctx context.Context) error { return s.EnsureEndpoint(ctx, "lan", e) })
	e.Policy = policy(t, "deny egress tcp 443")
	breakAtEach(t, "ReplacePolicy", left, func(ctx context.Context) error { return s.ReplacePolicy(ctx, "lan", e) })
	netnstest.Command(t, ns, "nft", "flush ruleset")
	breakAtEach(t, "RepairEndpoint", left, func(ctx context.Context) error {
		look, err := s.Snapshot(ctx)
		if err != nil {
			return err
		}
		defer look.Close()
		_, err = look.RepairEndpoint(ctx, nft.Network{ID: "lan"}, e)
		return err
	})
	breakAtEach(t, "PolicyHits", left, func(ctx context.Context) error { _, err := s.PolicyHits(ctx); return err })
	breakAtEach(t, "DeleteEndpoint", left, func(ctx context.Context) error { return s.DeleteEndpoint(ctx, "lan", e.ID) })
	if rules := left(); rules != "" {
		t.Errorf("left: %s", rules)
	}
	// A policy that the kernel would not take leaves nothing either.
	for i := range bowline.MaxPolicyRules {
		e.Policy = append(e.Policy, policy(t, fmt.Sprintf("deny egress tcp 80 to 10.%d.%d.0/26", i>>8, i&255))...)
	}
	if err := s.EnsureEndpoint(t.Context(), "lan", e); !errors.Is(err, bowline.ErrInvalid) {
		t.Errorf("too many rules: %v", err)
	}
	if rules := left(); rules != "" {
		t.Errorf("a refused policy left: %s", rules)
	}
}

// TestSandboxesAtOnce: endpoints that come and go at once in a sandbox, with
// handles as different processes have them, do not take each other's policies
// away, and the last takes the table.
func TestSandboxesAtOnce(t *testing.T) {
	t.Parallel()
	var names []string
	for i := range 8 {
		names = append(names, fmt.Sprint("e", i))
	}
	ns := sandbox(t, names...)
	var all sync.WaitGroup
	for i, name := range names {
		all.Go(func() {
			s := nft.OpenSandbox(ns)
			defer s.Close()
			e := nft.Endpoint{ID: name, Port: name, Policy: policy(t, fmt.Sprintf("deny egress tcp %d", 1+i%3))}
			for range 10 {
				if err := s.EnsureEndpoint(t.Context(), "lan", e); err != nil {
					t.Errorf("EnsureEndpoint %d: %v", i, err)
				}
				if found := checkInside(t, s, "lan", e); len(found) > 0 {
					t.Errorf("endpoint %d differs: %v", i, found)
				}
				if err := s.DeleteEndpoint(t.Context(), "lan", e.ID); err != nil {
					t.Errorf("DeleteEndpoint %d: %v", i, err)
				}
			}
		})
	}
	all.Wait()
	if rules := ruleset(t, ns); rules != "" {
		t.Errorf("left: %s", rules)
	}
}

// TestSandboxNobodyWaits: a container can lock its own namespace for as long as it
// likes, and keeps nobody waiting.
func TestSandboxNobodyWaits(t *testing.T) {
	t.Parallel()
	ns := sandbox(t, "eth0")
	fd, err := unix.Open(nsPath(ns), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Flock(fd, unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	s := nft.OpenSandbox(ns)
	defer s.Close()
	e := nft.Endpoint{ID: "c/eth0", Port: "eth0", Policy: policy(t, "deny egress")}
	if err := errors.Join(s.EnsureEndpoint(t.Context(), "lan", e), s.ReplacePolicy(t.Context(), "lan", e), s.DeleteEndpoint(t.Context(), "lan", e.ID)); err != nil {
		t.Error(err)
	}
}

// TestSandboxStranger: a table of our name with nothing of ours is the
// container's.
func TestSandboxStranger(t *testing.T) {
	t.Parallel()
	ns := sandbox(t, "eth0")
	netnstest.Command(t, ns, "nft", "table netdev bowline { set x { type ether_addr; }; chain egress-x { }; }")
	before := ruleset(t, ns)
	s := nft.OpenSandbox(ns)
	defer s.Close()
	e := nft.Endpoint{ID: "c/eth0", Port: "eth0", Policy: policy(t, "deny egress")}
	look, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer look.Close()
	_, repaired := look.RepairEndpoint(t.Context(), nft.Network{ID: "lan"}, e)
	for what, err := range map[string]error{
		"EnsureEndpoint": s.EnsureEndpoint(t.Context(), "lan", e), "ReplacePolicy": s.ReplacePolicy(t.Context(), "lan", e), "RepairEndpoint": repaired,
	} {
		if !errors.Is(err, bowline.ErrConflict) || !strings.Contains(err.Error(), "table netdev bowline is somebody else's") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := s.DeleteEndpoint(t.Context(), "lan", e.ID); err != nil {
		t.Error(err)
	}
	if rules := ruleset(t, ns); rules != before {
		t.Errorf("the table is now %s, was %s", rules, before)
	}
	// What the container adds to ours stays, too.
	netnstest.Command(t, ns, "nft", "delete table netdev bowline")
	if err := s.EnsureEndpoint(t.Context(), "lan", e); err != nil {
		t.Fatal(err)
	}
	netnstest.Command(t, ns, "nft", "add set netdev bowline mine { type ether_addr; }")
	if err := s.DeleteEndpoint(t.Context(), "lan", e.ID); err != nil {
		t.Fatal(err)
	}
	if rules := ruleset(t, ns); !strings.Contains(rules, "set mine") || strings.Contains(rules, "policy") || strings.Contains(rules, "chain") {
		t.Errorf("want the container's set alone: %s", rules)
	}
}

// BenchmarkSandboxEndpoint is what a policy adds to an ADD and a DEL.
func BenchmarkSandboxEndpoint(b *testing.B) {
	ns := sandbox(b, "eth0")
	s := nft.OpenSandbox(ns)
	defer s.Close()
	e := nft.Endpoint{ID: "c/eth0", Port: "eth0", Policy: policy(b, "allow ingress tcp 80,443; deny ingress; deny egress to 10.0.0.0/8")}
	for b.Loop() {
		if err := errors.Join(s.EnsureEndpoint(b.Context(), "lan", e), s.DeleteEndpoint(b.Context(), "lan", e.ID)); err != nil {
			b.Fatal(err)
		}
	}
}
