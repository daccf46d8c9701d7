package ipam

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/state"
)

// newStore returns a store of its own, not below /run.
func newStore(t testing.TB) *Store {
	t.Helper()
	return &Store{"web", state.Store{Dir: t.TempDir() + "/ipam/boot/web"}, "boot"}
}

func v4(subnet string) Config {
	return Config{Sets: []Set{{{Subnet: netip.MustParsePrefix(subnet), Gateway: netip.MustParsePrefix(subnet).Addr().Next()}}}}
}

func addrs(as []Allocation) string {
	var texts []string
	for _, a := range as {
		texts = append(texts, a.Addr.String())
	}
	return strings.Join(texts, " ")
}

func owner(id string) Owner { return Owner{id, "eth0"} }

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// mustAllocate returns the addresses that id got.
func mustAllocate(t testing.TB, s *Store, c Config, r Request) string {
	t.Helper()
	as, err := s.Allocate(t.Context(), c, r)
	if err != nil {
		t.Fatalf("Allocate for %s: %v", r.Owner, err)
	}
	return addrs(as)
}

func mustRelease(t testing.TB, s *Store, o Owner) string {
	t.Helper()
	as, err := s.Release(t.Context(), o)
	if err != nil {
		t.Fatalf("Release %s: %v", o, err)
	}
	return addrs(as)
}

func TestAllocateAndRelease(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	c := v4("10.1.0.0/24")
	c.Sets = append(c.Sets, v4("fd00:1::/64").Sets...)
	for i, want := range []string{"10.1.0.2/24 fd00:1::2/64", "10.1.0.3/24 fd00:1::3/64"} {
		if got := mustAllocate(t, s, c, Request{Owner: owner(fmt.Sprint("c", i))}); got != want {
			t.Errorf("Allocate %d = %s, want %s", i, got, want)
		}
	}
	if _, err := s.Allocate(t.Context(), c, Request{Owner: owner("c0")}); !errors.Is(err, bowline.ErrConflict) ||
		errText(err) != `network "web": ipam: container c0, interface eth0 holds 10.1.0.2/24, fd00:1::2/64 already; release it first` {
		t.Errorf("second Allocate for c0: %v, want a conflict that names the addresses", err)
	}
	if as, err := s.Lookup(t.Context(), owner("c1")); err != nil || addrs(as) != "10.1.0.3/24 fd00:1::3/64" {
		t.Errorf("Lookup = %s, %v", addrs(as), err)
	}
	for _, want := range []string{"10.1.0.2/24 fd00:1::2/64", ""} { // twice: releasing nothing is success
		if got := mustRelease(t, s, owner("c0")); got != want {
			t.Errorf("Release = %q, want %q", got, want)
		}
	}
	// Next fit: what was released last comes last.
	if got := mustAllocate(t, s, c, Request{Owner: owner("c2")}); got != "10.1.0.4/24 fd00:1::4/64" {
		t.Errorf("Allocate after a release = %s, want the next address", got)
	}
	if err := s.Remove(t.Context()); !errors.Is(err, bowline.ErrConflict) {
		t.Errorf("Remove with allocations: %v, want a conflict", err)
	}
}

func TestExhaustion(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	c := v4("10.1.0.0/29") // 6 hosts, one of them the gateway
	c.Cooldown = time.Hour
	var got []string
	for i := range 5 {
		got = append(got, mustAllocate(t, s, c, Request{Owner: owner(fmt.Sprint(i))}))
	}
	if want := []string{"10.1.0.2/29", "10.1.0.3/29", "10.1.0.4/29", "10.1.0.5/29", "10.1.0.6/29"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	_, err := s.Allocate(t.Context(), c, Request{Owner: owner("x")})
	if want := `network "web": ipam: no free address in 10.1.0.2-10.1.0.6: all 5 are taken`; !errors.Is(err, bowline.ErrExhausted) || errText(err) != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
	if err := s.Status(t.Context(), c); !errors.Is(err, bowline.ErrUnavailable) {
		t.Errorf("Status of a full network: %v, want unavailable", err)
	}
	mustRelease(t, s, owner("3"))
	mustRelease(t, s, owner("1"))
	// Nothing else is free, so the longest resting comes first.
	for i, want := range []string{"10.1.0.5/29", "10.1.0.3/29"} {
		if got := mustAllocate(t, s, c, Request{Owner: owner(fmt.Sprint("again", i))}); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestWant(t *testing.T) {
	t.Parallel()
	c := v4("10.1.0.0/24")
	c.Sets = append(c.Sets, v4("fd00:1::/64").Sets...)
	c.Cooldown = time.Hour
	const all = "10.1.0.2-10.1.0.254 or fd00:1::2-fd00:1::ffff:ffff:ffff:ffff"
	tests := []struct {
		name string
		want []netip.Addr
		got  string // addresses or error
		is   error
	}{
		{"one", []netip.Addr{ip("10.1.0.55")}, "10.1.0.55/24 fd00:1::2/64", nil},
		{"twice the same, as podman says it", []netip.Addr{ip("10.1.0.55"), ip("10.1.0.55")}, "10.1.0.55/24 fd00:1::2/64", nil},
		{"of each set, in any order", []netip.Addr{ip("fd00:1::55"), ip("::ffff:10.1.0.55")}, "10.1.0.55/24 fd00:1::55/64", nil},
		{"released a moment ago", []netip.Addr{ip("10.1.0.9")}, "10.1.0.9/24 fd00:1::2/64", nil},
		{"two of one set", []netip.Addr{ip("10.1.0.55"), ip("10.1.0.56")}, "requested addresses 10.1.0.55 and 10.1.0.56 are both of 10.1.0.2-10.1.0.254: want one of each set of ranges", bowline.ErrInvalid},
		{"gateway", []netip.Addr{ip("10.1.0.1")}, "requested address 10.1.0.1: want one of " + all, bowline.ErrInvalid},
		{"elsewhere", []netip.Addr{ip("192.0.2.1")}, "requested address 192.0.2.1: want one of " + all, bowline.ErrInvalid},
		{"taken", []netip.Addr{ip("10.1.0.8")}, "requested address 10.1.0.8 is taken by container other, interface eth0", bowline.ErrConflict},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			mustAllocate(t, s, v4("10.1.0.0/24"), Request{Owner: owner("other"), Want: []netip.Addr{ip("10.1.0.8")}})
			mustAllocate(t, s, c, Request{Owner: owner("before"), Want: []netip.Addr{ip("10.1.0.9"), ip("fd00:1::99")}})
			mustRelease(t, s, owner("before"))
			as, err := s.Allocate(t.Context(), c, Request{Owner: owner("c"), Want: tt.want})
			got := addrs(as)
			if err != nil {
				got = strings.TrimPrefix(err.Error(), `network "web": ipam: `)
			}
			if got != tt.got || !errors.Is(err, tt.is) {
				t.Errorf("got %s\nwant %s", got, tt.got)
			}
		})
	}
}

func TestOwners(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	for _, o := range []Owner{{}, {"a/b", "eth0"}, {"a", "e/0"}, {"a\x00", ""}, {strings.Repeat("x", 1000), ""}} {
		if _, err := s.Allocate(t.Context(), v4("10.1.0.0/24"), Request{Owner: o}); !errors.Is(err, bowline.ErrInvalid) {
			t.Errorf("Allocate for %.20q: %v, want invalid", o, err)
		}
	}
	for i, o := range []Owner{{"a", ""}, {"a", "eth0"}, {"a", "eth1"}, {strings.Repeat("x", 900), "eth0"}, {"~a", "."}, {"..", "eth0"}} {
		if got, want := mustAllocate(t, s, v4("10.1.0.0/24"), Request{Owner: o}), fmt.Sprintf("10.1.0.%d/24", 2+i); got != want {
			t.Errorf("Allocate for %.20q = %s, want %s", o, got, want)
		}
	}
	as, err := s.List(t.Context())
	if err != nil || len(as) != 6 {
		t.Errorf("%d allocations, %v; want 6", len(as), err)
	}
	for _, a := range as {
		if got := mustRelease(t, s, a.Owner); got != a.Addr.String() {
			t.Errorf("Release %.20q = %s, want %s", a.Owner, got, a.Addr)
		}
	}
}

// TestUnknownNamespace: what never was a namespace here says nothing about life.
func TestUnknownNamespace(t *testing.T) {
	t.Parallel()
	s, c := newStore(t), v4("10.1.0.0/30")
	mustAllocate(t, s, c, Request{Owner: owner("a"), Sandbox: "/none"})
	if as, err := s.Reclaim(t.Context()); err != nil || len(as) != 0 {
		t.Errorf("Reclaim = %s, %v; want nothing", addrs(as), err)
	}
	if _, err := s.Allocate(t.Context(), c, Request{Owner: owner("b")}); !errors.Is(err, bowline.ErrExhausted) {
		t.Errorf("Allocate: %v, want exhausted", err)
	}
}

func TestNetworks(t *testing.T) {
	t.Setenv("BOWLINE_RUN_DIR", t.TempDir())
	names := []string{"a.b-c_d", "pool:local/10.1.0.0/24", strings.Repeat("long", 100)}
	for _, n := range names {
		mustAllocate(t, Open(n), v4("10.1.0.0/24"), Request{Owner: owner("a")})
	}
	got, err := Networks(t.Context())
	slices.Sort(got)
	slices.Sort(names)
	if err != nil || !slices.Equal(got, names) {
		t.Errorf("Networks = %q, %v; want %q", got, err, names)
	}
	if _, err := Open("").Allocate(t.Context(), v4("10.1.0.0/24"), Request{Owner: owner("a")}); !errors.Is(err, bowline.ErrInvalid) {
		t.Errorf("Allocate in a network without a name: %v, want invalid", err)
	}
}
