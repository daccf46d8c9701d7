package main

import (
	"strings"
	"testing"

	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

// The host's own network and none, by the command line.
func TestNetworkHostAndNone(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	netnstest.Command(t, h.ns, "ip", "link", "add", "nic0", "type", "veth", "peer", "name", "cable0")
	h.ok("network", "create", "--conf", h.conflist("web", "br0", "10.9.0.0/24"))
	if got, want := h.ok("sandbox", "create", "--network", "host", "shared"), "shared  "+h.dir+"/run/netns/shared\n"; got != want {
		t.Errorf("sandbox create: got %q, want %q", got, want)
	}
	h.ok("sandbox", "create", "--network", "none", "alone")
	if got := h.ok("sandbox", "exec", "shared", "ip", "-o", "link"); !strings.Contains(got, "nic0") {
		t.Errorf("a command in the host's namespace sees %s", got)
	}
	if got := h.ok("sandbox", "exec", "alone", "ip", "-o", "link"); strings.Contains(got, "nic0") || !strings.Contains(got, "lo: <LOOPBACK,UP") {
		t.Errorf("a command in a sandbox with a loopback sees %s", got)
	}
	if got := h.ok("sandbox", "ls"); !strings.Contains(got, "(the host's own)") {
		t.Errorf("sandbox ls: %s", got)
	}
	if got := h.ok("sandbox", "ls", "--json"); !strings.Contains(got, `"network": "host"`) || !strings.Contains(got, `"network": "none"`) {
		t.Errorf("sandbox ls --json: %s", got)
	}
	_, errOut, code := h.run("connect", "shared", "web")
	if want := "bowline: connect shared to web: the sandbox shares the host's own namespace, where its link would be one of the host; want a sandbox made without --network host\n"; code != 1 || errOut != want {
		t.Errorf("connect: exit code %d, %q, want %q", code, errOut, want)
	}
	h.ok("connect", "alone", "web") // none, until it is asked for something
	h.ok("gc")
	h.ok("sandbox", "rm", "shared", "alone")
	if got := netnstest.Command(t, h.ns, "ip", "-o", "link"); !strings.Contains(got, "nic0") {
		t.Errorf("the host has lost something: %s", got)
	}
}
