package nft_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
	"github.com/bowline-net/bowline/internal/nft"
	"github.com/bowline-net/bowline/internal/plan"
)

// TestSandboxRepair: each harm is told and made right.
func TestSandboxRepair(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, harm, want string
	}{
		{"nothing", "list ruleset", ""},
		{"all", "flush ruleset", `firewall has no table, want netdev bowline`},
		// What the kernel before 6.16 does when the link goes.
		{"hooks", "delete chain netdev bowline egress-eth0; delete chain netdev bowline ingress-eth0", `chain egress-eth0 of table netdev bowline has no rules, want ip, frame too, oifname vmap @policy-from; ip6, frame too, oifname vmap @policy-from; arp, frame too, oifname vmap @policy-from; oifname vmap @policy-other`},
		{"rules", "flush chain netdev bowline ingress-eth0", `chain ingress-eth0 of table netdev bowline has no rules, want iifname vmap @policy-to`},
		{"element", "flush map netdev bowline policy-other", `map policy-other of table netdev bowline has no element, want eth0 "COMMENT"`},
		{"memory of what is known", "flush chain netdev bowline policy-known-egress4", `chain policy-known-egress4 of table netdev bowline has no rules`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ns := sandbox(t, "eth0")
			s := nft.OpenSandbox(ns)
			defer s.Close()
			e := nft.Endpoint{ID: "c1/eth0", Port: "eth0", Policy: policy(t, "deny egress to 10.0.0.0/8")}
			if err := s.EnsureEndpoint(t.Context(), "web", e); err != nil {
				t.Fatal(err)
			}
			before := ruleset(t, ns)
			netnstest.Command(t, ns, "nft", tt.harm)
			look, err := s.Snapshot(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer look.Close()
			n := nft.Network{ID: "web"}
			found, err := look.DiffEndpoint(t.Context(), n, e)
			if err != nil {
				t.Fatal(err)
			}
			first := ""
			if len(found) > 0 {
				first = strings.Replace(found[0].String(), `"4b5e57f6eb2f42b9/`, `"COMMENT" "`, 1)
			}
			if !strings.HasPrefix(first, tt.want) || tt.want == "" && first != "" {
				t.Errorf("DiffEndpoint:\n got %s\nwant %s", first, tt.want)
			}
			again, err := look.RepairEndpoint(t.Context(), n, e)
			if err != nil || len(again) != len(found) {
				t.Errorf("RepairEndpoint: %v, %v", again, err)
			}
			if after := ruleset(t, ns); sorted(after) != sorted(before) {
				t.Errorf("after repair (+) and before harm (-):\n%s", cmp.Diff(sorted(before), sorted(after)))
			}
			if found := checkInside(t, s, "web", e); len(found) > 0 {
				t.Errorf("afterwards: %v", found)
			}
		})
	}
}

// TestSandboxLinkComesBack: a policy is there for the next link of that name,
// after a repair at the latest.
func TestSandboxLinkComesBack(t *testing.T) {
	t.Parallel()
	l := newLAN(t, "a")
	s := nft.OpenSandbox(l.at["a"])
	defer s.Close()
	e := nft.Endpoint{ID: "a/eth0", Port: "eth0", Policy: policy(t, "deny ingress tcp 443")}
	if err := s.EnsureEndpoint(t.Context(), "lan", e); err != nil {
		t.Fatal(err)
	}
	netnstest.Command(t, l.at["a"], "ip", "link", "delete", "eth0")
	l.macvlan(t, l.at["a"], "eth0")
	look, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer look.Close()
	found, err := look.RepairEndpoint(t.Context(), nft.Network{ID: "lan"}, e)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("a link that came back took the repair of %d differences", len(found))
	l.dress(t, "a", "eth0")
	l.try(t, []probe{{"outside", "a", "tcp", 443, false}, {"outside", "a", "tcp", 80, true}, {"a", "outside", "tcp", 443, true}})
}

// TestSandboxDry: what is planned is not done; said to the nft command it makes
// what doing it makes, but for the rules.
func TestSandboxDry(t *testing.T) {
	t.Parallel()
	e := nft.Endpoint{ID: "c/eth0", Port: "eth0", Policy: policy(t, "deny egress tcp 25 to 10.9.0.0/16")}
	planned := func(ns *netns.Handle, f func(*nft.Sandbox) error) []string {
		t.Helper()
		p := new(plan.Plan)
		s := nft.OpenDrySandbox(nil, p)
		if ns != nil {
			s = nft.OpenDrySandbox(ns, p)
		}
		defer s.Close()
		if err := f(s); err != nil {
			t.Fatal(err)
		}
		var lines []string
		for _, step := range p.Steps() {
			if step.Where != "sandbox" {
				t.Errorf("%q is planned for the %s", step.What, step.Where)
			}
			lines = append(lines, step.What)
		}
		return lines
	}
	ensure := func(s *nft.Sandbox) error { return s.EnsureEndpoint(t.Context(), "lan", e) }
	remove := func(s *nft.Sandbox) error { return s.DeleteEndpoint(t.Context(), "lan", e.ID) }
	dry, real, said := sandbox(t, "eth0"), sandbox(t, "eth0"), sandbox(t, "eth0")
	lines := planned(dry, ensure)
	if got := ruleset(t, dry); got != "" {
		t.Errorf("it was done: %s", got)
	}
	if want := `add chain netdev bowline egress-eth0 { type filter hook egress device "eth0" priority 0; policy accept; }`; !slices.Contains(lines, want) {
		t.Errorf("no step %q in\n%s", want, strings.Join(lines, "\n"))
	}
	if d := cmp.Diff(lines, planned(nil, ensure)); d != "" {
		t.Errorf("for a sandbox that is not there yet (+) another plan than for an empty one (-):\n%s", d)
	}
	s := nft.OpenSandbox(real)
	defer s.Close()
	if err := ensure(s); err != nil {
		t.Fatal(err)
	}
	script := slices.DeleteFunc(slices.Clone(lines), func(l string) bool { return strings.HasPrefix(l, "add rule ") })
	netnstest.Command(t, said, "sh", "-c", "nft -f - <<'EOF'\n"+strings.Join(script, "\n")+"\nEOF\n")
	// How much sets can hold comes with the rules that fill them.
	did := strings.ReplaceAll(ruleset(t, real), "\t\tsize 65535\n", "")
	if d := cmp.Diff(withoutRules(did), withoutRules(ruleset(t, said))); d != "" {
		t.Errorf("what was done (-) and what the plan said (+) differ:\n%s", d)
	}
	if got := planned(real, remove); !slices.Equal(got, []string{"delete table netdev bowline"}) {
		t.Errorf("DeleteEndpoint of the last: %q", got)
	}
	if got := planned(dry, remove); len(got) > 0 {
		t.Errorf("DeleteEndpoint of nothing: %q", got)
	}
	netnstest.Command(t, real, "ip", "link", "add", "net1", "type", "veth", "peer", "name", "pnet1")
	if err := s.EnsureEndpoint(t.Context(), "dmz", nft.Endpoint{ID: "c/net1", Port: "net1", Policy: e.Policy}); err != nil {
		t.Fatal(err)
	}
	before := ruleset(t, real)
	gone := strings.Join(planned(real, remove), "\n")
	if !strings.Contains(gone, "delete chain netdev bowline egress-eth0") || !strings.Contains(gone, `delete element netdev bowline policy-from { "eth0"`) || strings.Contains(gone, "net1") {
		t.Errorf("DeleteEndpoint of one of two:\n%s", gone)
	}
	if after := ruleset(t, real); after != before {
		t.Errorf("it was done: %s", after)
	}
}
