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
