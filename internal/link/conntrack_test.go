package link_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

// track puts an entry into the table of ns: a client of 192.0.2.9 that sent to
// the address and port, which were translated to server.
func track(t *testing.T, ns *netns.Handle, protocol, to string, port int, server string) {
	t.Helper()
	client := "192.0.2.9"
	if strings.Contains(to, ":") {
		client = "2001:db8::9"
	}
	s := netip.MustParseAddrPort(server)
	args := []string{"conntrack", "-I", "-p", protocol, "-t", "600", "-s", client, "-d", to, "--sport", "40000", "--dport", fmt.Sprint(port),
		"-r", s.Addr().String(), "-q", client, "--reply-port-src", fmt.Sprint(s.Port()), "--reply-port-dst", "40000"}
	if protocol == "tcp" {
		args = append(args, "--state", "ESTABLISHED")
	}
	netnstest.Command(t, ns, args...)
}

// tracked lists the entries, as "to port server".
func tracked(t *testing.T, ns *netns.Handle) []string {
	t.Helper()
	var all []string
	for _, family := range []string{"ipv4", "ipv6"} {
		for line := range strings.Lines(netnstest.Command(t, ns, "conntrack", "-L", "-f", family)) {
			f := map[string][]string{}
			for _, w := range strings.Fields(line) {
				if k, v, ok := strings.Cut(w, "="); ok {
					f[k] = append(f[k], v)
				}
			}
			if len(f["dst"]) == 2 {
				all = append(all, f["dst"][0]+" "+f["dport"][0]+" "+f["src"][1]+" "+f["sport"][1])
			}
		}
	}
	slices.Sort(all)
	return all
}

func TestForget(t *testing.T) {
	t.Parallel()
	const any4, any6, host4, host6, away4 = "0.0.0.0", "::", "192.0.2.1", "2001:db8::1", "198.51.100.1"
	type entry struct {
		protocol, to string
		port         int
		server       string
		stale, led   bool // forgotten by ForgetStale and ForgetLed
	}
	tests := []struct {
		name     string
		to       string
		first    uint16
		count    int
		endpoint string
		entries  []entry
	}{
		{"one port of all addresses", any4, 53, 1, "10.1.0.2:53", []entry{
			{"udp", host4, 53, "192.0.2.1:53", true, false}, // of the host itself, before
			{"udp", "127.0.0.1", 53, "127.0.0.1:53", true, false},
			{"udp", host4, 53, "10.1.0.9:53", true, false},      // of a container before this one
			{"udp", host4, 53, "10.1.0.2:53", false, true},      // ours
			{"udp", host4, 54, "10.1.0.2:53", false, false},     // another port of ours
			{"udp", away4, 53, "198.51.100.1:53", false, false}, // passing through
			{"tcp", host4, 53, "10.1.0.2:53", false, false},
		}},
		{"a row at one address", host4, 100, 10, "10.1.0.2:200", []entry{
			{"udp", host4, 100, "192.0.2.1:100", true, false},
			{"udp", host4, 109, "192.0.2.1:109", true, false},
			{"udp", host4, 110, "192.0.2.1:110", false, false},
			{"udp", "127.0.0.1", 105, "127.0.0.1:105", false, false}, // another address of the host
			{"udp", host4, 105, "10.1.0.2:205", false, true},
			{"udp", host4, 105, "10.1.0.2:206", true, false},
			{"udp", "127.0.0.1", 105, "10.1.0.2:205", false, false},
		}},
		{"IPv6", any6, 53, 1, "[fd00::2]:5353", []entry{
			{"udp", host6, 53, "[2001:db8::1]:53", true, false},
			{"udp", host6, 53, "[fd00::2]:5353", false, true},
			{"udp", host4, 53, "192.0.2.1:53", false, false},
		}},
	}
	for _, tt := range tests {
		for _, verb := range []string{"stale", "led"} {
			t.Run(tt.name+" "+verb, func(t *testing.T) {
				t.Parallel()
				ns := netnstest.New(t)
				h := openIn(t, ns)
				for _, args := range []string{"link set lo up", "addr add 192.0.2.1/24 dev lo", "addr add 2001:db8::1/64 dev lo nodad"} {
					netnstest.Command(t, ns, append([]string{"ip"}, strings.Fields(args)...)...)
				}
				f := link.Flows{
					First: tt.first, Count: tt.count,
					To: netip.MustParseAddr(tt.to), Endpoint: netip.MustParseAddrPort(tt.endpoint),
				}
				for _, e := range tt.entries { // one by one, for they may have one tuple
					track(t, ns, e.protocol, e.to, e.port, e.server)
					before := tracked(t, ns)
					forget, want := h.ForgetStale, e.stale
					if verb == "led" {
						forget, want = h.ForgetLed, e.led
					}
					if err := forget(t.Context(), []link.Flows{{First: 1, Count: 1, To: f.To}, f, {First: 1, Count: 1, To: otherFamily(f.To)}}); err != nil {
						t.Fatal(err)
					}
					if gone := len(tracked(t, ns)) == 0; gone != want {
						t.Errorf("%+v: forgotten %v, want %v", e, gone, want)
					}
					if len(before) != 1 {
						t.Fatalf("the table had %q", before)
					}
					netnstest.Command(t, ns, "conntrack", "-F")
				}
			})
		}
	}
}

func otherFamily(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

// TestForgetLeavesOthers: of many, exactly those that were meant.
func TestForgetLeavesOthers(t *testing.T) {
	t.Parallel()
	ns := netnstest.New(t)
	h := openIn(t, ns)
	for port := 50; port < 60; port++ {
		track(t, ns, "udp", "192.0.2.1", port, fmt.Sprintf("10.1.0.2:%d", port))
		track(t, ns, "tcp", "192.0.2.1", port, fmt.Sprintf("10.1.0.2:%d", port))
	}
	f := link.Flows{
		First: 53, Count: 3,
		To: netip.MustParseAddr("192.0.2.1"), Endpoint: netip.MustParseAddrPort("10.1.0.2:53"),
	}
	if err := h.ForgetLed(t.Context(), []link.Flows{f}); err != nil {
		t.Fatal(err)
	}
	if got := tracked(t, ns); len(got) != 17 {
		t.Errorf("%d entries are left, want 20 without 3: %q", len(got), got)
	}
}

func BenchmarkForget(b *testing.B) {
	h := open(b)
	f := link.Flows{First: 53, Count: 1, To: netip.IPv4Unspecified(), Endpoint: netip.MustParseAddrPort("10.1.0.2:53")}
	for b.Loop() {
		if err := h.ForgetStale(b.Context(), []link.Flows{f}); err != nil {
			b.Fatal(err)
		}
	}
}
