package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// dockerDriver is the network driver under test; Docker's own in reference mode.
func dockerDriver() string {
	if reference() {
		return "bridge"
	}
	return "bowline-bridge"
}

// TestDocker drives one dockerd through the life of networks and containers.
// Its subtests run in turn; each must leave the host as it was.
func TestDocker(t *testing.T) {
	h := newDockerHost(t)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("plugin:\n%s\ndockerd:\n%s", h.log("plugin"), h.log("dockerd"))
		}
	})
	if rules := h.sh("iptables -S FORWARD"); !strings.HasPrefix(rules, "-P FORWARD DROP") {
		t.Fatalf("dockerd left FORWARD open, so the test would not show whether we make room:\n%s", rules)
	}
	h.startPlugin()
	h.settle()
	for _, sub := range []struct {
		name string
		f    func(h *dockerHost)
	}{
		{"reach", dockerReach},
		{"own addresses", dockerOwnAddresses},
		{"two networks", dockerTwoNetworks},
		{"internal", dockerInternal},
		{"options", dockerOptions},
		{"wrong options", dockerWrongOptions},
		{"publish", dockerPublish},
		{"connect", dockerConnect},
		{"plugin killed", dockerPluginKilled},
		{"plugin ends", dockerPluginEnds},
		{"reboot", dockerReboot},
		{"dockerd restarts", dockerRestarts},
		{"dockerd killed", dockerKilled},
		{"live restore", dockerLiveRestore},
	} {
		t.Run(sub.name, func(t *testing.T) {
			outer := h.t
			h.t = t
			before := h.stable()
			t.Cleanup(func() {
				h.forgetContainers()
				h.t = outer
			})
			sub.f(h)
			h.removeAll()
			eventually(t, func() error { // namespaces end a little after their last process
				if d := diff(before, h.stable()); d != "" {
					return fmt.Errorf("the host is not as it was before the test:\n%s", d)
				}
				return nil
			})
		})
		if t.Failed() {
			return // what follows would fail for no reason of its own
		}
	}
}

// settle brings Docker's own rules to what they stay at: what it makes for the
// first published port it leaves, and it closes FORWARD only if it starts with
// forwarding off, which is not so once the plugin has brought networks back.
func (h *dockerHost) settle() {
	h.t.Helper()
	h.cli("run", "--rm", "-p", "18081:80", "bb:1", "true")
	h.sh("iptables -P FORWARD DROP")
}

// stable is a snapshot without the daemons, which tests restart; without
// docker0, whose carrier comes and goes; and without what comes with
// forwarding, which the first network turns on and none turns off: others may
// have come to rely on it.
func (h *dockerHost) stable() snapshot {
	h.t.Helper()
	s := h.snapshot()
	delete(s, "process")
	for _, kind := range []string{"link", "route"} {
		s[kind] = slices.DeleteFunc(s[kind], func(l string) bool {
			return strings.HasPrefix(l, "anycast ") || slices.Contains(strings.Fields(l), "docker0")
		})
	}
	return s
}

// startPlugin starts the plugin on the host and waits until it answers.
func (h *dockerHost) startPlugin() {
	h.t.Helper()
	if reference() {
		return
	}
	h.start("plugin", bin("bowline-bridge"), "serve")
	h.eventually("plugin", h.listens("/run/docker/plugins/bowline-bridge.sock"))
}

// network creates a network of the driver under test.
func (h *dockerHost) network(name string, args ...string) {
	h.t.Helper()
	h.cli(append(append([]string{"network", "create", "-d", dockerDriver()}, args...), name)...)
}

// container runs a container that sleeps, with these arguments of docker run.
// It ends at once when it is told to: as a first process, sleep hears no TERM.
func (h *dockerHost) container(name string, args ...string) {
	h.t.Helper()
	h.cli(append(append([]string{"run", "-d", "--name", name, "--stop-signal", "KILL"}, args...), "bb:1", "sleep", "3600")...)
}

// removeAll removes all containers and networks that there are.
func (h *dockerHost) removeAll() {
	h.t.Helper()
	if ids := strings.Fields(h.cli("ps", "-aq")); len(ids) > 0 {
		h.cli(append([]string{"rm", "-f"}, ids...)...)
	}
	if ids := strings.Fields(h.cli("network", "ls", "-q", "--filter", "type=custom")); len(ids) > 0 {
		h.cli(append([]string{"network", "rm"}, ids...)...)
	}
}

// forgetContainers clears up after a subtest that failed, for the next ones.
func (h *dockerHost) forgetContainers() {
	if !h.t.Failed() {
		return
	}
	if ids, err := h.tryCLI("ps", "-aq"); err == nil && ids != "" {
		h.tryCLI(append([]string{"rm", "-f"}, strings.Fields(ids)...)...)
	}
}

// pid returns the first process of a container, as the host sees it.
func (h *dockerHost) containerPID(name string) int {
	h.t.Helper()
	pid, err := strconv.Atoi(h.cli("inspect", "-f", "{{.State.Pid}}", name))
	if err != nil || pid == 0 {
		h.t.Fatalf("container %s does not run: %v", name, err)
	}
	return pid
}

// in runs a command of the machine in a container's network namespace.
func (h *dockerHost) in(pid int, args ...string) (string, error) {
	out, err := h.inside("nsenter", append([]string{"-t", strconv.Itoa(pid), "-n"}, args...)...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// pings reports whether a ping from the container's namespace is answered.
func (h *dockerHost) pings(pid int, addr string) bool {
	_, err := h.in(pid, "ping", "-n", "-c", "2", "-i", "0.2", "-W", "1", addr)
	return err == nil
}

// mustReach and mustNotReach fail the test otherwise.
func (h *dockerHost) mustReach(from string, addrs ...string) {
	h.t.Helper()
	pid := h.containerPID(from)
	for _, a := range addrs {
		if !h.pings(pid, a) {
			state, _ := h.in(pid, "sh", "-c", "ip addr; ip route; ip -6 route; ip neigh")
			h.t.Fatalf("%s does not reach %s; it has\n%s\nthe host has\n%s", from, a, state, h.sh("ip addr; ip route; ip neigh; nft list ruleset"))
		}
	}
}

func (h *dockerHost) mustNotReach(from string, addrs ...string) {
	h.t.Helper()
	pid := h.containerPID(from)
	for _, a := range addrs {
		if h.pings(pid, a) {
			h.t.Errorf("%s reaches %s", from, a)
		}
	}
}

// mustReachByName pings through Docker's own name server.
func (h *dockerHost) mustReachByName(from, name string) {
	h.t.Helper()
	if out, err := h.tryCLI("exec", from, "ping", "-c", "1", "-W", "2", name); err != nil {
		h.t.Fatalf("%s does not reach %s by name: %s", from, name, out)
	}
}

// A place is what Docker tells of a container on one network.
type place struct {
	IPAddress, GlobalIPv6Address, Gateway, IPv6Gateway, MacAddress string
}

func (h *dockerHost) place(container, network string) place {
	h.t.Helper()
	var places map[string]place
	out := h.cli("inspect", "-f", "{{json .NetworkSettings.Networks}}", container)
	if err := json.Unmarshal([]byte(out), &places); err != nil {
		h.t.Fatalf("%v in %s", err, out)
	}
	return places[network]
}

const (
	outside4 = "192.0.2.2"
	outside6 = "2001:db8::2"
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

func dockerPublish(h *dockerHost) {
	if reference() {
		h.t.Skip("Docker's bridge publishes")
	}
	h.network("ports")
	out, err := h.tryCLI("run", "--name", "c1", "--network", "ports", "-p", "18080:80", "bb:1", "true")
	if want := "publishing ports through bowline-bridge comes with the next release"; err == nil || !strings.Contains(out, want) {
		h.t.Errorf("run -p: %v %s; want %s", err, out, want)
	}
	// Exposing is not publishing, and another network's ports are not ours.
	h.container("c2", "--network", "ports", "--expose", "80")
	h.container("c3", "--network", "bridge", "-p", "18081:80")
	h.cli("network", "connect", "ports", "c3")
	h.mustReach("c2", h.place("c3", "ports").IPAddress)
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

// dockerPluginKilled kills the plugin under running containers.
func dockerPluginKilled(h *dockerHost) {
	if reference() {
		h.t.Skip("Docker's bridge is no process of its own")
	}
	h.network("net", "--ipv6", "--subnet", "10.90.0.0/24", "--subnet", "fd90::/64")
	h.container("c1", "--network", "net")
	h.container("c2", "--network", "net")
	h.container("c3", "--network", "net")
	c2 := h.place("c2", "net")
	h.stop("plugin", "KILL")
	h.mustReach("c1", c2.IPAddress, c2.GlobalIPv6Address, outside4)
	// A container ends meanwhile. dockerd calls again after 1 s, and then waits
	// for longer and longer, 15 s for each of its three calls.
	pid, removed := h.containerPID("c3"), make(chan error, 1)
	go func() { _, err := h.tryCLI("rm", "-f", "c3"); removed <- err }()
	h.eventually("dockerd", func() error {
		if h.inside("kill", "-0", strconv.Itoa(pid)).Run() == nil {
			return errors.New("c3 runs on")
		}
		return nil
	})
	h.startPlugin()
	if err := <-removed; err != nil {
		h.t.Errorf("rm -f of a container that ended without the plugin: %v", err)
	}
	h.mustReach("c1", c2.IPAddress, outside4)
	h.cli("restart", "-t", "0", "c2")
	h.container("c4", "--network", "net")
	h.mustReach("c1", h.place("c2", "net").IPAddress, h.place("c4", "net").IPAddress)
	h.network("later")
	h.cli("network", "connect", "later", "c1")
	h.cli("network", "disconnect", "net", "c1")
	h.mustReach("c1", outside4)
}

// dockerPluginEnds ends the plugin in good order and starts it again.
func dockerPluginEnds(h *dockerHost) {
	if reference() {
		h.t.Skip("Docker's bridge is no process of its own")
	}
	h.network("net")
	h.container("c1", "--network", "net")
	h.stop("plugin", "TERM")
	if err := h.listens("/run/docker/plugins/bowline-bridge.sock")(); !errors.Is(err, os.ErrNotExist) {
		h.t.Errorf("the plugin ended and left its socket: %v", err)
	}
	h.mustReach("c1", outside4)
	h.startPlugin()
	// A second one must not take over.
	out, err := h.inside(bin("bowline-bridge"), "serve").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "another server answers") {
		h.t.Errorf("a second server: %v %s; want: another server answers", err, out)
	}
	h.container("c2", "--network", "net")
	h.mustReach("c2", h.place("c1", "net").IPAddress)
}

// dockerReboot takes away what a reboot takes: all that is in the kernel and
// in /run. Networks and the containers with a restart policy come back.
func dockerReboot(h *dockerHost) {
	if reference() {
		h.t.Skip("records are ours")
	}
	h.network("net", "--subnet", "10.91.0.0/24")
	h.container("c1", "--network", "net", "--restart", "always", "--ip", "10.91.0.77")
	h.stop("dockerd", "TERM")
	h.stop("plugin", "KILL")
	for _, l := range h.links() {
		if name := strings.Fields(l)[0]; strings.HasPrefix(name, "bwb") || strings.HasPrefix(name, "bwo") {
			h.try("ip", "link", "delete", name)
		}
	}
	h.sh("nft flush ruleset")
	if err := os.RemoveAll(filepath.Join(h.dir, "run")); err != nil {
		h.t.Fatal(err)
	}
	h.startPlugin() // Before=docker.service
	if !slices.ContainsFunc(h.links(), func(l string) bool { return strings.HasPrefix(l, "bwb") }) {
		h.t.Errorf("the network's bridge has not come back: %v", h.links())
	}
	h.startDockerd()
	h.mustRunAgain("c1")
	h.mustReach("c1", "10.91.0.1", outside4)
	h.settle()
}

// mustRunAgain waits until dockerd has started the container by itself.
func (h *dockerHost) mustRunAgain(name string) {
	h.t.Helper()
	h.eventually("dockerd", func() error {
		if out, err := h.tryCLI("inspect", "-f", "{{.State.Running}} {{.State.Pid}}", name); err != nil || !strings.HasPrefix(out, "true ") || out == "true 0" {
			return fmt.Errorf("%s does not run: %s %v", name, out, err)
		}
		return nil
	})
}

func dockerRestarts(h *dockerHost) {
	h.network("net", "--subnet", "10.92.0.0/24")
	h.container("c1", "--network", "net", "--restart", "always")
	h.container("c2", "--network", "net")
	h.stop("dockerd", "TERM")
	h.startDockerd()
	h.mustRunAgain("c1")
	h.cli("start", "c2")
	h.mustReach("c1", h.place("c2", "net").IPAddress, outside4)
	h.mustReachByName("c1", "c2")
}

func dockerKilled(h *dockerHost) {
	h.network("net", "--subnet", "10.93.0.0/24")
	h.container("c1", "--network", "net", "--restart", "always")
	h.container("c2", "--network", "net")
	h.stop("dockerd", "KILL")
	h.startDockerd()
	h.mustRunAgain("c1")
	h.cli("start", "c2")
	h.mustReach("c1", h.place("c2", "net").IPAddress, outside4)
	h.cli("rm", "-f", "c1")
	h.container("c3", "--network", "net")
	h.mustReach("c2", h.place("c3", "net").IPAddress)
}

// dockerLiveRestore restarts dockerd, and kills it, under containers that run on.
func dockerLiveRestore(h *dockerHost) {
	h.live = true
	h.stop("dockerd", "TERM")
	h.startDockerd()
	h.network("net", "--subnet", "10.94.0.0/24")
	h.container("c1", "--network", "net")
	h.container("c2", "--network", "net")
	pid, c2 := h.containerPID("c1"), h.place("c2", "net")
	for _, signal := range []string{"TERM", "KILL"} {
		h.stop("dockerd", signal)
		if !h.pings(pid, c2.IPAddress) || !h.pings(pid, outside4) {
			h.t.Errorf("after SIG%s of dockerd: no traffic", signal)
		}
		h.startDockerd()
		if now := h.containerPID("c1"); now != pid {
			h.t.Errorf("after SIG%s of dockerd: container was started anew", signal)
		}
		h.mustReach("c1", c2.IPAddress, outside4)
		h.mustReachByName("c1", "c2")
	}
	h.cli("stop", "-t", "0", "c2")
	h.cli("start", "c2")
	h.mustReach("c1", h.place("c2", "net").IPAddress)
	h.removeAll()
	h.live = false
	h.stop("dockerd", "TERM")
	h.startDockerd()
}
