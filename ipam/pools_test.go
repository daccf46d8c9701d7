package ipam

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/state"
)

// newPools returns pools whose records and addresses are of this test alone.
func newPools(t *testing.T) *Pools {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("BOWLINE_RUN_DIR", filepath.Join(dir, "run"))
	t.Setenv("BOWLINE_LIB_DIR", filepath.Join(dir, "lib"))
	return OpenPools()
}

// reboot makes all that was allocated so far be of a previous boot.
func reboot(t *testing.T) {
	t.Helper()
	if err := os.Rename(state.Run("ipam", bootDir()).Dir, state.Run("ipam", "before").Dir); err != nil {
		t.Fatal(err)
	}
	p := OpenPools()
	pools, err := p.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, pool := range pools {
		for i := range pool.Reserved {
			pool.Reserved[i].Boot = "before"
		}
		if err := p.put(t.Context(), pool); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRequestPool(t *testing.T) {
	p := newPools(t)
	steps := []struct {
		pool, sub string
		v6        bool
		wantID    string
		wantErr   string
	}{
		{"10.1.0.0/24", "", false, "local/10.1.0.0/24", ""},
		{"10.1.0.9/24", "", false, "", "pool 10.1.0.0/24 overlaps 10.1.0.0/24, which a network has already; want a prefix of its own"},
		{"10.1.0.0/16", "", false, "", "pool 10.1.0.0/16 overlaps 10.1.0.0/24, which a network has already; want a prefix of its own"},
		{"10.1.0.128/25", "", false, "", "pool 10.1.0.128/25 overlaps 10.1.0.0/24, which a network has already; want a prefix of its own"},
		{"10.1.0.0/24", "10.1.0.0/25", false, "", "pool 10.1.0.0/24 overlaps 10.1.0.0/24, which a network has already; want a prefix of its own"},
		{"10.2.0.0/24", "10.2.0.128/25", false, "local/10.2.0.0/24/10.2.0.128/25", ""},
		{"10.2.0.0/24", "10.2.0.0/26", false, "local/10.2.0.0/24/10.2.0.0/26", ""},
		{"10.2.0.0/24", "", false, "", "pool 10.2.0.0/24 overlaps 10.2.0.0/24, which a network has already; want a prefix of its own"},
		{"10.3.0.0/24", "10.4.0.0/25", false, "", `subpool="10.4.0.0/25": want a prefix within 10.3.0.0/24`},
		{"", "10.4.0.0/25", false, "", `subpool="10.4.0.0/25": want a pool that it is a part of`},
		{"10.3.0.0", "", false, "", `pool="10.3.0.0": want an IP prefix such as 10.1.0.0/24`},
		{"10.3.0.0/31", "", false, "", `pool="10.3.0.0/31": want a prefix of at most /30, for the network and the gateway take an address each`},
		{"", "", false, "local/10.192.0.0/24", ""},
		{"", "", false, "local/10.192.1.0/24", ""},
		{"10.192.3.0/24", "", false, "local/10.192.3.0/24", ""},
		{"", "", false, "local/10.192.2.0/24", ""},
		{"", "", false, "local/10.192.4.0/24", ""},
		{"fd00:1::/64", "", true, "local/fd00:1::/64", ""},
	}
	for _, s := range steps {
		got, err := p.RequestPool(t.Context(), "local", s.pool, s.sub, s.v6)
		if errText(err) != s.wantErr || got.ID != s.wantID {
			t.Fatalf("RequestPool(%q, %q) = %q, %v\nwant %q, %s", s.pool, s.sub, got.ID, err, s.wantID, s.wantErr)
		}
		if err == nil { // else asking again would return it
			if _, err := p.RequestAddress(t.Context(), got.ID, netip.Addr{}, "", true); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := p.RequestPool(t.Context(), "global", "10.1.0.0/24", "", false); err != nil {
		t.Errorf("the same prefix in another space: %v", err)
	}
}

func TestUniqueLocalPools(t *testing.T) {
	p := newPools(t)
	var got []netip.Prefix
	for range 3 {
		pool, err := p.RequestPool(t.Context(), "local", "", "", true)
		if err != nil {
			t.Fatal(err)
		}
		if pool.Prefix.Bits() != 64 || !netip.MustParsePrefix("fd00::/8").Contains(pool.Prefix.Addr()) {
			t.Errorf("got %s, want a /64 within fd00::/8", pool.Prefix)
		}
		got = append(got, pool.Prefix)
	}
	if got[0] == got[1] || got[1] == got[2] {
		t.Errorf("got %v, want them to differ", got)
	}
	site := netip.PrefixFrom(got[0].Addr(), 48)
	if !site.Contains(got[2].Addr()) {
		t.Errorf("%s and %s are not of one /48", got[0], got[2])
	}
}

func TestPoolOfKilledEngine(t *testing.T) {
	p := newPools(t)
	for range 2 { // nothing was taken from it: the engine died before it could
		if _, err := p.RequestPool(t.Context(), "local", "10.1.0.0/24", "", false); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.ReleasePool(t.Context(), "local/10.1.0.0/24"); err != nil {
		t.Fatal(err)
	}
	if err := p.ReleasePool(t.Context(), "local/10.1.0.0/24"); err != nil {
		t.Errorf("releasing nothing: %v, want success", err)
	}
	if pools, err := p.List(t.Context()); err != nil || len(pools) != 0 {
		t.Errorf("List = %v, %v; want nothing", pools, err)
	}
}

func TestPoolAddresses(t *testing.T) {
	p := newPools(t)
	pool, err := p.RequestPool(t.Context(), "local", "10.1.0.0/24", "10.1.0.128/25", false)
	if err != nil {
		t.Fatal(err)
	}
	request := func(want string, gateway bool) string {
		t.Helper()
		var a netip.Addr
		if want != "" {
			a = netip.MustParseAddr(want)
		}
		got, err := p.RequestAddress(t.Context(), pool.ID, a, "", gateway)
		if err != nil {
			return err.Error()
		}
		return got.String()
	}
	expect := func(got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	expect(request("10.1.0.1", true), "10.1.0.1/24")
	expect(request("10.1.0.1", true), "10.1.0.1/24") // replayed
	expect(request("", true), "10.1.0.1/24")
	expect(request("10.1.0.1", false), "requested address 10.1.0.1 of 10.1.0.0/24 is taken: it is the gateway")
	expect(request("10.1.0.129", false), "10.1.0.129/24") // auxiliary: Docker does not say so
	expect(request("10.1.0.129", false), "requested address 10.1.0.129 of 10.1.0.0/24 is taken: it is an address that was asked for by value")
	expect(request("10.1.0.255", false), "requested address 10.1.0.255: want a host address of 10.1.0.0/24")
	expect(request("10.9.0.5", false), "requested address 10.9.0.5: want a host address of 10.1.0.0/24")
	expect(request("", false), "10.1.0.128/24") // of the subpool; 128 is a host of the /24
	expect(request("", false), "10.1.0.130/24")
	expect(request("10.1.0.130", false), "requested address 10.1.0.130 of 10.1.0.0/24 is taken by a container")
	for range 2 { // Docker releases by address, and may again
		if err := p.ReleaseAddress(t.Context(), pool.ID, netip.MustParseAddr("10.1.0.130")); err != nil {
			t.Fatal(err)
		}
	}
	expect(request("10.1.0.130", false), "10.1.0.130/24")

	reboot(t)
	expect(request("10.1.0.1", true), "10.1.0.1/24")
	expect(request("", false), "10.1.0.128/24")
	expect(request("", false), "10.1.0.131/24")           // gateway and by value stay
	expect(request("10.1.0.129", false), "10.1.0.129/24") // unless asked for
	if err := p.ReleasePool(t.Context(), pool.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(state.Run("ipam").Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("stat of the addresses' directory after ReleasePool: %v, want not exist", err)
	}
	if _, err := p.RequestAddress(t.Context(), pool.ID, netip.Addr{}, "", false); !errors.Is(err, bowline.ErrUnknown) {
		t.Errorf("RequestAddress of no pool: %v, want unknown", err)
	}
	if err := p.ReleaseAddress(t.Context(), pool.ID, netip.MustParseAddr("10.1.0.1")); err != nil {
		t.Errorf("ReleaseAddress of no pool: %v, want success", err)
	}
}

func TestSubPoolsShareAddresses(t *testing.T) {
	p := newPools(t)
	a, err := p.RequestPool(t.Context(), "local", "10.1.0.0/24", "10.1.0.0/29", false)
	if err != nil {
		t.Fatal(err)
	}
	b, err := p.RequestPool(t.Context(), "local", "10.1.0.0/24", "10.1.0.0/28", false)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[netip.Prefix]bool{}
	for i := range 8 {
		got, err := p.RequestAddress(t.Context(), []string{a.ID, b.ID}[i%2], netip.Addr{}, fmt.Sprint("c", i), false)
		if err != nil {
			t.Fatal(err)
		}
		if seen[got] {
			t.Errorf("%s was given out twice", got)
		}
		seen[got] = true
	}
	if err := p.ReleasePool(t.Context(), a.ID); err != nil {
		t.Fatal(err)
	}
	if as, err := Open(b.store()).List(t.Context()); err != nil || len(as) != 8 {
		t.Errorf("%d addresses, %v; want those of both to stay until both go", len(as), err)
	}
}
