package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

func TestWrongOptions(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		options map[string]string
		want    string
	}{
		{map[string]string{"mode": "brige"}, `network "lan": option mode="brige": want WORD for whom a container reaches`},
		{map[string]string{"mode": "source"}, `network "lan": option mode="source": want sources with it`},
		{map[string]string{"sources": "02:00:00:00:00:01"}, `network "lan": options mode="bridge" and sources: want mode="source" with them`},
		{map[string]string{"mode": "source", "sources": "01:00:00:00:00:01"}, `option sources="01:00:00:00:00:01": want LIST of MACs`},
		{map[string]string{"parent": "eth0", "master": "eth1"}, `options parent="eth0" and master="eth1" mean the same key: want one of them`},
		{map[string]string{"parent": "eth0/1"}, `option parent="eth0/1": want NAME of the link`},
		{map[string]string{"host-access": "true", "mode": "private"}, `options host-access="true" and mode="private": want mode="bridge"`},
		{map[string]string{"host-access": "true", "linkInContainer": "true", "parent": "eth0"}, `options host-access="true" and linkInContainer="true": want one of them`},
		{map[string]string{"hostAddresses": "10.0.0.1"}, `option hostAddresses: want host-access="true" with it`},
		{map[string]string{"host-access": "true", "hostAddresses": "10.0.0.1,10.0.0.2"}, `option hostAddresses="10.0.0.1,10.0.0.2": want LIST`},
		{map[string]string{"linkInContainer": "true"}, `option linkInContainer="true": want parent with it`},
		{map[string]string{"mtu": "67"}, `option mtu="67": want largest IP packet in bytes, 68 to 65535`},
		{map[string]string{"bclim": "-2"}, `option bclim="-2": want up to how many RECEIVERS`},
		{map[string]string{"bcqueuelen": "ten"}, `option bcqueuelen="ten": want how many broadcast PACKETS`},
		{map[string]string{"hostaccess": "true"}, `option hostaccess="true": there is no such key; did you mean host-access?`},
		{map[string]string{"policy": "deny"}, `policy: rule 1 "deny"`},
	} {
		_, err := parseOptions(bowline.NetworkConfig{ID: "lan", Options: tt.options})
		if !errors.Is(err, bowline.ErrInvalid) || !strings.Contains(fmt.Sprint(err), tt.want) {
			t.Errorf("%v:\n got %v\nwant %s", tt.options, err, tt.want)
		}
	}
}

func TestSplitVLAN(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, lower string
		vlan        int
		ok          bool
	}{
		{"eth0.10", "eth0", 10, true}, {"bond0.1.4094", "bond0.1", 4094, true},
		{"eth0", "", 0, false}, {".10", "", 0, false}, {"eth0.", "eth0", 0, false}, {"eth0.0", "eth0", 0, false}, {"eth0.4095", "eth0", 4095, false}, {"eth0.x", "eth0", 0, false},
	} {
		lower, vlan, ok := splitVLAN(tt.name)
		if ok != tt.ok || ok && (lower != tt.lower || vlan != tt.vlan) {
			t.Errorf("splitVLAN(%q) = %q, %d, %v", tt.name, lower, vlan, ok)
		}
	}
}

// TestNoParent: who asks for one that is not there is told.
func TestNoParent(t *testing.T) {
	t.Parallel()
	host := netnstest.New(t)
	d, err := newDriver(host)
	if err != nil {
		t.Fatal(err)
	}
	for parent, want := range map[string]string{
		"":         `network "lan": option parent: want the name of a link, for the host has no default route`,
		"eth7":     `network "lan": option parent="eth7": want a link of the host, or NAME.VLAN of one that is there`,
		"eth7.100": `network "lan": option parent="eth7.100": want a link of the host`,
	} {
		n := bowline.NetworkConfig{ID: "lan", Options: map[string]string{}}
		if parent != "" {
			n.Options["parent"] = parent
		}
		if err := d.CreateNetwork(t.Context(), n); !errors.Is(err, bowline.ErrUnavailable) || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("parent %q: %v, want %s", parent, err, want)
		}
		if err := d.DeleteNetwork(t.Context(), n); err != nil {
			t.Errorf("DeleteNetwork without parent %q: %v", parent, err)
		}
	}
}

// TestDefaultParent: the link of the default route.
func TestDefaultParent(t *testing.T) {
	t.Parallel()
	s := newScene(t, map[string]string{"master": "up0"})
	delete(s.n.Options, "master")
	s.run(s.host, "ip route add default via 10.1.0.254")
	c := s.attach()
	s.want("container", c.ns, true, "10.1.0.254")
	s.differs("", c)
}

// TestLinkInContainer: the parent is a link of the sandbox, the host has no part
// in it.
func TestLinkInContainer(t *testing.T) {
	t.Parallel()
	s := newScene(t, map[string]string{"parent": "lan0", "linkInContainer": "true"})
	e := bowline.EndpointSpec{ID: "c/net1", IfName: "net1", Sandbox: s.lan, Addrs: []netip.Prefix{netip.MustParsePrefix("10.1.0.9/24")}}
	a, err := s.d.CreateEndpoint(t.Context(), s.n, e)
	if err != nil {
		t.Fatal(err)
	}
	s.run(s.lan, "ip link set net1 up")
	s.differs("", container{e, s.lan, a})
	if err := s.d.DeleteEndpoint(t.Context(), s.n, bowline.EndpointSpec{ID: e.ID}); err != nil {
		t.Fatal(err)
	}
	if left := netnstest.Command(t, s.lan, "ip", "-o", "link", "show", "type", "macvlan"); left != "" {
		t.Errorf("left: %s", left)
	}
	e.Sandbox = netnstest.New(t)
	if _, err := s.d.CreateEndpoint(t.Context(), s.n, e); !errors.Is(err, bowline.ErrUnavailable) || !strings.Contains(fmt.Sprint(err), `option parent="lan0": want a link of the container`) {
		t.Errorf("a sandbox without the parent: %v", err)
	}
}

// TestPassthru: one container has the parent, with its MAC or one asked for.
func TestPassthru(t *testing.T) {
	t.Parallel()
	s := newScene(t, map[string]string{"mode": "passthru"})
	parent := macOf(t, s.host, "up0")
	c := s.attach()
	if got := c.a.MAC.String(); got != parent {
		t.Errorf("MAC is %s, want the parent's %s", got, parent)
	}
	s.want("LAN", s.lan, true, "10.1.0.2")
	s.differs("", c)
	_, err := s.d.CreateEndpoint(t.Context(), s.n, bowline.EndpointSpec{ID: "second", IfName: "eth0", Sandbox: netnstest.New(t)})
	if !errors.Is(err, bowline.ErrConflict) {
		t.Errorf("a second container: %v, want ErrConflict", err)
	}
	if err := s.d.DeleteEndpoint(t.Context(), s.n, bowline.EndpointSpec{ID: c.ID}); err != nil {
		t.Fatal(err)
	}
	s.n.Options["mac"] = "02:00:00:00:00:77"
	d := s.attach()
	if got := d.a.MAC.String(); got != "02:00:00:00:00:77" {
		t.Errorf("MAC is %s, want what was asked for", got)
	}
	if err := s.d.DeleteEndpoint(t.Context(), s.n, d.EndpointSpec); err != nil {
		t.Fatal(err)
	}
	if got := macOf(t, s.host, "up0"); got != parent {
		t.Errorf("the parent's MAC is %s afterwards, was %s", got, parent)
	}
}

// TestMTU: no container has a larger one than its parent.
func TestMTU(t *testing.T) {
	t.Parallel()
	s := newScene(t, map[string]string{"mtu": "1400"})
	if c := s.attach(); c.a.MTU != 1400 {
		t.Errorf("MTU is %d, want 1400", c.a.MTU)
	}
	s.n.Options["mtu"] = "1501"
	_, err := s.d.CreateEndpoint(t.Context(), s.n, bowline.EndpointSpec{ID: "x", IfName: "eth0", Sandbox: netnstest.New(t)})
	if !errors.Is(err, bowline.ErrInvalid) || !strings.Contains(fmt.Sprint(err), "want at most 1500 bytes, as the parent up0 has") {
		t.Errorf("a larger one: %v", err)
	}
}

// TestVLANParent: a link in a VLAN is made for its users, and goes with the last.
func TestVLANParent(t *testing.T) {
	t.Parallel()
	s := newScene(t, map[string]string{"parent": "up0"})
	throwaway, err := link.Open(netnstest.New(t))
	if err != nil {
		t.Fatal(err)
	}
	defer throwaway.Close()
	probe := throwaway.Probe(t.Context(), "vlan")
	one := bowline.NetworkConfig{ID: "one", Options: map[string]string{"parent": "up0.10"}}
	two := bowline.NetworkConfig{ID: "two", Options: map[string]string{"parent": "up0.10"}}
	err = s.d.CreateNetwork(t.Context(), one)
	if probe != nil {
		if !errors.Is(err, bowline.ErrNoKernel) || !strings.Contains(fmt.Sprint(err), `network "one": option parent="up0.10"`) {
			t.Errorf("without 802.1Q: %v, want ErrNoKernel", err)
		}
		return
	}
	if err = errors.Join(err, s.d.CreateNetwork(t.Context(), two)); err != nil {
		t.Fatal(err)
	}
	sandbox := netnstest.New(t)
	e := bowline.EndpointSpec{ID: "c/eth0", IfName: "eth0", Sandbox: sandbox}
	if _, err := s.d.CreateEndpoint(t.Context(), two, e); err != nil {
		t.Fatal(err)
	}
	if err := s.d.DeleteNetwork(t.Context(), one); err != nil {
		t.Fatal(err)
	}
	if _, err := s.d.host.Get(t.Context(), "up0.10"); err != nil {
		t.Errorf("the parent is gone under a container: %v", err)
	}
	if err := errors.Join(s.d.DeleteEndpoint(t.Context(), two, bowline.EndpointSpec{ID: e.ID}), s.d.DeleteNetwork(t.Context(), two)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.d.host.Get(t.Context(), "up0.10"); !errors.Is(err, bowline.ErrUnknown) {
		t.Errorf("the parent is left: %v", err)
	}
}
