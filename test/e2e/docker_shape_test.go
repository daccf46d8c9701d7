package e2e

import (
	"strings"
)

// dockerShape: limits of a network, of one container, and changed by hand.
func dockerShape(h *dockerHost) {
	if reference() {
		h.t.Skip("Docker's bridge has no limits")
	}
	limits := func(when, want string) {
		h.t.Helper()
		if got := h.limits(); got != want {
			h.t.Errorf("%s limits are %q, want %q", when, got, want)
		}
	}
	h.network("slow", "--subnet", "10.91.0.0/24", "-o", "ingressRate=100mbit", "-o", "egressRate=50mbit")
	h.container("c1", "--network", "slow")
	limits("by the network", "bwo 100000000, bwf 50000000")
	h.mustReach("c1", outside4)
	h.cli("network", "disconnect", "slow", "c1")
	limits("after disconnect", "")
	h.cli("network", "connect", "--driver-opt", "egressRate=10M", "slow", "c1")
	limits("by the container", "bwo 100000000, bwf 10000000")
	out := h.bowline("shape", h.place("c1", "slow").IPAddress, "--ingress", "none", "--egress", "7mbit")
	if !strings.Contains(out, "7mbit") {
		h.t.Errorf("shape printed %s", out)
	}
	limits("after shape", "bwf 7000000")
	h.mustReach("c1", outside4)
	for _, wrong := range []string{"ingressRate=fast", "egressBurst=8000", "ingressRate=1"} {
		if out, err := h.tryCLI("network", "create", "-d", "bowline-bridge", "-o", wrong, "wrong"); err == nil || !strings.Contains(out, "want") {
			h.t.Errorf("-o %s: %v %s; want an error that says what would be right", wrong, err, out)
		}
	}
}
