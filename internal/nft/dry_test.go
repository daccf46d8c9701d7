package nft_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
	"github.com/bowline-net/bowline/internal/nft"
	"github.com/bowline-net/bowline/internal/plan"
)

// planned returns the steps that f would take in the namespace.
func planned(t *testing.T, ns *netns.Handle, f func(h *nft.Handle) error) []string {
	t.Helper()
	p := new(plan.Plan)
	h := nft.OpenDry(ns, p)
	defer h.Close()
	if err := f(h); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, s := range p.Steps() {
		lines = append(lines, s.What)
	}
	return lines
}

// withoutRules is a listing without rules, which a plan tells by their comments,
// in no order: nft lists sets as they were made.
func withoutRules(listing string) []string {
	var lines []string
	table, chain := "", ""
	for line := range strings.Lines(listing) {
		trimmed := strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(trimmed, "table "):
			table = trimmed
		case strings.HasPrefix(trimmed, "chain "):
			chain = trimmed
			lines = append(lines, table+trimmed)
		case trimmed == "}":
			chain = ""
		case chain == "" || strings.HasPrefix(trimmed, "type "):
			lines = append(lines, table+chain+strings.TrimSuffix(trimmed, ","))
		}
	}
	slices.Sort(lines)
	return lines
}

// What is planned is not done; said to the nft command it makes what doing it
// makes, but for the rules.
func TestDry(t *testing.T) {
	t.Parallel()
	dry, real, said := netnstest.New(t), netnstest.New(t), netnstest.New(t)
	e := c1
	e.Ports = []nft.Port{
		{Protocol: 6, Host: netip.MustParseAddr("0.0.0.0"), First: 8080, Count: 1, To: netip.MustParseAddrPort("10.1.0.2:80")},
		{Protocol: 17, Host: netip.MustParseAddr("::"), First: 5000, Count: 100, To: netip.MustParseAddrPort("[fd00:1::2]:5000")},
	}
	ensure := func(h *nft.Handle) error {
		if err := h.EnsureNetwork(t.Context(), web); err != nil {
			return err
		}
		return h.EnsureEndpoint(t.Context(), web, e)
	}
	lines := planned(t, dry, ensure)
	if got := ruleset(t, dry); got != "" {
		t.Errorf("it was done: %s", got)
	}
	for _, want := range []string{
		"add table ip bowline", "add map ip bowline pair { type ifname . ifname : verdict; }",
		`add element ip bowline masq { "br0" . 10.1.0.0/24 comment "jump masq-10.1.0.0/24" : jump masq-10.1.0.0/24 }`,
		"add chain ip bowline forward { type filter hook forward priority 0; policy accept; }",
		"add rule ip bowline postrouting iifname . saddr vmap @masq",
		`add element bridge bowline allowed { "bwo1" . ` + bowline.MAC("c1").String() + ` comment "`,
	} {
		if !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, want) }) {
			t.Errorf("no step %q in\n%s", want, strings.Join(lines, "\n"))
		}
	}
	h := nft.Open(real)
	defer h.Close()
	if err := ensure(h); err != nil {
		t.Fatal(err)
	}
	script := slices.DeleteFunc(slices.Clone(lines), func(l string) bool { return strings.HasPrefix(l, "add rule ") })
	netnstest.Command(t, said, "sh", "-c", "nft -f - <<'EOF'\n"+strings.Join(script, "\n")+"\nEOF\n")
	want, got := withoutRules(ruleset(t, real)), withoutRules(ruleset(t, said))
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("what was done (-) and what the plan said (+) differ:\n%s", d)
	}
	if again := planned(t, real, ensure); slices.ContainsFunc(again, func(l string) bool { return !strings.HasPrefix(l, "add element ") }) {
		t.Errorf("with the tables there elements are enough:\n%s", strings.Join(again, "\n"))
	}
	shy := e
	shy.Policy = []bowline.PolicyRule{{Action: "deny", Direction: "egress", Peers: []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16")}, Protocol: "tcp", Ports: []bowline.PortRange{{First: 25, Last: 26}}}}
	const deny = ` { 10.9.0.0/16 . tcp . 25-26 comment "`
	if lines := planned(t, dry, func(h *nft.Handle) error { return h.EnsureEndpoint(t.Context(), web, shy) }); !strings.Contains(strings.Join(lines, "\n"), deny) {
		t.Errorf("no element%s in\n%s", deny, strings.Join(lines, "\n"))
	}
	gone := planned(t, real, func(h *nft.Handle) error { return h.DeleteEndpoint(t.Context(), web, e) })
	if len(gone) == 0 || slices.ContainsFunc(gone, func(l string) bool { return strings.HasPrefix(l, "add ") }) {
		t.Errorf("DeleteEndpoint:\n%s", strings.Join(gone, "\n"))
	}
	other := e
	other.ID, other.Port, other.MAC = "c2/eth0", "bwo2", bowline.MAC("c2")
	other.Ports = []nft.Port{{Protocol: 6, Host: netip.MustParseAddr("0.0.0.0"), First: 8080, Count: 1, To: netip.MustParseAddrPort("10.1.0.3:80")}}
	taken := nft.OpenDry(real, new(plan.Plan))
	defer taken.Close()
	if err := taken.EnsureEndpoint(t.Context(), web, other); err == nil || !strings.Contains(err.Error(), "c1") {
		t.Errorf("a port that is taken: %v", err)
	}
}
