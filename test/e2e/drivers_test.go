package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// A kind is a plugin as tests drive it: the same questions go to each.
type kind struct {
	name    string
	host    func(t testing.TB) *host
	network func(name string, subnets ...string) conf
}

// kinds are all that put containers on a network of the given subnets, whose
// first address is the gateway.
func kinds() []kind {
	all := []kind{{"bridge", newHost, network}}
	if reference() {
		return all
	}
	return append(all, kind{"macvlan", newLANHost, lan}, kind{"macvlan with host access", newLANHost, func(name string, subnets ...string) conf {
		return lan(name, subnets...).with("host-access", true)
	}})
}

// eachKind runs f for all kinds, as tests beside each other.
func eachKind(t *testing.T, f func(t *testing.T, k kind)) {
	t.Helper()
	for _, k := range kinds() {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			f(t, k)
		})
	}
}

// macvlan reports whether the containers are on a parent, without an end in the
// host.
func (k kind) macvlan() bool { return k.name != "bridge" }

// guarded returns c with a check of senders, where there is one.
func (k kind) guarded(c conf) conf {
	if k.macvlan() {
		return c
	}
	return c.with("macspoofchk", true)
}

// hostOf returns a host on which a network may be of that configuration.
func hostOf(t testing.TB, c conf) *host {
	t.Helper()
	if c["type"] == "bowline-macvlan" {
		return newLANHost(t)
	}
	return newHost(t)
}

// shim returns the name of the host's own link on up0, by which it reaches its
// containers.
func (h *host) shim() string {
	h.t.Helper()
	for _, l := range h.links() {
		if strings.HasPrefix(l, "bwh") && strings.Contains(l, "kind=macvlan") {
			return strings.Fields(l)[0]
		}
	}
	h.t.Fatalf("no shim among %q", h.links())
	return ""
}

// lan is [network] on the LAN of a host that newLANHost makes.
func lan(name string, subnets ...string) conf {
	c := network(name, subnets...)
	for _, key := range []string{"bridge", "isGateway", "ipMasq"} {
		delete(c, key)
	}
	return c.with("type", "bowline-macvlan").with("master", "up0")
}

// newLANHost returns a host whose link up0 is on a LAN, where it has the address
// .254 of each subnet that tests use, and the machine outside has the gateway's.
//
//	containers, host -- up0 == out0, outside
func newLANHost(t testing.TB) *host {
	t.Helper()
	return newHostWith(t, func(h *host) {
		out := h.outside()
		for _, n := range lanSubnets() {
			h.run("ip", "addr", "add", n.host, "dev", "up0", "nodad")
			out.run("ip", "addr", "add", n.gateway, "dev", "out0", "nodad")
		}
		eventually(t, func() error { // the kernel takes a moment to see the carrier
			out := h.run("ip", "-6", "route", "show", "table", "all")
			if strings.Count(out, "local fd00:") != 3 || strings.Contains(out, "linkdown") {
				return fmt.Errorf("routes are\n%s", out)
			}
			return nil
		})
	})
}

type lanSubnet struct{ host, gateway string }

func lanSubnets() []lanSubnet {
	return []lanSubnet{
		{"10.1.0.254/24", "10.1.0.1/24"}, {"10.2.0.254/24", "10.2.0.1/24"}, {"10.9.0.254/24", "10.9.0.1/24"},
		{"fd00:1::fe/64", "fd00:1::1/64"}, {"fd00:2::fe/64", "fd00:2::1/64"}, {"fd00:9::fe/64", "fd00:9::1/64"},
	}
}
