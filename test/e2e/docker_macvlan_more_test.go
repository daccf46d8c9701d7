package e2e

import (
	"errors"
	"fmt"
	"strings"
)

// limitsInside returns what limits the links of a container, as LINK RATE in
// bit/s, by the first letters of their names.
func (h *dockerHost) limitsInside(name string) string {
	h.t.Helper()
	out, err := h.in(h.containerPID(name), "sh", "-c", `tc qdisc | sed -n 's/.*tbf .* dev \(...\).* rate \([^ ]*\) .*/\1 \2/p' | sort | tr '\n' ','`)
	if err != nil {
		h.t.Fatalf("%v\n%s", err, out)
	}
	return out
}

// mustBeLimited waits for what the plugin does once dockerd has moved the link,
// or when dockerd is done with it.
func (h *dockerHost) mustBeLimited(name, want string) {
	h.t.Helper()
	h.eventually("macvlan", func() error {
		if got := h.limitsInside(name); got != want {
			return fmt.Errorf("limits of %s are %q, want %q", name, got, want)
		}
		return nil
	})
}

// onHost runs one of our binaries on the machine and returns what it prints.
func (h *machine) onHost(name string, args ...string) string {
	h.t.Helper()
	out, err := h.inside(bin(name), args...).CombinedOutput()
	if err != nil {
		h.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// macvlanTwoNetworks: with a bridge network, with one on another parent, from the
// start and live.
func macvlanTwoNetworks(h *dockerHost) {
	h.sh("ip link add up1 type veth peer name lan1; ip link set up1 up; ip link set lan1 up; ip addr add 198.51.100.9/24 dev lan1")
	defer h.sh("ip link del up1")
	h.macvlan("lan", dual...)
	h.macvlan("more", "--subnet", "198.51.100.0/24", "-o", "parent=up1", "-o", "isDefaultGateway=false")
	h.network("back", "--subnet", "10.84.0.0/24")
	h.container("c1", "--network", "lan")
	h.container("c2", "--network", "back")
	h.cli("network", "connect", "back", "c1")
	h.mustReach("c1", outside4, outside6, h.place("c2", "back").IPAddress, "10.84.0.1")
	h.cli("network", "connect", "--ip", "198.51.100.77", "more", "c1")
	h.cli("network", "connect", "--ip", "198.51.100.78", "more", "c2")
	h.mustReach("c1", "198.51.100.78", "198.51.100.9", outside4)
	h.mustReach("c2", "198.51.100.77", outside4) // through the host
	h.cli("network", "disconnect", "lan", "c1")
	h.mustReach("c1", "198.51.100.78", h.place("c2", "back").IPAddress)
	h.cli("network", "connect", "lan", "c1")
	h.beyond().reached(true, h.place("c1", "lan").IPAddress)
	h.cli("network", "disconnect", "more", "c1")
	h.mustNotReach("c2", "198.51.100.77")
	if links, _ := h.in(h.containerPID("c1"), "ip", "-o", "link"); strings.Count(links, "\n") != 2 {
		h.t.Errorf("on two networks c1 has\n%s", links)
	}
}

// macvlanLimits: limits and policy, which the plugin can only make once dockerd
// has moved the link, of a network and of one container.
func macvlanLimits(h *dockerHost) {
	h.macvlan("slow", append(dual, "-o", "egressRate=50mbit", "-o", "policy=deny egress icmp to "+outside6)...)
	h.network("back", "--subnet", "10.84.0.0/24")
	h.container("c1", "--network", "slow")
	h.mustBeLimited("c1", "eth 50Mbit,")
	h.mustBeDenied("c1", outside6)
	h.mustReach("c1", outside4)
	h.cli("network", "connect", "back", "c1")
	h.cli("network", "disconnect", "slow", "c1")
	if got, _ := h.in(h.containerPID("c1"), "sh", "-c", "tc qdisc | grep tbf; ip -o link show type ifb; nft list tables | grep bowline"); got != "" {
		h.t.Errorf("disconnected, c1 still has\n%s", got)
	}
	h.cli("network", "connect", "--driver-opt", "egressRate=10mbit", "--driver-opt", "policy=deny egress icmp to "+outside4, "slow", "c1")
	h.mustBeLimited("c1", "eth 10Mbit,")
	h.mustBeDenied("c1", outside4)
	h.mustBeDenied("c1", outside6)
	ip := h.place("c1", "slow").IPAddress
	h.beyond().reached(true, ip)
	if shown := h.onHost("bowline", "policy", "show", ip); !strings.Contains(shown, "deny egress icmp to "+outside4) || !strings.Contains(shown, "deny egress icmp to "+outside6) {
		h.t.Errorf("policy show:\n%s", shown)
	}
	h.onHost("bowline", "shape", ip, "--egress", "7mbit")
	if got, want := h.limitsInside("c1"), "eth 7Mbit,"; got != want {
		h.t.Errorf("after shape limits are %q, want %q", got, want)
	}
	h.onHost("bowline", "policy", "set", ip, "")
	h.mustReach("c1", outside4)
	h.mustNotReach("c1", outside6) // by the network

	// What a container receives cannot have both.
	out, err := h.tryCLI("run", "--rm", "--network", "name=slow,driver-opt=ingressRate=10mbit", "bb:1", "true")
	if err == nil || !strings.Contains(out, "want one of them") {
		h.t.Errorf("ingressRate and a policy: %v %s", err, out)
	}
	if out, err := h.inside(bin("bowline"), "shape", ip, "--ingress", "10mbit").CombinedOutput(); err == nil || !strings.Contains(string(out), "want one of them") {
		h.t.Errorf("shape of a container with a policy: %v %s", err, out)
	}

	// What somebody in the container takes away comes back.
	pid, eth := h.containerPID("c1"), h.linkAt("c1", ip)
	for _, harm := range []string{"nft delete table netdev bowline", "tc qdisc del dev " + eth + " root", "ip addr flush dev " + eth} {
		if out, err := h.in(pid, "sh", "-c", harm); err != nil {
			h.t.Fatalf("%s: %v %s", harm, err, out)
		}
	}
	h.mustBeLimited("c1", "eth 7Mbit,")
	h.mustGetRules("c1", outside6)
	h.mustReach("c1", outside4)
	h.mustNotReach("c1", outside6)

	// One for a moment: it ends before all is made.
	for range 3 {
		h.cli("run", "--rm", "--network", "slow", "bb:1", "true")
	}
	h.removeAll()
	h.macvlan("down", append(lan4, "-o", "ingressRate=100mbit")...)
	h.container("c2", "--network", "down")
	h.mustBeLimited("c2", "bwf 100Mbit,")
	h.mustReach("c2", outside4)
	h.beyond().reached(true, h.place("c2", "down").IPAddress)
	h.network("back", "--subnet", "10.84.0.0/24")
	h.cli("network", "connect", "back", "c2")
	h.cli("network", "disconnect", "down", "c2")
	h.mustBeLimited("c2", "")
	if got, _ := h.in(h.containerPID("c2"), "ip", "-o", "link", "show", "type", "ifb"); got != "" {
		h.t.Errorf("disconnected, c2 still has\n%s", got)
	}
}

// linkAt returns the name of the container's link with that address.
func (h *dockerHost) linkAt(name, addr string) string {
	h.t.Helper()
	out, err := h.in(h.containerPID(name), "sh", "-c", "ip -o addr | grep -w "+addr)
	if err != nil {
		h.t.Fatalf("%s has no address %s: %v", name, addr, err)
	}
	return strings.Fields(out)[1]
}

// mustGetRules waits until there is a policy in the container with that in it.
func (h *dockerHost) mustGetRules(name, want string) {
	h.t.Helper()
	h.eventually("macvlan", func() error {
		if rules, err := h.in(h.containerPID(name), "nft", "list", "table", "netdev", "bowline"); err != nil || !strings.Contains(rules, want) {
			return fmt.Errorf("the policy of %s has no %s: %w\n%s", name, want, err, rules)
		}
		return nil
	})
}

// mustBeDenied waits until a ping is not answered.
func (h *dockerHost) mustBeDenied(name, addr string) {
	h.t.Helper()
	pid := h.containerPID(name)
	eventually(h.t, func() error {
		if h.pings(pid, addr) {
			return fmt.Errorf("%s reaches %s", name, addr)
		}
		return nil
	})
}

// mustDiffNothing waits until all is as it was left.
func (h *dockerHost) mustDiffNothing() {
	h.t.Helper()
	eventually(h.t, func() error {
		if out, err := h.inside(bin("bowline-macvlan"), "diff").CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}

// macvlanPorts: a container on the LAN has all its ports there, and the host
// publishes none for it. That is said, unless another network publishes them.
func macvlanPorts(h *dockerHost) {
	h.macvlan("lan", lan4...)
	h.network("web", "--subnet", "10.84.0.0/24")
	before := h.stable()
	out, err := h.tryCLI("run", "-d", "--name", "c1", "--network", "lan", "-p", "18080:80", "bb:1", "sleep", "1000")
	if err == nil || !strings.Contains(out, "publishes no ports") || !strings.Contains(out, "an address of their own") {
		h.t.Errorf("-p on a macvlan network: %v %s", err, out)
	}
	h.cli("rm", "-f", "c1")
	if d := diff(before, h.stable()); d != "" {
		h.t.Errorf("what was refused left:\n%s", d)
	}

	h.web("c2", "--network", "lan")
	h.beyond().mustSee(h.place("c2", "lan").IPAddress+":80", outside4)

	// With another network that publishes, which is the container's gateway.
	h.macvlan("zlan", "--subnet", "198.51.100.0/24", "-o", "isDefaultGateway=false")
	h.web("c3", "--network", "web", "-p", "18080:80")
	h.cli("network", "connect", "--ip", "198.51.100.77", "zlan", "c3")
	h.beyond().mustSee(host4+":18080", outside4)
	h.cli("restart", "-t", "0", "c3")
	eventually(h.t, func() error { _, err := h.beyond().get(host4 + ":18080"); return err })
	// One that would take over the default route, and with it the ports.
	out, err = h.tryCLI("network", "connect", "lan", "c3")
	if err == nil || !strings.Contains(out, "publishes no ports") {
		h.t.Errorf("a macvlan network becomes the gateway of a container with ports: %v %s", err, out)
	}
	// Docker 20.10 has revoked them by then, and keeps the network in mind.
	h.cli("stop", "-t", "0", "c3")
	_, _ = h.tryCLI("network", "disconnect", "-f", "lan", "c3")
	h.cli("start", "c3")
	eventually(h.t, func() error { _, err := h.beyond().get(host4 + ":18080"); return err })
}

// macvlanConflict: an address that another machine has is refused by the name of
// that machine's MAC, and not with acd=false.
func macvlanConflict(h *dockerHost) {
	h.macvlan("lan", dual...)
	before := h.stable()
	h.macvlan("alone", "--subnet", "203.0.113.0/24", "-o", "isDefaultGateway=false")
	h.sh("ip addr add 203.0.113.2/24 dev up0")
	if got, err := h.tryCLI("run", "--rm", "--network", "alone", "bb:1", "true"); err == nil || !strings.Contains(got, "203.0.113.2 is in use by "+h.sh("cat /sys/class/net/up0/address")) {
		h.t.Errorf("the host's own address: %v %s", err, got)
	}
	h.sh("ip addr del 203.0.113.2/24 dev up0")
	h.cli("network", "rm", "alone")
	out := h.beyond()
	_, mac, _ := strings.Cut(out.run("ip", "-o", "link", "show", "out0"), "link/ether ")
	mac, _, _ = strings.Cut(mac, " ")
	for _, tt := range []struct{ add, option, addr string }{
		{"192.0.2.55/24", "--ip", "192.0.2.55"}, {"2001:db8::55/64", "--ip6", "2001:db8::55"},
	} {
		out.run("ip", "addr", "add", tt.add, "dev", "out0", "nodad")
		got, err := h.tryCLI("run", "--rm", "--network", "lan", tt.option, tt.addr, "bb:1", "true")
		if err == nil || !strings.Contains(got, mac) || !strings.Contains(got, tt.addr) {
			h.t.Errorf("%s %s, which %s has: %v %s", tt.option, tt.addr, mac, err, got)
		}
		if d := diff(before, h.stable()); d != "" {
			h.t.Errorf("what was refused left:\n%s", d)
		}
		out.run("ip", "addr", "del", tt.add, "dev", "out0")
		h.cli("run", "--rm", "--network", "lan", tt.option, tt.addr, "bb:1", "true")
	}
	h.cli("network", "rm", "lan")
	h.macvlan("careless", append(lan4, "-o", "acd=false")...)
	out.run("ip", "addr", "add", "192.0.2.55/24", "dev", "out0")
	h.cli("run", "--rm", "--network", "careless", "--ip", "192.0.2.55", "bb:1", "true")
	out.run("ip", "addr", "del", "192.0.2.55/24", "dev", "out0")
	h.cli("network", "rm", "careless")

	// Addresses of ours: the one that somebody has is left alone for a while, and
	// the next try gets another.
	h.start("ipam", bin("bowline-ipam"), "serve")
	h.eventually("ipam", h.listens("/run/docker/plugins/bowline-ipam.sock"))
	defer h.stop("ipam", "TERM")
	h.macvlan("ours", append(lan4, "--ipam-driver", "bowline-ipam", "--ip-range", "192.0.2.128/28")...)
	out.run("ip", "addr", "add", "192.0.2.129/24", "dev", "out0")
	out.run("ip", "addr", "add", "192.0.2.128/24", "dev", "out0")
	defer out.run("ip", "addr", "flush", "dev", "out0", "to", "192.0.2.128/28")
	var err error
	for range 4 {
		var text string
		if text, err = h.tryCLI("run", "-d", "--name", "c1", "--stop-signal", "KILL", "--network", "ours", "bb:1", "sleep", "1000"); err == nil {
			break
		}
		if err = errors.New(text); !strings.Contains(text, mac) {
			break
		}
		h.cli("rm", "-f", "c1")
	}
	if err != nil {
		h.t.Fatalf("no try gets an address that is free: %v", err)
	}
	out.reached(true, h.place("c1", "ours").IPAddress)
	h.removeAll()
}
