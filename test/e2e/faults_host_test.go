package e2e

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bowline-net/bowline/internal/netns"
)

// faults is a host on which things go wrong.
type faults struct {
	*host
	report *faultReport
}

// allOn returns a network on which every feature is on.
func allOn(name string, subnets ...string) conf {
	return network(name, subnets...).with("macspoofchk", true).
		with("policy", []any{"deny egress tcp 25", "deny ingress icmp"}).
		with("runtimeConfig", map[string]any{
			"bandwidth":    map[string]any{"ingressRate": 1e9, "egressRate": 1e9},
			"portMappings": []any{hostPort(0, 80, "tcp", ""), hostPort(0, 7, "udp", "")}, // of the host: any
		})
}

// allOnLAN is allOn for containers on the LAN of a host, as far as that goes
// together there. What others have on the LAN is not in its ranges, for a
// conflict would put it on record.
func allOnLAN(name string, subnets ...string) conf {
	var ranges []any
	for _, s := range subnets {
		first := netip.MustParsePrefix(s).Addr().AsSlice()
		first[len(first)-1] = 200
		last, _ := netip.AddrFromSlice(first)
		ranges = append(ranges, []any{map[string]any{"subnet": s, "rangeEnd": last.String()}})
	}
	return lan(name, subnets...).ipam("ranges", ranges).with("policy", []any{"deny egress tcp 25", "deny ingress icmp"}).
		with("runtimeConfig", map[string]any{"bandwidth": map[string]any{"egressRate": 1e9}})
}

// bystanders attaches two containers to the network, which send to each other
// and to a machine outside, as this one sends to a published port, and the host
// to a container that it has access to, until the test ends, and must not lose a
// packet. It returns what GC must be told of them.
func (f *faults) bystanders(c conf) (valid []string) {
	f.t.Helper()
	out := f.outside()
	out.echo("192.0.2.2:7")
	x, y := f.sandbox("x"), f.sandbox("y")
	x.add(c)
	runtime := maps.Clone(c["runtimeConfig"].(map[string]any))
	if runtime["portMappings"] != nil {
		runtime["portMappings"] = []any{hostPort(7007, 7, "udp", "")}
	}
	r := y.add(c.with("runtimeConfig", runtime))
	y.echo(":7")
	four, six := net.JoinHostPort(r.addr("4"), "7"), net.JoinHostPort(r.addr("6"), "7")
	streams := []*stream{x.streamTo("IPv4 to a neighbour", four), x.streamTo("IPv4 to outside", "192.0.2.2:7")}
	switch {
	case runtime["portMappings"] != nil:
		streams = append(streams, out.streamTo("IPv4 to a published port", "192.0.2.1:7007"))
		if r.addr("6") != "" {
			streams = append(streams, out.streamTo("IPv6 to a published port", "[2001:db8::1]:7007"))
		}
	case c["host-access"] == true:
		host := &sandbox{h: f.host, id: "host", ns: f.ns}
		streams = append(streams, host.streamTo("IPv4 from the host", four))
		if r.addr("6") != "" {
			streams = append(streams, host.streamTo("IPv6 from the host", six))
		}
	default:
		streams = append(streams, out.streamTo("IPv4 from the LAN", four), out.streamTo("IPv6 from the LAN", six))
	}
	if r.addr("6") != "" {
		streams = append(streams, x.streamTo("IPv6 to a neighbour", six))
	}
	for _, s := range streams {
		f.t.Cleanup(func() { s.judge(f.t, f.report) })
	}
	return []string{"x/eth0", "y/eth0"}
}

// whole is a snapshot with what shapes traffic, and without what the kernel
// adds to sets as packets pass and drops some time after the last one, or finds
// out of a link some time after it was made. Routes to IPv6 addresses, which come
// late, are waited for.
func (f *faults) whole() snapshot {
	f.t.Helper()
	var s snapshot
	eventually(f.t, func() error {
		s = f.snapshot()
		for _, a := range s["address"] {
			link, addr, _ := strings.Cut(a, " ")
			addr, _, _ = strings.Cut(addr, "/")
			if !strings.Contains(addr, ":") || addr == "::1" {
				continue
			}
			if !slices.ContainsFunc(s["route"], func(r string) bool { return strings.HasPrefix(r, "local "+addr+" dev "+link+" ") }) {
				return fmt.Errorf("no route yet to %s", a)
			}
		}
		return nil
	})
	s["qdisc"] = lines(f.run("tc", "qdisc"))
	for i, l := range s["link"] {
		s["link"][i] = strings.NewReplacer("NO-CARRIER,", "", ",LOWER_UP", "").Replace(l)
	}
	s["nft"] = slices.DeleteFunc(s["nft"], func(l string) bool {
		return strings.Contains(l, " timeout ") && (strings.HasSuffix(l, ",") || strings.HasSuffix(l, "}"))
	})
	return s
}

// without returns s without the lines of a kind that f finds.
func (s snapshot) without(kind string, f func(l string) bool) snapshot {
	s = maps.Clone(s)
	s[kind] = slices.DeleteFunc(slices.Clone(s[kind]), f)
	return s
}

// withoutTemporary returns s without the files that a killed writer leaves
// until GC.
func (s snapshot) withoutTemporary() snapshot {
	return s.without("record", func(l string) bool { return strings.Contains(l, "/.tmp") })
}

// empty fails the test unless there is nothing in the sandbox but its loopback:
// no link, no firewall.
func (s *sandbox) empty(when string) {
	s.h.t.Helper()
	var links []net.Interface
	if err := netns.Do(s.ns, func() (err error) {
		links, err = net.Interfaces()
		return err
	}); err != nil {
		s.h.t.Fatal(err)
	}
	if len(links) != 1 {
		s.h.t.Errorf("%s: the sandbox holds %v, want its loopback only", when, links)
	}
	if rules := s.run("nft", "list", "ruleset"); rules != "" {
		s.h.t.Errorf("%s: the sandbox has a firewall: %s", when, rules)
	}
}

func forceBuffer(fd, bytes int) error {
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, bytes)
}
