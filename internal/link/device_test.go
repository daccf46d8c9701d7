package link_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

// nic makes the link nic0 with addresses and routes of both families, as an
// administrator would have it.
func nic(t *testing.T, host *netns.Handle) {
	t.Helper()
	for _, line := range []string{
		"ip link add nic0 type veth peer name cable0",
		"ip link set cable0 up",
		"ip link set nic0 mtu 1400 up",
		"ip addr add 192.0.2.2/24 brd 192.0.2.255 label nic0:a dev nic0",
		"ip addr add 198.51.100.1 peer 198.51.100.2/32 dev nic0 valid_lft 2900 preferred_lft 2000",
		"ip addr add 2001:db8::2/64 dev nic0 nodad",
		"ip addr add 2001:db8::3/64 dev nic0 nodad valid_lft 2900 preferred_lft 2000",
		"ip route add 203.0.113.0/24 via 192.0.2.9 src 192.0.2.2 metric 7 mtu 1300",
		"ip route add default via 192.0.2.1 table 100",
		"ip route add 203.0.112.0/24 via 192.0.2.77 onlink dev nic0",
		"ip route add 10.9.0.0/16 dev nic0 scope link",
		"ip -6 route add 2001:db8:9::/48 via 2001:db8::9 dev nic0",
		"sysctl -qw net.ipv4.conf.nic0.rp_filter=2 net.ipv6.conf.nic0.accept_ra=0",
	} {
		netnstest.Command(t, host, strings.Fields(line)...)
	}
}

// has returns what ip tells of nic0, but for what counts down or comes by itself.
func has(t *testing.T, host *netns.Handle) string {
	t.Helper()
	var b strings.Builder
	for _, line := range []string{"ip -o addr show dev nic0", "ip route show table all dev nic0", "ip -6 route show table all dev nic0", "ip link show dev nic0"} {
		for l := range strings.Lines(netnstest.Command(t, host, strings.Fields(line)...)) {
			if !strings.Contains(l, "fe80:") && !strings.Contains(l, "ff00::/8") && !strings.Contains(l, "2001:db8::3") && !strings.HasPrefix(l, "local 2001:") { // which comes late
				l, _, _ = strings.Cut(l, " expires")
				l, _, _ = strings.Cut(l, "valid_lft 2")
				b.WriteString(strings.TrimSpace(l) + "\n")
			}
		}
	}
	b.WriteString(netnstest.Command(t, host, "sysctl", "net.ipv4.conf.nic0.rp_filter", "net.ipv6.conf.nic0.accept_ra"))
	return b.String()
}

// A link goes to another namespace under another name, comes back, and has all
// that it had.
func TestMoveAndBack(t *testing.T) {
	t.Parallel()
	hostNS, sandbox := netnstest.New(t), netnstest.New(t)
	host, inside := openIn(t, hostNS), openIn(t, sandbox)
	nic(t, hostNS)
	before := has(t, hostNS)
	l, err := host.Get(t.Context(), "nic0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := host.Settings(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"192.0.2.2/24", "198.51.100.1/32", "2001:db8::2/64"}
	var got []string
	for _, p := range s.Prefixes() {
		got = append(got, p.String())
	}
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("addresses are %v, want %v", got, want)
	}
	if es := s.Entries(); len(es) != 5 || es[len(es)-1].Via == (netip.Addr{}) || es[0].Via.IsValid() {
		t.Errorf("routes are %+v, want five, the one without a gateway first", es)
	}
	if len(s.Sysctls) != 2 || s.Sysctls["net/ipv4/conf/IFNAME/rp_filter"] != "2" {
		t.Errorf("settings are %v", s.Sysctls)
	}
	if err := host.SetAlias(t.Context(), l.Index, "where it is"); err != nil {
		t.Fatal(err)
	}
	if err := host.MoveAs(t.Context(), l.Index, sandbox, "eth0"); err != nil {
		t.Fatal(err)
	}
	in, err := inside.Get(t.Context(), "eth0")
	if err != nil || in.Alias != "where it is" || in.Up || in.MTU != 1400 || !slices.Equal(in.MAC, l.MAC) {
		t.Fatalf("inside it is %+v, %v; was %+v", in, err, l)
	}
	if err := inside.Rename(t.Context(), in.Index, "nic0"); err != nil {
		t.Fatal(err)
	}
	if err := inside.MoveAs(t.Context(), in.Index, hostNS, "nic0"); err != nil {
		t.Fatal(err)
	}
	found, err := host.Aliased(t.Context(), "where it is")
	if err != nil || len(found) != 1 || found[0].Name != "nic0" {
		t.Fatalf("Aliased: %v, %v", found, err)
	}
	for range 2 { // what is there already is no error
		if err := host.RestoreAddrs(t.Context(), found[0], s); err != nil {
			t.Fatal(err)
		}
		if err := host.Set(t.Context(), "nic0", link.Change{Up: true}); err != nil {
			t.Fatal(err)
		}
		if err := host.RestoreRoutes(t.Context(), found[0], s); err != nil {
			t.Fatal(err)
		}
	}
	if err := host.SetAlias(t.Context(), found[0].Index, ""); err != nil {
		t.Fatal(err)
	}
	if after := has(t, hostNS); after != before {
		t.Errorf("it had\n%s\nand has\n%s", before, after)
	}
	// An address whose time is over does not come back.
	netnstest.Command(t, hostNS, "ip", "addr", "del", "198.51.100.1", "peer", "198.51.100.2/32", "dev", "nic0")
	s.At = s.At.Add(-time.Hour)
	if err := host.RestoreAddrs(t.Context(), found[0], s); err != nil {
		t.Fatal(err)
	}
	if after := has(t, hostNS); strings.Contains(after, "198.51.100.1") || !strings.Contains(after, "192.0.2.2/24") {
		t.Errorf("it has an address that ended:\n%s", after)
	}
}

// A name that is taken is a conflict, and the link is found by its alias.
func TestMoveTaken(t *testing.T) {
	t.Parallel()
	hostNS, sandbox := netnstest.New(t), netnstest.New(t)
	host := openIn(t, hostNS)
	nic(t, hostNS)
	netnstest.Command(t, sandbox, "ip", "link", "add", "eth0", "type", "veth")
	netnstest.Command(t, hostNS, "ip", "link", "add", "vl0", "link", "nic0", "type", "macvlan")
	l, err := host.Get(t.Context(), "nic0")
	if err != nil {
		t.Fatal(err)
	}
	if on, err := host.On(t.Context(), l.Index); err != nil || !slices.Equal(on, []string{"vl0"}) {
		t.Errorf("On: %v, %v, want vl0", on, err)
	}
	if err := host.MoveAs(t.Context(), l.Index, sandbox, "eth0"); !errors.Is(err, bowline.ErrConflict) {
		t.Errorf("Move to a name that is taken: %v, want ErrConflict", err)
	}
	if ok, err := host.IsInitial(t.Context()); ok || err != nil {
		t.Errorf("IsInitial of a throwaway namespace: %v, %v", ok, err)
	}
	first, err := link.Open(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	_ = netnstest.Command(t, hostNS, "true")
	if ok, err := first.IsInitial(t.Context()); err != nil {
		t.Errorf("IsInitial: %v, %v", ok, err)
	}
}

// What would be moved is somewhere else and has another name afterwards.
func TestDryMove(t *testing.T) {
	t.Parallel()
	hostNS, sandbox := netnstest.New(t), netnstest.New(t)
	nic(t, hostNS)
	in, out, steps := dryOf(t, hostNS, sandbox, false)
	l, err := out.Get(t.Context(), "nic0")
	if err != nil {
		t.Fatal(err)
	}
	if err := out.SetAlias(t.Context(), l.Index, "mark"); err != nil {
		t.Fatal(err)
	}
	if err := out.MoveAs(t.Context(), l.Index, sandbox, "eth0"); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Get(t.Context(), "nic0"); !errors.Is(err, bowline.ErrUnknown) {
		t.Errorf("it is still in the host: %v", err)
	}
	moved, err := in.Aliased(t.Context(), "mark")
	if err != nil || len(moved) != 1 || moved[0].Name != "eth0" || moved[0].Up || moved[0].MTU != 1400 {
		t.Fatalf("inside: %+v, %v", moved, err)
	}
	if err := in.Rename(t.Context(), moved[0].Index, "eth1"); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Get(t.Context(), "eth1"); err != nil {
		t.Error(err)
	}
	back, err := in.In(hostNS)
	if err != nil {
		t.Fatal(err)
	}
	back.Close()
	want := "host: ip link set nic0 alias \"mark\"\nhost: ip link set nic0 netns sandbox name eth0\nsandbox: ip link set eth0 name eth1\n"
	if got := steps(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if _, err := openIn(t, hostNS).Get(t.Context(), "nic0"); err != nil {
		t.Errorf("it was done: %v", err)
	}
}
