package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

// lanSection is the one of the guides that the tests with macvlan follow.
const lanSection = "On the physical network"

// TestContainerdMacvlan puts pods on the host's LAN by the distribution's
// containerd.
func TestContainerdMacvlan(t *testing.T) {
	t.Parallel()
	testContainerdMacvlan(t, "", "containerd 1.6, from Debian 12", "containerd 2")
}

// TestContainerd2Macvlan does by containerd 2, see TestContainerd2.
func TestContainerd2Macvlan(t *testing.T) {
	t.Parallel()
	dir := os.Getenv("BOWLINE_E2E_CONTAINERD")
	if dir == "" {
		netnstest.Skip(t, "needs BOWLINE_E2E_CONTAINERD, a directory with containerd 2")
	}
	testContainerdMacvlan(t, dir, "containerd 2", "containerd 1.6, from Debian 12")
}

func testContainerdMacvlan(t *testing.T, dir, install, other string) {
	h := newCRIHost(t, dir)
	g := h.guide("containerd.md", other, "The first pod", "What to know")
	g.run["apt-get install containerd containernetworking-plugins"] = func() { h.sh("ls /usr/lib/cni/loopback") }
	g.run["systemctl restart containerd"] = func() {
		h.startContainerd()
		h.loadImages()
	}
	g.run["crictl pull docker.io/library/busybox:1"] = func() {}
	g.follow(t, install)
	for _, sub := range []struct {
		name string
		f    func(h *criHost)
	}{
		{"second interface", criSecondInterface},
		{"device", criDevice},
		{"guide", func(h *criHost) { criMacvlanGuide(h, g) }},
		{"reach", criMacvlanReach},
		{"bandwidth", criMacvlanBandwidth},
		{"conflict", criMacvlanConflict},
		{"restart", criMacvlanRestart},
		{"namespace gone", criMacvlanNamespaceGone},
		{"status", criMacvlanStatus},
	} {
		if !h.scene(t, sub.name, func() snapshot { return h.snapshot().withoutMarks() }, func() { sub.f(h) }, func() {
			h.removeAll()
			h.sh("bowline-bridge prune; bowline-macvlan prune")
		}) {
			return
		}
	}
}

// beside has containerd give each pod an interface of a second network, that of
// the conflist, while f runs: of as many as it is told to read.
func (h *criHost) beside(conflist string, f func()) {
	h.t.Helper()
	h.write("/etc/cni/net.d/20-second.conflist", conflist)
	h.sh(`cd /etc/containerd && cp config.toml config.bak && if grep -q 'use_internal_loopback' config.toml; then
	sed -i "/use_internal_loopback/a max_conf_num = 2" config.toml
elif grep -q 'bin_dir' config.toml; then sed -i '/bin_dir/a max_conf_num = 2' config.toml
else printf '[plugins."io.containerd.grpc.v1.cri".cni]\nbin_dir = "/usr/lib/cni"\nmax_conf_num = 2\n' >>config.toml; fi`)
	h.stop("containerd", "TERM")
	h.startContainerd()
	f()
	h.removeAll()
	h.sh("rm /etc/cni/net.d/20-second.conflist; cd /etc/containerd; mv config.bak config.toml")
	h.stop("containerd", "TERM")
	h.startContainerd()
}

// criSecondInterface: a pod is on its network and on the LAN.
func criSecondInterface(h *criHost) {
	example := h.sh(`sed 's/"isDefaultGateway": true,//' ` + h.dir + `/clone/docs/examples/lan.conflist`)
	h.beside(example, func() {
		a, b := h.pod(podConfig("a")), h.pod(podConfig("b"))
		if len(a.addrs) != 2 || !strings.HasPrefix(a.addrs[0], "10.1.0.") {
			h.t.Errorf("containerd says that the pod has %q, want its addresses of the first network", a.addrs)
		}
		lan := a.linkAddr("eth1", "192.0.2.")
		a.mustReach(append(b.addrs, outside4, outside6, host4, host6, b.linkAddr("eth1", "192.0.2."))...)
		h.beyond().reached(true, lan, a.linkAddr("eth1", "2001:db8::"))
		h.itself().reached(true, lan)
		if route := a.as().run("ip", "route", "show", "default"); !strings.Contains(route, "eth0") {
			h.t.Errorf("the default route is %s, want it by eth0", route)
		}
	})
	h.sh("bowline-macvlan prune")
}

// criDevice: a pod has a NIC of the host beside its network, which another one
// does not get, and which comes back, also from a pod whose namespace is gone.
func criDevice(h *criHost) {
	lan := h.nic("nic0")
	before := h.snapshot().withoutMarks()
	home := func(when string) {
		h.t.Helper()
		h.eventually("containerd", func() error {
			s := h.snapshot().withoutMarks()
			for _, kind := range []string{"link", "address", "route", "mount"} {
				if d := diff(snapshot{kind: before[kind]}, snapshot{kind: s[kind]}); d != "" {
					return fmt.Errorf("%s: the NIC is not back as it was:\n%s", when, d)
				}
			}
			return nil
		})
	}
	h.beside(`{"cniVersion": "1.0.0", "name": "nic", "plugins": [{"type": "bowline-host", "device": "nic0"}]}`, func() {
		a := h.pod(podConfig("a"))
		a.mustReach("198.51.100.9", "10.1.0.1", outside4)
		a.linkAddr("eth1", "198.51.100.1")
		if _, err := h.tryPod(podConfig("b")); err == nil || !strings.Contains(err.Error(), "the NIC nic0 is held by") {
			h.t.Errorf("a second pod: %v, want who has the NIC", err)
		}
		a.stop()
		a.remove()
		h.sh("bowline-bridge prune")
		home("a pod removed")

		c := h.pod(podConfig("c"))
		h.sh("umount " + c.netns + " && rm " + c.netns)
		c.stop()
		c.remove()
		h.sh("bowline-bridge prune")
		home("a pod removed whose namespace was gone")
	})
	h.run("ip", "link", "del", "nic0")
	lan.end()
	h.sh("bowline-host prune")
}

// linkAddr returns the address of the pod's link that begins so.
func (p *pod) linkAddr(name, prefix string) string {
	p.h.t.Helper()
	for _, f := range strings.Fields(p.as().run("ip", "-o", "addr", "show", "dev", name)) {
		if addr, _, is := strings.Cut(f, "/"); is && strings.HasPrefix(addr, prefix) {
			return addr
		}
	}
	p.h.t.Fatalf("%s of %s has no address %s", name, p.config.Metadata.Name, prefix)
	return ""
}

// criMacvlanGuide follows the guide, which leaves the LAN as the only network.
func criMacvlanGuide(h *criHost, g *guide) {
	h.sh("rm /etc/cni/net.d/10-bowline.conflist; bowline-bridge prune; rm -rf /run/bowline/ipam") // the first address again
	g.follow(h.t, lanSection)
	h.mustAttachTo("lan")
}

// mustAttachTo waits until containerd has read its configuration again, and puts
// pods on that network.
func (h *criHost) mustAttachTo(network string) {
	h.t.Helper()
	h.eventually("containerd", func() error {
		p, err := h.tryPod(podConfig("probe"))
		if err != nil {
			return err
		}
		defer func() { p.stop(); p.remove() }()
		if list := h.sh("bowline-macvlan list"); !strings.Contains(list, network+" ") {
			return fmt.Errorf("a pod is not on %s:\n%s", network, list)
		}
		return nil
	})
}

// criMacvlanReach: pods, the LAN and the host, which reaches them with
// host-access alone.
func criMacvlanReach(h *criHost) {
	a, b := h.pod(podConfig("a")), h.pod(podConfig("b"))
	if len(a.addrs) != 2 || !strings.HasPrefix(a.addrs[0], "192.0.2.1") || !strings.HasPrefix(a.addrs[1], "2001:db8::") {
		h.t.Fatalf("containerd says that pod a has %q", a.addrs)
	}
	a.mustReach(append(b.addrs, outside4, outside6, host4, host6)...)
	h.beyond().reached(true, append(a.addrs, b.addrs...)...)
	h.itself().reached(true, append(a.addrs, b.addrs...)...)
	h.removeAll()

	file := "/etc/cni/net.d/10-lan.conflist"
	h.sh("cp " + file + " " + h.dir + `/lan.bak; sed -i 's/"host-access": true,//; s/"lan"/"strangers"/' ` + file)
	h.mustAttachTo("strangers")
	c := h.pod(podConfig("c"))
	h.itself().reached(false, c.addrs[0])
	c.as().reached(false, host4)
	c.mustReach(outside4, outside6)
	h.beyond().reached(true, c.addrs...)
	h.removeAll()
	h.sh("cp " + h.dir + "/lan.bak " + file)
	h.mustAttachTo("lan")
}

// criMacvlanBandwidth: the annotations of a pod limit it, in its own namespace.
func criMacvlanBandwidth(h *criHost) {
	config := podConfig("a")
	config.Annotations = map[string]string{"kubernetes.io/ingress-bandwidth": "10M", "kubernetes.io/egress-bandwidth": "20M"}
	a := h.pod(config)
	qdiscs := a.as().run("tc", "qdisc")
	for _, want := range []string{"dev eth0 root", "rate 20Mbit", "dev bwf", "rate 10Mbit"} {
		if !strings.Contains(qdiscs, want) {
			h.t.Errorf("the pod's limits lack %q:\n%s", want, qdiscs)
		}
	}
	a.mustReach(outside4, host4)
	h.beyond().reached(true, a.addrs...)
}

// criMacvlanConflict: an address that somebody on the LAN has is passed over.
func criMacvlanConflict(h *criHost) {
	for _, a := range []string{"192.0.2.128/25", "192.0.2.129/25", "2001:db8::80/64"} {
		h.beyond().run("ip", "addr", "add", a, "dev", "out0", "nodad")
		defer h.beyond().run("ip", "addr", "del", a, "dev", "out0")
	}
	h.sh("rm -rf /run/bowline/ipam") // begin with the first address again
	a := h.pod(podConfig("a"))
	if a.addrs[0] != "192.0.2.130" || a.addrs[1] != "2001:db8::81" {
		h.t.Errorf("the pod has %q, want 192.0.2.130 and 2001:db8::81, the first that nobody has", a.addrs)
	}
	h.beyond().reached(true, a.addrs...)
	h.removeAll()
	h.sh("rm -rf /run/bowline/ipam")
}

// criMacvlanRestart ends containerd under running pods and starts it again.
func criMacvlanRestart(h *criHost) {
	for _, signal := range []string{"TERM", "KILL"} {
		a, b := h.pod(podConfig("a"+signal)), h.pod(podConfig("b"+signal))
		lost := a.as().stream(outside4)
		h.stop("containerd", signal)
		a.mustReach(b.addrs[0], host4)
		h.sh(fmt.Sprint("kill -9 ", b.pid))
		h.startContainerd()
		b.stop()
		b.remove()
		if n := lost(); n > 0 {
			h.t.Errorf("a pod that went on lost %d packets", n)
		}
		h.itself().reached(true, a.addrs...)
	}
}

// criMacvlanNamespaceGone: pods whose namespace was taken away leave nothing, and
// DEL comes twice.
func criMacvlanNamespaceGone(h *criHost) {
	p := h.pod(podConfig("a"))
	h.sh("umount " + p.netns + " && rm " + p.netns)
	p.stop()
	p.stop()
	p.remove()
	if left := h.sh("bowline-macvlan list"); strings.Contains(left, p.id[:12]) {
		h.t.Errorf("left: %s", left)
	}
	if left := h.sh("ip -o link show type macvlan"); left != "" {
		h.t.Errorf("left of host access: %s", left)
	}
}

// criMacvlanStatus: containerd 2 says that its network is not ready while there
// is no parent: the default route went with the link that was set down.
func criMacvlanStatus(h *criHost) {
	if h.plugins != "/opt/cni/bin" {
		return // containerd 1.6 asks for no STATUS
	}
	h.sh("ip link set up0 down")
	h.eventually("containerd", func() error {
		s, err := h.Status(h.t.Context(), &cri.StatusRequest{})
		if err != nil {
			return err
		}
		for _, c := range s.Status.Conditions {
			if c.Type == cri.NetworkReady && !c.Status && strings.Contains(c.Message, "option parent") {
				return nil
			}
		}
		return fmt.Errorf("containerd says %v", s.Status.Conditions)
	})
	h.sh("ip link set up0 up; ip addr replace 2001:db8::1/64 dev up0 nodad; ip route replace default via 192.0.2.2; ip route replace default via 2001:db8::2")
	h.eventually("containerd", h.ready)
}
