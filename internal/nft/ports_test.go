package nft_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
	"github.com/bowline-net/bowline/internal/nft"
)

// port reads 8000-8009/tcp, 192.0.2.1:80/tcp or [::]:53/udp, and where it leads
// to after a space; without, to an address of our own and the same ports.
func port(t testing.TB, s string) nft.Port {
	t.Helper()
	s, to, _ := strings.Cut(s, " ")
	s, protocol, _ := strings.Cut(s, "/")
	p := nft.Port{Host: netip.IPv4Unspecified(), Protocol: map[string]byte{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP, "sctp": unix.IPPROTO_SCTP}[protocol]}
	if i := strings.LastIndex(s, ":"); i >= 0 {
		p.Host = netip.MustParseAddr(strings.Trim(s[:i], "[]"))
		s = s[i+1:]
	}
	first, last, row := strings.Cut(s, "-")
	if !row {
		last = first
	}
	a, err1 := strconv.Atoi(first)
	b, err2 := strconv.Atoi(last)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	p.First, p.Count = uint16(a), b-a+1
	if to == "" {
		p.To = netip.AddrPortFrom(netip.MustParseAddr("10.1.0.2"), p.First)
		if p.Host.Is6() {
			p.To = netip.AddrPortFrom(netip.MustParseAddr("fd00:1::2"), p.First)
		}
		return p
	}
	p.To = netip.MustParseAddrPort(to)
	return p
}

func ports(t testing.TB, list ...string) (ps []nft.Port) {
	t.Helper()
	for _, s := range list {
		ps = append(ps, port(t, s))
	}
	return ps
}

// publishing is a dual-stack network on br0.
func publishing(id string) nft.Network {
	return nft.Network{ID: id, Bridge: "br0", V4: true, V6: true, ICC: true, Publishing: nft.Publishing{SNAT: true, Pools: []bowline.Pool{
		{Prefix: netip.MustParsePrefix("10.1.0.0/24"), Gateway: netip.MustParseAddr("10.1.0.1")},
		{Prefix: netip.MustParsePrefix("fd00:1::/64"), Gateway: netip.MustParseAddr("fd00:1::1")},
	}}}
}

func holder(id string, ps ...nft.Port) nft.Endpoint {
	return nft.Endpoint{ID: id, Port: bowline.LinkName("bwo", id), Ports: ps}
}

// reloads fails the test unless the nft command reads what it prints.
func reloads(t *testing.T, ns *netns.Handle) string {
	t.Helper()
	rules := ruleset(t, ns)
	file := filepath.Join(t.TempDir(), "ruleset")
	if err := os.WriteFile(file, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	netnstest.Command(t, netnstest.New(t), "nft", "-c", "-f", file)
	return rules
}

// TestPortConflicts: the kernel refuses what overlaps, whichever of the two comes
// first, and the error names the holder.
func TestPortConflicts(t *testing.T) {
	t.Parallel()
	tests := []struct {
		a, b     string
		conflict bool
	}{
		{"80/tcp", "80/tcp", true},
		{"80/tcp", "80/udp", false},
		{"80/tcp", "81/tcp", false},
		{"80/tcp", "192.0.2.1:80/tcp", true},
		{"127.0.0.1:80/tcp", "192.0.2.1:80/tcp", false},
		{"192.0.2.1:80/tcp", "192.0.2.1:80/tcp", true},
		{"80/tcp", "[::]:80/tcp", false},
		{"[::]:80/tcp", "[::1]:80/tcp", true},
		{"[2001:db8::1]:80/tcp", "[::1]:80/tcp", false},
		{"[fd00::1]:80/tcp", "[2001::1]:80/tcp", false},
		{"70-90/tcp", "80/tcp", true},
		{"70-90/tcp", "70/tcp", true},
		{"70-90/tcp", "90/tcp", true},
		{"70-90/tcp", "60-90/tcp", true},
		{"70-90/tcp", "91/tcp", false},
		{"70-90/tcp", "85-95/tcp", true},
		{"70-90/tcp", "192.0.2.1:60-99/tcp", true},
		{"192.0.2.1:70-90/tcp", "192.0.2.1:80-99/tcp", true},
		{"192.0.2.1:70-90/tcp", "192.0.2.2:80-99/tcp", false},
		{"1000-9999/tcp", "192.0.2.1:5000/tcp", true},
		{"1000-9999/tcp", "10000-19999/tcp", false},
		{"65535/tcp", "1/udp", false},
		{"1-65535/tcp", "65535/tcp", true},
		{"192.0.2.1:20000-29999/udp", "25000/udp", true},
	}
	for _, tt := range tests {
		for _, order := range [][2]string{{tt.a, tt.b}, {tt.b, tt.a}} {
			t.Run(order[0]+" then "+order[1], func(t *testing.T) {
				t.Parallel()
				ns := netnstest.New(t)
				h := nft.Open(ns)
				n := publishing("web")
				if err := h.EnsureEndpoint(t.Context(), n, holder("first/eth0", port(t, order[0]))); err != nil {
					t.Fatal(err)
				}
				before := ruleset(t, ns)
				err := h.EnsureEndpoint(t.Context(), n, holder("second/eth0", port(t, order[1]), port(t, "9/sctp")))
				if !tt.conflict {
					if err != nil {
						t.Fatal(err)
					}
					return
				}
				want := fmt.Sprintf(`add firewall elements of endpoint "second/eth0": port %s is taken: it leads to endpoint "first/eth0" of network "web"`, strings.Replace(order[1], "[::]:", "", 1))
				if !errors.Is(err, bowline.ErrConflict) || err.Error() != want {
					t.Errorf("\n got %v\nwant %s", err, want)
				}
				if after := ruleset(t, ns); after != before {
					t.Errorf("a refused port changed\n%s\nto\n%s", before, after)
				}
			})
		}
	}
}

// TestPortOwners: any sequence of claims and releases has the outcome that a
// model says.
func TestPortOwners(t *testing.T) {
	t.Parallel()
	h, n := nft.Open(netnstest.New(t)), publishing("web")
	random := rand.New(rand.NewPCG(1, 2))
	hosts := []string{"0.0.0.0", "0.0.0.0", "127.0.0.1", "192.0.2.1", "[::]", "[::]", "[::1]", "[2001:db8::1]"}
	held := map[string]nft.Port{}
	taken := 0
	for step := range 600 {
		owner := fmt.Sprintf("c%d", random.IntN(12))
		if p, has := held[owner]; has {
			if err := h.DeleteEndpoint(t.Context(), n, holder(owner, p)); err != nil {
				t.Fatal(err)
			}
			delete(held, owner)
		}
		first := random.IntN(20) + 1
		if random.IntN(2) == 0 {
			first = 65535 - random.IntN(20)
		}
		last := min(first+random.IntN(4)*random.IntN(6), 65535)
		s := fmt.Sprintf("%s:%d-%d/%s", hosts[random.IntN(len(hosts))], first, last, []string{"tcp", "udp"}[random.IntN(2)])
		p, conflict := port(t, s), false
		for _, o := range held {
			conflict = conflict || p.Overlaps(o)
		}
		err := h.EnsureEndpoint(t.Context(), n, holder(owner, p))
		if conflict {
			taken++
		}
		if !conflict && err != nil || conflict && !errors.As(err, new(*nft.TakenError)) {
			t.Fatalf("step %d: %s beside %v: %v, want a conflict: %v", step, s, held, err, conflict)
		}
		if err == nil {
			held[owner] = p
		}
	}
	if taken < 60 || taken > 540 {
		t.Errorf("%d of 600 claims were conflicts: not much of a test", taken)
	}
}

// TestPortElements: what the tables hold is what was asked for, and the nft
// command can read it again; afterwards nothing is left.
func TestPortElements(t *testing.T) {
	t.Parallel()
	ns := netnstest.New(t)
	h, n := nft.Open(ns), publishing("web")
	n.Publishing.Conditions4 = []nft.Condition{
		{From: netip.MustParsePrefix("192.0.2.0/24")}, {Not: true, To: netip.MustParsePrefix("192.0.2.1/32")},
		{In: "eth0"}, {Not: true, In: "wg+"}, {Mark: &nft.Mark{Value: 4, Mask: 12}}, {Not: true, SourcePorts: &bowline.PortRange{First: 1, Last: 1023}},
	}
	n.Publishing.RespectInput = true
	e := holder("c/eth0", ports(t, "80/tcp 10.1.0.2:8080", "127.0.0.1:53/udp", "[::]:80/tcp [fd00:1::2]:8080", "20000-29999/tcp", "[::1]:1000-1003/sctp")...)
	if err := h.EnsureNetwork(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	empty := reloads(t, ns)
	for range 2 { // again is no change
		if err := h.EnsureEndpoint(t.Context(), n, e); err != nil {
			t.Fatal(err)
		}
	}
	reloads(t, ns)
	rules := netnstest.Command(t, ns, "nft", "-p", "list", "ruleset") // protocols as numbers: their names are in a file that some lack
	for _, want := range []string{
		`6 . 80 comment`, `: 10.1.0.2 . 8080`, `127.0.0.1 . 17 . 53 comment`, `: fd00:1::2 . 8080`, `0.0.0.0/0 . 6 . 20000-29999 comment`, `::1 . 132 . 1003 comment`,
		`goto port-admitted`, `c/eth0 web"`,
	} {
		if !strings.Contains(rules, want) {
			t.Errorf("the tables lack %s:\n%s", want, rules)
		}
	}
	if got := strings.Count(rules, "6 . 20000"); got != 3 { // in port-row, port-gate and port-asks
		t.Errorf("10,000 ports are %d elements, want one in each of 3 sets", got)
	}
	got, err := h.Ports(t.Context(), n, e)
	if err != nil || len(got) != 8 {
		t.Errorf("Ports = %v, %v; want 8", got, err)
	}
	if err := h.DeleteEndpoint(t.Context(), n, e); err != nil {
		t.Fatal(err)
	}
	if left := reloads(t, ns); strings.Contains(left, "c/eth0") || !strings.Contains(empty, "table") {
		t.Errorf("after DeleteEndpoint:\n%s", left)
	}
	if err := h.DeleteNetwork(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	if left := ruleset(t, ns); left != "" {
		t.Errorf("after DeleteNetwork:\n%s", left)
	}
}

// TestPortsLeaveNothing: with the last network that published, what publishing
// takes of packets on their way is gone, whatever networks there are.
func TestPortsLeaveNothing(t *testing.T) {
	t.Parallel()
	ns := netnstest.New(t)
	h, db, n := nft.Open(ns), publishing("db"), publishing("web")
	db.Bridge = "br1"
	n.Publishing.Conditions4 = []nft.Condition{{In: "eth0"}}
	if err := h.EnsureNetwork(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	before := ruleset(t, ns)
	e := holder("c", ports(t, "80/tcp", "[::]:80/tcp")...)
	if err := h.EnsureEndpoint(t.Context(), n, e); err != nil {
		t.Fatal(err)
	}
	if err := h.DeleteNetwork(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	if after := ruleset(t, ns); after != before {
		t.Errorf("the tables are\n%s\nwant\n%s", after, before)
	}
}

// TestReplacePorts: exactly the new ones lead to the endpoint, and after a
// conflict exactly the old ones.
func TestReplacePorts(t *testing.T) {
	t.Parallel()
	ns := netnstest.New(t)
	h, n := nft.Open(ns), publishing("web")
	if err := h.EnsureEndpoint(t.Context(), n, holder("other/eth0", ports(t, "9000/tcp", "[::]:9000/tcp")...)); err != nil {
		t.Fatal(err)
	}
	without := ruleset(t, ns)
	for _, step := range []struct {
		list     []string
		conflict bool
	}{
		{[]string{"80/tcp", "[::]:80/tcp"}, false},
		{[]string{"80/tcp", "[::]:80/tcp"}, false},
		{[]string{"80/tcp 10.1.0.2:81"}, false},
		{[]string{"80/tcp 10.1.0.9:81"}, false}, // another address of it
		{[]string{"70-119/tcp", "53/udp"}, false},
		{[]string{"70-119/tcp", "9000/tcp"}, true},
		{[]string{"192.0.2.1:80/tcp", "127.0.0.1:80/tcp"}, false},
		{[]string{"80/tcp"}, false},
		{nil, false},
		{[]string{"8000-8099/tcp"}, false},
		{nil, false},
	} {
		before := ruleset(t, ns)
		e := holder("c/eth0", ports(t, step.list...)...)
		err := h.ReplacePorts(t.Context(), n, e)
		if step.conflict {
			var taken *nft.TakenError
			if !errors.As(err, &taken) || taken.Endpoint != "other/eth0" || taken.Network != "web" || taken.Port.First != 9000 {
				t.Errorf("%v: %v, want a TakenError", step.list, err)
			}
			if after := ruleset(t, ns); after != before {
				t.Errorf("a conflict changed\n%s\nto\n%s", before, after)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%v: %v", step.list, err)
		}
		got, err := h.Ports(t.Context(), n, e)
		sortPorts(got)
		want := slices.Clone(e.Ports)
		sortPorts(want)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%v: Ports = %v, %v", step.list, got, err)
		}
	}
	if after := ruleset(t, ns); after != without {
		t.Errorf("with all ports gone\n%s\nwant\n%s", after, without)
	}
}

func sortPorts(ps []nft.Port) {
	slices.SortFunc(ps, func(a, b nft.Port) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
}

// TestDeletePorts: by what is known, by ID alone, and of all but some.
func TestDeletePorts(t *testing.T) {
	t.Parallel()
	ns := netnstest.New(t)
	h, n, m := nft.Open(ns), publishing("web"), publishing("db")
	list := []string{"80/tcp", "[::]:80/tcp", "192.0.2.1:8000-8009/tcp", "[::1]:53/udp", "20000-20099/udp", "[::]:20000-20099/udp [fd00:1::2]:1"}
	a, b, c := holder("a", ports(t, list...)...), holder("b", ports(t, "81/tcp", "[::]:81/tcp")...), holder("c", port(t, "82/tcp"))
	ensure := func(n nft.Network, e nft.Endpoint) {
		t.Helper()
		if err := h.EnsureEndpoint(t.Context(), n, e); err != nil {
			t.Fatal(err)
		}
	}
	ensure(m, c)
	ensure(n, b)
	without := ruleset(t, ns)
	for name, remove := range map[string]func() error{
		"as it was": func() error { return h.DeleteEndpoint(t.Context(), n, a) },
		"ID alone": func() error {
			return h.DeleteEndpoint(t.Context(), n, nft.Endpoint{ID: "a", Port: a.Port, Unsure: true})
		},
		"not all": func() error {
			return h.DeleteEndpoint(t.Context(), n, nft.Endpoint{ID: "a", Port: a.Port, Ports: a.Ports[:1], Unsure: true})
		},
		"others":       func() error { return h.DeleteOthers(t.Context(), "web", []string{"b"}) },
		"by replacing": func() error { return h.ReplacePorts(t.Context(), n, nft.Endpoint{ID: "a", Port: a.Port}) },
	} {
		ensure(n, a)
		for range 2 {
			if err := remove(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if after := ruleset(t, ns); after != without {
			t.Errorf("%s: the tables are\n%s\nwant\n%s", name, after, without)
		}
	}
}
