package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

// Who comes second is told who has the NIC, by whatever name it is asked for.
func TestHeld(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	one, _ := b.sandbox("one")
	two, _ := b.sandbox("two")
	mac := strings.Fields(b.run("ip -o link show nic0"))
	n := network("device", "nic0")
	b.attach(n, endpointIn("one", one))
	held := b.state()
	for _, options := range [][]string{{"device", "nic0"}, {"hwaddr", mac[slices.Index(mac, "link/ether")+1]}} {
		_, err := b.d.CreateEndpoint(t.Context(), network(options...), endpointIn("two", two))
		if !errors.Is(err, bowline.ErrConflict) || !strings.Contains(err.Error(), `the NIC nic0 is held by one/eth0 of network "lan"`) {
			t.Errorf("%v: %v", options, err)
		}
		b.same("after a refused CreateEndpoint", held)
	}
	elsewhere := endpointIn("one", two)
	if _, err := b.d.CreateEndpoint(t.Context(), n, elsewhere); !errors.Is(err, bowline.ErrConflict) || !strings.Contains(err.Error(), "in another sandbox") {
		t.Errorf("the same endpoint in another sandbox: %v", err)
	}
	if err := b.d.Status(t.Context(), n); err != nil {
		t.Errorf("Status of a NIC that is held: %v", err)
	}
	if err := b.d.DeleteNetwork(t.Context(), n); !errors.Is(err, bowline.ErrConflict) {
		t.Errorf("DeleteNetwork: %v, want ErrConflict", err)
	}
	b.detach(n, "one")
	b.attach(n, endpointIn("two", two))
	b.detach(n, "two")
	if err := b.d.Status(t.Context(), network("device", "nic9")); !errors.Is(err, bowline.ErrUnavailable) {
		t.Errorf("Status of a NIC that is not there: %v", err)
	}
	if err := b.d.DeleteNetwork(t.Context(), n); err != nil {
		t.Error(err)
	}
}

// A container that is gone holds nothing, and another link that has the name of a
// NIC that is away is not that one.
func TestNotHeld(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	before := b.state()
	n := network("device", "nic0")
	one, end := b.sandbox("one")
	b.attach(n, endpointIn("one", one))
	end()
	two, _ := b.sandbox("two")
	if a := b.attach(n, endpointIn("two", two)); len(a.Addrs) != 2 {
		t.Errorf("attachment is %+v, want the addresses that the NIC had at first", a)
	}
	three, _ := b.sandbox("three")
	b.run("ip link add nic0 type veth peer name other0")
	b.attach(n, endpointIn("three", three))
	b.detach(n, "three")
	b.run("ip link del nic0")
	b.detach(n, "two")
	b.same("after all", before)
}

// A NIC that the host relies on is taken if that is asked for only, and is put
// back as what it was.
func TestRelied(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, make, why string }{
		{"default route", "ip route add default via 192.0.2.1", "the host's default route leads through it"},
		{"default route of IPv6", "ip -6 route add default via 2001:db8::1", "the host's default route leads through it"},
		{"macvlan", "ip link add vl0 link nic0 type macvlan", "it carries vl0"},
		{"port", "ip link set nic0 master br0", "it is a port of br0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.run("ip link add br0 type bridge", "ip link set br0 up", tt.make)
			before := b.state()
			box, _ := b.sandbox("one")
			e := endpointIn("one", box)
			_, err := b.d.CreateEndpoint(t.Context(), network("device", "nic0"), e)
			if !errors.Is(err, bowline.ErrConflict) || !strings.Contains(err.Error(), tt.why) || !strings.Contains(err.Error(), `force="true"`) {
				t.Errorf("CreateEndpoint: %v, want ErrConflict with %q", err, tt.why)
			}
			b.same("after a refused CreateEndpoint", before)
			if tt.name == "macvlan" { // it stays, without what it is on
				return
			}
			n := network("device", "nic0", "force", "true")
			if a := b.attach(n, e); strings.HasPrefix(tt.name, "default") && len(a.Gateways) != 1 {
				t.Errorf("attachment is %+v, want a gateway", a)
			}
			b.detach(n, "one")
			b.same("after DeleteEndpoint", before)
		})
	}
}

// What is wrong is told before anything is touched.
func TestRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	before := b.state()
	box, _ := b.sandbox("one")
	netnstest.Command(t, box, "ip", "link", "add", "eth1", "type", "veth")
	taken := endpointIn("one", box)
	taken.IfName = "eth1"
	for _, tt := range []struct {
		n    bowline.NetworkConfig
		e    bowline.EndpointSpec
		err  error
		want string
	}{
		{network(), endpointIn("one", box), bowline.ErrInvalid, "want one of the options device, hwaddr, kernelpath and pciBusID"},
		{network("device", "nic9"), endpointIn("one", box), bowline.ErrUnknown, `network "lan": option device="nic9": the host has no link of that name`},
		{network("device", "lo"), endpointIn("one", box), bowline.ErrInvalid, "loopback of its own"},
		{network("device", "nic0"), taken, bowline.ErrConflict, "the sandbox has a link eth1 already"},
		{network("hwaddr", "02:00:00:00:00:99"), endpointIn("one", box), bowline.ErrUnknown, "no link with that MAC"},
	} {
		if _, err := b.d.CreateEndpoint(t.Context(), tt.n, tt.e); !errors.Is(err, tt.err) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: %v, want %v with %q", tt.n.Options, err, tt.err, tt.want)
		}
		b.same("after a refused CreateEndpoint", before)
	}
	if err := b.d.ValidateEndpoint(network(), endpointIn("one", box)); !errors.Is(err, bowline.ErrInvalid) {
		t.Errorf("ValidateEndpoint without a NIC: %v", err)
	}
}

// Docker moves the NIC itself. Its namespace is pinned when that is known.
func TestMovedByDocker(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		leave bool // dockerd moves it out
		pin   bool
	}{{"as it should be", true, true}, {"dockerd killed", false, true}, {"never joined", false, false}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			before := b.state()
			n, e := network("device", "nic0"), bowline.EndpointSpec{ID: "one/eth0", Addrs: []netip.Prefix{netip.MustParsePrefix("192.0.2.7/24")}}
			a := b.attach(n, e)
			if a.Link != "nic0" || len(a.Addrs) != 1 {
				t.Errorf("attachment is %+v", a)
			}
			if again := b.attach(n, e); fmt.Sprint(again) != fmt.Sprint(a) {
				t.Errorf("the same again is %+v, was %+v", again, a)
			}
			if tt.pin {
				box, end := b.sandbox("docker")
				path := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), box.Fd())
				b.run("ip link set nic0 netns "+path+" name eth0", "true")
				netnstest.Command(t, box, "ip", "link", "set", "eth0", "up")
				joined := e
				joined.Sandbox, joined.IfName = box, "eth0"
				for range 2 {
					if err := b.d.Settle(t.Context(), n, joined); err != nil {
						t.Fatal(err)
					}
				}
				if pins, _ := filepath.Glob(b.dir + "/pins/*"); len(pins) != 1 {
					t.Errorf("pins: %v", pins)
				}
				if tt.leave {
					netnstest.Command(t, box, "ip", "link", "set", "eth0", "down")
					netnstest.Command(t, box, "ip", "link", "set", "eth0", "netns", fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), b.ns.Fd()), "name", "nic0")
				}
				end()
			}
			b.detach(n, "one")
			b.same("after DeleteEndpoint", before)
		})
	}
}

// Things get lost. What is left is still put right.
func TestLost(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	n := network("device", "nic0", "useInterfaceNetwork", "false")
	box, _ := b.sandbox("one")
	if a := b.attach(n, endpointIn("one", box)); len(a.Addrs) != 0 || len(a.Routes) != 0 {
		t.Errorf("attachment is %+v, want no addresses", a)
	}

	// The record: the mark says the name.
	if err := os.RemoveAll(b.dir + "/loans"); err != nil {
		t.Fatal(err)
	}
	netnstest.Command(t, box, "ip", "link", "set", "eth0", "netns", fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), b.ns.Fd()), "name", "dev7")
	if err := b.d.Prune(t.Context(), n, []string{"one/eth0"}); err != nil {
		t.Error(err)
	}
	if got := b.run("ip -o link"); !strings.Contains(got, "dev7") {
		t.Errorf("Prune put back what it was to keep: %s", got)
	}
	b.detach(n, "one")
	if got := b.run("ip -o link show nic0"); strings.Contains(got, "alias") {
		t.Errorf("it is not put back: %s", got)
	}

	// Its name: somebody else has it.
	b.attach(n, endpointIn("one", box))
	b.run("ip link add nic0 type bridge")
	b.detach(n, "one")
	if got := b.run("ip -o link"); !strings.Contains(got, "dev0") || strings.Contains(got, "alias") {
		t.Errorf("it is not back under another name: %s", got)
	}
	b.run("ip link del nic0", "ip link set dev0 name nic0")

	// The link: it was made by software, and somebody unpinned its namespace.
	gone, end := b.sandbox("gone")
	b.attach(n, endpointIn("gone", gone))
	pins, _ := filepath.Glob(b.dir + "/pins/pin*")
	if len(pins) == 0 {
		t.Fatal("nothing is pinned")
	}
	for _, p := range pins {
		if err := netns.Remove(p); err != nil {
			t.Fatal(err)
		}
	}
	end()
	b.detach(n, "gone")
	if left, _ := filepath.Glob(b.dir + "/loans/*/*"); len(left) > 0 {
		t.Errorf("records left: %v", left)
	}
}

// Many containers at once get a NIC each, or are told who has it.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	const many = 4
	for i := 1; i < many; i++ {
		b.cable(fmt.Sprintf("nic%d", i))
	}
	before := b.state()
	boxes := make([]*netns.Handle, 2*many)
	for i := range boxes {
		boxes[i], _ = b.sandbox(fmt.Sprintf("c%d", i))
	}
	var wg sync.WaitGroup
	won := make([]bool, len(boxes))
	for i, box := range boxes {
		wg.Go(func() {
			n := network("device", fmt.Sprintf("nic%d", i%many))
			_, err := b.d.CreateEndpoint(t.Context(), n, endpointIn(fmt.Sprintf("c%d", i), box))
			if won[i] = err == nil; err != nil && !errors.Is(err, bowline.ErrConflict) {
				t.Errorf("endpoint %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	for i := range many {
		if won[i] == won[i+many] {
			t.Errorf("nic%d: both got it, or none: %v", i, won)
		}
	}
	if err := b.d.Prune(t.Context(), network(), nil); err != nil {
		t.Error(err)
	}
	b.same("after all", before)
}

// A container in the host's namespace has what the host has.
func TestShared(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.cable("nic1")
	b.run("ip addr add 198.51.100.2/24 dev nic1", "ip route add default via 198.51.100.1", "ip link set lo up")
	before := b.state()
	links, routes, err := b.d.Shared(t.Context(), network())
	if err != nil || len(links) != 2 || links[0].Name != "nic1" || links[1].Name != "nic0" || len(links[1].Addrs) != 2 || links[0].MTU != 1400 {
		t.Errorf("links: %+v, %v", links, err)
	}
	if len(routes) != 1 || routes[0].Via.String() != "198.51.100.1" {
		t.Errorf("routes: %+v", routes)
	}
	if _, _, err := b.d.Shared(t.Context(), network("device", "nic0")); !errors.Is(err, bowline.ErrInvalid) {
		t.Errorf("with a NIC: %v", err)
	}
	b.same("after Shared", before)
}

// A device that a program drives is left to it, with the addresses of IPAM.
func TestUnlinked(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.d.sys = sysTree(t)
	before := b.state()
	box, _ := b.sandbox("one")
	n, e := network("pciBusID", "0000:00:03.0"), endpointIn("one", box)
	e.Addrs = []netip.Prefix{netip.MustParsePrefix("192.0.2.7/24")}
	if a := b.attach(n, e); a.Link != "" || len(a.Addrs) != 1 {
		t.Errorf("attachment is %+v", a)
	}
	if err := errors.Join(b.d.CheckEndpoint(t.Context(), n, e), b.d.Status(t.Context(), n)); err != nil {
		t.Error(err)
	}
	docker := e
	docker.Sandbox = nil
	if _, err := b.d.CreateEndpoint(t.Context(), n, docker); !errors.Is(err, bowline.ErrInvalid) || !strings.Contains(err.Error(), "want a CNI engine") {
		t.Errorf("with Docker: %v", err)
	}
	b.detach(n, "one")
	b.same("after DeleteEndpoint", before)
}
