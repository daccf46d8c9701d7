package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/bowline-net/bowline"
	"github.com/bowline-net/bowline/internal/drivertest"
	"github.com/bowline-net/bowline/internal/endpoint"
	"github.com/bowline-net/bowline/internal/link"
	"github.com/bowline-net/bowline/internal/netns"
	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

func TestWhoReachesWhom(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		mode       string
		neighbours bool
	}{{"bridge", true}, {"private", false}, {"vepa", false}} { // vepa: the LAN's switch would have to send it back
		t.Run(tt.mode, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, map[string]string{"mode": tt.mode})
			a, b := s.attach(), s.attach()
			s.want("container", a.ns, true, "10.1.0.254", "fd00:1::fe")
			s.want("LAN", s.lan, true, "10.1.0.2", "fd00:1::3")
			s.want("container", a.ns, tt.neighbours, "10.1.0.3", "fd00:1::3")
			s.want("container", a.ns, false, "10.1.0.1") // the host: no macvlan reaches its parent
			s.want("host", s.host, false, "10.1.0.3")
			if b.a.MTU != 1500 || len(b.a.Gateways) != 0 {
				t.Errorf("attachment is %+v", b.a)
			}
			s.differs("", a, b)
		})
	}
}

// TestSourceMode: a container hears those of the LAN that it was told of.
func TestSourceMode(t *testing.T) {
	t.Parallel()
	s := newScene(t, map[string]string{"mode": "source", "sources": "02:00:00:00:00:01"})
	c := s.attach()
	s.want("LAN", s.lan, false, "10.1.0.2")
	s.n.Options["sources"] += "," + macOf(t, s.lan, "lan0")
	s.differs("sources", c)
	s.repair(c)
	s.want("LAN", s.lan, true, "10.1.0.2", "fd00:1::2")
}

func macOf(t *testing.T, ns *netns.Handle, name string) string {
	t.Helper()
	h, err := link.Open(ns)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	l, err := h.Get(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return l.MAC.String()
}

// TestHostAccess: the host and its containers reach each other, and the LAN sees
// nothing of it.
func TestHostAccess(t *testing.T) {
	t.Parallel()
	s := newScene(t, map[string]string{"host-access": "true", "isDefaultGateway": "true"})
	before := drivertest.Snapshot(t, s.host)
	a, b := s.attach(), s.attach()
	for range 3 { // in any order: neighbours remember
		s.want("host", s.host, true, "10.1.0.2", "fd00:1::2", "10.1.0.3")
		s.want("LAN", s.lan, true, "10.1.0.1", "fd00:1::1", "10.1.0.2", "fd00:1::2")
		s.want("container", a.ns, true, "10.1.0.1", "fd00:1::1", "10.1.0.254", "fd00:1::fe", "10.1.0.3")
		netnstest.Command(t, s.lan, "ip", "neigh", "flush", "dev", "lan0")
	}
	s.want("LAN", s.lan, true, "10.1.0.1", "fd00:1::1")
	parent := macOf(t, s.host, "up0")
	for line := range strings.Lines(netnstest.Command(t, s.lan, "ip", "neigh")) {
		if (strings.HasPrefix(line, "10.1.0.1 ") || strings.HasPrefix(line, "fd00:1::1 ")) && !strings.Contains(line, parent) {
			t.Errorf("the LAN believes that the host is %s, it is at %s", line, parent)
		}
	}
	s.differs("", a, b)
	for i, c := range []container{a, b} {
		if err := s.d.DeleteEndpoint(t.Context(), s.n, bowline.EndpointSpec{ID: c.ID}); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			s.want("host", s.host, true, "10.1.0.3", "fd00:1::3")
		}
	}
	if after := drivertest.Snapshot(t, s.host); after != before {
		t.Errorf("the host is not as it was\nbefore:\n%s\nafter:\n%s", before, after)
	}
}

// TestHostAccessRepair: each thing that somebody takes away comes back.
func TestHostAccessRepair(t *testing.T) {
	t.Parallel()
	s := newScene(t, map[string]string{"host-access": "true"})
	c := s.attach()
	shim := shimName(s.n, "up0")
	for _, harm := range []struct{ command, found string }{
		{"ip link del " + shim, "no link " + shim},
		{"ip link set " + shim + " down", "state down"},
		{"ip route del 10.1.0.2 dev " + shim, "no peer"},
		{"ip neigh del fd00:1::2 dev " + shim, "no peer"},
		{"nft flush ruleset", "shim"},
	} {
		s.run(s.host, harm.command)
		s.differs(harm.found, c)
		s.repair(c)
		s.want("host after "+harm.command, s.host, true, "10.1.0.2", "fd00:1::2")
	}
}

// TestParentGoneFirst: what of host access goes with the parent leaves nothing
// behind when its last endpoint goes.
func TestParentGoneFirst(t *testing.T) {
	t.Parallel()
	s := newScene(t, map[string]string{"host-access": "true"})
	a, b := s.attach(), s.attach()
	s.run(s.host, "ip link del up0")
	for _, c := range []container{a, b} {
		if err := s.d.DeleteEndpoint(t.Context(), s.n, bowline.EndpointSpec{ID: c.ID}); err != nil {
			t.Fatal(err)
		}
	}
	if left := netnstest.Command(t, s.host, "nft", "list", "ruleset"); left != "" {
		t.Errorf("left of host access:\n%s", left)
	}
}

// TestParent: what happens to it is followed.
func TestParent(t *testing.T) {
	t.Parallel()
	s := newScene(t, map[string]string{})
	c := s.attach()
	s.run(s.host, "ip link set up0 mtu 1400") // the kernel follows
	s.differs("", c)
	s.run(s.host, "ip link set up0 mtu 1500") // it does not
	s.differs("mtu 1400, want 1500", c)
	s.repair(c)

	s.run(s.host, "ip link del up0")
	s.differs("no link up0", c)
	s.differs("no link eth0", c)
	for _, i := range s.d.Repair(t.Context(), s.places(c)) {
		if i.Err == nil {
			t.Error("Repair without a parent succeeds")
		}
	}
	newLAN(t, s.host)
	s.plug()
	s.repair(c)
	s.dress(c)
	s.want("container", c.ns, true, "10.1.0.254")

	s.run(s.host, "ip link set up0 down")
	s.differs("up0 has state down", c)
	if err := s.d.Status(t.Context(), s.n); !errors.Is(err, bowline.ErrDegraded) {
		t.Errorf("Status with a parent that is down: %v", err)
	}
}

// TestMode: what a container changes of its link is put back.
func TestMode(t *testing.T) {
	t.Parallel()
	s := newScene(t, map[string]string{"bcqueuelen": "200"})
	c := s.attach()
	s.run(c.ns, "ip link set eth0 type macvlan mode private")
	s.differs("mode private, want bridge", c)
	s.repair(c)
}

// TestLimitsAndPolicy: both are kept in the sandbox, for its link.
func TestLimitsAndPolicy(t *testing.T) {
	t.Parallel()
	s := newScene(t, map[string]string{})
	rules, err := bowline.ParsePolicy("test", "deny egress icmp to 10.1.0.254/32")
	if err != nil {
		t.Fatal(err)
	}
	c := s.attach(func(e *bowline.EndpointSpec) { e.Rates, e.Policy = bowline.Rates{EgressRate: 20_000_000}, rules })
	if got := netnstest.Command(t, c.ns, "tc", "qdisc", "show", "dev", "eth0"); !strings.Contains(got, "tbf") || !strings.Contains(got, "rate 20Mbit") {
		t.Errorf("what the container sends: %s", got)
	}
	s.want("container", c.ns, false, "10.1.0.254")
	s.want("container", c.ns, true, "fd00:1::fe")
	s.want("LAN", s.lan, true, "10.1.0.2") // a reply passes
	counts, err := s.d.Count(t.Context(), s.places(c)[1:])
	if err != nil || counts[0] == nil || counts[0].SentPackets == 0 || counts[0].ReceivedPackets == 0 || counts[0].Policy[0].Packets == 0 {
		t.Errorf("counts are %+v, %v", counts[0], err)
	}
	for _, harm := range []struct{ command, found string }{{"nft flush ruleset", "netdev bowline"}, {"tc qdisc del dev eth0 root", "limit out"}} {
		s.run(c.ns, harm.command)
		s.differs(harm.found, c)
		s.repair(c)
	}
	s.want("container", c.ns, false, "10.1.0.254")
	c.Policy = nil
	if err := s.d.Enforce(t.Context(), s.n, c.EndpointSpec); err != nil {
		t.Fatal(err)
	}
	s.want("container", c.ns, true, "10.1.0.254")
	c.Policy = rules
	if err := s.d.Enforce(t.Context(), s.n, c.EndpointSpec); err != nil {
		t.Fatal(err)
	}
	s.gone(c)
}

// TestIngressLimit: what a container receives waits at a link of its own.
func TestIngressLimit(t *testing.T) {
	t.Parallel()
	s := newScene(t, map[string]string{})
	c := s.attach(func(e *bowline.EndpointSpec) { e.Rates = bowline.Rates{IngressRate: 30_000_000} })
	if got := netnstest.Command(t, c.ns, "tc", "qdisc", "show", "dev", endpoint.IFB(s.n.ID, c.ID)); !strings.Contains(got, "rate 30Mbit") {
		t.Errorf("what it receives: %s", got)
	}
	s.want("LAN", s.lan, true, "10.1.0.2", "fd00:1::2")
	s.run(c.ns, "ip link del "+endpoint.IFB(s.n.ID, c.ID))
	s.differs("limit in", c)
	s.repair(c)
	s.gone(c)
}

// TestIngressLimitAndPolicy: the kernel leads what waited past the policy, so one
// of the two is refused, whichever comes first.
func TestIngressLimitAndPolicy(t *testing.T) {
	t.Parallel()
	s := newScene(t, map[string]string{})
	rules, err := bowline.ParsePolicy("test", "deny ingress")
	if err != nil {
		t.Fatal(err)
	}
	both := func(e *bowline.EndpointSpec) { e.Rates, e.Policy = bowline.Rates{IngressRate: 30_000_000}, rules }
	e := bowline.EndpointSpec{ID: "both/eth0", IfName: "eth0", Sandbox: netnstest.New(t)}
	both(&e)
	c := s.attach()
	both(&c.EndpointSpec)
	for what, err := range map[string]error{
		"ValidateEndpoint": s.d.ValidateEndpoint(s.n, e),
		"CreateEndpoint":   second(s.d.CreateEndpoint(t.Context(), s.n, e)),
		"Shape":            s.d.Shape(t.Context(), s.n, c.EndpointSpec),
		"Enforce":          s.d.Enforce(t.Context(), s.n, c.EndpointSpec),
	} {
		if !errors.Is(err, bowline.ErrInvalid) || !strings.Contains(err.Error(), "want one of them") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// gone deletes the endpoint, which leaves nothing in its sandbox.
func (s *scene) gone(c container) {
	s.t.Helper()
	if err := s.d.DeleteEndpoint(s.t.Context(), s.n, c.EndpointSpec); err != nil {
		s.t.Fatal(err)
	}
	if left := netnstest.Command(s.t, c.ns, "nft", "list", "ruleset") + netnstest.Command(s.t, c.ns, "ip", "-o", "link", "show", "type", "ifb"); left != "" {
		s.t.Errorf("left in the sandbox:\n%s", left)
	}
}
