package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

// TestRepair: what Diff tells of each harm, and that nothing differs after a
// repair, of which a second one finds nothing to do.
func TestRepair(t *testing.T) {
	t.Parallel()
	vlan := map[string]string{"bridge": "br0", "isDefaultGateway": "true", "ipMasq": "true", "vlan": "5", "vlanTrunk": "10-11"}
	tests := []struct {
		name    string
		options map[string]string // beside bridge=br0
		harm    string            // OUTER is the host's end
		want    []string          // the first of each place; more may follow
	}{
		{"nothing", nil, "true", nil},
		{"bridge deleted", nil, "ip link del br0", []string{"host has no link br0, want bridge", "link OUTER has no master, want br0"}},
		{"bridge down", nil, "ip link set br0 down", []string{"link br0 has state down, want up"}},
		{"port taken off", nil, "ip link set OUTER nomaster", []string{"link OUTER has no master, want br0"}},
		{"port moved", nil, "ip link add br1 type bridge; ip link set OUTER master br1", []string{"link OUTER has master br1, want br0"}},
		{"port down", nil, "ip link set OUTER down", []string{"link OUTER has state down, want up"}},
		{"port deleted", nil, "ip link del OUTER", []string{"host has no link OUTER, want veth"}},
		{"hairpin", map[string]string{"hairpinMode": "true"}, "bridge link set dev OUTER hairpin off", []string{"link OUTER has hairpin false, want true"}},
		{"isolation", map[string]string{"portIsolation": "true"}, "bridge link set dev OUTER isolated off", []string{"link OUTER has isolated false, want true"}},
		{"promisc", map[string]string{"promiscMode": "true"}, "ip link set br0 promisc off", []string{"link br0 has promisc off, want on"}},
		{"gateway", nil, "ip addr del 10.1.0.1/24 dev br0", []string{"link br0 has no address, want 10.1.0.1/24"}},
		{"gateways", nil, "ip addr flush dev br0", []string{"link br0 has no address, want 10.1.0.1/24"}},
		{"route", nil, "ip route del 10.1.0.0/24", []string{"link br0 has no route, want 10.1.0.0/24"}},
		{"route 6", nil, "ip -6 route del fd00:1::/64", []string{"link br0 has no route, want fd00:1::/64"}},
		{"forwarding", nil, "sysctl -qw net.ipv4.ip_forward=0", []string{"host has net/ipv4/ip_forward 0, want 1"}},
		{"forwarding 6", nil, "sysctl -qw net.ipv6.conf.all.forwarding=0", []string{"host has net/ipv6/conf/all/forwarding 0, want 1"}},
		{"ruleset", nil, "nft flush ruleset", []string{"firewall has no table, want ip bowline"}},
		{"table", nil, "nft delete table ip6 bowline", []string{"firewall has no table, want ip6 bowline"}},
		{"rates", nil, "tc qdisc del dev OUTER root", []string{`link OUTER has no limit out, want`}},
		{"filtering", vlan, "ip link set br0 type bridge vlan_filtering 0", []string{"link br0 has VLAN filtering off, want on"}},
		{"VLANs of a port", vlan, "bridge vlan del dev OUTER vid 11; bridge vlan add dev OUTER vid 12", []string{"link OUTER has VLANs 5up 10 12, want 5up 10 11"}},
		{"bridge of VLANs deleted", vlan, "ip link del br0", []string{"host has no link br0, want bridge", "link OUTER has no master, want br0"}},
		{"link in the VLAN deleted", vlan, "ip link del br0.5", []string{"host has no link br0.5, want veth"}},
		{"link in the VLAN down", vlan, "ip link set br0.5 down", []string{"link br0.5 has state down, want up"}},
		{"room", nil, "iptables-nft -N DOCKER-USER; iptables-nft -P FORWARD DROP", []string{"chain BOWLINE of table ip filter has no rules for br0, want 5"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ns, sandbox := netnstest.New(t), netnstest.New(t)
			d, err := newDriver(ns)
			must(t, err)
			if tt.options["vlan"] != "" {
				var ok bool
				if ns, d, ok = vlanHost(t); !ok {
					return
				}
			}
			netnstest.Command(t, ns, "ip", "link", "set", "lo", "up")
			n := testNetwork("web")
			for k, v := range tt.options {
				n.Options[k] = v
			}
			n.Options["bridge"] = "br0"
			e := bowline.EndpointSpec{
				ID: "a/eth0", IfName: "eth0", Sandbox: sandbox, Rates: bowline.Rates{IngressRate: 1e9},
				Addrs: []netip.Prefix{netip.MustParsePrefix("10.1.0.2/24"), netip.MustParsePrefix("fd00:1::2/64")},
			}
			must(t, d.CreateNetwork(t.Context(), n))
			made, err := d.CreateEndpoint(t.Context(), n, e)
			must(t, err)
			mac := bridgeMAC(t, d)
			places := []bowline.Place{{Network: n}, {Network: n, Endpoint: e}}
			compareFirst(t, d.Diff(t.Context(), places), "", nil)

			for _, command := range strings.Split(strings.ReplaceAll(tt.harm, "OUTER", outerName(n, e.ID)), "; ") {
				netnstest.Command(t, ns, strings.Fields(command)...)
			}
			for range 2 { // as many places as are asked for one by one, and more
				compareFirst(t, d.Diff(t.Context(), places), outerName(n, e.ID), tt.want)
				places = append(places, slices.Repeat(places[:1], few)...)
			}
			for i, r := range d.Repair(t.Context(), places[:2]) {
				if r.Err != nil {
					t.Errorf("Repair: %v", r.Err)
				}
				if i == 1 && (r.Attachment.Link != made.Link || r.Attachment.MTU != made.MTU || r.Attachment.MAC.String() != made.MAC.String() || !slices.Equal(r.Attachment.Gateways, made.Gateways)) {
					t.Errorf("attachment is %+v, was %+v", r.Attachment, made)
				}
			}
			for range 2 {
				compareFirst(t, d.Diff(t.Context(), places), "", nil)
				for _, r := range d.Repair(t.Context(), places) {
					if r.Err != nil || len(r.Found) > 0 {
						t.Errorf("another Repair finds %v, %v", r.Found, r.Err)
					}
				}
			}
			if now := bridgeMAC(t, d); now != mac {
				t.Errorf("the bridge has MAC %s, had %s", now, mac)
			}
			must(t, d.CheckEndpoint(t.Context(), n, e))
			must(t, d.DeleteEndpoint(t.Context(), n, e))
			must(t, d.host.Delete(t.Context(), "br1"))
			must(t, d.DeleteNetwork(t.Context(), n))
			if names, err := d.host.Names(t.Context()); err != nil || len(names) > 0 {
				t.Errorf("at the end there are %v, %v", names, err)
			}
		})
	}
}

func bridgeMAC(t *testing.T, d *driver) string {
	t.Helper()
	br, err := d.host.Get(t.Context(), "br0")
	must(t, err)
	return br.MAC.String()
}

// compareFirst compares the start of the first difference of each place.
func compareFirst(t *testing.T, places []bowline.Inspection, outer string, want []string) {
	t.Helper()
	var got []string
	for _, p := range places[:2] {
		must(t, p.Err)
		if len(p.Found) > 0 {
			got = append(got, strings.ReplaceAll(p.Found[0].String(), outer, "OUTER"))
		}
	}
	ok := len(got) == len(want)
	for i := 0; ok && i < len(got); i++ {
		ok = strings.HasPrefix(got[i], want[i])
	}
	if !ok {
		t.Errorf("differences:\n got %q\nwant %q\nall: %s", got, want, fmt.Sprint(places))
	}
}

// TestRepairWithoutSandbox: a link whose container's end is gone needs it.
func TestRepairWithoutSandbox(t *testing.T) {
	t.Parallel()
	ns := netnstest.New(t)
	d, err := newDriver(ns)
	must(t, err)
	n, e := testNetwork("web"), bowline.EndpointSpec{ID: "a"}
	must(t, d.CreateNetwork(t.Context(), n))
	rs := d.Repair(t.Context(), []bowline.Place{{Network: n, Endpoint: e}})
	if rs[0].Err == nil || !strings.Contains(rs[0].Err.Error(), "attach the container again") || len(rs[0].Found) != 1 {
		t.Errorf("Repair: %+v", rs[0])
	}
}
