package e2e

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bowline-net/bowline/internal/netns/netnstest"
)

// ufw runs the real ufw on the host, with configuration of the host's own.
func (h *host) ufw(args ...string) string {
	h.t.Helper()
	return h.run("unshare", append([]string{"--mount", "--propagation", "private", "sh", "-ec",
		`mount -t tmpfs tmpfs /run; mount --bind "$1/etc" /etc/ufw; mount --bind "$1/default" /etc/default/ufw; shift; exec ufw "$@"`,
		"sh", filepath.Join(h.dir, "ufw")}, args...)...)
}

// enableUFW has ufw deny what comes in and what is forwarded, as it comes.
func (h *host) enableUFW() {
	h.t.Helper()
	if _, err := exec.LookPath("ufw"); err != nil {
		netnstest.Skip(h.t, "needs ufw")
	}
	dir := filepath.Join(h.dir, "ufw")
	h.run("sh", "-ec", `mkdir "$1"; cp -r /etc/ufw "$1/etc"; cp /etc/default/ufw "$1/default"`, "sh", dir)
	h.ufw("--force", "enable")
	if s := h.ufw("status", "verbose"); !strings.Contains(s, "deny (incoming)") {
		h.t.Fatalf("ufw is not as it comes: %s", s)
	}
	// Its status says "disabled (routed)" as long as the host forwards
	// nothing yet, which a namespace has from the machine; its rules drop.
	if s := h.run("iptables", "-S", "FORWARD"); !strings.Contains(s, "-P FORWARD DROP") {
		h.t.Fatalf("ufw is not as it comes: %s", s)
	}
}

// TestUFW: past the real ufw containers reach out; what the user says of
// forwarded traffic holds; a reload, which forgets the room, is seen by CHECK
// and mended by the next container; nothing of ours is left at the end.
func TestUFW(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	out := h.outside()
	out.serve("192.0.2.2:80")
	out.serve("[2001:db8::2]:80")
	h.enableUFW()
	before := h.snapshot()
	gets := func(s *sandbox, want bool) {
		t.Helper()
		for _, addr := range []string{"192.0.2.2:80", "[2001:db8::2]:80"} {
			if _, err := s.ask(addr); (err == nil) != want {
				t.Errorf("%s asks %s: %v, want an answer: %v", s.id, addr, err, want)
			}
		}
	}

	c := network("web", web4, web6)
	a, b := h.sandbox("a"), h.sandbox("b")
	ra := a.add(c)
	gets(a, true)
	if err := a.check(c, ra); err != nil {
		t.Errorf("CHECK: %v", err)
	}

	h.ufw("route", "deny", "in", "on", "br-web", "out", "on", "up0")
	gets(a, false)
	h.ufw("route", "delete", "deny", "in", "on", "br-web", "out", "on", "up0")
	gets(a, true)

	h.ufw("reload")
	gets(a, false)
	if err := a.check(c, ra); err == nil || !strings.Contains(err.Error(), "chain ufw-after-forward") {
		t.Errorf("CHECK after a reload: %v, want an error", err)
	}
	rb := b.add(c)
	gets(a, true)
	gets(b, true)

	a.del(c, ra)
	b.del(c, rb)
	if err := h.gc(c, []string{}); err != nil {
		t.Fatal(err)
	}
	if d := diff(snapshot{"nft": before["nft"]}, snapshot{"nft": h.snapshot()["nft"]}); d != "" {
		t.Errorf("ufw's rules are not as they were:\n%s", d)
	}

	// Switched off under containers, it leaves nothing of ours behind either.
	ra = a.add(c)
	h.ufw("disable")
	gets(a, true)
	a.del(c, ra)
	if err := h.gc(c, []string{}); err != nil {
		t.Fatal(err)
	}
	if rules := h.run("nft", "list", "ruleset"); strings.Contains(rules, "BOWLINE") || strings.Contains(rules, "table ip bowline") {
		t.Errorf("left: %s", rules)
	}
	h.run("nft", "flush", "ruleset") // ufw leaves its chains when disabled
}
