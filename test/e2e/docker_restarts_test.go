package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

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
		out, err := h.tryCLI("inspect", "-f", "{{.State.Running}} {{.State.Pid}}", name)
		if err != nil || strings.HasPrefix(out, "true ") && out != "true 0" {
			return err
		}
		return fmt.Errorf("%s does not run: %s", name, out)
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
