package e2e

import (
	"errors"
	"fmt"
	"strings"
)

// dockerDevice gives containers a NIC of the host, one after the other, however
// the one before ended.
func dockerDevice(h *dockerHost) {
	if reference() {
		h.t.Skip("Docker has no such network")
	}
	h.startHostPlugin()
	lan := h.nic("eth0") // as it is called in the container, too
	before := h.stable()
	home := func(when string) {
		h.t.Helper()
		h.eventually("host-plugin", func() error {
			s := h.stable()
			for _, kind := range []string{"link", "address", "route"} {
				if d := diff(snapshot{kind: before[kind]}, snapshot{kind: s[kind]}); d != "" {
					return fmt.Errorf("%s: the NIC is not back as it was:\n%s", when, d)
				}
			}
			return nil
		})
	}
	if out, err := h.tryCLI("network", "create", "-d", "bowline-host", "all"); err == nil || !strings.Contains(out, "docker run --network host") {
		h.t.Errorf("a network without a NIC: %v %s", err, out)
	}
	h.cli("network", "create", "-d", "bowline-host", "-o", "device=eth0", "--subnet", "198.51.100.0/24", "--gateway", "198.51.100.9", "lan")
	h.cli("network", "create", "-d", "bowline-host", "-o", "device=eth0", "--ipam-driver", "null", "own")
	started := func(name, network string) {
		h.t.Helper()
		h.container(name, "--network", network)
		h.mustReach(name, "198.51.100.9")
		h.eventually("host-plugin", func() error { // pinned, once dockerd is done with it
			if h.sh("ls "+h.dir+"/run/host/pins 2>/dev/null | wc -l") != "1" {
				return errors.New("the sandbox is not pinned")
			}
			return nil
		})
	}
	started("c1", "lan")
	if out, err := h.in(h.containerPID("c1"), "ip", "route"); err != nil || !strings.Contains(out, "default via 198.51.100.9 dev eth0") {
		h.t.Errorf("routes of the container: %v %s", err, out)
	}
	if out, err := h.tryCLI("run", "--rm", "--network", "lan", "bb:1", "true"); err == nil || !strings.Contains(out, "the NIC eth0 is held by") {
		h.t.Errorf("a second container: %v %s", err, out)
	}
	h.cli("stop", "-t", "0", "c1")
	home("stop")
	h.cli("start", "c1")
	h.mustReach("c1", "198.51.100.9")
	h.cli("kill", "c1")
	home("kill")
	h.cli("start", "c1")
	h.cli("rm", "-f", "c1")
	home("rm -f")

	started("c2", "own") // with the addresses that the NIC has
	if p := h.place("c2", "own"); p.IPAddress != "198.51.100.1" {
		h.t.Errorf("Docker says of the container %+v", p)
	}
	if out := h.sh(bin("bowline-host") + " diff || true"); strings.Contains(out, "eth0") || strings.Contains(out, "c2") {
		h.t.Errorf("diff finds %s", out)
	}
	h.stop("host-plugin", "KILL")
	h.startHostPlugin()
	h.mustReach("c2", "198.51.100.9")
	h.cli("rm", "-f", "c2")
	home("rm -f after the plugin was killed")

	h.cli("network", "create", "-d", "bowline-host", "-o", "device=eth0", "-o", "policy=deny egress tcp 25", "--ipam-driver", "null", "kept")
	started("c5", "kept")
	ruleset := func() string {
		out, err := h.in(h.containerPID("c5"), "nft", "list", "ruleset")
		if err != nil {
			h.t.Errorf("nft: %v %s", err, out)
		}
		return out
	}
	h.eventually("host-plugin", func() error {
		if got := ruleset(); !strings.Contains(got, "table netdev bowline") {
			return fmt.Errorf("the container has the rules %q", got)
		}
		return nil
	})
	h.cli("network", "disconnect", "kept", "c5")
	home("disconnect")
	if got := ruleset(); strings.Contains(got, "bowline") {
		h.t.Errorf("disconnected, the container still has\n%s", got)
	}
	h.cli("rm", "-f", "c5")

	started("c3", "lan") // dockerd and the container killed at once
	pid := h.containerPID("c3")
	h.stop("dockerd", "KILL")
	h.sh(fmt.Sprintf("kill -KILL %d", pid))
	h.startDockerd()
	h.cli("rm", "-f", "c3")
	h.container("c4", "--network", "lan") // the NIC is looked for, if need be
	h.mustReach("c4", "198.51.100.9")
	h.cli("rm", "-f", "c4")
	home("dockerd and the container killed")
	if !lan.reaches("198.51.100.1") {
		h.t.Error("the LAN does not reach the host any more")
	}
	h.removeAll()
	h.stop("host-plugin", "TERM")
	h.run("ip", "link", "del", "eth0")
	lan.end()
}

// startHostPlugin starts the plugin for NICs and waits until it answers.
func (h *dockerHost) startHostPlugin() {
	h.t.Helper()
	h.start("host-plugin", bin("bowline-host"), "serve", "-log", "debug")
	h.eventually("host-plugin", h.listens("/run/docker/plugins/bowline-host.sock"))
}
