package main

import (
	"context"
	"testing"
	"time"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

// TestWatch: each harm is told, with the sandbox that it happened in.
func TestWatch(t *testing.T) {
	t.Parallel()
	ns, sandbox := netnstest.New(t), netnstest.New(t)
	netnstest.Command(t, ns, "ip", "link", "set", "lo", "up")
	d, err := newDriver(ns)
	must(t, err)
	n := testNetwork("web")
	n.Options["bridge"] = "br0"
	e := bowline.EndpointSpec{ID: "a/eth0", IfName: "eth0", Sandbox: sandbox}
	must(t, d.CreateNetwork(t.Context(), n))
	_, err = d.CreateEndpoint(t.Context(), n, e)
	must(t, err)
	netnstest.Command(t, sandbox, "ip", "addr", "add", "10.1.0.2/24", "dev", "eth0")
	netnstest.Command(t, sandbox, "ip", "link", "set", "eth0", "up")
	outer, err := d.host.See(t.Context(), outerName(n, e.ID))
	must(t, err)

	ctx, cancel := context.WithCancel(t.Context())
	ready, events, ended := make(chan struct{}), make(chan bowline.Event, 1000), make(chan error)
	go func() {
		ended <- d.Watch(ctx, func() { close(ready) }, func(e bowline.Event) { events <- e })
	}()
	<-ready
	for _, tt := range []struct {
		in      bowline.Namespace
		command []string
	}{
		{ns, []string{"nft", "delete", "element", "ip", "bowline", "from", "{ br0 }"}},
		{ns, []string{"nft", "flush", "ruleset"}},
		{ns, []string{"iptables-nft", "-N", "DOCKER-USER"}},
		{ns, []string{"iptables-legacy", "-L"}},
		{ns, []string{"ip", "link", "set", outer.Name, "nomaster"}},
		{ns, []string{"ip", "addr", "del", "10.1.0.1/24", "dev", "br0"}},
		{ns, []string{"ip", "-6", "route", "del", "fd00:1::/64"}},
		{ns, []string{"sysctl", "-qw", "net.ipv4.ip_forward=0"}},
		{ns, []string{"sysctl", "-qw", "net.ipv6.conf.all.forwarding=0"}},
		{sandbox, []string{"ip", "route", "del", "10.1.0.0/24"}},
		{sandbox, []string{"ip", "addr", "del", "10.1.0.2/24", "dev", "eth0"}},
		{sandbox, []string{"ip", "link", "set", "eth0", "down"}},
		{ns, []string{"ip", "link", "del", "br0"}},
	} {
		want := bowline.Event{Sandbox: -1}
		for len(events) > 0 {
			<-events
		}
		if tt.in == sandbox {
			netnstest.Command(t, sandbox, tt.command...)
			want.Sandbox = outer.Peer
		} else {
			netnstest.Command(t, ns, tt.command...)
		}
		deadline := time.After(10 * time.Second)
		for got := (bowline.Event{Sandbox: -2}); got != want; {
			select {
			case got = <-events:
			case <-deadline:
				t.Fatalf("%v is not told, want %+v", tt.command, want)
			}
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Watch: %v", err)
	}
}
