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

// dockerTuning: what can be set before dockerd takes the link stays on it, and
// what dockerd must set itself is refused.
func dockerTuning(h *dockerHost) {
	if reference() {
		h.t.Skip("Docker's bridge has no such options")
	}
	h.network("tuned", "--subnet", "10.92.0.0/24", "-o", "txQLen=12", "-o", "allmulti=true")
	h.container("c1")
	h.cli("network", "connect", "--driver-opt", "promisc=true", "--driver-opt", "mtu=1300", "tuned", "c1")
	link, err := h.in(h.containerPID("c1"), "ip", "link")
	if err != nil {
		h.t.Fatalf("%v: %s", err, link)
	}
	for _, want := range []string{"PROMISC", "ALLMULTI", "mtu 1300 ", "qlen 12"} {
		if !strings.Contains(link, want) {
			h.t.Errorf("links of the container lack %q:\n%s", want, link)
		}
	}
	h.mustReach("c1", outside4)
	out, err := h.tryCLI("network", "create", "-d", "bowline-bridge", "-o", `sysctl={"net.core.somaxconn": "77"}`, "wrong")
	if err == nil || !strings.Contains(out, "docker run --sysctl") {
		h.t.Errorf("-o sysctl=...: %v %s; want an error that says how Docker does it", err, out)
	}
}
