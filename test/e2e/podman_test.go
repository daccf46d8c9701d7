package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A podmanHost is a machine with Podman and its CNI backend.
type podmanHost struct {
	*machine
}

// TestPodman follows the guide and then tests in turn; each must leave the host
// as it was.
func TestPodman(t *testing.T) {
	t.Parallel()
	h := &podmanHost{newMachine(t, "podman", "conmon", "crun", "busybox")}
	// A reader has systemd, and a registry of images.
	h.write("/etc/containers/containers.conf.d/test.conf", "[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\ninfra_image = \"localhost/pause:1\"\nstop_timeout = 0\n")
	g := h.guide("podman.md", lanSection)
	g.run["apt-get install podman crun"] = func() { h.sh("podman --version; crun --version") }
	g.follow(t, "Install")
	h.sh("podman load -i " + h.archive("localhost/pause:1", "docker.io/library/busybox:1"))
	for _, sub := range []struct {
		name string
		f    func(h *podmanHost)
	}{
		{"guide", func(h *podmanHost) { g.follow(h.t, "More networks", "Containers") }},
		{"reach", podmanReach},
		{"own addresses", podmanOwnAddresses},
		{"versions", podmanVersions},
		{"two networks", podmanTwoNetworks},
		{"ports", podmanPorts},
		{"reload", podmanReload},
		{"restart", podmanRestart},
		{"pod", podmanPod},
		{"device", podmanDevice},
		{"killed at work", podmanKilledAtWork},
	} {
		if !h.scene(t, sub.name, func() snapshot { return h.snapshot().withoutMarks() }, func() { sub.f(h) }, func() {
			h.removeAll()
			h.sh("bowline-bridge prune")
		}) {
			return
		}
	}
}

// podman runs podman and returns what it prints, trimmed.
func (h *podmanHost) podman(args ...string) string {
	h.t.Helper()
	out, err := h.tryPodman(args...)
	if err != nil {
		h.t.Fatalf("podman %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (h *podmanHost) tryPodman(args ...string) (string, error) {
	out, err := h.inside("podman", args...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// container runs a container that sleeps, with these arguments of podman run.
func (h *podmanHost) container(name string, args ...string) {
	h.t.Helper()
	h.podman(slices.Concat([]string{"run", "-d", "--name", name, "--cap-add", "NET_RAW"}, args, []string{"busybox:1", "sleep", "1000"})...)
}

func (h *podmanHost) removeAll() {
	h.t.Helper()
	h.podman("pod", "rm", "-a", "-f", "-t", "0")
	h.podman("rm", "-a", "-f", "-t", "0")
}

// place returns what Podman tells of a container on one network.
func (h *podmanHost) place(container, network string) place {
	h.t.Helper()
	var found []struct {
		NetworkSettings struct{ Networks map[string]place }
	}
	if err := json.Unmarshal([]byte(h.podman("inspect", container)), &found); err != nil {
		h.t.Fatal(err)
	}
	return found[0].NetworkSettings.Networks[network]
}

// mustReach fails the test unless pings from the container to all of these are
// answered.
func (h *podmanHost) mustReach(container string, addrs ...string) {
	h.t.Helper()
	for _, a := range addrs {
		if out, err := h.tryPodman("exec", container, "ping", "-c", "2", "-i", "0.2", "-W", "1", a); err != nil {
			h.t.Errorf("%s does not reach %s: %v %s\n%s", container, a, err, out, h.podman("exec", container, "ip", "addr"))
		}
	}
}

// network adds a network of that CNI version and subnets, with further keys of
// the plugin, and returns what removes it.
func (h *podmanHost) network(name, version, subnet4, subnet6, keys string) {
	h.t.Helper()
	file := fmt.Sprintf("/etc/cni/net.d/50-%s.conflist", name)
	h.write(file, fmt.Sprintf(`{"cniVersion": %q, "name": %q, "plugins": [{"type": "bowline-bridge", "isDefaultGateway": true, "ipMasq": true, %s
	"ipam": {"type": "bowline-ipam", "ranges": [[{"subnet": %q}], [{"subnet": %q}]]}}]}`, version, name, keys, subnet4, subnet6))
	h.t.Cleanup(func() { h.sh("rm " + file) })
}

// podmanReach: containers reach each other and what is outside, and leave
// nothing when they end by themselves.
func podmanReach(h *podmanHost) {
	h.container("a", "--network", "bowline")
	h.container("b", "--network", "bowline")
	b := h.place("b", "bowline")
	h.mustReach("a", b.IPAddress, b.GlobalIPv6Address, "10.1.0.1", "fd00:1::1", outside4, outside6)
	h.podman("run", "--rm", "--network", "bowline", "--cap-add", "NET_RAW", "busybox:1", "ping", "-c", "1", b.IPAddress)
	if list := h.sh("bowline-bridge list"); strings.Count(list, "\n") != 2 {
		h.t.Errorf("containers a and b run, and there are\n%s", list)
	}
}

// podmanOwnAddresses: what --ip, --ip6 and --mac-address ask for.
func podmanOwnAddresses(h *podmanHost) {
	h.container("a", "--network", "bowline", "--ip", "10.1.0.77", "--ip6", "fd00:1::77", "--mac-address", "02:00:00:00:00:77")
	got := h.place("a", "bowline")
	if want := (place{"10.1.0.77", "fd00:1::77", "10.1.0.1", "fd00:1::1", "02:00:00:00:00:77"}); got != want {
		h.t.Errorf("podman says %+v, want %+v", got, want)
	}
	link := h.podman("exec", "a", "ip", "addr", "show", "eth0")
	for _, want := range []string{"link/ether 02:00:00:00:00:77", "inet 10.1.0.77/24", "inet6 fd00:1::77/64"} {
		if !strings.Contains(link, want) {
			h.t.Errorf("eth0 has no %s:\n%s", want, link)
		}
	}
	before := h.snapshot()
	out, err := h.tryPodman("run", "--rm", "--network", "bowline", "--ip", "10.1.0.77", "busybox:1", "true")
	if err == nil || !strings.Contains(out, "10.1.0.77") {
		h.t.Errorf("an address that is taken: %v %s", err, out)
	}
	if d := diff(before, h.snapshot()); d != "" {
		h.t.Errorf("a refused container leaves\n%s", d)
	}
}

// podmanVersions: networks of older versions of CNI, and one that declares
// every capability that Podman has.
func podmanVersions(h *podmanHost) {
	h.network("old", "0.4.0", "10.4.0.0/24", "fd00:4::/64", `"capabilities": {"ips": true, "mac": true, "aliases": true, "portMappings": true},`)
	h.network("newer", "1.0.0", "10.5.0.0/24", "fd00:5::/64", "")
	h.container("a", "--network", "old", "--ip", "10.4.0.77", "--mac-address", "02:00:00:00:00:77", "--network-alias", "web")
	h.container("b", "--network", "newer", "--ip", "10.5.0.77", "--mac-address", "02:00:00:00:00:78")
	for name, want := range map[string][2]string{"a": {"old", "10.4.0.77"}, "b": {"newer", "10.5.0.77"}} {
		if got := h.place(name, want[0]).IPAddress; got != want[1] {
			h.t.Errorf("%s has %s, want %s", name, got, want[1])
		}
		h.mustReach(name, outside4, outside6)
	}
	if _, err := h.tryPodman("exec", "a", "ping", "-c", "1", "-W", "1", "10.5.0.77"); err == nil {
		h.t.Error("networks reach each other")
	}
}

// podmanTwoNetworks: on two from the start, and put on and taken off one later.
func podmanTwoNetworks(h *podmanHost) {
	h.network("back", "1.0.0", "10.2.0.0/24", "fd00:2::/64", `"capabilities": {"ips": true, "mac": true},`)
	h.container("both", "--network", "bowline", "--network", "back")
	h.container("front", "--network", "bowline")
	h.container("back", "--network", "back")
	front, back := h.place("front", "bowline"), h.place("back", "back")
	h.mustReach("both", front.IPAddress, back.IPAddress, back.GlobalIPv6Address, outside4)
	h.podman("network", "connect", "--ip", "10.2.0.99", "back", "front")
	h.mustReach("front", back.IPAddress, back.GlobalIPv6Address)
	if got := h.place("front", "back").IPAddress; got != "10.2.0.99" {
		h.t.Errorf("connected with --ip 10.2.0.99 front has %s", got)
	}
	h.podman("network", "disconnect", "back", "front")
	if links := h.podman("exec", "front", "ip", "link"); strings.Contains(links, "eth1") {
		h.t.Errorf("disconnected, front has\n%s", links)
	}
	h.mustReach("front", h.place("both", "bowline").IPAddress, outside4)
}

// web runs a container whose servers tell callers their addresses.
func (h *podmanHost) web(name string, args ...string) *sandbox {
	h.t.Helper()
	h.container(name, args...)
	pid := h.podman("inspect", "-f", "{{.State.Pid}}", name)
	s := h.as(name, fmt.Sprintf("/proc/%d/root/proc/%s/ns/net", h.pid, pid))
	s.serve("[::]:80")
	s.serveUDP("[::]:53")
	return s
}

// podmanPorts: what -p can say, from everywhere, and after a reload of networks,
// while Podman's own monitor listens on the same ports to keep others off them.
func podmanPorts(h *podmanHost) {
	a := h.web("a", "--network", "bowline", "-p", "18080:80", "-p", "18053:53/udp", "-p", "127.0.0.1:18090:80", "-p", "18100-18104:78-82")
	h.container("b", "--network", "bowline")
	out := h.beyond()
	reaches := func() {
		h.t.Helper()
		for addr, want := range map[string]string{host4: outside4, host6: outside6} {
			out.mustBeSeen(at(addr, "18080"), want)
			out.mustBeSeen(at(addr, "18102"), want)
			a.mustBeSeen(at(addr, "18080"), "")
		}
		if seen, err := out.askUDP(host4 + ":18053"); err != nil || strings.TrimPrefix(seen, "::ffff:") != outside4 {
			h.t.Errorf("UDP from beyond is seen as %q, %v", seen, err)
		}
		h.itself().asks("127.0.0.1:18080", true)
		h.itself().asks("127.0.0.1:18090", true)
		out.asks(host4+":18090", false)
	}
	reaches()
	before := h.snapshot().withoutMarks()
	if out, err := h.tryPodman("run", "--rm", "--network", "bowline", "-p", "18080:80", "busybox:1", "true"); err == nil || !strings.Contains(out, "18080") {
		h.t.Errorf("a port that a has: %v %s", err, out)
	}
	if d := diff(before, h.snapshot().withoutMarks()); d != "" {
		h.t.Errorf("a refused container leaves\n%s", d)
	}
	h.sh("nft flush ruleset")
	h.podman("network", "reload", "a")
	reaches()
	h.podman("restart", "-t", "0", "a")
	a = h.as("a", fmt.Sprintf("/proc/%d/root/proc/%s/ns/net", h.pid, h.podman("inspect", "-f", "{{.State.Pid}}", "a")))
	a.serve("[::]:80")
	a.serveUDP("[::]:53")
	reaches()
}

// podmanReload: "network reload" mends what a flush took, with the addresses as
// they were, whether they were asked for or not.
func podmanReload(h *podmanHost) {
	h.container("a", "--network", "bowline", "--ip", "10.1.0.77", "--mac-address", "02:00:00:00:00:77")
	h.container("b", "--network", "bowline")
	a, b := h.place("a", "bowline"), h.place("b", "bowline")
	h.sh("nft flush ruleset")
	h.podman("network", "reload", "-a")
	if now := h.place("a", "bowline"); now != a {
		h.t.Errorf("a had %+v and has %+v", a, now)
	}
	if now := h.place("b", "bowline"); now.IPAddress != b.IPAddress || now.GlobalIPv6Address != b.GlobalIPv6Address {
		h.t.Errorf("b had %+v and has %+v", b, now)
	}
	h.mustReach("a", b.IPAddress, b.GlobalIPv6Address, outside4, outside6)
}

// podmanRestart: by Podman, and after a kill that nobody saw.
func podmanRestart(h *podmanHost) {
	h.container("a", "--network", "bowline", "--ip", "10.1.0.77")
	h.container("b", "--network", "bowline")
	h.podman("restart", "-t", "0", "a", "b")
	h.mustReach("b", "10.1.0.77", outside4)
	h.sh("kill -9 " + h.podman("inspect", "-f", "{{.State.ConmonPid}}", "a"))
	h.sh("kill -9 " + h.podman("inspect", "-f", "{{.State.Pid}}", "a"))
	h.podman("rm", "-f", "-t", "0", "a")
	h.container("c", "--network", "bowline", "--ip", "10.1.0.77")
	h.mustReach("b", "10.1.0.77")
}

// podmanPod: containers of a pod share its place.
func podmanPod(h *podmanHost) {
	h.podman("pod", "create", "--name", "p", "--network", "bowline", "--ip", "10.1.0.88")
	h.container("one", "--pod", "p")
	h.container("two", "--pod", "p")
	h.container("other", "--network", "bowline")
	h.mustReach("other", "10.1.0.88")
	h.mustReach("one", outside4, h.place("other", "bowline").IPAddress)
	if one, two := h.podman("exec", "one", "ip", "addr"), h.podman("exec", "two", "ip", "addr"); one != two {
		h.t.Errorf("containers of a pod have\n%s\nand\n%s", one, two)
	}
	h.podman("pod", "stop", "-t", "0", "p")
	h.podman("pod", "start", "p")
	h.mustReach("one", outside4, outside6)
}

// podmanKilledAtWork kills Podman at moments of a start. What it removes later,
// and what is in no namespace any more, is gone altogether.
func podmanKilledAtWork(h *podmanHost) {
	h.container("old", "--network", "bowline")
	killed := 0
	for i := range 8 {
		cmd := h.inside("podman", "run", "-d", "--name", fmt.Sprintf("k%d", i), "--network", "bowline", "busybox:1", "sleep", "1000")
		if err := cmd.Start(); err != nil {
			h.t.Fatal(err)
		}
		kill := time.AfterFunc(time.Duration(i*40)*time.Millisecond, func() { killChildren(cmd.Process.Pid) })
		if cmd.Wait() != nil {
			killed++
		}
		kill.Stop()
	}
	h.sh("find /var/lib/cni/results -type f -empty -delete") // it was killed in the middle of writing
	if killed == 0 {
		h.t.Error("nothing was killed, so nothing was tested")
	}
	h.container("new", "--network", "bowline")
	h.mustReach("new", h.place("old", "bowline").IPAddress, outside4)
	// It forgets what it had just mounted, and cannot remove its containers
	// then; and what a plugin had just answered.
	_, _ = h.tryPodman("rm", "-a", "-f", "-t", "0")
	h.sh("awk '$2 ~ \"^/var/lib/containers/.*/shm$\" { print $2 }' /proc/self/mounts | xargs -r umount")
	h.removeAll()
	h.sh("for n in /run/netns/*; do [ ! -e $n ] || { umount $n; rm $n; }; done; rm -f /var/lib/cni/results/*")
}

// killChildren kills the children of nsenter, which waits for them.
func killChildren(pid int) {
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	for _, child := range strings.Fields(string(children)) {
		if id, err := strconv.Atoi(child); err == nil {
			_ = syscall.Kill(id, syscall.SIGKILL)
		}
	}
}
