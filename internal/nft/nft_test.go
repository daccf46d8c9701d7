package nft_test

import (
	"errors"
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

func ruleset(t testing.TB, ns *netns.Handle) string {
	t.Helper()
	return netnstest.Command(t, ns, "nft", "list", "ruleset")
}

var (
	web = nft.Network{
		ID: "web", Bridge: "br0", V4: true, V6: true, ICC: true,
		Masq: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("fd00:1::/64")},
	}
	c1 = nft.Endpoint{ID: "c1/eth0", Port: "bwo1", MAC: bowline.MAC("c1")}
)

func TestEndpointComesAndGoes(t *testing.T) {
	t.Parallel()
	ns := netnstest.New(t)
	h := nft.Open(ns)
	for range 2 { // the second time is no change
		if err := h.EnsureEndpoint(t.Context(), web, c1); err != nil {
			t.Fatal(err)
		}
	}
	rules := ruleset(t, ns)
	for _, want := range []string{
		`"br0" . 10.1.0.0/24 comment`, `: jump masq-10.1.0.0/24`, `: jump masq-fd00_1__/64`,
		`"br0" . "br0" comment "accept" : accept`, `"br0" comment "goto from-open" : goto from-open`,
		`iifname . oifname vmap @pair`, `ip daddr 224.0.0.0/4 return`, `ip6 daddr ff00::/8 return`, "masquerade",
		`iifname @guarded iifname . ether saddr != @allowed drop`, "c1/eth0 web",
	} {
		if !strings.Contains(rules, want) {
			t.Errorf("ruleset lacks %q", want)
		}
	}
	if t.Failed() {
		t.Log(rules)
	}
	// What nft prints must be what nft reads.
	save := exec.Command("nft", "-c", "-f", "-")
	save.Stdin = strings.NewReader(rules)
	if err := netns.Do(netnstest.New(t), func() error {
		out, err := save.CombinedOutput()
		if err != nil {
			t.Errorf("nft cannot read its own listing: %s", out)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := h.CheckEndpoint(t.Context(), web, c1); err != nil {
		t.Errorf("CheckEndpoint: %v", err)
	}
	for range 2 {
		if err := h.DeleteEndpoint(t.Context(), web, c1); err != nil {
			t.Fatal(err)
		}
	}
	if rules := ruleset(t, ns); strings.Contains(rules, "bwo1") {
		t.Errorf("endpoint left something: %s", rules)
	}
	for range 2 {
		if err := h.DeleteNetwork(t.Context(), web); err != nil {
			t.Fatal(err)
		}
	}
	if rules := ruleset(t, ns); rules != "" {
		t.Errorf("network left something: %s", rules)
	}
}

func TestDeleteEndpointByIDAlone(t *testing.T) {
	t.Parallel()
	ns := netnstest.New(t)
	h := nft.Open(ns)
	other := nft.Endpoint{ID: "c2/eth0", Port: "bwo2", MAC: bowline.MAC("c2")}
	for _, e := range []nft.Endpoint{c1, other} {
		if err := h.EnsureEndpoint(t.Context(), web, e); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.DeleteEndpoint(t.Context(), web, nft.Endpoint{ID: c1.ID}); err != nil {
		t.Fatal(err)
	}
	rules := ruleset(t, ns)
	if strings.Contains(rules, "c1/eth0") || !strings.Contains(rules, "c2/eth0") {
		t.Errorf("want c2's elements and none of c1: %s", rules)
	}
	// An element that somebody deleted by hand must not keep the others.
	if err := h.EnsureEndpoint(t.Context(), web, c1); err != nil {
		t.Fatal(err)
	}
	netnstest.Command(t, ns, "nft", "delete element bridge bowline guarded { bwo1 }")
	if err := h.DeleteEndpoint(t.Context(), web, c1); err != nil {
		t.Fatal(err)
	}
	if rules := ruleset(t, ns); strings.Contains(rules, "c1/eth0") {
		t.Errorf("left something of c1: %s", rules)
	}
	if err := h.DeleteOthers(t.Context(), "web", []string{"x"}); err != nil {
		t.Fatal(err)
	}
	if rules := ruleset(t, ns); strings.Contains(rules, "c2/eth0") {
		t.Errorf("DeleteOthers left c2: %s", rules)
	}
}

func TestCheckNamesTheFirstDifference(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, break_, want string
	}{
		{"flushed ruleset", "flush ruleset", `firewall of endpoint "c1/eth0": firewall has no table, want ip bowline (and 2 more)`},
		{"flushed chain", "flush chain ip6 bowline forward", `chain forward of table ip6 bowline has no rules`},
		{"lost masquerading", "delete element ip bowline masq { br0 . 10.1.0.0/24 }", `map masq of table ip bowline has no element, want br0 . 10.1.0.0`},
		{"lost isolation", "delete element ip bowline from { br0 }", `map from of table ip bowline has no element, want br0`},
		{"lost sender check", "flush set bridge bowline allowed", `set allowed of table bridge bowline has no element, want bwo1`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ns := netnstest.New(t)
			h := nft.Open(ns)
			if err := h.EnsureEndpoint(t.Context(), web, c1); err != nil {
				t.Fatal(err)
			}
			netnstest.Command(t, ns, "nft", tt.break_)
			err := h.CheckEndpoint(t.Context(), web, c1)
			if !errors.Is(err, bowline.ErrDiffers) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("CheckEndpoint:\n got %v\nwant %s", err, tt.want)
			}
			if err := h.EnsureEndpoint(t.Context(), web, c1); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestConflictingPolicy(t *testing.T) {
	t.Parallel()
	h := nft.Open(netnstest.New(t))
	if err := h.EnsureNetwork(t.Context(), web); err != nil {
		t.Fatal(err)
	}
	closed, wider := web, web
	closed.ICC = false
	wider.Masq = []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}
	for what, n := range map[string]nft.Network{"without icc": closed, "with a prefix that overlaps": wider} {
		if err := h.EnsureNetwork(t.Context(), n); !errors.Is(err, bowline.ErrConflict) {
			t.Errorf("same bridge %s: %v, want ErrConflict", what, err)
		}
		if err := h.EnsureNetwork(t.Context(), web); err != nil {
			t.Errorf("after a conflict: %v", err)
		}
	}
}

func TestNetworksComeAndGoAtOnce(t *testing.T) {
	t.Parallel()
	ns := netnstest.New(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			h := nft.Open(ns)
			n := nft.Network{ID: string(rune('a' + i)), Bridge: "br" + string(rune('a'+i)), V4: true, ICC: true, Masq: web.Masq[:1]}
			e := nft.Endpoint{ID: "c", Port: "p" + n.ID, MAC: bowline.MAC("c")}
			for range 3 {
				if err := errors.Join(h.EnsureEndpoint(t.Context(), n, e), h.CheckEndpoint(t.Context(), n, e),
					h.DeleteEndpoint(t.Context(), n, e), h.DeleteNetwork(t.Context(), n)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if rules := ruleset(t, ns); rules != "" {
		t.Errorf("left behind: %s", rules)
	}
}

func BenchmarkEnsureEndpoint(b *testing.B) {
	ns := netnstest.New(b)
	h := nft.Open(ns)
	plain := nft.Endpoint{ID: "c1"}
	for b.Loop() {
		if err := h.EnsureEndpoint(b.Context(), web, plain); err != nil {
			b.Fatal(err)
		}
	}
}
