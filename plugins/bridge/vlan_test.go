package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/drivertest"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

// vlanHost returns a host if the kernel filters VLANs. Where it does not,
// asking for it must say so and leave nothing, and the rest of the test cannot
// be: `make test-vm` brings a kernel that does.
func vlanHost(t *testing.T) (*netns.Handle, *driver, bool) {
	t.Helper()
	ns := netnstest.New(t)
	d, err := newDriver(ns)
	if err != nil {
		t.Fatal(err)
	}
	n := bowline.NetworkConfig{ID: "probe", Options: map[string]string{"vlan": "10"}}
	if err := d.CreateNetwork(t.Context(), n); err != nil {
		if !errors.Is(err, bowline.ErrNoKernel) {
			t.Fatalf("CreateNetwork: %v, want ErrNoKernel", err)
		}
		wantLinks(t, d)
		t.Log("the kernel does not filter VLANs, and says so")
		return nil, nil, false
	}
	if err := d.DeleteNetwork(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	wantLinks(t, d)
	return ns, d, true
}

func wantLinks(t *testing.T, d *driver, want ...string) {
	t.Helper()
	names, err := d.host.Names(t.Context())
	if err != nil || strings.Join(names, " ") != strings.Join(want, " ") {
		t.Errorf("the host has the links %v, %v; want %v", names, err, want)
	}
}

func TestPortVLANs(t *testing.T) {
	t.Parallel()
	ns, d, ok := vlanHost(t)
	if !ok {
		return
	}
	tests := []struct {
		options map[string]string
		want    string // as `bridge vlan` has it
	}{
		{map[string]string{"vlan": "10"}, "10 PVID Egress Untagged"},
		{map[string]string{"vlan": "1"}, "1 PVID Egress Untagged"},
		{map[string]string{"vlan": "1", "preserveDefaultVlan": "true"}, "1 PVID Egress Untagged"},
		{map[string]string{"vlan": "10", "preserveDefaultVlan": "true"}, "1 Egress Untagged, 10 PVID Egress Untagged"},
		{map[string]string{"vlanTrunk": "20-30,40"}, "1 PVID Egress Untagged, 20-30, 40"},
		{map[string]string{"vlanTrunk": "1-3"}, "1 PVID Egress Untagged, 2-3"},
		{map[string]string{"vlanTrunk": `[{"id":4094}]`}, "1 PVID Egress Untagged, 4094"},
		{map[string]string{"vlan": "10", "vlanTrunk": "20-30"}, "10 PVID Egress Untagged, 20-30"},
		{map[string]string{"vlan": "10", "vlanTrunk": "20", "preserveDefaultVlan": "true"}, "1 Egress Untagged, 10 PVID Egress Untagged, 20"},
	}
	for i, tt := range tests {
		n := bowline.NetworkConfig{ID: fmt.Sprint(i), Options: tt.options}
		e := bowline.EndpointSpec{ID: "c1", IfName: "eth0", Sandbox: netnstest.New(t)}
		if err := d.CreateNetwork(t.Context(), n); err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second time is no change
			if _, err := d.CreateEndpoint(t.Context(), n, e); err != nil {
				t.Fatal(err)
			}
			if got := shownVLANs(t, ns, outerName(n, "c1")); got != tt.want {
				t.Errorf("%v: the port has %s, want %s", tt.options, got, tt.want)
			}
		}
		if err := d.CheckEndpoint(t.Context(), n, e); err != nil {
			t.Error(err)
		}
		netnstest.Command(t, ns, "bridge", "vlan", "add", "dev", outerName(n, "c1"), "vid", "99")
		if err := d.CheckEndpoint(t.Context(), n, e); !errors.Is(err, bowline.ErrDiffers) {
			t.Errorf("%v: CheckEndpoint with a VLAN too many: %v, want ErrDiffers", tt.options, err)
		}
	}
}

func shownVLANs(t *testing.T, ns *netns.Handle, port string) string {
	t.Helper()
	var ports []struct {
		VLANs []struct {
			VLAN, VLANEnd int
			Flags         []string
		}
	}
	out := netnstest.Command(t, ns, "bridge", "-compressvlans", "-json", "vlan", "show", "dev", port)
	if err := json.Unmarshal([]byte(out), &ports); err != nil || len(ports) != 1 {
		t.Fatalf("%v: %s", err, out)
	}
	var vs []string
	for _, v := range ports[0].VLANs {
		s := fmt.Sprint(v.VLAN)
		if v.VLANEnd > v.VLAN {
			s = fmt.Sprintf("%d-%d", v.VLAN, v.VLANEnd)
		}
		vs = append(vs, strings.Join(append([]string{s}, v.Flags...), " "))
	}
	return strings.Join(vs, ", ")
}

// In VLAN 10 and 20 of one bridge there is a network each, with a way out.
func vlanNetwork(id int) bowline.NetworkConfig {
	return bowline.NetworkConfig{
		ID:      fmt.Sprintf("net%d", id),
		Pools:   []bowline.Pool{{Prefix: netip.MustParsePrefix(fmt.Sprintf("10.%d.0.0/24", id))}},
		Options: map[string]string{"bridge": "br0", "vlan": fmt.Sprint(id), "isDefaultGateway": "true", "ipMasq": "true"},
	}
}

// A guest is a container with the second address of its network, or another.
type guest struct {
	t  *testing.T
	ns *netns.Handle
	e  bowline.EndpointSpec
}

func newGuest(t *testing.T, d *driver, n bowline.NetworkConfig, host int) guest {
	t.Helper()
	g := guest{t, netnstest.New(t), bowline.EndpointSpec{ID: fmt.Sprintf("c%d", host), IfName: "eth0"}}
	net4 := n.Pools[0].Prefix.Addr().As4()
	net4[3] = byte(host)
	g.e.Sandbox, g.e.Addrs = g.ns, []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4(net4), 24)}
	a, err := d.CreateEndpoint(t.Context(), n, g.e)
	if err != nil {
		t.Fatal(err)
	}
	netnstest.Command(t, g.ns, "ip", "addr", "add", a.Addrs[0].String(), "dev", "eth0")
	netnstest.Command(t, g.ns, "ip", "link", "set", "eth0", "up")
	netnstest.Command(t, g.ns, "ip", "route", "add", "default", "via", a.Gateways[0].String())
	return g
}

func (g guest) reaches(to string, want bool) {
	g.t.Helper()
	wait := "1"
	if want {
		wait = "20"
	}
	var out []byte
	_ = netns.Do(g.ns, func() (err error) { // an error of ping is an answer
		out, err = exec.Command("ping", "-c", "1", "-W", wait, "-w", wait, to).CombinedOutput()
		return err
	})
	if !strings.Contains(string(out), "1 packets transmitted") || strings.Contains(string(out), " 0% packet loss") != want {
		g.t.Errorf("%s reaches %s: want %v: %s", g.e.ID, to, want, out)
	}
}

func TestVLANsKeepApart(t *testing.T) {
	t.Parallel()
	ns, d, ok := vlanHost(t)
	if !ok {
		return
	}
	outside := netnstest.New(t)
	up, err := link.Open(outside)
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	if err := d.host.CreateVeth(t.Context(), link.Veth{Name: "up0", Peer: "eth0", PeerNS: outside}); err != nil {
		t.Fatal(err)
	}
	netnstest.Command(t, ns, "ip", "addr", "add", "192.0.2.1/24", "dev", "up0")
	netnstest.Command(t, outside, "ip", "addr", "add", "192.0.2.2/24", "dev", "eth0")
	netnstest.Command(t, outside, "ip", "link", "set", "eth0", "up")

	ten, twenty := vlanNetwork(10), vlanNetwork(20)
	for _, n := range []bowline.NetworkConfig{ten, twenty, ten} {
		if err := d.CreateNetwork(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	a, b, c := newGuest(t, d, ten, 2), newGuest(t, d, ten, 3), newGuest(t, d, twenty, 4)
	netnstest.Command(t, c.ns, "ip", "addr", "add", "10.10.0.9/24", "dev", "eth0")
	a.reaches("10.10.0.3", true)
	b.reaches("10.10.0.1", true)  // the gateway on br0.10
	a.reaches("10.10.0.9", false) // same subnet, other VLAN
	a.reaches("10.20.0.4", false) // through the gateways
	a.reaches("192.0.2.2", true)  // which has no way back but to the host
	c.reaches("192.0.2.2", true)

	if err := d.DeleteNetwork(t.Context(), ten); !errors.Is(err, bowline.ErrConflict) {
		t.Errorf("DeleteNetwork with endpoints: %v, want ErrConflict", err)
	}
	for _, g := range []guest{a, b} {
		if err := d.DeleteEndpoint(t.Context(), ten, g.e); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := d.DeleteNetwork(t.Context(), ten); err != nil {
			t.Fatal(err)
		}
	}
	wantLinks(t, d, "br0", "br0.20", outerName(twenty, "c4"), vlanPortOf(t, d, "br0.20"), "up0")
	if rules := netnstest.Command(t, ns, "nft", "list", "ruleset"); strings.Contains(rules, "br0.10") || !strings.Contains(rules, "br0.20") {
		t.Errorf("want rules for br0.20 and none for br0.10: %s", rules)
	}
	c.reaches("192.0.2.2", true)
	if err := d.DeleteEndpoint(t.Context(), twenty, c.e); err != nil {
		t.Fatal(err)
	}
	if err := d.DeleteNetwork(t.Context(), twenty); err != nil {
		t.Fatal(err)
	}
	wantLinks(t, d, "up0")
	if rules := netnstest.Command(t, ns, "nft", "list", "ruleset"); rules != "" {
		t.Errorf("rules are left: %s", rules)
	}
}

// TestVLANWithoutGateway: what passes no IP stack of the host leaves no rule
// there, also when the network's VLAN is another at its end.
func TestVLANWithoutGateway(t *testing.T) {
	t.Parallel()
	ns, d, ok := vlanHost(t)
	if !ok {
		return
	}
	n := vlanNetwork(10)
	n.Options["isDefaultGateway"], n.Options["ipMasq"] = "false", "false"
	e := bowline.EndpointSpec{ID: "c1", IfName: "eth0", Sandbox: netnstest.New(t)}
	if err := d.CreateNetwork(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	if _, err := d.CreateEndpoint(t.Context(), n, e); err != nil {
		t.Fatal(err)
	}
	wantLinks(t, d, "br0", outerName(n, "c1"))
	if err := errors.Join(d.CheckEndpoint(t.Context(), n, e), d.DeleteEndpoint(t.Context(), n, e)); err != nil {
		t.Fatal(err)
	}
	n.Options["vlan"] = "20"
	if err := d.DeleteNetwork(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	wantLinks(t, d)
	if rules := netnstest.Command(t, ns, "nft", "list", "ruleset"); rules != "" {
		t.Errorf("rules are left: %s", rules)
	}
}

// vlanPortOf finds the other end of the bridge's link in a VLAN.
func vlanPortOf(t *testing.T, d *driver, name string) string {
	t.Helper()
	all, err := d.host.Links(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range all {
		if l.Alias == link.VLANAlias && l.Name == bowline.LinkName("bwv", name) {
			return l.Name
		}
	}
	t.Errorf("%s has no other end", name)
	return ""
}

// TestVLANLinkOutlivesNothing: the bridge's link in a VLAN goes with its
// bridge, by whichever way that goes, and comes back with it.
func TestVLANLinkOutlivesNothing(t *testing.T) {
	t.Parallel()
	ns, d, ok := vlanHost(t)
	if !ok {
		return
	}
	n := vlanNetwork(10)
	create := func() {
		if err := d.CreateNetwork(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	create()
	netnstest.Command(t, ns, "ip", "link", "delete", "br0")
	create()
	g := newGuest(t, d, n, 2)
	g.reaches("10.10.0.1", true)
	if err := d.DeleteEndpoint(t.Context(), n, g.e); err != nil {
		t.Fatal(err)
	}

	found, err := d.Networks(t.Context())
	if err != nil || len(found) != 1 {
		t.Fatalf("Networks: %v, %v", found, err)
	}
	if err := d.DeleteNetwork(t.Context(), found[0]); err != nil { // as prune does
		t.Fatal(err)
	}
	wantLinks(t, d)

	create()
	netnstest.Command(t, ns, "ip", "link", "delete", "br0")
	if err := d.DeleteNetwork(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	wantLinks(t, d)
	if rules := netnstest.Command(t, ns, "nft", "list", "ruleset"); rules != "" {
		t.Errorf("rules are left: %s", rules)
	}
}

// TestDriverInVLAN is the suite with all networks in a VLAN.
func TestDriverInVLAN(t *testing.T) {
	if _, _, ok := vlanHost(t); !ok {
		return
	}
	options := testOptions()
	options["vlan"] = "10"
	drivertest.Run(t, drivertest.Suite{New: newTestDriver, Options: options})
}
