package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// macvlanParentGone: the parent is deleted and made again under running
// containers, with and without host access.
func macvlanParentGone(h *dockerHost) {
	h.sh("ip link add up1 type veth peer name lan1; ip link set up1 up; ip addr add 198.51.100.1/24 dev up1; ip addr add 2001:db8:1::1/64 dev up1 nodad")
	mac := h.sh("cat /sys/class/net/up1/address")
	outside := filepath.Join(h.dir, "netns", "outside")
	h.run("ip", "link", "set", "lan1", "netns", outside)
	plug := func() {
		for _, args := range []string{"addr add 198.51.100.2/24 dev lan1", "addr add 2001:db8:1::2/64 dev lan1 nodad", "link set lan1 up"} {
			h.beyond().run("ip", strings.Fields(args)...)
		}
	}
	plug()
	defer h.sh("ip link del up1")
	h.cli("network", "create", "-d", "bowline-macvlan", "-o", "parent=up1", "--ipv6", "--subnet", "198.51.100.0/24", "--gateway", "198.51.100.2", "--subnet", "2001:db8:1::/64", "--gateway", "2001:db8:1::2", "--aux-address", "host=198.51.100.1", "--aux-address", "host6=2001:db8:1::1",
		"-o", "host-access=true", "-o", "egressRate=50mbit", "-o", "policy=deny egress icmp to "+outside4, "lan")
	h.container("c1", "--network", "lan")
	h.mustBeLimited("c1", "eth 50Mbit,")
	c1 := h.place("c1", "lan")
	works := func() {
		h.t.Helper()
		h.mustGetRules("c1", outside4)
		h.mustReach("c1", "198.51.100.2", "2001:db8:1::2", "198.51.100.1", "2001:db8:1::1")
		h.mustBeLimited("c1", "eth 50Mbit,")
		h.beyond().reached(true, c1.IPAddress, c1.GlobalIPv6Address)
		h.itself().reached(true, c1.IPAddress, c1.GlobalIPv6Address)
		routes, _ := h.in(h.containerPID("c1"), "sh", "-c", "ip route; ip -6 route")
		eth := h.linkAt("c1", c1.IPAddress)
		for _, want := range []string{"default via 198.51.100.2 dev " + eth, "default via 2001:db8:1::2 dev " + eth} {
			if !strings.Contains(routes, want) {
				h.t.Errorf("no %s among\n%s", want, routes)
			}
		}
	}
	works()
	for range 2 {
		h.sh("ip link del up1")
		if out, err := h.inside(bin("bowline-macvlan"), "diff").CombinedOutput(); err == nil || !strings.Contains(string(out), "up1") {
			h.t.Errorf("diff without the parent: %v %s", err, out)
		}
		h.run("ip", "link", "add", "up1", "address", mac, "type", "veth", "peer", "name", "lan1", "netns", outside)
		h.sh("ip addr add 198.51.100.1/24 dev up1; ip addr add 2001:db8:1::1/64 dev up1 nodad; ip link set up1 up")
		plug()
		h.mustDiffNothing()
		works()
	}
	// dockerd takes out what it put in, though the link is another one by now.
	h.cli("network", "disconnect", "lan", "c1")
	h.cli("network", "connect", "lan", "c1")
	h.mustBeLimited("c1", "eth 50Mbit,")
	works()
}

// macvlanPluginKilled kills the plugin under running containers: what it made
// works on, and the one that comes after it keeps it so.
func macvlanPluginKilled(h *dockerHost) {
	h.macvlan("lan", append(dual, "-o", "host-access=true", "-o", "egressRate=50mbit", "-o", "policy=deny egress tcp 81")...)
	for _, name := range []string{"c1", "c2", "c3"} {
		h.container(name, "--network", "lan")
		h.mustBeLimited(name, "eth 50Mbit,")
	}
	c1, c2 := h.place("c1", "lan"), h.place("c2", "lan")
	h.stop("macvlan", "KILL")
	h.mustReach("c1", c2.IPAddress, outside4, outside6, host4, host6)
	h.itself().reached(true, c1.IPAddress, c2.GlobalIPv6Address)
	// All that it keeps right is broken meanwhile.
	h.sh("nft delete table netdev bowline")
	h.sh("for l in $(ip -o link show type macvlan | grep -o 'bwh[a-z0-9]*' | sort -u); do ip link del $l; done")
	for _, harm := range []string{"nft delete table netdev bowline", "tc qdisc del dev eth0 root", "ip link set eth0 down"} {
		if out, err := h.in(h.containerPID("c1"), "sh", "-c", harm); err != nil {
			h.t.Fatalf("%s: %v %s", harm, err, out)
		}
	}
	pid, removed := h.containerPID("c3"), make(chan error, 1)
	go func() { _, err := h.tryCLI("rm", "-f", "c3"); removed <- err }()
	h.eventually("dockerd", func() error {
		if h.inside("kill", "-0", strconv.Itoa(pid)).Run() == nil {
			return errors.New("c3 runs on")
		}
		return nil
	})
	h.startMacvlan()
	if err := <-removed; err != nil {
		h.t.Errorf("rm -f of a container that ended without the plugin: %v", err)
	}
	h.mustBeLimited("c1", "eth 50Mbit,")
	h.mustGetRules("c1", "tcp")
	h.eventually("macvlan", func() error { // not in the first 15 s of a container
		if !h.pings(h.containerPID("c1"), c2.IPAddress) {
			return errors.New("c1 does not come back")
		}
		return nil
	})
	h.mustDiffNothing()
	h.mustReach("c1", c2.IPAddress, outside4, outside6, host4, host6)
	h.itself().reached(true, c1.IPAddress, c2.GlobalIPv6Address)
	h.cli("restart", "-t", "0", "c2")
	h.mustReach("c1", c2.IPAddress)
}

// macvlanReboot takes away what a reboot takes.
func macvlanReboot(h *dockerHost) {
	h.macvlan("lan", append(lan4, "-o", "host-access=true")...)
	h.container("c1", "--network", "lan", "--restart", "always", "--ip", "192.0.2.77")
	h.stop("dockerd", "TERM")
	h.stop("macvlan", "KILL")
	h.sh("for l in $(ip -o link show type macvlan | cut -d: -f2 | cut -d@ -f1); do ip link del $l; done; nft flush ruleset")
	if err := os.RemoveAll(filepath.Join(h.dir, "run", "endpoints")); err != nil {
		h.t.Fatal(err)
	}
	h.startMacvlan()
	h.startDockerd()
	h.mustRunAgain("c1")
	h.mustReach("c1", outside4, host4)
	h.beyond().reached(true, "192.0.2.77")
	h.settle()
}

// macvlanDockerEnds: dockerd ends, or is killed, and its containers with it.
func macvlanDockerEnds(h *dockerHost) {
	h.macvlan("lan", append(lan4, "-o", "host-access=true")...)
	h.container("c1", "--network", "lan", "--restart", "always")
	h.container("c2", "--network", "lan")
	for _, signal := range []string{"TERM", "KILL"} {
		h.stop("dockerd", signal)
		h.startDockerd()
		h.mustRunAgain("c1")
		h.cli("start", "c2")
		h.mustReach("c1", h.place("c2", "lan").IPAddress, outside4, host4)
		h.mustReachByName("c1", "c2")
	}
}

// macvlanLiveRestore restarts dockerd, and kills it, under containers that run on.
func macvlanLiveRestore(h *dockerHost) {
	h.live = true
	h.stop("dockerd", "TERM")
	h.startDockerd()
	h.macvlan("lan", append(dual, "-o", "host-access=true", "-o", "egressRate=50mbit")...)
	h.container("c1", "--network", "lan")
	h.container("c2", "--network", "lan")
	h.mustBeLimited("c1", "eth 50Mbit,")
	pid, c2 := h.containerPID("c1"), h.place("c2", "lan")
	for _, signal := range []string{"TERM", "KILL"} {
		h.stop("dockerd", signal)
		if !h.pings(pid, c2.IPAddress) || !h.pings(pid, outside4) {
			h.t.Errorf("after SIG%s of dockerd: no traffic", signal)
		}
		h.startDockerd()
		if now := h.containerPID("c1"); now != pid {
			h.t.Errorf("after SIG%s of dockerd: container was started anew", signal)
		}
		h.mustReach("c1", c2.IPAddress, outside4, host4, host6)
		h.mustBeLimited("c1", "eth 50Mbit,")
	}
	h.cli("restart", "-t", "0", "c2")
	h.mustReach("c1", h.place("c2", "lan").IPAddress)
	// Both end at once, and a container with them.
	h.stop("dockerd", "KILL")
	h.stop("macvlan", "KILL")
	h.sh(fmt.Sprint("kill -9 ", pid))
	h.startMacvlan()
	h.startDockerd()
	h.cli("start", "c1")
	h.mustReach("c1", c2.IPAddress, outside4, host4)
	h.removeAll()
	h.live = false
	h.stop("dockerd", "TERM")
	h.startDockerd()
}
