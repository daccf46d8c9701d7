package e2e

import (
	"errors"
	"strings"
	"testing"
)

// TestRepairFirewalld: while it is watched, a network gets through firewalld
// again after a reload, which forgets the bridge; a zone that the user chose
// stays.
func TestRepairFirewalld(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.env = append(h.env, "XTABLES_LOCKFILE="+h.dir+"/xtables.lock")
	out := h.outside()
	out.serve("192.0.2.2:80")
	h.firewalld()
	c := network("web", web4, web6).with("bridge", "br0")
	a := h.sandbox("a")
	r := a.add(c)
	line := a.dial(out, "192.0.2.2:7")
	h.daemon(bin("bowline-bridge"), "repair", "-watch")
	zone := func() string { return strings.TrimSpace(h.run("firewall-cmd", "--get-zone-of-interface=br0")) }

	h.run("firewall-cmd", "--reload")
	h.run("firewall-cmd", "--zone=work", "--change-interface=up0")
	eventually(t, func() error {
		if _, err := a.ask("192.0.2.2:80"); err != nil {
			return err
		}
		return line.echo()
	})
	if got := zone(); got != "trusted" {
		t.Errorf("br0 is in zone %q, want trusted", got)
	}
	if err := a.check(c, r); err != nil {
		t.Errorf("CHECK: %v", err)
	}

	h.run("firewall-cmd", "--zone=home", "--change-interface=br0")
	h.run("nft", "delete", "element", "ip", "bowline", "from", "{ br0 }") // so that there is a pass
	eventually(t, func() error {
		if _, err := h.try("nft", "get", "element", "ip", "bowline", "from", "{ br0 }"); err != nil {
			return errors.New("nothing is repaired")
		}
		return nil
	})
	if got := zone(); got != "home" {
		t.Errorf("br0 is in zone %q, want home as the user has it", got)
	}
	a.del(c, r)
}
