package main

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

// forwards waits until the bridge lets its ports pass packets: it learns of a
// carrier some time after its link is up.
func forwards(t *testing.T, host *netns.Handle, places []bowline.Place) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); ; <-tick.C {
		all := true
		for _, p := range places {
			all = all && strings.Contains(netnstest.Command(t, host, "ip", "-d", "link", "show", "dev", outerName(p.Network, p.Endpoint.ID)), "state forwarding")
		}
		if all {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("ports do not forward after ten seconds")
		}
	}
}

// What one container sends, the other receives; each counts from its own point
// of view.
func TestCount(t *testing.T) {
	t.Parallel()
	host, d := newHost(t)
	n := bowline.NetworkConfig{ID: "web"}
	must(t, d.CreateNetwork(t.Context(), n))
	var places []bowline.Place
	var sandboxes []*netns.Handle
	for _, id := range []string{"a", "b"} {
		sandbox := netnstest.New(t)
		e := bowline.EndpointSpec{ID: id, IfName: "eth0", Sandbox: sandbox}
		_, err := d.CreateEndpoint(t.Context(), n, e)
		must(t, err)
		netnstest.Command(t, sandbox, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1") // nothing but what is sent here
		netnstest.Command(t, sandbox, "ip", "link", "set", "eth0", "up")
		places, sandboxes = append(places, bowline.Place{Network: n, Endpoint: e}), append(sandboxes, sandbox)
	}
	forwards(t, host, places)
	// Nobody has 10.1.0.9, so b receives what is sent there and answers nothing.
	netnstest.Command(t, sandboxes[0], "ip", "addr", "add", "10.1.0.1/24", "dev", "eth0")
	netnstest.Command(t, sandboxes[0], "ip", "neigh", "add", "10.1.0.9", "lladdr", bowline.MAC(n.ID, "b").String(), "dev", "eth0")
	places = append(places, bowline.Place{Network: n, Endpoint: bowline.EndpointSpec{ID: "gone"}})
	count := func() []*bowline.Counts {
		t.Helper()
		cs, err := d.Count(t.Context(), places)
		must(t, err)
		if len(cs) != 3 || cs[0] == nil || cs[1] == nil || cs[2] != nil {
			t.Fatalf("counts are %v, want two, and nil for what is gone", cs)
		}
		return cs
	}
	before := count()
	must(t, netns.Do(sandboxes[0], func() error {
		c, err := net.Dial("udp4", "10.1.0.9:9")
		for i := 0; i < 10 && err == nil; i++ {
			_, err = c.Write(make([]byte, 1000))
		}
		return err
	}))
	after := count()
	const bytes = 10 * (14 + 20 + 8 + 1000)
	a, b := after[0], after[1]
	if got := a.SentBytes - before[0].SentBytes; got != bytes || a.SentPackets-before[0].SentPackets != 10 {
		t.Errorf("a has sent %d bytes in %d packets, want %d in 10", got, a.SentPackets-before[0].SentPackets, bytes)
	}
	if got := b.ReceivedBytes - before[1].ReceivedBytes; got != bytes || b.ReceivedPackets-before[1].ReceivedPackets != 10 {
		t.Errorf("b has received %d bytes in %d packets, want %d in 10", got, b.ReceivedPackets-before[1].ReceivedPackets, bytes)
	}
	if a.ReceivedPackets != before[0].ReceivedPackets || b.SentPackets != before[1].SentPackets {
		t.Errorf("nothing went the other way, but a received %d and b sent %d packets", a.ReceivedPackets-before[0].ReceivedPackets, b.SentPackets-before[1].SentPackets)
	}
}

// What a limit drops is counted where it was to go.
func TestCountDrops(t *testing.T) {
	t.Parallel()
	host, d := newHost(t)
	n := bowline.NetworkConfig{ID: "web"}
	must(t, d.CreateNetwork(t.Context(), n))
	slow := bowline.Rates{IngressRate: 80_000, IngressBurst: 16_000, EgressRate: 80_000, EgressBurst: 16_000}
	var places []bowline.Place
	var sandboxes []*netns.Handle
	for _, e := range []bowline.EndpointSpec{{ID: "slow", Rates: slow}, {ID: "quick"}} {
		sandbox := netnstest.New(t)
		e.IfName, e.Sandbox = "eth0", sandbox
		_, err := d.CreateEndpoint(t.Context(), n, e)
		must(t, err)
		netnstest.Command(t, sandbox, "ip", "link", "set", "eth0", "up")
		netnstest.Command(t, sandbox, "ip", "addr", "add", "10.1.0.1/24", "dev", "eth0")
		places, sandboxes = append(places, bowline.Place{Network: n, Endpoint: e}), append(sandboxes, sandbox)
	}
	forwards(t, host, places)
	for i, from := range sandboxes {
		to := places[1-i].Endpoint.ID
		netnstest.Command(t, from, "ip", "neigh", "add", "10.1.0.9", "lladdr", bowline.MAC(n.ID, to).String(), "dev", "eth0")
		must(t, netns.Do(from, func() error {
			c, err := net.Dial("udp4", "10.1.0.9:9")
			for i := 0; i < 100 && err == nil; i++ {
				_, err = c.Write(make([]byte, 1000))
			}
			return err
		}))
	}
	cs, err := d.Count(t.Context(), places)
	must(t, err)
	if cs[0].SentDrops < 50 || cs[0].ReceivedDrops < 50 || cs[1].SentDrops != 0 || cs[1].ReceivedDrops > 10 { // a few before its link was up
		t.Errorf("of 100 packets each way, a second's worth of ten packets: %+v, %+v", cs[0], cs[1])
	}
}
