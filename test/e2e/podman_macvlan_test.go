package e2e

import (
	"strings"
	"testing"
)

// TestPodmanMacvlan puts containers on the host's LAN by Podman with its CNI
// backend, see TestPodman.
func TestPodmanMacvlan(t *testing.T) {
	t.Parallel()
	h := &podmanHost{newMachine(t, "podman", "conmon", "crun", "busybox")}
	h.write("/etc/containers/containers.conf.d/test.conf", "[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\ninfra_image = \"localhost/pause:1\"\nstop_timeout = 0\n")
	g := h.guide("podman.md", "More networks", "Containers", "What to know")
	g.run["apt-get install podman crun"] = func() { h.sh("podman --version; crun --version") }
	g.follow(t, "Install")
	h.sh("podman load -i " + h.archive("localhost/pause:1", "docker.io/library/busybox:1"))
	lan := func(name, replace string) {
		h.sh(`sed 's/"lan"/"` + name + `"/; ` + replace + `' ` + h.dir + `/clone/docs/examples/lan.conflist >/etc/cni/net.d/30-` + name + `.conflist`)
	}
	for _, sub := range []struct {
		name string
		f    func(h *podmanHost)
	}{
		{"guide", func(h *podmanHost) {
			g.follow(h.t, lanSection)
			h.sh("rm -f /etc/cni/net.d/20-lan.conflist")
			lan("lan", "")
		}},
		{"addresses", podmanMacvlanAddresses},
		{"two networks", func(h *podmanHost) {
			lan("second", `s/"isDefaultGateway": true,//; s/192.0.2/198.51.100/g; s/2001:db8:/2001:db8:1:/g`)
			podmanMacvlanTwo(h)
			h.sh("rm /etc/cni/net.d/30-second.conflist")
		}},
		{"pod", podmanMacvlanPod},
		{"reload", podmanMacvlanReload},
	} {
		if !h.scene(t, sub.name, func() snapshot { return h.snapshot().withoutMarks() }, func() { sub.f(h) }, func() {
			h.removeAll()
			h.sh("bowline-bridge prune; bowline-macvlan prune")
		}) {
			return
		}
	}
}

// podmanMacvlanAddresses: what --ip, --ip6 and --mac-address ask for, and who
// reaches it.
func podmanMacvlanAddresses(h *podmanHost) {
	h.container("a", "--network", "lan", "--ip", "192.0.2.177", "--ip6", "2001:db8::b7", "--mac-address", "02:00:00:00:00:77")
	h.container("b", "--network", "lan")
	got := h.place("a", "lan")
	if want := (place{"192.0.2.177", "2001:db8::b7", outside4, outside6, "02:00:00:00:00:77"}); got != want {
		h.t.Errorf("podman says %+v, want %+v", got, want)
	}
	b := h.place("b", "lan")
	h.mustReach("a", b.IPAddress, b.GlobalIPv6Address, outside4, outside6, host4, host6)
	h.beyond().reached(true, "192.0.2.177", "2001:db8::b7", b.IPAddress)
	h.itself().reached(true, "192.0.2.177", "2001:db8::b7", b.IPAddress)
	before := h.snapshot()
	if out, err := h.tryPodman("run", "--rm", "--network", "lan", "--ip", "192.0.2.177", "busybox:1", "true"); err == nil || !strings.Contains(out, "192.0.2.177") {
		h.t.Errorf("an address that is taken: %v %s", err, out)
	}
	if d := diff(before, h.snapshot()); d != "" {
		h.t.Errorf("a refused container leaves\n%s", d)
	}
	h.beyond().run("ip", "addr", "add", "192.0.2.180/25", "dev", "out0")
	out, err := h.tryPodman("run", "--rm", "--network", "lan", "--ip", "192.0.2.180", "busybox:1", "true")
	if err == nil || !strings.Contains(out, "192.0.2.180 is in use by") {
		h.t.Errorf("an address that somebody on the LAN has: %v %s", err, out)
	}
	h.beyond().run("ip", "addr", "del", "192.0.2.180/25", "dev", "out0")
	if d := diff(before.withoutRecords(), h.snapshot().withoutRecords()); d != "" { // it is in quarantine
		h.t.Errorf("a refused container leaves\n%s", d)
	}
	h.podman("restart", "-t", "0", "a")
	if now := h.place("a", "lan"); now != got {
		h.t.Errorf("after a restart podman says %+v, want %+v", now, got)
	}
	h.beyond().reached(true, "192.0.2.177")
	h.removeAll()
	h.sh("rm -rf /run/bowline/ipam")
}

// podmanMacvlanTwo: with a bridge network and another macvlan one on the same
// parent, from the start, and put on and taken off live.
func podmanMacvlanTwo(h *podmanHost) {
	h.beyond().run("ip", "addr", "add", "198.51.100.2/24", "dev", "out0")
	defer h.beyond().run("ip", "addr", "del", "198.51.100.2/24", "dev", "out0")
	h.container("both", "--network", "bowline", "--network", "lan")
	h.container("lan", "--network", "lan", "--network", "second")
	h.container("bridge", "--network", "bowline")
	lan := h.place("lan", "lan")
	h.mustReach("both", h.place("bridge", "bowline").IPAddress, lan.IPAddress, lan.GlobalIPv6Address, outside4)
	h.mustReach("lan", "198.51.100.2", outside4)
	h.podman("network", "connect", "--ip", "198.51.100.150", "second", "both")
	h.mustReach("lan", "198.51.100.150")
	h.beyond().reached(true, "198.51.100.150", h.place("both", "lan").IPAddress)
	h.podman("network", "disconnect", "second", "both")
	h.beyond().reached(false, "198.51.100.150")
	h.mustReach("both", lan.IPAddress, outside4)
}

// podmanMacvlanPod: containers of a pod share its place on the LAN.
func podmanMacvlanPod(h *podmanHost) {
	h.podman("pod", "create", "--name", "p", "--network", "lan", "--ip", "192.0.2.188")
	h.container("one", "--pod", "p")
	h.container("two", "--pod", "p")
	h.beyond().reached(true, "192.0.2.188")
	h.itself().reached(true, "192.0.2.188")
	if one, two := h.podman("exec", "one", "ip", "addr"), h.podman("exec", "two", "ip", "addr"); one != two {
		h.t.Errorf("containers of a pod have\n%s\nand\n%s", one, two)
	}
	h.podman("pod", "stop", "-t", "0", "p")
	h.podman("pod", "start", "p")
	h.mustReach("one", outside4, outside6, host4)
}

// podmanMacvlanReload: "network reload" mends what a flush took, with the
// addresses as they were.
func podmanMacvlanReload(h *podmanHost) {
	h.container("a", "--network", "lan")
	a := h.place("a", "lan")
	h.sh("nft flush ruleset; for l in $(ip -o link show type macvlan | cut -d: -f2 | cut -d@ -f1); do ip link del $l; done")
	h.itself().reached(false, a.IPAddress)
	h.podman("network", "reload", "-a")
	if now := h.place("a", "lan"); now.IPAddress != a.IPAddress || now.GlobalIPv6Address != a.GlobalIPv6Address {
		h.t.Errorf("a had %+v and has %+v", a, now)
	}
	h.itself().reached(true, a.IPAddress, a.GlobalIPv6Address)
	h.beyond().reached(true, a.IPAddress, a.GlobalIPv6Address)
	h.mustReach("a", outside4, outside6, host4)
}
