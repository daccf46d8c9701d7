package ipam

import (
	"net/netip"
	"slices"
	"testing"
)

// What the store alone says of its sets is what it says with the configuration.
func TestSets(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	if sets, err := s.Sets(t.Context()); err != nil || len(sets) != 0 {
		t.Errorf("sets of nothing: %v, %v", sets, err)
	}
	c := Config{Sets: []Set{
		{{Subnet: netip.MustParsePrefix("10.1.0.0/29"), Gateway: netip.MustParseAddr("10.1.0.1")}, {Subnet: netip.MustParsePrefix("10.2.0.0/24"), Start: netip.MustParseAddr("10.2.0.9"), End: netip.MustParseAddr("10.2.0.10")}},
		{{Subnet: netip.MustParsePrefix("fd00:1::/64")}},
	}, Cooldown: DefaultCooldown}
	for _, id := range []string{"a", "b", "c"} {
		mustAllocate(t, s, c, Request{Owner: owner(id)})
	}
	mustRelease(t, s, owner("b"))
	want, err := s.Usage(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Sets(t.Context())
	if err != nil || !slices.Equal(got, want.Sets) {
		t.Errorf("sets are %+v, %v\nwant %+v", got, err, want.Sets)
	}
	if len(got) != 2 || got[0].Ranges != "10.1.0.2-10.1.0.6,10.2.0.9-10.2.0.10" || got[0].Used != 2 || got[0].Resting != 1 || got[0].Free != 5 {
		t.Errorf("sets are %+v", got)
	}
}
