package e2e

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// dockerRepair breaks what is the driver's under running containers: the plugin
// that serves makes it right by itself.
func dockerRepair(h *dockerHost) {
	if reference() {
		h.t.Skip("Docker's bridge repairs nothing")
	}
	h.network("net", "--ipv6", "--subnet", "10.90.0.0/24", "--subnet", "fd90::/64", "-o", "bridge=br-net")
	h.network("empty", "-o", "bridge=br-empty")
	h.container("c1", "--network", "net")
	h.container("c2", "--network", "net")
	c2 := h.place("c2", "net")
	outer := strings.TrimSpace(h.sh(bin("bowline-bridge") + " list | grep 10.90.0.2 | grep -o 'bwo[a-z0-9]*'"))
	for _, harm := range []string{
		"nft delete table ip bowline; nft delete table ip6 bowline",
		"iptables -F DOCKER-USER; iptables -F BOWLINE",
		"ip link del br-net; ip link del br-empty",
		"ip link set " + outer + " nomaster",
		"ip link del " + outer,
		"ip addr flush dev br-net",
		"sysctl -qw net.ipv4.ip_forward=0",
		flushAll,
	} {
		chains := h.chains()
		start := time.Now()
		h.sh(strings.ReplaceAll(harm, "$TMP", h.dir))
		eventually(h.t, func() error {
			if out, err := h.inside(bin("bowline-bridge"), "diff").CombinedOutput(); err != nil {
				return fmt.Errorf("after %s: %w: %s", harm, err, out)
			}
			return nil
		})
		h.t.Logf("right again %s after %s", time.Since(start).Round(time.Millisecond), harm)
		h.mustReach("c1", c2.IPAddress, c2.GlobalIPv6Address, outside4)
		for _, c := range h.chains() { // the restoring commands make all there can be
			if !slices.Contains(chains, c) {
				h.sh("nft delete chain " + c)
			}
		}
	}
	if out := h.sh("ip -o link show br-empty"); !strings.Contains(out, ",UP") {
		h.t.Errorf("the bridge of a network without containers is not back: %s", out)
	}
	// dockerd takes out what it put in, though the link is another one by now.
	h.cli("network", "disconnect", "net", "c1")
	h.cli("network", "connect", "net", "c1")
	h.mustReach("c1", c2.IPAddress, outside4)
	h.cli("restart", "-t", "0", "c1")
	h.mustReach("c1", c2.IPAddress, outside4)
}

// flushAll flushes all rules. Docker does not bring back its own.
const flushAll = "iptables-save >$TMP/4; ip6tables-save >$TMP/6; nft flush ruleset; iptables-restore <$TMP/4; ip6tables-restore <$TMP/6"

// chains returns all chains, each with its family and table.
func (h *dockerHost) chains() []string {
	h.t.Helper()
	var all []string
	table := ""
	for l := range strings.Lines(h.sh("nft list chains")) {
		if name, ok := strings.CutPrefix(l, "table "); ok {
			table, _, _ = strings.Cut(name, " {")
		} else if name, ok := strings.CutPrefix(l, "\tchain "); ok {
			name, _, _ = strings.Cut(name, " {")
			all = append(all, table+" "+name)
		}
	}
	return all
}
