package e2e

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
)

// TestMacvlanBowline: the command line makes a network on the LAN with host
// access, and knows what is on it by the same commands as on a bridge.
func TestMacvlanBowline(t *testing.T) {
	t.Parallel()
	h := newLANHost(t)
	out := h.outside()
	h.bowline("network", "create", "lan", "--driver", "macvlan", "--opt", "parent=up0", "--opt", "host-access=true", "--subnet", web4, "--subnet", web6, "--gateway", "10.1.0.1")
	h.bowline("sandbox", "create", "one", "two")
	one := addrs(h.bowline("connect", "one", "lan"))
	two := addrs(h.bowline("connect", "two", "lan"))
	host := &sandbox{h: h, id: "host", ns: h.ns}
	for _, addr := range one {
		if !host.reaches(addr) || !out.reaches(addr) || !h.reach("two", addr) {
			t.Errorf("one at %s is not reached by the host, the LAN and two", addr)
		}
	}
	for _, addr := range []string{"10.1.0.254", "fd00:1::fe", "10.1.0.1", outside4} {
		if !h.reach("one", addr) {
			t.Errorf("one does not reach %s", addr)
		}
	}
	const rule = "deny egress icmp to 10.1.0.1"
	for _, tt := range []struct{ args, wants []string }{
		{[]string{"ls"}, []string{"lan", "one", one[0], "macvlan"}},
		{[]string{"network", "ls"}, []string{"lan", "macvlan"}},
		{[]string{"check"}, nil},
		{[]string{"diff"}, nil},
		{[]string{"shape", "one", "--egress", "20mbit"}, []string{"20", "lan"}},
		{[]string{"policy", "set", "one", rule}, []string{rule}},
		{[]string{"policy", "show", "one"}, []string{rule}},
	} {
		got := h.bowline(tt.args...)
		for _, want := range tt.wants {
			if !strings.Contains(got, want) {
				t.Errorf("bowline %s has no %q:\n%s", strings.Join(tt.args, " "), want, got)
			}
		}
	}
	if h.reach("one", "10.1.0.1") || !h.reach("one", "10.1.0.254") {
		t.Error("the policy of one is not kept, or more than that")
	}
	if got := h.bowline("sandbox", "exec", "one", "tc", "qdisc"); strings.Count(got, "tbf") != 1 || !strings.Contains(got, "20Mbit") {
		t.Errorf("limits are %s", got)
	}
	if out, err := h.try(bin("bowline"), "shape", "one", "--ingress", "50mbit"); err == nil || !strings.Contains(out, "want one of them") {
		t.Errorf("ingressRate and a policy: %v %s", err, out)
	}
	before := h.stats()
	if len(before) != 2 || before[0].Container != "one" || before[0].Driver != "macvlan" || before[0].Network != "lan" || before[0].Engine != "bowline" {
		t.Fatalf("stats: %+v", before)
	}
	h.bowline("sandbox", "exec", "two", "ping", "-n", "-c", "5", "-i", "0.05", "-s", "1000", "-W", "2", one[0])
	for i, after := range h.stats() {
		const least = 5 * 1028
		if after.SentBytes-before[i].SentBytes < least || after.ReceivedBytes-before[i].ReceivedBytes < least {
			t.Errorf("five pings of 1000 bytes, but the counters went from %+v to %+v", before[i], after)
		}
	}
	families := parseMetrics(t, []byte(h.bowline("metrics", "--once")))
	if m := find(families, "bowline_attachment_receive_bytes_total", "network=lan", "container=one", "driver=macvlan"); len(m) != 1 || m[0].GetCounter().GetValue() == 0 {
		t.Errorf("metrics of one: %v", m)
	}
	if m := find(families, "bowline_policy_packets_total", "network=lan", "container=one", "rule="+rule); len(m) != 1 || m[0].GetCounter().GetValue() == 0 {
		t.Errorf("metrics of its policy: %v", m)
	}
	h.run("ip", "link", "del", h.shim())
	h.bowline("sandbox", "exec", "one", "nft", "flush", "ruleset")
	got, status := h.exitStatus("diff")
	if status != 3 || !strings.Contains(got, "link bwh") || !strings.Contains(got, "netdev bowline") {
		t.Errorf("diff: status %d, %s", status, got)
	}
	if got, status := h.exitStatus("repair"); status != 0 {
		t.Errorf("repair: status %d, %s", status, got)
	}
	if !host.reaches(one[0]) || !host.reaches(two[0]) || h.reach("one", "10.1.0.1") {
		t.Error("after a repair the host does not reach its containers, or the policy is not kept")
	}
	if got, _ := h.exitStatus("doctor"); !strings.Contains(got, "macvlan") {
		t.Errorf("doctor does not tell of macvlan: %s", got)
	}
	h.bowline("disconnect", "two", "lan")
	h.bowline("sandbox", "rm", "one", "two")
	h.bowline("network", "rm", "lan")
}

// TestMacvlanShape: limits of what is attached change, and DEL takes them.
func TestMacvlanShape(t *testing.T) {
	t.Parallel()
	h := newLANHost(t)
	a, b := h.sandbox("a"), h.sandbox("b")
	c := lan("web", web4).with("ingressRate", 10e6).with("ingressBurst", 800e3)
	r, rb := a.add(c), b.add(lan("web", web4).with("runtimeConfig", map[string]any{"bandwidth": map[string]any{"ingressRate": 1e9, "egressRate": 5e9}}))
	limits := func(s *sandbox, want string) {
		t.Helper()
		in := &host{t: t, ns: s.ns, env: h.env}
		got := strings.NewReplacer("eth", "out").Replace(in.limits())
		if got != want {
			t.Errorf("limits of %s are %q, want %q", s.id, got, want)
		}
	}
	limits(a, "bwf 10000000")
	limits(b, "out 5000000000, bwf 1000000000")
	a.passes(b, rb.addr("4"))
	b.passes(a, r.addr("4"))
	h.bowline("shape", "a", "--egress", "20mbit", "--ingress", "none")
	limits(a, "out 20000000")
	if err := a.check(c, r); err != nil {
		t.Errorf("CHECK: %v", err)
	}
	a.run("tc", "qdisc", "del", "dev", "eth0", "root")
	if err := a.check(c, r); code(err) != 102 {
		t.Errorf("CHECK without the limit: %v, want code 102", err)
	}
	h.bowline("repair")
	limits(a, "out 20000000")
	if err := a.tryDel(lan("web", web4), ""); err != nil { // without its limits, namespace and result
		t.Errorf("DEL: %v", err)
	}
	a.empty("after DEL")
}

// TestMacvlanExplain: the plan of an ADD is what the ADD does, and changes
// nothing.
func TestMacvlanExplain(t *testing.T) {
	t.Parallel()
	h := newLANHost(t)
	c := lan("web", web4, web6).with("host-access", true).with("egressRate", 8e6)
	for i, id := range []string{"a", "b"} {
		s := h.sandbox(id)
		x := h.explain("ADD", c, "--container", id, "--netns", s.path)
		if x.Error != "" {
			t.Fatal(x.Error)
		}
		for _, prefix := range []string{"take 10.1.0.", "write " + h.dir + "/run/endpoints/", "add element netdev bowline shim-peers {", "ip route "} {
			if !x.has("host", prefix) {
				t.Errorf("no step %q... in %+v", prefix, x.Steps)
			}
		}
		for _, prefix := range []string{"ip addr add 10.1.0.", "ip addr add fd00", "ip link set eth0 up", "ip route add default via 10.1.0.1", "tc qdisc replace dev eth0", "probe for "} {
			if !x.has("sandbox", prefix) {
				t.Errorf("no step %q... in the sandbox, of %+v", prefix, x.Steps)
			}
		}
		if x.has("host", "ip link add bwh") != (i == 0) {
			t.Errorf("container %s: the host's own link is made: %v", id, i != 0)
		}
		r := s.add(c)
		x.holds(s)
		var would result
		if err := json.Unmarshal(x.Result, &would); err != nil || would.addr("4") != r.addr("4") || would.addr("6") != r.addr("6") || would.Interfaces[0].Mac != r.Interfaces[0].Mac {
			t.Errorf("it would get %s and %s, and got %s and %s: %v", would.addr("4"), would.addr("6"), r.addr("4"), r.addr("6"), err)
		}
		if again := h.explain("ADD", c, "--container", id, "--netns", s.path); !strings.Contains(again.Error, "attached already") {
			t.Errorf("a second ADD would fail: %+v", again)
		}
		if x := h.explain("DEL", c, "--container", id, "--netns", s.path); !x.has("sandbox", "ip link del eth0") || !x.has("host", "release "+netip.MustParseAddr(r.addr("4")).String()) {
			t.Errorf("DEL: %+v", x)
		}
	}
	if x := h.explain("ADD", c.with("policy", []any{"deny egress tcp 25"}), "--container", "c"); !x.has("sandbox", "add element netdev bowline policy-from {") {
		t.Errorf("no step for the policy: %+v", x)
	}
}
