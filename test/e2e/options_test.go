package e2e

import (
	"os"
	"strings"
	"testing"
)

// TestMTU: the default is that of the link with the default route; a bridge
// that is there is never shrunk.
func TestMTU(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.outside()
	h.run("ip", "link", "set", "up0", "mtu", "1400")
	a := h.sandbox("a")
	r := a.add(network("web", web4))
	if out := a.run("ip", "link", "show", "eth0"); !strings.Contains(out, "mtu 1400 ") || r.Interfaces[2].MTU != 1400 {
		t.Errorf("eth0 is %s, want the uplink's MTU of 1400, and it in the result %s", out, r.raw)
	}
	b := h.sandbox("b")
	b.add(network("web", web4).with("mtu", 1300))
	if out := b.run("ip", "link", "show", "eth0"); !strings.Contains(out, "mtu 1300 ") {
		t.Errorf("eth0 of b is %s, want mtu 1300", out)
	}
	if out := h.run("ip", "link", "show", "br-web"); !strings.Contains(out, "mtu 1400 ") {
		t.Errorf("the bridge was shrunk by the second container: %s", out)
	}
}

// TestOwnBridge: its MAC is the same from birth on, and a bridge that lost its
// last port serves the next container.
func TestOwnBridge(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	c := network("web", web4, web6)
	var first string
	for i, id := range []string{"a", "b", "c"} {
		s := h.sandbox(id)
		r := s.add(c)
		if i == 0 {
			first = r.Interfaces[0].Mac
		}
		if out := h.run("ip", "-o", "link", "show", "br-web"); r.Interfaces[0].Mac != first || !strings.Contains(out, first) {
			t.Errorf("%s: the bridge's MAC was %s, is %s: %s", id, first, r.Interfaces[0].Mac, out)
		}
		if !s.reaches(r.gateway("4")) {
			t.Errorf("%s does not reach its gateway", id)
		}
		s.del(c, r)
	}
}

// TestForeignBridge: a bridge that somebody else made is used and left alone.
func TestForeignBridge(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.run("ip", "link", "add", "br0", "type", "bridge")
	h.run("ip", "addr", "add", "10.1.0.1/24", "dev", "br0")
	h.run("ip", "link", "set", "br0", "up")
	before := h.snapshot()
	c := network("web", web4).with("bridge", "br0")
	s := h.sandbox("a")
	r := s.add(c)
	if !s.reaches("10.1.0.1") {
		t.Error("no answer from the bridge's address")
	}
	s.del(c, r)
	if err := h.gc(c, []string{}); err != nil {
		t.Fatal(err)
	}
	s.end()
	after := h.snapshot()
	for _, kind := range []string{"link", "address"} {
		if d := diff(snapshot{kind: before[kind]}, snapshot{kind: after[kind]}); d != "" && !strings.Contains(d, "NO-CARRIER") && !strings.Contains(d, "mac=") {
			t.Errorf("the bridge is not as it was:\n%s", d)
		}
	}
	h.run("ip", "link", "show", "br0") // still there
	h.run("ip", "link", "delete", "br0")
}

// TestNotABridge: the name is taken by something else.
func TestNotABridge(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.run("ip", "link", "add", "br0", "type", "veth", "peer", "name", "br1")
	s := h.sandbox("a")
	before := h.snapshot()
	out, err := h.cni(network("web", web4).with("bridge", "br0"), call{verb: "ADD", id: "a", netns: s.path, ifname: "eth0"})
	expectError(t, out, err, 100, "br0")
	if d := diff(before.withoutNetworks(), h.snapshot().withoutNetworks()); d != "" {
		t.Errorf("the failed ADD changed the host:\n%s", d)
	}
	h.run("ip", "link", "delete", "br0")
}

// TestForceAddress: another address on the bridge is an error, or replaced if
// that was asked for.
func TestForceAddress(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.run("ip", "link", "add", "br0", "type", "bridge")
	h.run("ip", "addr", "add", "10.1.0.254/24", "dev", "br0")
	h.run("ip", "link", "set", "br0", "up")
	c := network("web", web4).with("bridge", "br0")
	s := h.sandbox("a")
	if r, err := s.tryAdd(c.with("forceAddress", true)); err != nil {
		t.Errorf("ADD with forceAddress: %v", err)
	} else {
		if out := h.run("ip", "addr", "show", "br0"); strings.Contains(out, "10.1.0.254/24") || !strings.Contains(out, "10.1.0.1/24") {
			t.Errorf("addresses of the bridge are %s, want 10.1.0.1/24 instead of 10.1.0.254/24", out)
		}
		s.del(c, r)
	}
	h.gc(c, []string{})
	h.run("ip", "link", "delete", "br0")
}

// TestVLAN: where the kernel filters VLANs, containers of two VLANs do not
// meet; where it cannot, the error says so.
func TestVLAN(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	c := network("web", web4).with("isGateway", false).with("isDefaultGateway", false).with("ipMasq", false)
	a, b, other := h.sandbox("a"), h.sandbox("b"), h.sandbox("other")
	_, probe := h.try("ip", "link", "add", "probe", "type", "bridge", "vlan_filtering", "1")
	h.try("ip", "link", "delete", "probe")
	out, err := h.cni(c.with("vlan", 100), call{verb: "ADD", id: "a", netns: a.path, ifname: "eth0"})
	if probe != nil {
		expectError(t, out, err, 101, "VLAN")
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	rb := b.add(c.with("vlan", 100))
	ro := other.add(c.with("vlan", 200))
	if !a.reaches(rb.addr("4")) {
		t.Error("a does not reach b of its VLAN")
	}
	if a.reaches(ro.addr("4")) {
		t.Error("a reaches a container of another VLAN")
	}
}

// TestPortIsolation: no frame between ports, the gateway still answers.
func TestPortIsolation(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	c := network("web", web4, web6).with("portIsolation", true)
	a, b := h.sandbox("a"), h.sandbox("b")
	a.add(c)
	rb := b.add(c)
	for _, family := range []string{"4", "6"} {
		if a.reaches(rb.addr(family)) {
			t.Errorf("v%s: a reaches b although ports are isolated", family)
		}
		if !a.reaches(rb.gateway(family)) {
			t.Errorf("v%s: a does not reach its gateway", family)
		}
	}
}

// TestWithoutGateway: containers reach each other and nothing else, and the
// bridge has no address.
func TestWithoutGateway(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	c := network("web", web4, web6).with("isGateway", false).with("isDefaultGateway", false).with("ipMasq", false)
	a, b := h.sandbox("a"), h.sandbox("b")
	a.add(c)
	rb := b.add(c)
	if !a.reaches(rb.addr("4")) || !a.reaches(rb.addr("6")) {
		t.Error("a does not reach b")
	}
	if out := h.run("ip", "-o", "addr", "show", "dev", "br-web", "scope", "global"); strings.TrimSpace(out) != "" {
		t.Errorf("the bridge has addresses: %s", out)
	}
	if out := a.run("ip", "route"); strings.Contains(out, "default") {
		t.Errorf("a has a default route: %s", out)
	}
}

// TestTrace: the trace of a runtime reaches the delegated IPAM plugin.
func TestTrace(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	dir := h.dir + "/bin"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\necho \"$CNI_COMMAND $TRACEPARENT $TRACESTATE $BAGGAGE\" >>" + h.dir + "/seen\nexec " + findPlugin("host-local") + "\n"
	if err := os.WriteFile(dir+"/watched-ipam", []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	c := network("web", web4).ipam("type", "watched-ipam").ipam("dataDir", h.dir+"/cni")
	s := h.sandbox("a")
	for _, verb := range []string{"ADD", "DEL"} {
		a := call{verb: verb, id: "a", netns: s.path, ifname: "eth0", env: []string{
			"CNI_PATH=" + dir + ":" + cniPath(), "TRACEPARENT=00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "TRACESTATE=a=1", "BAGGAGE=b=2"}}
		if _, err := h.cni(c, a); err != nil {
			t.Fatal(err)
		}
	}
	seen, err := os.ReadFile(h.dir + "/seen")
	want := " 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01 a=1 b=2\n"
	if err != nil || !strings.HasPrefix(string(seen), "ADD"+want) || !strings.Contains(string(seen), "DEL"+want) {
		t.Errorf("the IPAM plugin saw %q, %v", seen, err)
	}
	delete(h.used, "web") // its GC would look for the plugin elsewhere
	h.gc(c.ipam("type", "host-local"), []string{})
}
