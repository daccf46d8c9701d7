package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The parent of the tests' macvlan networks is the host's link to the machine
// beyond it, which is their LAN, and its gateway.
var (
	lan4 = []string{"--subnet", "192.0.2.0/24", "--gateway", outside4, "--aux-address", "host=" + host4}
	lan6 = []string{"--ipv6", "--subnet", "2001:db8::/64", "--gateway", outside6, "--aux-address", "host6=" + host6}
	dual = slices.Concat(lan4, lan6)
)

// TestDockerMacvlan drives one dockerd through the life of containers on the
// physical network. Its subtests run in turn; each must leave the host as it was.
func TestDockerMacvlan(t *testing.T) {
	t.Parallel()
	if reference() {
		t.Skip("the networks are ours")
	}
	h := newDockerHost(t)
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(h.dir, "macvlan.log"))
			for line := range strings.Lines(string(log)) { // all that went wrong, not only at the end
				if strings.Contains(line, "level=WARN") || strings.Contains(line, "level=ERROR") {
					t.Log(line)
				}
			}
			t.Logf("macvlan:\n%s\nplugin:\n%s\ndockerd:\n%s", h.log("macvlan"), h.log("plugin"), h.log("dockerd"))
		}
	})
	g := h.followInstall("Networks", "Ports", "Addresses of ours")
	g.run["systemctl enable --now bowline-macvlan.socket bowline-macvlan.service"] = h.startMacvlan
	g.follow(t, lanSection)
	h.settle()
	for _, sub := range []struct {
		name string
		f    func(h *dockerHost)
	}{
		{"reach", macvlanReach},
		{"own addresses", macvlanOwnAddresses},
		{"options", macvlanOptions},
		{"internal", macvlanInternal},
		{"host access", macvlanHostAccess},
		{"two networks", macvlanTwoNetworks},
		{"limits and policy", macvlanLimits},
		{"ports", macvlanPorts},
		{"conflict", macvlanConflict},
		{"parent gone", macvlanParentGone},
		{"plugin killed", macvlanPluginKilled},
		{"reboot", macvlanReboot},
		{"dockerd ends", macvlanDockerEnds},
		{"live restore", macvlanLiveRestore},
	} {
		if !h.scene(t, sub.name, h.stable, func() { sub.f(h) }, h.removeAll) {
			return
		}
	}
}

// startMacvlan starts the plugin and waits until it answers.
func (h *dockerHost) startMacvlan() {
	h.t.Helper()
	h.start("macvlan", bin("bowline-macvlan"), "serve", "-log", "debug")
	h.eventually("macvlan", h.listens("/run/docker/plugins/bowline-macvlan.sock"))
}

// macvlan creates a network on the LAN.
func (h *dockerHost) macvlan(name string, args ...string) {
	h.t.Helper()
	h.cli(slices.Concat([]string{"network", "create", "-d", "bowline-macvlan", "-o", "parent=up0"}, args, []string{name})...)
}

// reached fails the test unless all pings from s to a container are answered, or
// none is.
func (s *sandbox) reached(want bool, addrs ...string) {
	s.h.t.Helper()
	for _, a := range addrs {
		if got := s.reaches(a); got != want {
			s.h.t.Errorf("%s reaches %s: %v, want %v", s.id, a, got, want)
		}
	}
}

// macvlanReach: the LAN and containers reach each other, the host does not.
func macvlanReach(h *dockerHost) {
	h.macvlan("lan", dual...)
	h.container("c1", "--network", "lan")
	h.container("c2", "--network", "lan")
	c1, c2 := h.place("c1", "lan"), h.place("c2", "lan")
	h.mustReach("c1", c2.IPAddress, c2.GlobalIPv6Address, outside4, outside6)
	h.mustReachByName("c1", "c2")
	h.beyond().reached(true, c1.IPAddress, c1.GlobalIPv6Address, c2.IPAddress)
	h.mustNotReach("c1", host4, host6)
	h.itself().reached(false, c1.IPAddress, c1.GlobalIPv6Address)
	for _, want := range []string{"default via " + outside4, "default via " + outside6} {
		if routes, _ := h.in(h.containerPID("c1"), "sh", "-c", "ip route; ip -6 route"); !strings.Contains(routes, want) {
			h.t.Errorf("no %s among\n%s", want, routes)
		}
	}
}

// macvlanOwnAddresses: those that were asked for, which stay over a restart.
func macvlanOwnAddresses(h *dockerHost) {
	h.macvlan("own", append(dual, "--ip-range", "192.0.2.128/25", "--aux-address", "router=192.0.2.128", "--aux-address", "printer=192.0.2.129")...)
	h.container("c1", "--network", "own", "--ip", "192.0.2.77", "--ip6", "2001:db8::77", "--mac-address", "02:00:00:00:00:77")
	h.container("c2", "--network", "own")
	want := place{"192.0.2.77", "2001:db8::77", outside4, outside6, "02:00:00:00:00:77"}
	if got := h.place("c1", "own"); got != want {
		h.t.Errorf("Docker says %+v, want %+v", got, want)
	}
	if got := h.place("c2", "own").IPAddress; got != "192.0.2.130" {
		h.t.Errorf("c2 has %s, want 192.0.2.130, the first of the range that is not another's", got)
	}
	before := h.place("c2", "own")
	h.mustReach("c2", "192.0.2.77", "2001:db8::77")
	h.beyond().reached(true, before.IPAddress)
	h.cli("restart", "-t", "0", "c1", "c2")
	if got := h.place("c1", "own"); got != want {
		h.t.Errorf("after a restart Docker says %+v, want %+v", got, want)
	}
	if got := h.place("c2", "own"); got.IPAddress != before.IPAddress || got.MacAddress != before.MacAddress {
		h.t.Errorf("after a restart c2 has %+v, want the address and MAC of %+v", got, before)
	}
	for _, name := range []string{"c1", "c2"} {
		p := h.place(name, "own")
		link, _ := h.in(h.containerPID(name), "ip", "addr", "show", "eth0")
		for _, want := range []string{"link/ether " + p.MacAddress, "inet " + p.IPAddress + "/24", "inet6 " + p.GlobalIPv6Address + "/64"} {
			if !strings.Contains(link, want) {
				h.t.Errorf("%s has no %s in\n%s", name, want, link)
			}
		}
	}
	h.beyond().reached(true, "192.0.2.77", before.IPAddress)

	// Of another network the same address has another MAC. Nothing but what the
	// container is announced by tells the LAN.
	h.beyond().reached(true, before.IPAddress, before.GlobalIPv6Address)
	h.removeAll()
	h.macvlan("other", dual...)
	h.container("c3", "--network", "other", "--ip", before.IPAddress, "--ip6", before.GlobalIPv6Address)
	mac := h.place("c3", "other").MacAddress
	if mac == before.MacAddress {
		h.t.Errorf("the MAC is %s again", mac)
	}
	for _, a := range []string{before.IPAddress, before.GlobalIPv6Address} {
		eventually(h.t, func() error {
			if known := h.beyond().run("ip", "neigh", "show", a); !strings.Contains(known, mac) {
				return fmt.Errorf("the LAN believes %s, want %s", known, mac)
			}
			return nil
		})
	}
}

// macvlanOptions: Docker's own keys, and ours.
func macvlanOptions(h *dockerHost) {
	h.macvlan("tuned", append(lan4, "-o", "macvlan_mode=private", "-o", "com.docker.network.driver.mtu=1400", "-o", "com.docker.network.container_iface_prefix=lan")...)
	h.container("c1", "--network", "tuned")
	h.container("c2", "--network", "tuned")
	link, err := h.in(h.containerPID("c1"), "ip", "-d", "link", "show", "lan0")
	if err != nil || !strings.Contains(link, "mtu 1400") || !strings.Contains(link, "macvlan mode private") {
		h.t.Errorf("want a private macvlan lan0 with MTU 1400: %v\n%s", err, link)
	}
	h.mustReach("c1", outside4)
	h.mustNotReach("c1", h.place("c2", "tuned").IPAddress)
	for _, tt := range []struct{ option, want string }{
		{"mod=bridge", "mode"},
		{"macvlan_mode=bridges", "bridge"},
		{"mtu=9000", "at most 1500"},
		{"parent=nosuch", "want a link of the host"},
		{"ipvlan_mode=l2", "ipvlan_mode"},
	} {
		out, err := h.tryCLI("network", "create", "-d", "bowline-macvlan", "-o", tt.option, "--subnet", "10.77.0.0/24", "wrong")
		if err == nil || !strings.Contains(out, tt.want) {
			h.t.Errorf("-o %s: %v %s; want a message that says %q", tt.option, err, out, tt.want)
		}
	}
}

// macvlanInternal: no default route, and no other link.
func macvlanInternal(h *dockerHost) {
	h.macvlan("inside", append(lan4, "--internal")...)
	h.container("c1", "--network", "inside")
	h.container("c2", "--network", "inside")
	h.mustReach("c1", h.place("c2", "inside").IPAddress)
	pid := h.containerPID("c1")
	if routes, _ := h.in(pid, "ip", "route", "show", "default"); routes != "" {
		h.t.Errorf("a container of an internal network has a default route: %s", routes)
	}
	if links, _ := h.in(pid, "ip", "-o", "link"); strings.Count(links, "\n") != 1 { // lo and eth0
		h.t.Errorf("a container of an internal network has more links than eth0:\n%s", links)
	}
}

// macvlanHostAccess: the host and its containers, and still the LAN.
func macvlanHostAccess(h *dockerHost) {
	h.macvlan("lan", append(dual, "-o", "host-access=true")...)
	h.container("c1", "--network", "lan")
	h.container("c2", "--network", "lan")
	c1, c2 := h.place("c1", "lan"), h.place("c2", "lan")
	h.itself().reached(true, c1.IPAddress, c1.GlobalIPv6Address, c2.IPAddress)
	h.mustReach("c1", host4, host6, outside4, outside6, c2.IPAddress, c2.GlobalIPv6Address)
	h.beyond().reached(true, c1.IPAddress, c1.GlobalIPv6Address, host4, host6)
	h.inContainer("c1").serve("[::]:80")
	h.itself().mustBeSeen(c1.IPAddress+":80", host4)
	h.itself().mustBeSeen(at(c1.GlobalIPv6Address, "80"), host6)
	h.cli("restart", "-t", "0", "c1")
	h.itself().reached(true, c1.IPAddress, c2.GlobalIPv6Address)
	h.cli("rm", "-f", "c1")
	h.itself().reached(true, c2.IPAddress)
	h.cli("rm", "-f", "c2")
	if left := h.sh("ip -o link show type macvlan; nft list ruleset 2>/dev/null | grep -o 'bwh[a-z0-9]*' || true"); left != "" {
		h.t.Errorf("left of host access without containers:\n%s", left)
	}
}
