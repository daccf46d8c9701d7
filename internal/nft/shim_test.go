package nft_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
	"github.com/bowline-net/bowline/internal/nft"
	"github.com/bowline-net/bowline/internal/plan"
)

func peer(endpoint, link string, last byte) nft.ShimPeer {
	return nft.ShimPeer{Network: "lan", Endpoint: endpoint, Link: link, MAC: net.HardwareAddr{2, 0, 0, 0, 0, last}}
}

func TestShimComesAndGoes(t *testing.T) {
	t.Parallel()
	ns := sandbox(t, "bwh1", "bwh2")
	h := nft.Open(ns)
	defer h.Close()
	do := func(what string, f func() error) {
		t.Helper()
		if err := f(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		before := ruleset(t, ns)
		if err := f(); err != nil {
			t.Fatalf("%s, the second time: %v", what, err)
		}
		if after := ruleset(t, ns); after != before {
			t.Errorf("%s, the second time, made\n%s\nof\n%s", what, after, before)
		}
	}
	ctx := t.Context()
	for _, link := range []string{"bwh1", "bwh2"} {
		do("EnsureShim", func() error { return h.EnsureShim(ctx, link) })
	}
	for i, p := range []nft.ShimPeer{peer("a/eth0", "bwh1", 1), peer("b/eth0", "bwh1", 2), peer("c/eth0", "bwh2", 1)} {
		do(fmt.Sprint("AdmitToShim ", i), func() error { return h.AdmitToShim(ctx, p) })
	}
	rules := ruleset(t, ns)
	for _, want := range []string{
		`type filter hook ingress device "bwh1" priority filter; policy drop;`, `type filter hook egress device "bwh2" priority filter; policy drop;`,
		`iifname . ether saddr @shim-peers accept`, `oifname . @ll,0,48 @shim-peers accept`, `"bwh2" . 02:00:00:00:00:01 comment`, "b/eth0 lan",
	} {
		if !strings.Contains(rules, want) {
			t.Errorf("ruleset lacks %q:\n%s", want, rules)
		}
	}
	do("ExpelFromShim of another network's", func() error { return h.ExpelFromShim(ctx, "dmz", "a/eth0") })
	do("ExpelFromShim", func() error { return h.ExpelFromShim(ctx, "lan", "a/eth0") })
	if rules := ruleset(t, ns); strings.Contains(rules, "a/eth0") || !strings.Contains(rules, "b/eth0") || !strings.Contains(rules, "c/eth0") {
		t.Errorf("want the elements of b and c: %s", rules)
	}
	// Whose MAC it was before is gone.
	do("AdmitToShim with b's MAC", func() error { return h.AdmitToShim(ctx, peer("d/eth0", "bwh1", 2)) })
	if rules := ruleset(t, ns); strings.Contains(rules, "b/eth0") || !strings.Contains(rules, "d/eth0") {
		t.Errorf("want d in place of b: %s", rules)
	}
	do("DeleteShim", func() error { return h.DeleteShim(ctx, "bwh1") })
	if rules := ruleset(t, ns); strings.Contains(rules, "bwh1") || !strings.Contains(rules, "c/eth0") {
		t.Errorf("want bwh2 alone: %s", rules)
	}
	do("DeleteShim", func() error { return h.DeleteShim(ctx, "bwh2") })
	if rules := ruleset(t, ns); rules != "" {
		t.Errorf("the last shim left %s", rules)
	}
	do("ExpelFromShim of nobody", func() error { return h.ExpelFromShim(ctx, "lan", "a/eth0") })
	// The first container can be told of before its shim is.
	do("AdmitToShim alone", func() error { return h.AdmitToShim(ctx, peer("a/eth0", "bwh1", 1)) })
	if rules := ruleset(t, ns); !strings.Contains(rules, `hook egress device "bwh1"`) {
		t.Errorf("a shim without a filter: %s", rules)
	}
	if err := h.AdmitToShim(ctx, nft.ShimPeer{Network: "lan", Endpoint: "a", Link: "bwh1", MAC: net.HardwareAddr{1}}); !errors.Is(err, bowline.ErrInvalid) {
		t.Errorf("a MAC of one byte: %v", err)
	}
}

// TestShimBesidePolicies: in a sandbox that is the host, both are in one table.
func TestShimBesidePolicies(t *testing.T) {
	t.Parallel()
	ns := sandbox(t, "bwh1", "eth0")
	h, s := nft.Open(ns), nft.OpenSandbox(ns)
	defer h.Close()
	defer s.Close()
	e := nft.Endpoint{ID: "c/eth0", Port: "eth0", Policy: policy(t, "deny egress")}
	if err := errors.Join(h.AdmitToShim(t.Context(), peer("a/eth0", "bwh1", 1)), s.EnsureEndpoint(t.Context(), "lan", e)); err != nil {
		t.Fatal(err)
	}
	before := ruleset(t, ns)
	if err := s.DeleteEndpoint(t.Context(), "lan", e.ID); err != nil {
		t.Fatal(err)
	}
	if rules := ruleset(t, ns); strings.Contains(rules, "policy-") || !strings.Contains(rules, "shim-egress-bwh1") {
		t.Errorf("want the shim alone: %s", rules)
	}
	if err := errors.Join(s.EnsureEndpoint(t.Context(), "lan", e), h.DeleteShim(t.Context(), "bwh1")); err != nil {
		t.Fatal(err)
	}
	if rules := ruleset(t, ns); strings.Contains(rules, "bwh1") || !strings.Contains(rules, "egress-eth0") || len(rules) >= len(before) {
		t.Errorf("want the policy alone: %s", rules)
	}
}

func TestShimBrokenAtEachStep(t *testing.T) {
	t.Parallel()
	ns := sandbox(t, "bwh1")
	h := nft.Open(ns)
	defer h.Close()
	left := func() string { return ruleset(t, ns) }
	p := peer("a/eth0", "bwh1", 1)
	breakAtEach(t, "EnsureShim", left, func(ctx context.Context) error { return h.EnsureShim(ctx, "bwh1") })
	breakAtEach(t, "AdmitToShim", left, func(ctx context.Context) error { return h.AdmitToShim(ctx, p) })
	look := func(f func(context.Context, *nft.Snapshot) error) func(context.Context) error {
		return func(ctx context.Context) error {
			s, err := h.Snapshot(ctx)
			if err != nil {
				return err
			}
			defer s.Close()
			return f(ctx, s)
		}
	}
	netnstest.Command(t, ns, "nft", "flush ruleset")
	breakAtEach(t, "RepairShim", left, look(func(ctx context.Context, s *nft.Snapshot) error { _, err := s.RepairShim(ctx, "bwh1"); return err }))
	breakAtEach(t, "RepairShimPeer", left, look(func(ctx context.Context, s *nft.Snapshot) error { _, err := s.RepairShimPeer(ctx, p); return err }))
	breakAtEach(t, "ExpelFromShim", left, func(ctx context.Context) error { return h.ExpelFromShim(ctx, "lan", "a/eth0") })
	breakAtEach(t, "DeleteShim", left, func(ctx context.Context) error { return h.DeleteShim(ctx, "bwh1") })
	if rules := left(); rules != "" {
		t.Errorf("left: %s", rules)
	}
}

func TestShimRepair(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, harm string
		shim, peer []string
	}{
		{"nothing", "list ruleset", nil, nil},
		{"all", "flush ruleset", []string{`firewall has no table, want netdev bowline`},
			[]string{`set shim-peers of table netdev bowline has no element, want bwh1 . 02:00:00:00:00:01 "COMMENT"`}},
		// What the kernel before 6.16 does when the link goes.
		{"chains", "delete chain netdev bowline shim-egress-bwh1; delete chain netdev bowline shim-ingress-bwh1", []string{
			`chain shim-ingress-bwh1 of table netdev bowline has no rules, want iifname . ether saddr @shim-peers accept`,
			`chain shim-egress-bwh1 of table netdev bowline has no rules, want oifname . ether daddr @shim-peers accept`}, nil},
		{"a rule too many", "add rule netdev bowline shim-ingress-bwh1 accept", []string{
			`chain shim-ingress-bwh1 of table netdev bowline has rules iifname . ether saddr @shim-peers accept; , want iifname . ether saddr @shim-peers accept`}, nil},
		{"element", "flush set netdev bowline shim-peers", nil,
			[]string{`set shim-peers of table netdev bowline has no element, want bwh1 . 02:00:00:00:00:01 "COMMENT"`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ns := sandbox(t, "bwh1")
			h := nft.Open(ns)
			defer h.Close()
			p := peer("c1/eth0", "bwh1", 1)
			p.Network = "web"
			if err := errors.Join(h.EnsureShim(t.Context(), "bwh1"), h.AdmitToShim(t.Context(), p)); err != nil {
				t.Fatal(err)
			}
			before := ruleset(t, ns)
			netnstest.Command(t, ns, "nft", tt.harm)
			s, err := h.Snapshot(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			shim, err := s.DiffShim(t.Context(), "bwh1")
			want(t, "DiffShim", shim, err, tt.shim)
			other, err := s.DiffShimPeer(t.Context(), p)
			want(t, "DiffShimPeer", other, err, tt.peer)
			shim, err = s.RepairShim(t.Context(), "bwh1")
			want(t, "RepairShim", shim, err, tt.shim)
			other, err = s.RepairShimPeer(t.Context(), p)
			want(t, "RepairShimPeer", other, err, tt.peer)
			if after := ruleset(t, ns); sorted(after) != sorted(before) {
				t.Errorf("after repair:\n%s\nbefore harm:\n%s", after, before)
			}
			shim, err = s.DiffShim(t.Context(), "bwh1")
			want(t, "DiffShim afterwards", shim, err, nil)
			other, err = s.DiffShimPeer(t.Context(), p)
			want(t, "DiffShimPeer afterwards", other, err, nil)
		})
	}
}

func TestShimsAtOnce(t *testing.T) {
	t.Parallel()
	var links []string
	for i := range 6 {
		links = append(links, fmt.Sprint("bwh", i))
	}
	ns := sandbox(t, links...)
	var all sync.WaitGroup
	for i, link := range links {
		all.Go(func() {
			h := nft.Open(ns)
			defer h.Close()
			for range 5 {
				p := peer("a/"+link, link, byte(i))
				if err := errors.Join(h.EnsureShim(t.Context(), link), h.AdmitToShim(t.Context(), p)); err != nil {
					t.Error(err)
				}
				s, err := h.Snapshot(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				shim, err := s.DiffShim(t.Context(), link)
				want(t, "DiffShim", shim, err, nil)
				other, err := s.DiffShimPeer(t.Context(), p)
				want(t, "DiffShimPeer", other, err, nil)
				s.Close()
				if err := errors.Join(h.ExpelFromShim(t.Context(), "lan", p.Endpoint), h.DeleteShim(t.Context(), link)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if rules := ruleset(t, ns); rules != "" {
		t.Errorf("left: %s", rules)
	}
}

func TestShimStranger(t *testing.T) {
	t.Parallel()
	ns := sandbox(t, "bwh1")
	netnstest.Command(t, ns, "nft", "table netdev bowline { set x { type ether_addr; }; }")
	before := ruleset(t, ns)
	h := nft.Open(ns)
	defer h.Close()
	s, err := h.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, repaired := s.RepairShim(t.Context(), "bwh1")
	for what, err := range map[string]error{
		"EnsureShim": h.EnsureShim(t.Context(), "bwh1"), "AdmitToShim": h.AdmitToShim(t.Context(), peer("a", "bwh1", 1)), "RepairShim": repaired,
	} {
		if !errors.Is(err, bowline.ErrConflict) || !strings.Contains(err.Error(), "table netdev bowline is somebody else's") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := errors.Join(h.ExpelFromShim(t.Context(), "lan", "a"), h.DeleteShim(t.Context(), "bwh1")); err != nil {
		t.Error(err)
	}
	if rules := ruleset(t, ns); rules != before {
		t.Errorf("the table is now %s, was %s", rules, before)
	}
}

func TestShimDry(t *testing.T) {
	t.Parallel()
	ns := sandbox(t, "bwh1")
	lines := planned(t, ns, func(h *nft.Handle) error {
		return errors.Join(h.EnsureShim(t.Context(), "bwh1"), h.AdmitToShim(t.Context(), peer("a", "bwh1", 1)))
	})
	for _, want := range []string{
		`add chain netdev bowline shim-egress-bwh1 { type filter hook egress device "bwh1" priority 0; policy drop; }`,
		`add rule netdev bowline shim-egress-bwh1 oifname . ether daddr @shim-peers accept`,
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("no step %q in\n%s", want, strings.Join(lines, "\n"))
		}
	}
	if last := lines[len(lines)-1]; !strings.HasPrefix(last, `add element netdev bowline shim-peers { "bwh1" . 02:00:00:00:00:01 comment`) {
		t.Errorf("the last step is %q", last)
	}
	if rules := ruleset(t, ns); rules != "" {
		t.Errorf("it was done: %s", rules)
	}
	h := nft.Open(ns)
	defer h.Close()
	if err := h.AdmitToShim(t.Context(), peer("a", "bwh1", 1)); err != nil {
		t.Fatal(err)
	}
	if got := planned(t, ns, func(h *nft.Handle) error { return h.EnsureShim(t.Context(), "bwh1") }); len(got) > 0 {
		t.Errorf("nothing is left to do, but: %q", got)
	}
	if got := planned(t, ns, func(h *nft.Handle) error { return h.ExpelFromShim(t.Context(), "lan", "a") }); len(got) != 1 || !strings.HasPrefix(got[0], "delete element") {
		t.Errorf("ExpelFromShim: %q", got)
	}
	p := new(plan.Plan)
	dry := nft.OpenDry(ns, p)
	defer dry.Close()
	if err := dry.DeleteShim(t.Context(), "bwh1"); err != nil || !strings.HasSuffix(fmt.Sprint(p.Steps()), "delete table netdev bowline}]") {
		t.Errorf("DeleteShim: %v, %v", p.Steps(), err)
	}
}

// TestShimsWithoutPeers: those that lead to no endpoint are named, others are not.
func TestShimsWithoutPeers(t *testing.T) {
	t.Parallel()
	ns := sandbox(t, "bwh1", "bwh2")
	h := nft.Open(ns)
	defer h.Close()
	ctx := t.Context()
	idle := func(want ...string) {
		t.Helper()
		got, err := h.ShimsWithoutPeers(ctx)
		slices.Sort(got)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("ShimsWithoutPeers: %q, %v; want %q", got, err, want)
		}
	}
	idle()
	for _, link := range []string{"bwh1", "bwh2"} {
		if err := h.EnsureShim(ctx, link); err != nil {
			t.Fatal(err)
		}
	}
	idle("bwh1", "bwh2")
	if err := h.AdmitToShim(ctx, peer("a/eth0", "bwh1", 1)); err != nil {
		t.Fatal(err)
	}
	idle("bwh2")
	if err := h.ExpelFromShim(ctx, "lan", "a/eth0"); err != nil {
		t.Fatal(err)
	}
	idle("bwh1", "bwh2")
}
