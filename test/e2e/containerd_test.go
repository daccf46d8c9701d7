package e2e

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

// TestContainerd drives the distribution's containerd through CRI.
func TestContainerd(t *testing.T) {
	t.Parallel()
	testContainerd(t, "", "containerd 1.6, from Debian 12", "containerd 2")
}

// TestContainerd2 drives that of $BOWLINE_E2E_CONTAINERD, a directory with
// containerd 2, its shim, ctr and runc, such as hack/containerd2.sh makes.
func TestContainerd2(t *testing.T) {
	t.Parallel()
	dir := os.Getenv("BOWLINE_E2E_CONTAINERD")
	if dir == "" {
		netnstest.Skip(t, "needs BOWLINE_E2E_CONTAINERD, a directory with containerd 2")
	}
	testContainerd(t, dir, "containerd 2", "containerd 1.6, from Debian 12")
}

// testContainerd follows the guide's section to install and then tests in turn;
// each must leave the host as it was.
func testContainerd(t *testing.T, dir, install, other string) {
	h := newCRIHost(t, dir)
	g := h.guide("containerd.md", other, lanSection)
	g.run["apt-get install containerd containernetworking-plugins"] = func() { h.sh("ls /usr/lib/cni/loopback") }
	g.run["systemctl restart containerd"] = func() {
		h.startContainerd()
		h.loadImages()
	}
	g.run["crictl pull docker.io/library/busybox:1"] = func() {}
	g.follow(t, install)
	h.trace()
	for _, sub := range []struct {
		name string
		f    func(h *criHost)
	}{
		{"guide", func(h *criHost) { criGuide(h, g) }},
		{"reach", criReach},
		{"ports", criPorts},
		{"bandwidth", criBandwidth},
		{"capabilities", criCapabilities},
		{"calls", criCalls},
		{"restart", func(h *criHost) { criRestart(h, "TERM") }},
		{"killed", func(h *criHost) { criRestart(h, "KILL") }},
		{"killed at work", criKilledAtWork},
		{"namespace gone", criNamespaceGone},
		{"crowd", criCrowd},
		{"full pool", criFull},
	} {
		if !h.scene(t, sub.name, func() snapshot { return h.snapshot().withoutMarks() }, func() { sub.f(h) }, func() {
			h.removeAll()
			h.sh("bowline-bridge prune")
		}) {
			return
		}
	}
}

// trace puts a note of each call of the plugin into a file.
func (h *criHost) trace() {
	h.t.Helper()
	h.write(h.plugins+"/new", `#!/bin/sh
conf=$(cat)
prev=; case $conf in *prevResult*) prev=" prevResult";; esac
group=; case $conf in *'"cgroupPath":"'*) group=" cgroupPath";; esac
echo "$CNI_COMMAND ${CNI_CONTAINERID:--}${CNI_NETNS:+ netns}$prev$group" >>`+h.dir+`/calls
printf %s "$conf" >`+h.dir+`/conf
printf %s "$conf" | exec "$0".real
`)
	h.sh(fmt.Sprintf("cd %s && mv bowline-bridge bowline-bridge.real && mv new bowline-bridge && chmod 755 bowline-bridge", h.plugins))
	h.sh(fmt.Sprintf("ln -sf %s/bowline-bridge.real /usr/local/bin/bowline-bridge", h.plugins))
}

// calls returns the calls for a container since trace, or those without one if
// id is "-".
func (h *criHost) calls(id string) []string {
	h.t.Helper()
	var found []string
	for _, l := range h.allCalls() {
		if f := strings.Fields(l); f[1] == id {
			found = append(found, strings.Join(slices.Delete(f, 1, 2), " "))
		}
	}
	return found
}

func (h *criHost) allCalls() []string {
	return slices.Collect(strings.Lines(h.sh("touch " + h.dir + "/calls; cat " + h.dir + "/calls")))
}

// criGuide runs the first pod of the guide.
func criGuide(h *criHost, g *guide) {
	g.follow(h.t, "The first pod", "What to know")
}

// criReach: pods of both families reach each other and what is outside.
func criReach(h *criHost) {
	a, b := h.pod(podConfig("a")), h.pod(podConfig("b"))
	if len(a.addrs) != 2 || !strings.HasPrefix(a.addrs[0], "10.1.0.") || !strings.HasPrefix(a.addrs[1], "fd00:1::") {
		h.t.Fatalf("containerd says that pod a has %q, want one of 10.1.0.0/24 and one of fd00:1::/64", a.addrs)
	}
	a.mustReach(append(b.addrs, "10.1.0.1", "fd00:1::1", outside4, outside6)...)
	b.mustReach(a.addrs...)
	b.stop()
	if a.as().reaches(b.addrs[0]) {
		h.t.Error("a pod that was stopped answers")
	}
	b.stop() // as the kubelet does, more than once
	a.mustReach(outside4, outside6)
}

// criPorts: host ports of a pod, of both families and protocols, from everywhere;
// one that is taken; and one that is free again.
func criPorts(h *criHost) {
	config := podConfig("a", [2]int32{18080, 80})
	config.PortMappings = append(config.PortMappings,
		&cri.PortMapping{HostPort: 18053, ContainerPort: 53, Protocol: cri.Protocol_UDP},
		&cri.PortMapping{HostPort: 18090, ContainerPort: 80, HostIp: "127.0.0.1"})
	a, b, out := h.pod(config), h.pod(podConfig("b")), h.beyond()
	a.as().serve("[::]:80")
	a.as().serveUDP("[::]:53")
	out.mustBeSeen(host4+":18080", outside4)
	out.mustBeSeen(at(host6, "18080"), outside6)
	for addr, want := range map[string]string{host4: outside4, host6: outside6} {
		if seen, err := out.askUDP(at(addr, "18053")); err != nil || strings.TrimPrefix(seen, "::ffff:") != want {
			h.t.Errorf("UDP from beyond to %s is seen as %q, %v; want %s", addr, seen, err, want)
		}
	}
	out.asks(host4+":18090", false)
	h.itself().asks("127.0.0.1:18090", true)
	for _, addr := range []string{host4, host6} {
		a.as().mustBeSeen(at(addr, "18080"), "")
		b.as().mustBeSeen(at(addr, "18080"), "")
	}
	h.itself().asks("127.0.0.1:18080", true)
	h.itself().asks("[::1]:18080", true)

	before := h.snapshot()
	_, err := h.tryPod(podConfig("c", [2]int32{18080, 80}))
	if err == nil || !strings.Contains(err.Error(), "18080") || !strings.Contains(err.Error(), a.id[:12]) {
		h.t.Errorf("a port that pod %s has: %v, want an error that says so", a.id, err)
	}
	if d := diff(before.withoutMarks(), h.snapshot().withoutMarks()); d != "" {
		h.t.Errorf("a refused pod leaves\n%s", d)
	}
	a.stop()
	out.asks(host4+":18080", false)
	c := h.pod(podConfig("c2", [2]int32{18080, 80}))
	c.as().serve("[::]:80")
	out.mustBeSeen(at(host6, "18080"), outside6)
}

// criBandwidth: the annotations of a pod limit it, both ways.
func criBandwidth(h *criHost) {
	config := podConfig("a")
	config.Annotations = map[string]string{"kubernetes.io/ingress-bandwidth": "10M", "kubernetes.io/egress-bandwidth": "20M"}
	a, b := h.pod(config), h.pod(podConfig("b"))
	if got, want := h.limits(), "bwo 10000000, bwf 20000000"; got != want {
		h.t.Errorf("limits are %q, want %q", got, want)
	}
	a.mustReach(b.addrs...)
	a.stop()
	if got := h.limits(); got != "" {
		h.t.Errorf("limits of a pod that was stopped: %q", got)
	}
}

// criCalls: what containerd asks of a plugin is what we think it is.
func criCalls(h *criHost) {
	p := h.pod(podConfig("a"))
	p.stop()
	p.remove()
	got := h.calls(p.id)
	want := []string{"ADD netns", "DEL netns prevResult", "DEL"}
	if h.plugins == "/opt/cni/bin" {
		if err := h.ready(); err != nil {
			h.t.Error(err)
		}
		if !slices.Contains(h.calls("-"), "STATUS") {
			h.t.Errorf("no STATUS among %q", h.calls("-"))
		}
	}
	if !slices.Equal(got, want) {
		h.t.Errorf("containerd called %q, want %q", got, want)
	}
	if all := strings.Join(h.allCalls(), ""); strings.Contains(all, "CHECK") || strings.Contains(all, "GC") {
		h.t.Errorf("containerd calls what the guide says it does not:\n%s", all)
	}
}

// criCapabilities: a configuration that declares all that containerd has to say
// about a pod. What is not for us is no error.
func criCapabilities(h *criHost) {
	h.sh(`cd /etc/cni/net.d && sed -i.bak 's/"capabilities": {/&"aliases": true, "cgroupPath": true, "deviceID": true, "dns": true, "infinibandGUID": true, "io.kubernetes.cri.pod-annotations": true, "ipRanges": true, /' 10-bowline.conflist`)
	defer h.eventually("containerd", h.ready)
	defer h.sh("cd /etc/cni/net.d && mv 10-bowline.conflist.bak 10-bowline.conflist")
	config := podConfig("a")
	config.Annotations = map[string]string{"k8s.v1.cni.cncf.io/networks": "x"}
	config.DnsConfig = &cri.DNSConfig{Servers: []string{"192.0.2.53"}, Searches: []string{"a.b"}, Options: []string{"ndots:5"}}
	config.Linux.CgroupParent = "/pods"
	var p *pod
	eventually(h.t, func() error { // once it has read the file
		p = h.pod(config)
		if conf := h.sh("cat " + h.dir + "/conf"); strings.Contains(conf, "192.0.2.53") {
			return nil
		}
		p.stop()
		p.remove()
		return errors.New("it gives no DNS")
	})
	p.mustReach(outside4, outside6)
	if second := h.plugins == "/opt/cni/bin"; second != slices.Contains(h.calls(p.id), "ADD netns cgroupPath") {
		h.t.Errorf("containerd called %q", h.calls(p.id))
	}
	p.stop()
	p.remove()
}

// criRestart ends containerd under running pods and starts it again.
func criRestart(h *criHost, signal string) {
	a, b := h.pod(podConfig("a", [2]int32{18080, 80})), h.pod(podConfig("b"))
	a.as().serve("[::]:80")
	lost := a.as().stream(outside4)
	h.stop("containerd", signal)
	a.mustReach(b.addrs[1], outside6)
	h.sh(fmt.Sprint("kill -9 ", b.pid)) // it ends while nobody looks
	h.startContainerd()
	if err := a.learn(); err != nil {
		h.t.Fatal(err)
	}
	c := h.pod(podConfig("c"))
	a.mustReach(append(c.addrs, outside4, outside6)...)
	h.beyond().mustBeSeen(host4+":18080", outside4)
	b.stop()
	b.remove()
	c.mustReach(a.addrs...)
	if n := lost(); n > 0 {
		h.t.Errorf("a pod that went on lost %d packets", n)
	}
}

// criKilledAtWork kills containerd while plugins run for it.
func criKilledAtWork(h *criHost) {
	old, gone := h.pod(podConfig("old")), h.pod(podConfig("gone"))
	before := len(h.allCalls())
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() { _, _ = h.tryPod(podConfig(fmt.Sprintf("p%d", i))) }) // whether it is killed before or after
	}
	wg.Go(func() { _, _ = h.StopPodSandbox(h.t.Context(), &cri.StopPodSandboxRequest{PodSandboxId: gone.id}) })
	eventually(h.t, func() error {
		if n := len(h.allCalls()) - before; n < 3 {
			return fmt.Errorf("%d plugins were called", n)
		}
		return nil
	})
	h.stop("containerd", "KILL")
	wg.Wait()
	h.sh("find /var/lib/cni/results -type f -empty -delete") // see the guide
	h.startContainerd()
	if err := old.learn(); err != nil {
		h.t.Fatal(err)
	}
	var c *pod
	eventually(h.t, func() (err error) { // its images may have suffered, as in 1.6
		c, err = h.tryPod(podConfig("c"))
		return err
	})
	c.mustReach(append(old.addrs, outside4)...)
	h.removeAll()
	// A namespace that it had just made containerd forgets, and a result.
	h.sh("for n in /run/netns/*; do [ ! -e $n ] || { umount $n; rm $n; }; done; rm -f /var/lib/cni/results/*")
}

// criNamespaceGone removes a pod whose namespace was taken away.
func criNamespaceGone(h *criHost) {
	p := h.pod(podConfig("a"))
	h.sh("umount " + p.netns + " && rm " + p.netns)
	p.stop()
	p.remove()
	if left := h.sh("bowline-bridge list"); strings.Contains(left, p.id[:12]) {
		h.t.Errorf("left: %s", left)
	}
}

// criCrowd makes and removes pods at once.
func criCrowd(h *criHost) {
	var wg sync.WaitGroup
	pods := make([]*pod, 12)
	for i := range pods {
		wg.Go(func() {
			var err error
			if pods[i], err = h.tryPod(podConfig(fmt.Sprintf("p%d", i))); err != nil {
				h.t.Errorf("pod %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	seen := map[string]bool{}
	for _, p := range pods {
		if p == nil {
			return
		}
		seen[strings.Join(p.addrs, " ")] = true
	}
	if len(seen) != len(pods) {
		h.t.Errorf("%d pods have %d different addresses", len(pods), len(seen))
	}
	pods[0].mustReach(pods[len(pods)-1].addrs...)
}

// criFull fills the pool: the pod that has no place is refused with the reason,
// and containerd 2 says that the network is not ready.
func criFull(h *criHost) {
	h.sh(`cd /etc/cni/net.d && sed -i.bak 's,10.1.0.0/24,10.9.0.0/29,; s/"bowline"/"small"/' 10-bowline.conflist`)
	defer h.eventually("containerd", h.ready)
	defer h.sh("cd /etc/cni/net.d && mv 10-bowline.conflist.bak 10-bowline.conflist")
	var err error
	for i := 0; err == nil && i < 9; i++ {
		_, err = h.tryPod(podConfig(fmt.Sprintf("p%d", i)))
	}
	if err == nil || !strings.Contains(err.Error(), "no free address in 10.9.0.2-10.9.0.6") {
		h.t.Errorf("a pod more than there are addresses: %v, want an error that says so", err)
	}
	if h.plugins == "/opt/cni/bin" {
		h.eventually("containerd", func() error {
			if h.ready() == nil {
				return errors.New("containerd says that its network is ready")
			}
			return nil
		})
	}
	h.removeAll()
}
