package e2e

import (
	"slices"
	"strings"
)

func dockerReach(h *dockerHost) {
	h.network("plain")
	h.container("c1", "--network", "plain")
	h.container("c2", "--network", "plain", "--network-alias", "web")
	c2 := h.place("c2", "plain")
	h.mustReach("c1", c2.IPAddress, c2.Gateway, outside4)
	h.mustReachByName("c1", "c2")
	h.mustReachByName("c1", "web")

	h.network("dual", "--ipv6", "--subnet", "10.82.0.0/24", "--subnet", "fd82::/64")
	h.container("d1", "--network", "dual")
	h.container("d2", "--network", "dual")
	d2 := h.place("d2", "dual")
	h.mustReach("d1", d2.IPAddress, d2.GlobalIPv6Address, d2.Gateway, d2.IPv6Gateway, outside4)
	if !reference() { // Docker 20.10 does not translate IPv6
		h.mustReach("d1", outside6)
	}
	h.mustReachByName("d1", "d2")
}

func dockerOwnAddresses(h *dockerHost) {
	h.network("own", "--ipv6", "--subnet", "10.83.0.0/24", "--ip-range", "10.83.0.128/25", "--gateway", "10.83.0.9", "--aux-address", "a=10.83.0.130", "--subnet", "fd83::/64", "--gateway", "fd83::9")
	h.container("c1", "--network", "own", "--ip", "10.83.0.77", "--ip6", "fd83::77", "--mac-address", "02:00:00:00:00:77")
	got := h.place("c1", "own")
	if want := (place{"10.83.0.77", "fd83::77", "10.83.0.9", "fd83::9", "02:00:00:00:00:77"}); got != want {
		h.t.Errorf("Docker says %+v, want %+v", got, want)
	}
	link, err := h.in(h.containerPID("c1"), "ip", "addr", "show", "eth0")
	if err != nil {
		h.t.Fatalf("%v\n%s", err, link)
	}
	for _, want := range []string{"link/ether 02:00:00:00:00:77", "inet 10.83.0.77/24", "inet6 fd83::77/64"} {
		if !strings.Contains(link, want) {
			h.t.Errorf("no %s in\n%s", want, link)
		}
	}
	h.container("c2", "--network", "own")
	if c2 := h.place("c2", "own"); !strings.HasPrefix(c2.IPAddress, "10.83.0.1") || c2.MacAddress == "" {
		h.t.Errorf("c2 got %+v, want an address of the range and a MAC", c2)
	}
	h.mustReach("c2", "10.83.0.77", "fd83::77", outside4)
	h.cli("restart", "-t", "0", "c1") // a new endpoint with the same address
	h.mustReach("c2", "10.83.0.77", "fd83::77")
}

func dockerTwoNetworks(h *dockerHost) {
	h.network("one", "--ipv6", "--subnet", "10.84.0.0/24", "--subnet", "fd84::/64")
	h.network("two", "--ipv6", "--subnet", "10.85.0.0/24", "--subnet", "fd85::/64")
	h.container("c1", "--network", "one")
	h.container("c2", "--network", "two")
	h.mustReach("c1", outside4)
	h.mustReach("c2", outside4)
	c2 := h.place("c2", "two")
	h.mustNotReach("c1", c2.IPAddress)
	if !reference() { // Docker 20.10 keeps no IPv6 apart
		h.mustNotReach("c1", c2.GlobalIPv6Address)
	}
}

func dockerInternal(h *dockerHost) {
	h.network("inside", "--internal", "--subnet", "10.86.0.0/24")
	h.network("other", "--subnet", "10.87.0.0/24")
	h.container("c1", "--network", "inside")
	h.container("c2", "--network", "inside")
	h.container("c3", "--network", "other")
	c2, c3 := h.place("c2", "inside"), h.place("c3", "other")
	h.mustReach("c1", c2.IPAddress)
	h.mustReachByName("c1", "c2")
	pid := h.containerPID("c1")
	if routes, _ := h.in(pid, "ip", "route", "show", "default"); routes != "" {
		h.t.Errorf("a container of an internal network has a default route: %s", routes)
	}
	if links, _ := h.in(pid, "ip", "-o", "link"); strings.Count(links, "\n") != 1 { // lo and eth0
		h.t.Errorf("a container of an internal network has more links than eth0:\n%s", links)
	}
	// One that helps itself to a route gets no further.
	if out, err := h.in(pid, "ip", "route", "add", "default", "via", "10.86.0.1"); err != nil {
		h.t.Fatalf("%v\n%s", err, out)
	}
	h.mustNotReach("c1", outside4, c3.IPAddress)
}

func dockerOptions(h *dockerHost) {
	h.network("tuned", "--subnet", "10.88.0.0/24", "-o", "com.docker.network.driver.mtu=1400", "-o", "com.docker.network.bridge.name=brtuned", "-o", "com.docker.network.bridge.enable_icc=false", "-o", "com.docker.network.container_iface_prefix=net")
	h.container("c1", "--network", "tuned")
	h.container("c2", "--network", "tuned")
	link, err := h.in(h.containerPID("c1"), "ip", "link", "show", "net0")
	if err != nil || !strings.Contains(link, "mtu 1400") {
		h.t.Errorf("want link net0 with MTU 1400, got %v\n%s", err, link)
	}
	if out, err := h.try("ip", "link", "show", "brtuned"); err != nil {
		h.t.Errorf("no bridge of the name that was asked for: %s", out)
	}
	h.mustReach("c1", outside4)
	h.mustNotReach("c1", h.place("c2", "tuned").IPAddress)
	if reference() {
		return
	}
	h.network("bare", "--subnet", "10.89.0.0/24", "-o", "isGateway=false")
	h.container("c3", "--network", "bare")
	h.container("c4", "--network", "bare")
	h.mustReach("c3", h.place("c4", "bare").IPAddress)
	if routes, _ := h.in(h.containerPID("c3"), "ip", "route", "show", "default"); routes != "" {
		h.t.Errorf("a container without gateway has a default route: %s", routes)
	}
}

func dockerWrongOptions(h *dockerHost) {
	if reference() {
		h.t.Skip("messages are ours")
	}
	for _, tt := range []struct{ option, want string }{
		{"mut=1400", "mtu"},
		{"mtu=jumbo", "68 to 65535"},
		{"com.docker.network.driver.mtu=jumbo", "68 to 65535"},
	} {
		out, err := h.tryCLI("network", "create", "-d", "bowline-bridge", "-o", tt.option, "wrong")
		if err == nil || !strings.Contains(out, tt.want) || !strings.Contains(out, "NetworkDriver.CreateNetwork: network") {
			h.t.Errorf("-o %s: %v %s; want a message that says %q", tt.option, err, out, tt.want)
		}
	}
}

func dockerConnect(h *dockerHost) {
	h.network("one", "--subnet", "10.84.0.0/24")
	h.network("two", "--subnet", "10.85.0.0/24")
	h.container("c1", "--network", "one")
	h.container("c2", "--network", "two")
	h.cli("network", "connect", "--ip", "10.85.0.50", "--alias", "both", "two", "c1")
	h.mustReach("c2", "10.85.0.50")
	h.mustReachByName("c2", "both")
	h.mustReach("c1", h.place("c2", "two").IPAddress, outside4)
	h.cli("network", "disconnect", "two", "c1")
	h.mustNotReach("c2", "10.85.0.50")
	h.mustReach("c1", outside4)
	if links, _ := h.in(h.containerPID("c1"), "ip", "-o", "link"); strings.Contains(links, "eth1") {
		h.t.Errorf("disconnected, the link is still there:\n%s", links)
	}
}

// dockerIPAM has the plugin hand out the addresses too.
func dockerIPAM(h *dockerHost) {
	if reference() {
		h.t.Skip("the allocator is ours")
	}
	ours := func(name string, args ...string) {
		h.t.Helper()
		h.network(name, append([]string{"--ipam-driver", "bowline-bridge"}, args...)...)
	}
	// A process of its own for addresses alone knows the same pools.
	h.start("ipam", bin("bowline-ipam"), "serve")
	h.eventually("ipam", h.listens("/run/docker/plugins/bowline-ipam.sock"))
	h.network("auto", "--ipam-driver", "bowline-ipam")
	ours("net", "--ipv6", "--subnet", "10.95.0.0/24", "--ip-range", "10.95.0.128/25", "--gateway", "10.95.0.1", "--aux-address", "a=10.95.0.128", "--subnet", "fd95::/64")
	h.container("c1", "--network", "net")
	h.container("c2", "--network", "net", "--ip", "10.95.0.77", "--ip6", "fd95::77")
	h.container("c3", "--network", "auto")
	if c1 := h.place("c1", "net"); c1.IPAddress != "10.95.0.129" || c1.GlobalIPv6Address == "" {
		h.t.Errorf("c1 got %+v, want the first of the range that is not reserved", c1)
	}
	h.mustReach("c1", "10.95.0.77", "fd95::77", "10.95.0.1", outside4, outside6)
	h.mustReach("c3", outside4)
	duplicates := func() {
		h.t.Helper()
		if out, err := h.tryCLI("run", "--rm", "--network", "net", "--ip", "10.95.0.77", "bb:1", "true"); err == nil || !strings.Contains(out, "10.95.0.77 of 10.95.0.0/24 is taken") {
			h.t.Errorf("a second container with 10.95.0.77: %v %s", err, out)
		}
		if out, err := h.tryCLI("network", "create", "-d", "bowline-bridge", "--ipam-driver", "bowline-bridge", "--subnet", "10.95.0.0/24", "again"); err == nil || !strings.Contains(out, "which a network has already") {
			h.t.Errorf("a second network with 10.95.0.0/24: %v %s", err, out)
		}
	}
	duplicates()
	for _, signal := range []string{"TERM", "KILL"} {
		h.stop("dockerd", signal)
		h.stop("plugin", signal)
		h.startPlugin()
		h.startDockerd()
		h.cli("start", "c1", "c2")
		h.mustReach("c1", "10.95.0.77", outside4)
		duplicates()
	}
	h.removeAll()
	if left := h.records(); slices.ContainsFunc(left, func(r string) bool { return strings.Contains(r, "10.95") }) {
		h.t.Errorf("records left: %v", left)
	}
	ours("net", "--subnet", "10.95.0.0/24") // free again
	h.stop("ipam", "TERM")
}
