package e2e

import (
	"errors"
	"fmt"
	"strings"
)

// podmanDevice gives a container a NIC of the host beside its network, and another
// one that NIC alone, and ends both without a word to the plugin.
func podmanDevice(h *podmanHost) {
	lan := h.nic("nic0")
	file := "/etc/cni/net.d/60-lan.conflist"
	h.write(file, `{"cniVersion": "1.0.0", "name": "lan", "plugins": [{"type": "bowline-host", "device": "nic0"}]}`)
	before := h.snapshot().withoutMarks()
	home := func(when string) {
		h.t.Helper()
		h.eventually("podman", func() error {
			s := h.snapshot().withoutMarks()
			for _, kind := range []string{"link", "address", "route", "mount"} {
				if d := diff(snapshot{kind: before[kind]}, snapshot{kind: s[kind]}); d != "" {
					return fmt.Errorf("%s: the NIC is not back as it was:\n%s", when, d)
				}
			}
			return nil
		})
	}
	h.container("a", "--network", "bowline,lan")
	h.mustReach("a", "198.51.100.9", "10.1.0.1", outside4)
	if got := h.place("a", "lan"); got.IPAddress != "198.51.100.1" {
		h.t.Errorf("podman says %+v", got)
	}
	if out, err := h.tryPodman("run", "--rm", "--network", "lan", "busybox:1", "true"); err == nil || !strings.Contains(out, "the NIC nic0 is held by") {
		h.t.Errorf("a second container: %v %s", err, out)
	}
	h.podman("rm", "-f", "-t", "0", "a")
	h.sh("bowline-bridge prune")
	home("rm -f")
	h.container("b", "--network", "lan")
	h.mustReach("b", "198.51.100.9")
	pid := h.podman("inspect", "-f", "{{.State.Pid}}", "b")
	h.sh("kill -KILL " + h.podman("inspect", "-f", "{{.State.ConmonPid}}", "b") + " " + pid) // nobody of Podman's is left who could call DEL
	h.eventually("podman", func() error {
		if h.inside("kill", "-0", pid).Run() == nil {
			return errors.New("it still runs")
		}
		return nil
	})
	h.sh("umount -l /run/netns/netns-* && rm -f /run/netns/netns-*")
	h.sh("bowline repair")
	home("repair, with the container and its namespace gone")
	h.tryPodman("rm", "-f", "-t", "0", "b")
	h.sh("rm -f " + file + " /var/lib/cni/results/lan-*") // Podman's own, of the container that it lost
	h.run("ip", "link", "del", "nic0")
	lan.end()
	h.sh("bowline-host prune")
}
