package e2e

import (
	"strings"
)

// dockerPolicy: rules of a network and of one container, shown and changed by
// hand.
func dockerPolicy(h *dockerHost) {
	if reference() {
		h.t.Skip("Docker's bridge has no policies")
	}
	h.network("walled", "--ipv6", "--subnet", "10.93.0.0/24", "--subnet", "fd93::/64", "-o", "policy=deny ingress icmp")
	h.container("c1", "--network", "walled")
	c1 := h.place("c1", "walled")
	h.container("c2", "--network", "name=walled,driver-opt=policy=allow ingress icmp from "+c1.IPAddress+"; deny egress to network self")
	c2 := h.place("c2", "walled")
	h.mustReach("c1", c2.IPAddress, outside4)
	h.mustNotReach("c1", c2.GlobalIPv6Address)
	h.mustReach("c2", outside4)
	h.mustNotReach("c2", c2.Gateway, c2.IPv6Gateway, c1.IPAddress)
	shown := h.bowline("policy", "show", c2.IPAddress)
	for _, want := range []string{"allow ingress icmp from " + c1.IPAddress, "deny egress to network self", "deny ingress icmp", "otherwise allow egress"} {
		if !strings.Contains(shown, want) {
			h.t.Errorf("policy show lacks %q:\n%s", want, shown)
		}
	}
	h.bowline("policy", "set", c2.IPAddress, "allow ingress icmp")
	h.mustReach("c1", c2.GlobalIPv6Address)
	h.mustReach("c2", c2.Gateway)

	h.network("open")
	h.cli("network", "connect", "--driver-opt", "policy=deny ingress; deny egress", "open", "c1")
	h.mustNotReach("c1", h.place("c1", "open").Gateway)
	h.cli("restart", "-t", "0", "c1") // new endpoints, with the same rules
	h.mustNotReach("c1", h.place("c1", "open").Gateway)

	before := h.stable()
	out, err := h.tryCLI("network", "create", "-d", "bowline-bridge", "-o", "policy=deny egres", "wrong")
	if err == nil || !strings.Contains(out, "did you mean egress?") {
		h.t.Errorf("a network with a wrong policy: %v %s", err, out)
	}
	out, err = h.tryCLI("run", "--rm", "--network", "name=open,driver-opt=policy=deny egress to 10.0.0.1/8", "bb:1", "true")
	if err == nil || !strings.Contains(out, "want 10.0.0.0/8, without host bits") {
		h.t.Errorf("a container with a wrong policy: %v %s", err, out)
	}
	if d := diff(before, h.stable()); d != "" {
		h.t.Errorf("what was refused left:\n%s", d)
	}
}
