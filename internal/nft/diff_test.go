package nft_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
	"github.com/bowline-net/bowline/internal/nft"
)

// TestRepair: each harm is told as data and made right, nothing else is
// touched, and then nothing differs any more.
func TestRepair(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, harm string
		network    []string // differences of the network
		endpoint   []string // and of the endpoint
	}{
		{"nothing", "list ruleset", nil, nil},
		{"element of the network", "delete element ip bowline from { br0 }",
			[]string{`map from of table ip bowline has no element, want br0 "goto from-open"`}, nil},
		{"masquerading", "delete element ip bowline masq { br0 . 10.1.0.0/24 }",
			[]string{`map masq of table ip bowline has no element, want br0 . 10.1.0.0 to br0 . 10.1.0.255 "jump masq-10.1.0.0/24"`}, nil},
		{"rules of a chain", "flush chain ip6 bowline masq-fd00_1__/64",
			[]string{`chain masq-fd00_1__/64 of table ip6 bowline has no rules, want daddr fd00:1::/64 return; daddr ff00::/8 return; masquerade`}, nil},
		{"a rule too many", "add rule ip bowline forward drop",
			[]string{`chain forward of table ip bowline has rules iifname . oifname vmap @pair; iifname vmap @from; oifname vmap @to; , want iifname . oifname vmap @pair; iifname vmap @from; oifname vmap @to`}, nil},
		{"element of the endpoint", "flush set bridge bowline allowed",
			nil, []string{`set allowed of table bridge bowline has no element, want bwo1 . 12:34:56:78:9a:bc "COMMENT"`}},
		{"table of the endpoint", "delete table bridge bowline",
			nil, []string{`firewall has no table, want bridge bowline`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ns := netnstest.New(t)
			h := nft.Open(ns)
			e := c1
			e.MAC = []byte{0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc}
			other := nft.Endpoint{ID: "c2/eth0", Port: "bwo2", MAC: bowline.MAC("c2")}
			for _, e := range []nft.Endpoint{e, other} {
				if err := h.EnsureEndpoint(t.Context(), web, e); err != nil {
					t.Fatal(err)
				}
			}
			before := ruleset(t, ns)
			netnstest.Command(t, ns, "nft", tt.harm)
			s, err := h.Snapshot(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			network, err := s.DiffNetwork(t.Context(), web)
			want(t, "DiffNetwork", network, err, tt.network)
			endpoint, err := s.DiffEndpoint(t.Context(), web, e)
			want(t, "DiffEndpoint", endpoint, err, tt.endpoint)

			network, err = s.RepairNetwork(t.Context(), web)
			want(t, "RepairNetwork", network, err, tt.network)
			for _, e := range []nft.Endpoint{e, other} {
				if _, err = s.RepairEndpoint(t.Context(), web, e); err != nil {
					t.Fatal(err)
				}
			}
			if after := ruleset(t, ns); sorted(after) != sorted(before) {
				t.Errorf("after repair:\n%s\nbefore harm:\n%s", after, before)
			}
			again, err := h.Snapshot(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer again.Close()
			for _, s := range []*nft.Snapshot{s, again} {
				network, err = s.DiffNetwork(t.Context(), web)
				want(t, "DiffNetwork afterwards", network, err, nil)
				endpoint, err = s.DiffEndpoint(t.Context(), web, e)
				want(t, "DiffEndpoint afterwards", endpoint, err, nil)
			}
		})
	}
}

// TestRepairAll: after all was flushed, by one snapshot.
func TestRepairAll(t *testing.T) {
	t.Parallel()
	ns := netnstest.New(t)
	h := nft.Open(ns)
	var all []nft.Endpoint
	for i := range 50 {
		all = append(all, nft.Endpoint{ID: fmt.Sprint(i), Port: fmt.Sprint("bwo", i), MAC: bowline.MAC(fmt.Sprint(i))})
	}
	for _, e := range all {
		if err := h.EnsureEndpoint(t.Context(), web, e); err != nil {
			t.Fatal(err)
		}
	}
	before := ruleset(t, ns)
	netnstest.Command(t, ns, "nft", "flush ruleset")
	s, err := h.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if found, err := s.RepairNetwork(t.Context(), web); err != nil || len(found) == 0 {
		t.Fatalf("RepairNetwork: %v, %v", found, err)
	}
	for _, e := range all {
		if found, err := s.RepairEndpoint(t.Context(), web, e); err != nil || len(found) == 0 {
			t.Fatalf("RepairEndpoint: %v, %v", found, err)
		}
	}
	if after := ruleset(t, ns); sorted(after) != sorted(before) {
		t.Errorf("after repair:\n%s\nbefore harm:\n%s", after, before)
	}
}

// TestRepairAnotherMeaning: what has another meaning is replaced.
func TestRepairAnotherMeaning(t *testing.T) {
	t.Parallel()
	h := nft.Open(netnstest.New(t))
	closed := web
	closed.ICC = false
	if err := h.EnsureNetwork(t.Context(), closed); err != nil {
		t.Fatal(err)
	}
	s, err := h.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	found, err := s.RepairNetwork(t.Context(), web)
	want(t, "RepairNetwork", found, err, []string{
		`map pair of table ip bowline has element br0 . br0 "goto to-nat", want br0 . br0 "accept"`,
		`map pair of table ip6 bowline has element br0 . br0 "goto to-nat", want br0 . br0 "accept"`,
	})
	found, err = s.DiffNetwork(t.Context(), web)
	want(t, "DiffNetwork afterwards", found, err, nil)
}

func want(t *testing.T, what string, found []bowline.Difference, err error, want []string) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	var got []string
	for _, d := range found {
		text := d.String()
		// Whose element it is.
		if before, after, ok := strings.Cut(text, ` "`); ok && strings.Contains(after, "c1/eth0 web") {
			text = before + ` "COMMENT"`
		}
		got = append(got, text)
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %q\nwant %q", what, got, want)
	}
}

// sorted returns the lines of a listing in an order that does not depend on
// when they were added.
func sorted(listing string) string {
	var words []string
	for l := range strings.Lines(strings.NewReplacer("elements = {", "", "},", ",", "}", "").Replace(listing)) {
		words = append(words, strings.TrimRight(strings.TrimSpace(l), ","))
	}
	slices.Sort(words)
	return strings.Join(words, "\n")
}
