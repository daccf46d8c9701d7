package e2e

import (
	"errors"
	"strings"
)

// dockerConflict has a machine on the LAN that uses addresses which Docker's
// containers would get.
func dockerConflict(h *dockerHost) {
	if reference() {
		h.t.Skip("Docker's bridge does not look")
	}
	m := h.lan("10.97.0.2/24", "fd97::2/64", "10.97.0.50/24")
	h.network("lan", "--ipam-driver", "bowline-bridge", "-o", "bridge=br-web", "-o", "acd=true", "--ipv6",
		"--subnet", "10.97.0.0/24", "--gateway", "10.97.0.1", "--subnet", "fd97::/64", "--gateway", "fd97::1")
	// The bridge was there before, so rules come with the first endpoint, or by the
	// plugin's own repair.
	h.eventually("plugin", func() error {
		if !strings.Contains(h.sh("nft list tables"), "bowline") {
			return errors.New("the network has no rules")
		}
		return nil
	})
	fails := func(want []string, args ...string) {
		h.t.Helper()
		before := h.snapshot()
		out, err := h.tryCLI(append(append([]string{"run", "--rm", "--network", "lan"}, args...), "bb:1", "true")...)
		if err == nil {
			h.t.Errorf("run %v succeeded", args)
		}
		for _, w := range want {
			if !strings.Contains(out, w) {
				h.t.Errorf("run %v does not say %q: %s", args, w, out)
			}
		}
		inUse := func(l string) bool { return strings.Contains(l, "/addrs/") || strings.Contains(l, "/quarantine/") }
		if d := diff(before.withoutMarks().without("record", inUse), h.snapshot().withoutMarks().without("record", inUse)); d != "" {
			h.t.Errorf("run %v left:\n%s", args, d)
		}
	}
	use, alone := " is in use by "+lanMAC, "leave it alone for 10m0s"
	fails([]string{"address 10.97.0.2" + use, "address fd97::2" + use, alone})
	h.container("c1", "--network", "lan")
	if c1 := h.place("c1", "lan"); c1.IPAddress != "10.97.0.3" || c1.GlobalIPv6Address != "fd97::3" {
		h.t.Errorf("c1 has %+v, want the next addresses", c1)
	}
	h.mustReach("c1", "10.97.0.2", "fd97::2", "10.97.0.1")
	if list := h.sh(bin("bowline-ipam") + " list"); !strings.Contains(list, "10.97.0.2 ") || !strings.Contains(list, lanMAC+" uses it") {
		h.t.Errorf("list does not have 10.97.0.2 in quarantine:\n%s", list)
	}
	if log := h.log("plugin"); !strings.Contains(log, `msg="address is in use by another host" address=10.97.0.2 mac=`+lanMAC) {
		h.t.Errorf("the log does not say so:\n%s", log)
	}
	// What is asked for by value is tried each time.
	fails([]string{"address 10.97.0.50" + use, alone}, "--ip", "10.97.0.50")
	fails([]string{"address 10.97.0.50" + use, alone}, "--ip", "10.97.0.50")
	m.run("ip", "addr", "del", "10.97.0.50/24", "dev", "lan0")
	h.container("c2", "--network", "lan", "--ip", "10.97.0.50")
	h.mustReach("c1", "10.97.0.50")
	h.removeAll()
	h.removeLAN()
	m.end()
}
