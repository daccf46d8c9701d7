package e2e

import (
	"testing"
)

// TestNAT: containers reach out under the host's address, by both families,
// and nothing outside reaches in.
func TestNAT(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	out := h.outside()
	s := h.sandbox("a")
	r := s.add(network("web", web4, web6))
	for _, f := range []struct{ server, self, want string }{
		{"192.0.2.2:80", r.addr("4"), "192.0.2.1"},
		{"[2001:db8::2]:80", r.addr("6"), "2001:db8::1"},
	} {
		out.serve(f.server)
		if seen, err := s.ask(f.server); err != nil || seen != f.want {
			t.Errorf("server at %s saw %q, %v; want %s", f.server, seen, err, f.want)
		}
	}
	// Within the network addresses are not translated.
	b := h.sandbox("b")
	rb := b.add(network("web", web4, web6))
	b.serve(rb.addr("4") + ":80")
	if seen, err := s.ask(rb.addr("4") + ":80"); err != nil || seen != r.addr("4") {
		t.Errorf("b saw %q, %v; want a's own address %s", seen, err, r.addr("4"))
	}
	// Nor on the way to another subnet of it, which leads through the host.
	c := h.sandbox("c")
	rc := c.add(network("web", "10.77.0.0/24"))
	c.serve(rc.addr("4") + ":80")
	if seen, err := s.ask(rc.addr("4") + ":80"); err != nil || seen != r.addr("4") {
		t.Errorf("c of another subnet saw %q, %v; want a's own address %s", seen, err, r.addr("4"))
	}
}

// TestNetworksAreIsolated: containers of one network reach each other, and
// none of another network, by neither family, even when they try by way of
// the host.
func TestNetworksAreIsolated(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.outside()
	web, db := network("web", web4, web6), network("db", db4, db6)
	a, b, d := h.sandbox("a"), h.sandbox("b"), h.sandbox("d")
	a.add(web)
	rb, rd := b.add(web), d.add(db)
	for _, family := range []string{"4", "6"} {
		if !a.reaches(rb.addr(family)) {
			t.Errorf("v%s: a does not reach b of its own network", family)
		}
		if a.reaches(rd.addr(family)) {
			t.Errorf("v%s: a reaches d of another network", family)
		}
	}
	if a.reaches(rd.gateway("4")) {
		t.Log("a reaches the other network's gateway, an address of the host")
	}
}

// TestInternal: no way out, and none in, but to each other.
func TestInternal(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	out := h.outside()
	c := network("web", web4, web6).with("internal", true)
	a, b := h.sandbox("a"), h.sandbox("b")
	ra, rb := a.add(c), b.add(c)
	for _, family := range []string{"4", "6"} {
		if !a.reaches(rb.addr(family)) {
			t.Errorf("v%s: a does not reach b", family)
		}
	}
	// Even a container that makes itself a route gets nowhere.
	a.try("ip", "route", "replace", "default", "via", "10.1.0.1")
	a.try("ip", "-6", "route", "replace", "default", "via", "fd00:1::1")
	for _, addr := range []string{"192.0.2.2", "2001:db8::2"} {
		if a.reaches(addr) {
			t.Errorf("a reaches %s from an internal network", addr)
		}
	}
	out.run("ip", "route", "add", web4, "via", "192.0.2.1")
	if out.reaches(ra.addr("4")) {
		t.Error("the outside reaches into an internal network")
	}
	if err := a.check(c, ra); err == nil {
		t.Log("CHECK does not mind a route more")
	}
}

// TestICC: containers of a network with icc=false reach out, not each other.
func TestICC(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.outside()
	c := network("web", web4, web6).with("icc", false)
	a, b := h.sandbox("a"), h.sandbox("b")
	a.add(c)
	rb := b.add(c)
	for _, family := range []string{"4", "6"} {
		if a.reaches(rb.addr(family)) {
			t.Errorf("v%s: a reaches b although icc is false", family)
		}
		if !a.reaches(rb.gateway(family)) {
			t.Errorf("v%s: a does not reach its gateway", family)
		}
	}
	for _, addr := range []string{"192.0.2.2", "2001:db8::2"} {
		if !a.reaches(addr) {
			t.Errorf("a does not reach %s", addr)
		}
	}
	// By way of the host's routing neither.
	a.run("ip", "route", "del", "10.1.0.0/24")
	a.run("ip", "route", "replace", "10.1.0.1", "dev", "eth0")
	a.run("ip", "route", "replace", "10.1.0.0/24", "via", "10.1.0.1")
	if a.reaches(rb.addr("4")) {
		t.Error("a reaches b by way of its gateway although icc is false")
	}
}

// TestSpoofing: with macspoofchk only the container's own MAC gets out.
func TestSpoofing(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	c := network("web", web4).with("macspoofchk", true)
	a, b := h.sandbox("a"), h.sandbox("b")
	a.add(c)
	rb := b.add(c)
	if !a.reaches(rb.addr("4")) {
		t.Fatal("a does not reach b under its own MAC")
	}
	a.run("ip", "link", "set", "eth0", "address", "02:00:00:00:00:99")
	if a.reaches(rb.addr("4")) {
		t.Error("a reaches b under a MAC that is not its own")
	}
}

// TestForwardDrop: on a host where somebody's FORWARD chain drops, as Docker's
// does, containers still reach out, and the way is closed again at the end.
func TestForwardDrop(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	out := h.outside()
	out.serve("192.0.2.2:80")
	// What dockerd leaves in iptables.
	h.run("iptables", "-P", "FORWARD", "DROP")
	h.run("iptables", "-N", "DOCKER-USER")
	h.run("iptables", "-A", "DOCKER-USER", "-j", "RETURN")
	h.run("iptables", "-I", "FORWARD", "-j", "DOCKER-USER")
	before := h.snapshot()
	c := network("web", web4)
	s := h.sandbox("a")
	r := s.add(c)
	if _, err := s.ask("192.0.2.2:80"); err != nil {
		t.Errorf("no way out past a dropping FORWARD chain: %v", err)
	}
	if err := s.check(c, r); err != nil {
		t.Errorf("CHECK: %v", err)
	}
	s.del(c, r)
	if err := h.gc(c, []string{}); err != nil {
		t.Fatal(err)
	}
	s.end()
	if d := diff(before, h.snapshot()); d != "" {
		t.Errorf("the other owner's rules are not as they were:\n%s", d)
	}

	// firewall=none touches no rule.
	none := c.with("firewall", "none").with("ipMasq", false)
	h.sandbox("b").add(none)
	if d := diff(snapshot{"nft": before["nft"]}, snapshot{"nft": h.snapshot()["nft"]}); d != "" {
		t.Errorf("firewall=none changed rules:\n%s", d)
	}
	if err := h.gc(none, []string{}); err != nil {
		t.Fatal(err)
	}
	h.run("iptables", "-D", "FORWARD", "-j", "DOCKER-USER")
	h.run("iptables", "-F", "DOCKER-USER")
	h.run("iptables", "-X", "DOCKER-USER")
	h.run("iptables", "-P", "FORWARD", "ACCEPT")
	h.run("nft", "flush", "ruleset") // iptables leaves empty tables
}
