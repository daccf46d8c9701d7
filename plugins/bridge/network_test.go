package main

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"testing"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/drivertest"
	"github.com/bowline-net/bowline/internal/endpoint"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

func newHost(t *testing.T) (*netns.Handle, *driver) {
	t.Helper()
	ns := netnstest.New(t)
	d, err := newDriver(ns)
	if err != nil {
		t.Fatal(err)
	}
	return ns, d
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// attach makes the network and one endpoint, with a sandbox of its own.
func attach(t *testing.T, d *driver, n bowline.NetworkConfig, id string) bowline.Attachment {
	t.Helper()
	must(t, d.CreateNetwork(t.Context(), n))
	a, err := d.CreateEndpoint(t.Context(), n, bowline.EndpointSpec{ID: id, IfName: "eth0", Sandbox: netnstest.New(t)})
	must(t, err)
	return a
}

// network4 has an IPv4 pool without a gateway.
func network4(id string, options map[string]string) bowline.NetworkConfig {
	o := map[string]string{"bridge": "br0", "isGateway": "true"}
	maps.Copy(o, options)
	return bowline.NetworkConfig{ID: id, Pools: []bowline.Pool{{Prefix: netip.MustParsePrefix("10.1.0.0/24")}}, Options: o}
}

// Names may be longer than the kernel lets an alias be, and differ at the end only.
func TestLongNames(t *testing.T) {
	t.Parallel()
	ns, d := newHost(t)
	before := drivertest.Snapshot(t, ns)
	var all []bowline.NetworkConfig
	for _, end := range []string{"a", "b"} {
		all = append(all, bowline.NetworkConfig{ID: strings.Repeat("long-", 60) + end})
	}
	a, b := attach(t, d, all[0], "c/eth0"), attach(t, d, all[1], "c/eth0")
	must(t, d.Prune(t.Context(), all[0], nil))
	if _, err := d.host.Get(t.Context(), a.Host[1].Name); !errors.Is(err, bowline.ErrUnknown) {
		t.Errorf("endpoint of the pruned network: %v", err)
	}
	if _, err := d.host.Get(t.Context(), b.Host[1].Name); err != nil {
		t.Errorf("endpoint of another network: %v", err)
	}
	must(t, d.Prune(t.Context(), all[1], nil))
	empty, err := d.Networks(t.Context())
	if err != nil || len(empty) != 2 {
		t.Fatalf("Networks = %v, %v; want both", empty, err)
	}
	for _, n := range empty {
		must(t, d.DeleteNetwork(t.Context(), n))
	}
	if after := drivertest.Snapshot(t, ns); after != before {
		t.Errorf("the host is not as it was:\n%s", after)
	}
}

func TestGatewayIsReported(t *testing.T) {
	t.Parallel()
	_, d := newHost(t)
	want := netip.MustParseAddr("10.1.0.1")
	if a := attach(t, d, network4("web", nil), "c/eth0"); len(a.Pools) != 1 || a.Pools[0].Gateway != want {
		t.Errorf("pools are %v, want the gateway %s", a.Pools, want)
	}
}

func TestDeleteWithOptionsThatBecameWrong(t *testing.T) {
	t.Parallel()
	ns, d := newHost(t)
	n := network4("web", map[string]string{"macspoofchk": "true"})
	attach(t, d, n, "kept/eth0")
	before := drivertest.Snapshot(t, ns)
	attach(t, d, n, "c/eth0")
	n.Options = map[string]string{"mut": "1400"}
	must(t, d.DeleteEndpoint(t.Context(), n, bowline.EndpointSpec{ID: "c/eth0"}))
	if after := drivertest.Snapshot(t, ns); after != before {
		t.Errorf("the host is not as it was:\n%s", after)
	}
}

// A container may give itself an address of a family that the network has not.
func TestInternalInBothFamilies(t *testing.T) {
	t.Parallel()
	ns, d := newHost(t)
	n := network4("web", map[string]string{"internal": "true"})
	for _, pools := range [][]bowline.Pool{n.Pools, nil} {
		n.Pools = pools
		attach(t, d, n, "c/eth0")
		for _, family := range []string{"ip", "ip6"} {
			for _, m := range []string{"from", "to"} {
				if got := netnstest.Command(t, ns, "nft", "list", "map", family, "bowline", m); !strings.Contains(got, `"br0" comment "drop" : drop`) {
					t.Errorf("pools %v: %s", pools, got)
				}
			}
		}
		must(t, d.DeleteEndpoint(t.Context(), n, bowline.EndpointSpec{ID: "c/eth0"}))
		must(t, d.DeleteNetwork(t.Context(), n))
	}
}

// A kill, or a faster process, leaves a bridge that has its name and MAC only.
func TestUnfinishedBridge(t *testing.T) {
	t.Parallel()
	ns, d := newHost(t)
	for _, args := range []string{
		"link add up0 mtu 1400 type veth peer name up1", "link set up0 up", "addr add 10.9.0.2/24 dev up0", "route add default via 10.9.0.1",
		"link add br0 address " + bowline.MAC("bridge", "br0").String() + " type bridge",
	} {
		netnstest.Command(t, ns, append([]string{"ip"}, strings.Fields(args)...)...)
	}
	n := network4("web", nil)
	a := attach(t, d, n, "c/eth0")
	br, err := d.host.Get(t.Context(), "br0")
	if err != nil || br.MTU != 1400 || a.MTU != 1400 || !br.Up || br.Alias != endpoint.NetworkMark+"web" {
		t.Errorf("bridge is %+v, %v, and the endpoint's MTU %d; want it finished, with that of the default route's link", br, err, a.MTU)
	}
	if got, err := d.host.Sysctl(t.Context(), "net/ipv6/conf/br0/accept_ra"); err != nil || got != "0" {
		t.Errorf("accept_ra is %s, %v", got, err)
	}
	must(t, d.DeleteEndpoint(t.Context(), n, bowline.EndpointSpec{ID: "c/eth0"}))
	must(t, d.DeleteNetwork(t.Context(), n))
	if _, err := d.host.Get(t.Context(), "br0"); !errors.Is(err, bowline.ErrUnknown) {
		t.Errorf("after DeleteNetwork: %v", err)
	}
}

// The options of a network may change while nobody is attached.
func TestChangedPolicy(t *testing.T) {
	t.Parallel()
	ns, d := newHost(t)
	open, shut := network4("web", nil), network4("web", map[string]string{"internal": "true", "icc": "false"})
	attach(t, d, open, "a/eth0")
	must(t, d.CreateNetwork(t.Context(), shut))
	e := bowline.EndpointSpec{ID: "b/eth0", IfName: "eth0", Sandbox: netnstest.New(t)}
	if _, err := d.CreateEndpoint(t.Context(), shut, e); !errors.Is(err, bowline.ErrConflict) || !strings.Contains(err.Error(), "br0") {
		t.Errorf("CreateEndpoint beside one with another policy: %v, want ErrConflict that names the bridge", err)
	}
	must(t, d.DeleteEndpoint(t.Context(), open, bowline.EndpointSpec{ID: "a/eth0"}))
	for _, n := range []bowline.NetworkConfig{shut, open} {
		attach(t, d, n, "b/eth0")
		must(t, d.CheckEndpoint(t.Context(), n, bowline.EndpointSpec{ID: "b/eth0"}))
		must(t, d.DeleteEndpoint(t.Context(), n, bowline.EndpointSpec{ID: "b/eth0"}))
	}
	netnstest.Command(t, ns, "ip", "link", "delete", "br0") // its rules stay
	attach(t, d, shut, "b/eth0")
}

// The kernel gives a bridge that nobody cares for the MAC and MTU of its ports.
func TestForeignBridgeIsSteady(t *testing.T) {
	t.Parallel()
	ns, d := newHost(t)
	netnstest.Command(t, ns, "ip", "link", "add", "br0", "type", "bridge")
	n := network4("web", map[string]string{"mtu": "1400"})
	var mac string
	for i := range 4 {
		a := attach(t, d, n, fmt.Sprintf("c%d/eth0", i))
		if br, err := d.host.Get(t.Context(), "br0"); err != nil || br.MTU != 1500 || a.MTU != 1400 || br.MAC.String() != a.Host[0].MAC.String() {
			t.Errorf("bridge is %+v, %v, attachment %+v; want the MTU 1500 as it was, 1400 for the endpoint, and the MAC told", br, err, a)
		}
		if mac == "" {
			mac = a.Host[0].MAC.String()
		}
	}
	for i := range 4 {
		must(t, d.DeleteEndpoint(t.Context(), n, bowline.EndpointSpec{ID: fmt.Sprintf("c%d/eth0", i)}))
		if br, err := d.host.Get(t.Context(), "br0"); err != nil || br.MAC.String() != mac {
			t.Errorf("MAC is %s, %v; want %s as containers know it", br.MAC, err, mac)
		}
	}
}

func TestMTUTooSmallForIPv6(t *testing.T) {
	t.Parallel()
	ns, d := newHost(t)
	before := drivertest.Snapshot(t, ns)
	n := testNetwork("web")
	n.Options["mtu"] = "1279"
	if err := d.CreateNetwork(t.Context(), n); !errors.Is(err, bowline.ErrInvalid) || !strings.Contains(err.Error(), `mtu="1279"`) {
		t.Errorf("CreateNetwork: %v, want ErrInvalid that names the MTU", err)
	}
	if after := drivertest.Snapshot(t, ns); after != before {
		t.Errorf("the host is not as it was:\n%s", after)
	}
}
