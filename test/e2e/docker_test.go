package e2e

import (
	"encoding/json"
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
	t.Parallel()
	h := newDockerHost(t)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("plugin:\n%s\ndockerd:\n%s", h.log("plugin"), h.log("dockerd"))
		}
	})
	if rules := h.sh("iptables -S FORWARD"); !strings.HasPrefix(rules, "-P FORWARD DROP") {
		t.Fatalf("dockerd left FORWARD open, so the test would not show whether we make room:\n%s", rules)
	}
	g := h.followInstall(lanSection)
	h.settle()
	for _, sub := range []struct {
		name string
		f    func(h *dockerHost)
	}{
		{"guide", func(h *dockerHost) { dockerGuide(h, g) }},
		{"reach", dockerReach},
		{"own addresses", dockerOwnAddresses},
		{"two networks", dockerTwoNetworks},
		{"internal", dockerInternal},
		{"options", dockerOptions},
		{"wrong options", dockerWrongOptions},
		{"publish", dockerPublish},
		{"port taken", dockerTaken},
		{"ports move", dockerPortsMove},
		{"ports survive", dockerPortsSurvive},
		{"direct", dockerDirect},
		{"isolated", dockerIsolated},
		{"connect", dockerConnect},
		{"limits", dockerShape},
		{"policy", dockerPolicy},
		{"tuning", dockerTuning},
		{"repair", dockerRepair},
		{"plugin killed", dockerPluginKilled},
		{"plugin ends", dockerPluginEnds},
		{"reboot", dockerReboot},
		{"dockerd restarts", dockerRestarts},
		{"dockerd killed", dockerKilled},
		{"live restore", dockerLiveRestore},
		{"device", dockerDevice},
		{"faults", dockerFaults},
		{"addresses of ours", dockerIPAM},
		{"address conflict", dockerConflict},
	} {
		if !h.scene(t, sub.name, h.stable, func() { sub.f(h) }, h.removeAll) {
			return
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

// stable is a snapshot without docker0, whose carrier comes and goes, and
// without what comes with forwarding, which the first network turns on and none
// turns off: others may have come to rely on it.
func (h *dockerHost) stable() snapshot {
	h.t.Helper()
	s := h.snapshot()
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
	h.start("plugin", bin("bowline-bridge"), "serve", "-ipam", "-log", "debug")
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
